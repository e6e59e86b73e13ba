// Package setup finds out what serves on this machine and writes the few lines that protect it.
package setup
