//go:build !race

package hostile

// boundedLines are the lines of each pattern whose steps are counted.
const boundedLines = 100
