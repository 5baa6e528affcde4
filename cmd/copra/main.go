// Command copra is the whole platform in one binary: placement driver, storage
// node, SQL node, all of them together as a playground, and the tools around
// them. See `copra --help`.
package main

import (
	"os"

	"github.com/copradb/copra/cmd/copra/cli"
)

// version is set by the linker (see the Makefile).
var version = "unknown"

func main() { os.Exit(cli.Main(version, os.Args[1:], os.Stdout, os.Stderr)) }
