package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/copradb/copra/internal/config"
)

// Exit codes.
const (
	exitOK    = 0
	exitError = 1
)

// Main runs the command line and returns the exit code. An error is one clear
// line on stderr.
func Main(version string, args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := newRoot(version)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	if errors.Is(err, errReported) {
		return exitError
	}
	fmt.Fprintf(stderr, "%s: %v\n", cmd.CommandPath(), err)
	return exitError
}

// errReported says that the user has already been told.
var errReported = errors.New("already reported")

func newRoot(version string) *cobra.Command {
	root := &cobra.Command{
		Use:   "copra",
		Short: "A distributed, transactional, analytic key-value platform with Postgres in front",
		Long: `copra is a distributed, transactional, analytic key-value platform in one binary:
a placement driver and a multi-Raft store that speak TiKV's protocol, and a SQL layer
that speaks PostgreSQL's and answers in Arrow.

New here? Start a whole cluster in this process, then connect with psql:

  copra playground
  psql -h 127.0.0.1 -p 5433 -U root copra

Every flag can also be given as an environment variable (COPRA_DATA_DIR for --data-dir)
or in a TOML file named by --config (data-dir = "…"); flags win over variables, variables
over the file.`,
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return config.Apply(cmd, os.Environ())
		},
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w (see %s --help)", err, cmd.CommandPath())
	})
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(newPlayground(version), newPD(version), newTiKV(version), newSQL(version), newCtl(), newBench())
	return root
}
