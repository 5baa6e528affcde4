package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/copradb/copra/cmd/copra/cluster"
	"github.com/copradb/copra/internal/config"
	"github.com/copradb/copra/internal/cpusched"
)

func newPlayground(version string) *cobra.Command {
	var (
		c           common
		o           = cluster.PlaygroundOptions{Version: version}
		portOffset  int
		splitSize   = config.Bytes(96 << 20)
		cacheSize   = config.Bytes(cluster.PlaygroundCacheBytes())
		columnsSize = config.Bytes(cluster.ColumnsBytes())
		memoryLimit = config.Bytes(1 << 30)
		tempLimit   = config.Bytes(cluster.TempBytesMax)
	)
	cmd := &cobra.Command{
		Use:   "playground",
		Short: "Start a whole cluster in this process: PD, stores, SQL, Flight SQL, status page",
		Long: `Starts a placement driver, stores and a SQL node in one process, on the same code
paths as separate processes. The data stays in --data-dir between starts. Ctrl-C stops it.

  psql -h 127.0.0.1 -p 5433 -U root copra      connect (no password; only this machine can)
  http://127.0.0.1:10080/                      status page and metrics

Logs go to <data-dir>/copra.log.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Stores < 1 || o.Stores > 9 {
				return fmt.Errorf("--stores %d: want 1 to 9", o.Stores)
			}
			if o.PDs != 1 && o.PDs != 3 && o.PDs != 5 {
				return fmt.Errorf("--pds %d: want 1, 3 or 5", o.PDs)
			}
			if portOffset < 0 || portOffset > 40000 {
				return fmt.Errorf("--port-offset %d: want 0 to 40000", portOffset)
			}
			o.RegionSplitBytes, o.CacheBytes, o.SQLMemoryBytes = int64(splitSize), int64(cacheSize), int64(memoryLimit)
			o.Columnar.BytesMax, o.TempBytesMax = int64(columnsSize), int64(tempLimit)
			return runPlayground(cmd, &c, o, portOffset)
		},
	}
	c.register(cmd)
	f := cmd.Flags()
	f.IntVar(&o.Stores, "stores", 3, "how many stores")
	f.IntVar(&o.PDs, "pds", 1, "how many placement drivers: 1, 3 or 5")
	f.StringVar(&o.DataDir, "data-dir", "./copra-data", "where the data lives")
	f.IntVar(&portOffset, "port-offset", 0, "added to every port, to run a second playground")
	f.Var(&splitSize, "region-split-size", "a region larger than 1.5 times this splits into parts of this size")
	f.Var(&cacheSize, "block-cache-size", "block cache of all stores together")
	f.Var(&columnsSize, "columnar-cache-size", "columnar caches of all stores together: 6 % of the memory, at least 256MiB")
	f.Var(&memoryLimit, "sql-memory-limit", "memory for the statements of all sessions together")
	f.StringVar(&o.TempDir, "temp-dir", "", "where statements that need more memory keep rows (default <data-dir>/temp)")
	f.Var(&tempLimit, "temp-bytes-max", "temporary files of all sessions together, 0 for no limit")
	return cmd
}

func runPlayground(cmd *cobra.Command, c *common, o cluster.PlaygroundOptions, offset int) error {
	ctx := cmd.Context()
	addr := func(port int) string { return "127.0.0.1:" + strconv.Itoa(port+offset) }
	o.SQLAddr, o.FlightAddr, o.StatusAddr = addr(5433), addr(8815), addr(10080)
	var checks []listen
	for i := range o.PDs {
		o.PDClientAddrs = append(o.PDClientAddrs, addr(2379+2*i))
		o.PDPeerAddrs = append(o.PDPeerAddrs, addr(2380+2*i))
		checks = append(checks, listen{"port-offset", "PD", addr(2379 + 2*i)}, listen{"port-offset", "PD peer", addr(2380 + 2*i)})
	}
	checks = append(checks, []listen{
		{"port-offset", "SQL", o.SQLAddr},
		{"port-offset", "Flight SQL", o.FlightAddr}, {"port-offset", "status page", o.StatusAddr},
	}...)
	for i := range o.Stores {
		o.StoreAddrs = append(o.StoreAddrs, addr(20160+i))
		o.StoreStatusAddrs = append(o.StoreStatusAddrs, addr(20180+i))
		checks = append(checks, listen{"port-offset", "store", addr(20160 + i)}, listen{"port-offset", "store status", addr(20180 + i)})
	}
	if err := c.checkListen(checks...); err != nil {
		return err
	}
	if err := os.MkdirAll(o.DataDir, 0o755); err != nil {
		return fmt.Errorf("--data-dir: %w", err)
	}
	logFile, err := os.OpenFile(filepath.Join(o.DataDir, "copra.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("--data-dir: %w", err)
	}
	defer func() { _ = logFile.Close() }()
	if o.Logger, err = c.logger(logFile); err != nil {
		return err
	}
	cluster.TuneGuestGC(ctx)
	cpusched.SpareProcs()
	started := time.Now()
	p, err := cluster.StartPlayground(ctx, o)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "copra %s is ready after %.1f s, with %d stores; data in %s\n\n", o.Version, time.Since(started).Seconds(), o.Stores, o.DataDir)
	fmt.Fprintf(out, "  SQL         psql -h 127.0.0.1 -p %d -U root copra\n", 5433+offset)
	fmt.Fprintf(out, "  Flight SQL  grpc://%s\n", o.FlightAddr)
	fmt.Fprintf(out, "  TiKV API    PD at %s\n", strings.Join(o.PDClientAddrs, ","))
	fmt.Fprintf(out, "  status      http://%s/\n\nCtrl-C stops it.\n", o.StatusAddr)
	select {
	case <-ctx.Done():
	case err := <-p.Failed():
		return fmt.Errorf("a store stops at once: %w", err) // nothing is tidied up behind such an error
	}
	fmt.Fprintln(out, "stopping …")
	p.Stop()
	fmt.Fprintln(out, "stopped.")
	return nil
}
