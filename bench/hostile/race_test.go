//go:build race

package hostile

// boundedLines are the lines of each pattern whose steps are counted: few here, for the race
// detector makes them ten times as slow and has nothing to find.
const boundedLines = 2

// libraryLines are those for each pattern of the library, of which there are more.
const libraryLines = 1

// setLines are the lines of each pattern that the automata are tried on.
const setLines = 2

// lessLines divides the lines that Python is asked about.
const lessLines = 6
