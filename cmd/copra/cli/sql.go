package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/copradb/copra/cmd/copra/cluster"
	"github.com/copradb/copra/internal/config"
	"github.com/copradb/copra/internal/cpusched"
)

func newSQL(version string) *cobra.Command {
	var (
		c           common
		o           = cluster.SQLOptions{Version: version}
		pdList      string
		memoryLimit = config.Bytes(1 << 30)
		tempLimit   = config.Bytes(cluster.TempBytesMax)
		wait        time.Duration
	)
	cmd := &cobra.Command{
		Use:   "sql",
		Short: "Run a SQL node: the Postgres protocol and Arrow Flight SQL, no state of its own",
		Long: `Runs a SQL node over a cluster of placement drivers and stores. It keeps no state: any
number of them can run side by side, and one that is lost is simply started again.

  copra sql --pd 127.0.0.1:2379
  psql -h 127.0.0.1 -p 5433 -U root copra`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if o.PDEndpoints, err = endpoints(pdList); err != nil {
				return err
			}
			if err := c.checkListen(listen{"addr", "SQL", o.Addr}, listen{"flight-addr", "Flight SQL", o.FlightAddr}, listen{"status-addr", "status page", o.StatusAddr}); err != nil {
				return err
			}
			if o.Logger, err = c.logger(cmd.ErrOrStderr()); err != nil {
				return err
			}
			o.MemoryBytesMax, o.TempBytesMax = int64(memoryLimit), int64(tempLimit)
			if o.SlowQueryThreshold == 0 {
				o.SlowQueryThreshold = time.Nanosecond // 0 ms: all
			}
			cluster.TuneGC()
			cpusched.SpareProcs()
			startCtx, cancel := context.WithTimeout(cmd.Context(), wait)
			defer cancel()
			node, err := cluster.StartSQL(startCtx, o)
			if err != nil {
				return fmt.Errorf("start over PD %v: %w", o.PDEndpoints, err)
			}
			o.Logger.Info("sql: ready", "version", version, "addr", node.Addr(), "flight", node.FlightAddr(), "status", node.StatusAddr())
			<-cmd.Context().Done()
			node.Stop()
			o.Logger.Info("sql: stopped")
			return nil
		},
	}
	c.register(cmd)
	f := cmd.Flags()
	f.StringVar(&pdList, "pd", "", "client addresses of the placement drivers, comma separated")
	f.StringVar(&o.Addr, "addr", "127.0.0.1:5433", "address of the Postgres protocol")
	f.StringVar(&o.FlightAddr, "flight-addr", "127.0.0.1:8815", "address of Arrow Flight SQL")
	f.StringVar(&o.StatusAddr, "status-addr", "127.0.0.1:10080", "address of the status page and metrics")
	f.Var(&memoryLimit, "sql-memory-limit", "memory for the statements of all sessions together")
	f.StringVar(&o.TempDir, "temp-dir", "", "where statements that need more memory keep rows (default the system's folder for temporary files)")
	f.Var(&tempLimit, "temp-bytes-max", "temporary files of all sessions together, 0 for no limit")
	f.DurationVar(&o.SlowQueryThreshold, "log-min-duration-statement", time.Second, "a statement that takes longer is logged; negative for none; sessions can SET it")
	f.DurationVar(&wait, "start-timeout", time.Minute, "how long to wait for the cluster")
	return cmd
}
