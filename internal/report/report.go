// Package report tells the world: the abuse desk of the network that an attack came from, and public
// lists of attackers.
package report
