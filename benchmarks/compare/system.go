package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/copradb/copra/benchmarks/ycsb"
)

// system is one of those that are measured.
type system struct {
	name  string
	nodes int
	procs []*process
	db    ycsb.DB
	stale ycsb.DB // etcd only: reads are serializable
	// Where its nodes count the syncs of their logs, and under which name.
	metrics []string
	syncs   string

	records int64 // that it holds
}

func (s *system) close() error {
	var errs []error
	for _, db := range []ycsb.DB{s.db, s.stale} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	for _, p := range s.procs {
		p.stop()
	}
	return errors.Join(errs...)
}

// syncCount is how often the nodes have synced their logs, all together.
func (s *system) syncCount(ctx context.Context) (float64, error) {
	var sum float64
	for _, addr := range s.metrics {
		n, err := counter(ctx, addr, s.syncs)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// cpu is the processor time that the processes have used.
func (s *system) cpu() (sum time.Duration) {
	for _, p := range s.procs {
		sum += p.cpu()
	}
	return sum
}

// written is what they have had written to the disk, in bytes.
func (s *system) written() (sum float64) {
	for _, p := range s.procs {
		sum += p.written()
	}
	return sum
}

func (s *system) run(dir, name, program string, args ...string) error {
	p, err := start(dir, name, program, args...)
	if err == nil {
		s.procs = append(s.procs, p)
	}
	return err
}

// copraReserve leaves room for the benchmark on disks that are nearly full; the
// default is 5 % of the disk.
const copraReserve = "1GiB"

const copraSyncs = "tikv_raftstore_log_sync_total"

// startCopra starts a PD and stores, each a process of the program.
func startCopra(ctx context.Context, o *options, dir, program string, stores int) (*system, error) {
	s := &system{name: fmt.Sprintf("copra %d", stores), nodes: stores, syncs: copraSyncs}
	addrs, err := freeAddrs(2 + 2*stores)
	if err != nil {
		return s, err
	}
	pd := addrs[0]
	err = s.run(dir, "pd", program, "pd", "--data-dir", filepath.Join(dir, "pd"), "--client-addr", pd, "--peer-addr", addrs[1], "--replicas", strconv.Itoa(stores))
	if err != nil {
		return s, err
	}
	for i := range stores {
		name, addr, status := fmt.Sprintf("store%d", i+1), addrs[2+2*i], addrs[3+2*i]
		s.metrics = append(s.metrics, status)
		err = s.run(dir, name, program, "tikv", "--pd", pd, "--data-dir", filepath.Join(dir, name), "--addr", addr, "--status-addr", status,
			"--block-cache-size", strconv.Itoa(o.cacheMiB)+"MiB", "--reserve-space", copraReserve)
		if err != nil {
			return s, err
		}
	}
	if err := awaitReplicas(ctx, s, pd, stores); err != nil {
		return s, err
	}
	s.db, err = ycsb.OpenRaw(ctx, []string{pd})
	return s, err
}

// startPlayground starts three stores in one process.
func startPlayground(ctx context.Context, o *options, dir string) (*system, error) {
	s := &system{name: "copra 3 in 1", nodes: 3, syncs: copraSyncs}
	offset, err := freeOffset()
	if err != nil {
		return s, err
	}
	pd, status := "127.0.0.1:"+strconv.Itoa(2379+offset), "127.0.0.1:"+strconv.Itoa(20180+offset)
	s.metrics = []string{status} // one registry for all its stores
	err = s.run(dir, "playground", o.copra, "playground", "--data-dir", filepath.Join(dir, "data"), "--port-offset", strconv.Itoa(offset),
		"--block-cache-size", strconv.Itoa(3*o.cacheMiB)+"MiB")
	if err != nil {
		return s, err
	}
	if err := awaitReplicas(ctx, s, pd, s.nodes); err != nil {
		return s, err
	}
	s.db, err = ycsb.OpenRaw(ctx, []string{pd})
	return s, err
}

// freeOffset finds a --port-offset under which a playground can listen.
func freeOffset() (int, error) {
	for offset := 11000; offset < 40000; offset += 100 {
		free := true
		for _, port := range []int{2379, 2380, 5433, 8815, 10080, 20160, 20161, 20162, 20180, 20181, 20182} {
			l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port+offset))
			if err != nil {
				free = false
				break
			}
			if err := l.Close(); err != nil {
				return 0, err
			}
		}
		if free {
			return offset, nil
		}
	}
	return 0, errors.New("no free ports for a playground")
}

// awaitReplicas waits until every region has as many peers as there are stores.
// PD would give none to stores whose disk is 80 % full; here it doesn't matter.
func awaitReplicas(ctx context.Context, s *system, pd string, stores int) error {
	err := await(ctx, s.name, s.procs, func() error {
		return post(ctx, "http://"+pd+"/pd/api/v1/config", `{"low-space-ratio": 1}`)
	})
	if err != nil {
		return err
	}
	return await(ctx, s.name, s.procs, func() error {
		page, err := get(ctx, "http://"+pd+"/pd/api/v1/regions")
		if err != nil {
			return err
		}
		var list struct {
			Regions []struct {
				Peers        []json.RawMessage `json:"peers"`
				PendingPeers []json.RawMessage `json:"pending_peers"`
			} `json:"regions"`
		}
		if err := json.Unmarshal([]byte(page), &list); err != nil {
			return err
		}
		if len(list.Regions) == 0 {
			return errors.New("PD knows no region")
		}
		for _, r := range list.Regions {
			if len(r.Peers) != stores || len(r.PendingPeers) > 0 {
				return fmt.Errorf("a region has %d peers, %d of them pending", len(r.Peers), len(r.PendingPeers))
			}
		}
		return nil
	})
}

// etcd's settings where they are not its defaults.
const (
	etcdQuotaBytes    = 16 << 30 // the default, 2 GiB, would end a long run
	etcdSnapshotCount = 100_000  // entries between snapshots; the default is 10,000
	etcdConnections   = 4        // to each member, as client-go has to each store
)

// startEtcd starts an etcd cluster.
func startEtcd(ctx context.Context, o *options, dir string, nodes int) (*system, error) {
	s := &system{name: fmt.Sprintf("etcd %d", nodes), nodes: nodes, syncs: "etcd_disk_wal_fsync_duration_seconds_count"}
	addrs, err := freeAddrs(2 * nodes)
	if err != nil {
		return s, err
	}
	var members []string
	for i := range nodes {
		members = append(members, fmt.Sprintf("node%d=http://%s", i+1, addrs[2*i+1]))
	}
	for i := range nodes {
		name, client, peer := fmt.Sprintf("node%d", i+1), addrs[2*i], addrs[2*i+1]
		s.metrics = append(s.metrics, client)
		err := s.run(dir, name, o.etcd, "--name", name, "--data-dir", filepath.Join(dir, name),
			"--listen-client-urls", "http://"+client, "--advertise-client-urls", "http://"+client,
			"--listen-peer-urls", "http://"+peer, "--initial-advertise-peer-urls", "http://"+peer,
			"--initial-cluster", strings.Join(members, ","), "--log-level", "warn",
			"--quota-backend-bytes", strconv.FormatInt(etcdQuotaBytes, 10), "--snapshot-count", strconv.Itoa(etcdSnapshotCount))
		if err != nil {
			return s, err
		}
	}
	for _, addr := range s.metrics {
		if err := await(ctx, s.name, s.procs, func() error { _, err := get(ctx, "http://"+addr+"/health"); return err }); err != nil {
			return s, err
		}
	}
	e := ycsb.EtcdOptions{Endpoints: s.metrics, Connections: etcdConnections}
	if s.db, err = ycsb.OpenEtcd(ctx, e); err != nil {
		return s, err
	}
	e.Serializable = true
	s.stale, err = ycsb.OpenEtcd(ctx, e)
	return s, err
}

// starters are the systems by the names of --systems. The old ones are those of
// an earlier build.
var starters = map[string]func(context.Context, *options, string) (*system, error){
	"copra1": func(ctx context.Context, o *options, dir string) (*system, error) {
		return startCopra(ctx, o, dir, o.copra, 1)
	},
	"copra3": func(ctx context.Context, o *options, dir string) (*system, error) {
		return startCopra(ctx, o, dir, o.copra, 3)
	},
	"playground": startPlayground,
	"etcd1":      func(ctx context.Context, o *options, dir string) (*system, error) { return startEtcd(ctx, o, dir, 1) },
	"etcd3":      func(ctx context.Context, o *options, dir string) (*system, error) { return startEtcd(ctx, o, dir, 3) },
	"old1":       func(ctx context.Context, o *options, dir string) (*system, error) { return startOld(ctx, o, dir, 1) },
	"old3":       func(ctx context.Context, o *options, dir string) (*system, error) { return startOld(ctx, o, dir, 3) },
}

func startOld(ctx context.Context, o *options, dir string, stores int) (*system, error) {
	s, err := startCopra(ctx, o, dir, o.old, stores)
	if s != nil {
		s.name = fmt.Sprintf("old %d", stores)
	}
	return s, err
}

func startSystem(ctx context.Context, o *options, name string) (*system, error) {
	dir := filepath.Join(o.dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	s, err := starters[name](ctx, o, dir)
	if err != nil && s != nil {
		err = errors.Join(fmt.Errorf("%s: %w", name, err), s.close())
	}
	return s, err
}
