//go:build race

package library_test

// lessAttacks divides the texts that are tried in each place: few here, for the race detector makes them ten times as
// slow and has nothing to find.
const lessAttacks = 16
