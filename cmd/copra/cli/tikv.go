package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/copradb/copra/cmd/copra/cluster"
	"github.com/copradb/copra/copr/columnar"
	"github.com/copradb/copra/internal/config"
	"github.com/copradb/copra/internal/cpusched"
	"github.com/copradb/copra/raftstore/transport"
	"github.com/copradb/copra/tikv"
	"github.com/copradb/copra/tikv/gc"
)

func newTiKV(version string) *cobra.Command {
	var (
		c            common
		o            tikv.Config
		pdList       string
		labels       string
		cacheSize    config.Bytes
		columnsSize  = config.Bytes(cluster.ColumnsBytes())
		splitSize    = config.Bytes(96 << 20)
		snapshotRate = config.Bytes(transport.SnapshotBytesPerSecondDefault)
		maxSize      config.Bytes
		readQuota    config.Bytes
		writeQuota   config.Bytes
		reserve      config.Bytes
		capacity     config.Bytes
		gcWriteRate  = config.Bytes(gc.WriteBytesPerSecondDefault)
		gcScanRate   = config.Bytes(gc.ScanBytesPerSecondDefault)
		hibernate    bool
	)
	cmd := &cobra.Command{
		Use:   "tikv",
		Short: "Run a storage node: regions, transactions, raw KV, coprocessor",
		Long: `Runs a storage node. Its identity lives in --data-dir and belongs to one cluster. Three of
them hold three replicas of everything and survive the loss of one.

  copra tikv --pd 127.0.0.1:2379 --data-dir ./s1 --addr 127.0.0.1:20160 --status-addr 127.0.0.1:20180`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if o.PDEndpoints, err = endpoints(pdList); err != nil {
				return err
			}
			if o.Labels, err = parseLabels(labels); err != nil {
				return err
			}
			if err := c.checkListen(listen{"addr", "store", o.Addr}, listen{"status-addr", "store status", o.StatusAddr}); err != nil {
				return err
			}
			if o.Logger, err = c.logger(cmd.ErrOrStderr()); err != nil {
				return err
			}
			if o.CacheBytes = int64(cacheSize); o.CacheBytes == 0 {
				if o.CacheBytes, err = cluster.DefaultCacheBytes(); err != nil {
					return err
				}
			}
			o.Quota = tikv.QuotaConfig{ForegroundReadBandwidth: int64(readQuota), ForegroundWriteBandwidth: int64(writeQuota)}
			if o.SnapshotBytesPerSecond = int64(snapshotRate); snapshotRate == 0 {
				return fmt.Errorf("--snapshot-rate must be more than 0")
			}
			if o.SlowLogThreshold == 0 {
				o.SlowLogThreshold = time.Nanosecond // all
			}
			if splitSize == 0 {
				return fmt.Errorf("--region-split-size must be more than 0")
			}
			o.RegionSplitBytes, o.RegionMaxBytes = uint64(splitSize), uint64(maxSize)
			if maxSize == 0 {
				o.RegionMaxBytes = o.RegionSplitBytes / 2 * 3
			}
			if gcWriteRate == 0 || gcScanRate == 0 {
				return fmt.Errorf("--gc-max-write-bytes-per-sec and --gc-max-scan-bytes-per-sec must be more than 0; copra ctl config set gc-enable false switches garbage collection off")
			}
			o.GC.WriteBytesPerSecond, o.GC.ScanBytesPerSecond = int64(gcWriteRate), int64(gcScanRate)
			o.ReserveBytes, o.CapacityBytes = int64(reserve), uint64(capacity)
			o.Raft.NoHibernation = !hibernate
			o.Registerer = cluster.NewRegistry()
			o.Columns = columnar.New(columnar.Options{BytesMax: int64(columnsSize), Registerer: o.Registerer})
			cluster.TuneGC()
			cpusched.SpareProcs()
			fatal := make(chan error, 1)
			o.OnFatal = func(err error) {
				select {
				case fatal <- err:
				default:
				}
				select {} // nothing may go on behind an error that leaves the data in doubt
			}
			node, err := cluster.StartStore(cmd.Context(), o, nil)
			if err != nil {
				return err
			}
			o.Logger.Info("tikv: ready", "version", version, "store", node.StoreID(), "addr", node.Addr())
			select {
			case err := <-fatal:
				return fmt.Errorf("the store stops at once: %w", err)
			case <-cmd.Context().Done():
			}
			started := time.Now()
			node.HandOver(context.WithoutCancel(cmd.Context()))
			node.Stop()
			o.Logger.Info("tikv: stopped", "took", time.Since(started))
			return nil
		},
	}
	c.register(cmd)
	f := cmd.Flags()
	f.StringVar(&pdList, "pd", "", "client addresses of the placement drivers, comma separated")
	f.StringVar(&o.DataDir, "data-dir", "./copra-store", "where the data lives")
	f.StringVar(&o.Addr, "addr", "127.0.0.1:20160", "address for clients and other stores")
	f.StringVar(&o.AdvertiseAddr, "advertise-addr", "", "address told to others (default --addr)")
	f.StringVar(&o.StatusAddr, "status-addr", "127.0.0.1:20180", "address of metrics, /config, /regions and profiles")
	f.StringVar(&labels, "labels", "", "where this store is, as zone=z1,host=h1")
	f.Var(&columnsSize, "columnar-cache-size", "columns of tables that are scanned: 6 % of the memory, at least 256MiB")
	f.Var(&cacheSize, "block-cache-size", "block cache (default 45 % of the memory)")
	f.Var(&capacity, "capacity", "what the store may use of the disk (default all of it)")
	f.Var(&reserve, "reserve-space", "room on the disk that clients don't get (default 5 % of the capacity, at most 5GiB)")
	f.Var(&readQuota, "foreground-read-bandwidth", "what clients may read in a second (default as much as they like)")
	f.Var(&writeQuota, "foreground-write-bandwidth", "what clients may write in a second (default as much as they like)")
	f.Var(&snapshotRate, "snapshot-rate", "how much of snapshots the store sends in a second, over all")
	f.Var(&splitSize, "region-split-size", "a region larger than --region-max-size splits into parts of this size")
	f.BoolVar(&hibernate, "hibernate-regions", true, "let idle regions sleep: no ticks, no heartbeats")
	f.DurationVar(&o.SlowLogThreshold, "slow-log-threshold", time.Second, "a request of a client that takes longer is logged with its stages; negative for none")
	f.BoolVar(&o.RedactInfoLog, "redact-info-log", false, "keep keys out of the log")
	f.Var(&maxSize, "region-max-size", "size at which a region splits (default 1.5 × --region-split-size)")
	f.Var(&gcWriteRate, "gc-max-write-bytes-per-sec", "what garbage collection may write into the Raft log in a second")
	f.Var(&gcScanRate, "gc-max-scan-bytes-per-sec", "what garbage collection may read in a second to find old versions")
	f.DurationVar(&o.TTLPollInterval, "ttl-check-poll-interval", 12*time.Hour, "how often expired values of raw keys are removed")
	f.DurationVar(&o.ResolvedTSInterval, "resolved-ts-interval", time.Second, "how often the timestamp advances up to which replicas serve stale reads")
	f.DurationVar(&o.Raft.ConsistencyCheckInterval, "consistency-check-interval", 0, "how often the replicas of a region are compared; 0 is never (copra ctl region check compares one)")
	return cmd
}
