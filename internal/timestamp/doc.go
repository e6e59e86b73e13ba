// Package timestamp finds and reads the time written in a line.
package timestamp
