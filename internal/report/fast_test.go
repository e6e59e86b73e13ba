//go:build !race

package report

// slow is true where everything takes ten times as long.
const slow = false
