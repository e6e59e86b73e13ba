//go:build !race

package library_test

// lessAttacks divides the texts that are tried in each place.
const lessAttacks = 1
