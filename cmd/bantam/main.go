// Command bantam keeps attackers out of a machine. Everything it does is in
// package cli; here is only where it begins and ends.
package main

import (
	"context"
	"os"

	"bantam/internal/cli"
	"bantam/library"
)

func main() {
	os.Exit(cli.Main(context.Background(), os.Args, library.FS, os.Stdout, os.Stderr))
}
