//go:build !race

package hostile

// boundedLines are the lines of each pattern whose steps are counted.
const boundedLines = 100

// libraryLines are those for each pattern of the library, of which there are more.
const libraryLines = 30

// setLines are the lines of each pattern that the automata are tried on.
const setLines = 20

// lessLines divides the lines that Python is asked about.
const lessLines = 1
