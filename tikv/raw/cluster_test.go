package raw_test

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc64"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/engine"
	"github.com/copradb/copra/raftstore/rafttest"
	"github.com/copradb/copra/tikv/raw"
	"github.com/pingcap/kvproto/pkg/errorpb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"
)

// entry is a value of the model.
type entry struct {
	value   string
	expires time.Time // zero: never
}

// world is a cluster, the raw services of its stores, and a model of what they
// hold, for one API version.
type world struct {
	*testing.T
	c        *rafttest.Cluster
	services map[uint64]*raw.Service
	checkers map[uint64]*raw.TTLChecker
	rng      *rand.Rand
	version  kvrpcpb.APIVersion
	prefix   string // of all keys
	model    map[string]entry
	sweeps   sync.WaitGroup
}

func newWorld(t *testing.T, c *rafttest.Cluster, rng *rand.Rand) *world {
	w := &world{T: t, c: c, rng: rng, services: map[uint64]*raw.Service{}, checkers: map[uint64]*raw.TTLChecker{}, model: map[string]entry{}}
	for _, id := range c.IDs() {
		n := c.Node(id)
		w.services[id] = raw.New(n.Store, nil)
		checker, err := raw.NewTTLChecker(raw.TTLOptions{
			Regions: func() (out []raw.LedRegion) {
				for _, r := range n.Store.Regions() {
					if r.Leader {
						out = append(out, raw.LedRegion{Context: c.Context(id, r.Region.Id), Start: r.Region.StartKey, End: r.Region.EndKey})
					}
				}
				return out
			},
			Local: func() raw.LocalReader { return n.Engine.NewSnapshot() },
			Write: func(ctx context.Context, rc *kvrpcpb.Context, b *kv.Batch) error {
				time.Sleep(10 * time.Millisecond) // others write between look and delete
				return n.Store.Write(ctx, rc, b)
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(checker.Close)
		w.checkers[id] = checker
	}
	return w
}

// on calls fn at the leader of the key's region until there is no region error.
func (w *world) on(key string, fn func(s *raw.Service, rc *kvrpcpb.Context) (*errorpb.Error, error)) *metapb.Region {
	w.Helper()
	for try := 0; ; try++ {
		if region := w.c.RegionAt(w.routed(key)); region != nil {
			if lead := w.c.LeaderOf(region.Id); lead != 0 {
				rc := w.c.Context(lead, region.Id)
				rc.ApiVersion = w.version
				re, err := fn(w.services[lead], rc)
				if err != nil || re.GetUndeterminedResult() != nil {
					w.Fatalf("key %q: %v %v", key, re, err)
				}
				if re == nil && rc.RegionEpoch.Version == region.RegionEpoch.Version {
					return region
				}
				if re == nil {
					continue // it was another range than the caller will think
				}
			}
		}
		if try > 1000 {
			w.Fatalf("no answer for %q", key)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (w *world) routed(key string) string {
	if w.version == kvrpcpb.APIVersion_V2 {
		return string(codec.EncodeBytes(nil, []byte(key)))
	}
	return key
}

func (w *world) key() string {
	return w.prefix + []string{"usertable:", "k", "a longer shared prefix ", ""}[w.rng.IntN(4)] + fmt.Sprintf("%02d", w.rng.IntN(40))
}

func (w *world) live(key string) (entry, bool) {
	e, ok := w.model[key]
	return e, ok && (e.expires.IsZero() || time.Now().Before(e.expires))
}

// keys are the live ones in [start, end), in order; an empty end is the end.
func (w *world) keys(start, end string) (out []string) {
	for k := range w.model {
		if _, ok := w.live(k); ok && k >= start && (end == "" || k < end) {
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return out
}

func (w *world) ttl() uint64 { return uint64(w.rng.IntN(3) * w.rng.IntN(200)) }

func (w *world) wrote(key, value string, ttl uint64) {
	e := entry{value: value}
	if ttl > 0 {
		e.expires = time.Unix(time.Now().Unix()+int64(ttl), 0)
	}
	w.model[key] = e
}

func (w *world) put() {
	key, value, ttl := w.key(), fmt.Sprint(w.rng.IntN(100)), w.ttl()
	w.on(key, func(s *raw.Service, rc *kvrpcpb.Context) (*errorpb.Error, error) {
		resp, err := s.RawPut(context.Background(), &kvrpcpb.RawPutRequest{Context: rc, Key: []byte(key), Value: []byte(value), Ttl: ttl, ForCas: w.rng.IntN(2) == 0})
		if resp.GetError() == "" && resp.GetRegionError() == nil {
			w.wrote(key, value, ttl)
		}
		return resp.GetRegionError(), err
	})
}

func (w *world) batchPut() {
	first := w.key()
	region := w.c.RegionAt(w.routed(first))
	for region == nil {
		time.Sleep(time.Millisecond)
		region = w.c.RegionAt(w.routed(first))
	}
	req := &kvrpcpb.RawBatchPutRequest{ForCas: w.rng.IntN(2) == 0}
	for range 8 {
		key := w.key()
		if at := []byte(w.routed(key)); bytes.Compare(at, region.StartKey) >= 0 && (len(region.EndKey) == 0 || bytes.Compare(at, region.EndKey) < 0) {
			req.Pairs = append(req.Pairs, &kvrpcpb.KvPair{Key: []byte(key), Value: fmt.Append(nil, w.rng.IntN(100))})
			req.Ttls = append(req.Ttls, w.ttl())
		}
	}
	lead := w.c.LeaderOf(region.Id)
	if lead == 0 || len(req.Pairs) == 0 {
		return
	}
	req.Context = w.c.Context(lead, region.Id)
	req.Context.ApiVersion = w.version
	resp, err := w.services[lead].RawBatchPut(context.Background(), req)
	if err != nil || resp.Error != "" {
		w.Fatal(resp, err)
	}
	if resp.RegionError == nil {
		for i, p := range req.Pairs {
			w.wrote(string(p.Key), string(p.Value), req.Ttls[i])
		}
	}
}

func (w *world) remove() {
	key := w.key()
	w.on(key, func(s *raw.Service, rc *kvrpcpb.Context) (*errorpb.Error, error) {
		resp, err := s.RawDelete(context.Background(), &kvrpcpb.RawDeleteRequest{Context: rc, Key: []byte(key)})
		if resp.GetRegionError() == nil {
			delete(w.model, key)
		}
		return resp.GetRegionError(), err
	})
}

func (w *world) compareAndSwap() {
	key := w.key()
	have, ok := w.live(key)
	req := &kvrpcpb.RawCASRequest{Key: []byte(key), Value: fmt.Append(nil, w.rng.IntN(100)), Ttl: w.ttl(), Delete: w.rng.IntN(4) == 0}
	switch {
	case w.rng.IntN(3) == 0:
		req.PreviousValue = []byte(fmt.Sprint(w.rng.IntN(100)))
	case ok:
		req.PreviousValue = []byte(have.value)
	default:
		req.PreviousNotExist = true
	}
	w.on(key, func(s *raw.Service, rc *kvrpcpb.Context) (*errorpb.Error, error) {
		have, ok := w.live(key) // by now
		want := ok == !req.PreviousNotExist && (!ok || have.value == string(req.PreviousValue))
		req.Context = rc
		resp, err := s.RawCompareAndSwap(context.Background(), req)
		if err != nil || resp.RegionError != nil {
			return resp.GetRegionError(), err
		}
		if resp.Error != "" || resp.Succeed != want || resp.PreviousNotExist == ok || ok && string(resp.PreviousValue) != have.value {
			w.Fatalf("swap of %q, %v (%v): %v", key, have, ok, resp)
		}
		switch {
		case want && req.Delete:
			delete(w.model, key)
		case want:
			w.wrote(key, string(req.Value), req.Ttl)
		}
		return nil, nil
	})
}

func (w *world) deleteRange() {
	start, end := w.key(), w.key()
	if start >= end || w.rng.IntN(4) > 0 {
		return
	}
	w.over(start, end, func(s *raw.Service, rc *kvrpcpb.Context, from, to string) (*errorpb.Error, error) {
		resp, err := s.RawDeleteRange(context.Background(), &kvrpcpb.RawDeleteRangeRequest{Context: rc, StartKey: []byte(from), EndKey: []byte(to)})
		return resp.GetRegionError(), err
	})
	for _, k := range w.keys(start, end) {
		delete(w.model, k)
	}
}

// over calls fn for the regions of [start, end), from left to right; a client
// of V2 works in the first keys' keyspace only.
func (w *world) over(start, end string, fn func(s *raw.Service, rc *kvrpcpb.Context, from, to string) (*errorpb.Error, error)) {
	for from := start; end == "" || from < end; {
		region := w.on(from, func(s *raw.Service, rc *kvrpcpb.Context) (*errorpb.Error, error) { return fn(s, rc, from, end) })
		next := string(region.EndKey)
		if w.version == kvrpcpb.APIVersion_V2 && next != "" {
			plain, _, err := codec.DecodeBytes(nil, region.EndKey)
			if err != nil {
				w.Fatalf("region of V2 keys ends at %q", next)
			}
			next = string(plain)
		}
		if next == "" {
			return
		}
		from = next
	}
}

func (w *world) read() {
	start, end := w.key(), w.key()
	if start > end {
		start, end = end, start
	}
	if w.rng.IntN(3) == 0 {
		start, end = w.prefix, w.prefix+"\xff"
	}
	var got, sum []string
	var crc uint64
	w.over(start, end, func(s *raw.Service, rc *kvrpcpb.Context, from, to string) (*errorpb.Error, error) {
		req := &kvrpcpb.RawScanRequest{Context: rc, StartKey: []byte(from), EndKey: []byte(to), Limit: 1000}
		resp, err := s.RawScan(context.Background(), req)
		if err != nil || resp.RegionError != nil {
			return resp.GetRegionError(), err
		}
		back := &kvrpcpb.RawScanRequest{Context: rc, StartKey: []byte(to), EndKey: []byte(from), Limit: 1000, Reverse: true}
		reversed, err := s.RawScan(context.Background(), back)
		if err != nil || reversed.RegionError != nil {
			return reversed.GetRegionError(), err
		}
		check, err := s.RawChecksum(context.Background(), &kvrpcpb.RawChecksumRequest{Context: rc, Ranges: []*kvrpcpb.KeyRange{{StartKey: []byte(from), EndKey: []byte(to)}}})
		if err != nil || check.RegionError != nil {
			return check.GetRegionError(), err
		}
		slices.Reverse(reversed.Kvs)
		if len(reversed.Kvs) != len(resp.Kvs) || uint64(len(resp.Kvs)) != check.TotalKvs {
			w.Fatalf("%d pairs forwards, %d backwards, %d in the checksum", len(resp.Kvs), len(reversed.Kvs), check.TotalKvs)
		}
		var here uint64
		var pairs []string
		for i, p := range resp.Kvs {
			if !bytes.Equal(p.Key, reversed.Kvs[i].Key) || !bytes.Equal(p.Value, reversed.Kvs[i].Value) {
				w.Fatalf("%q forwards, %q backwards", p.Key, reversed.Kvs[i].Key)
			}
			pairs = append(pairs, string(p.Key)+"="+string(p.Value))
			here ^= crc64.Checksum(append(bytes.Clone(p.Key), p.Value...), crc64.MakeTable(crc64.ECMA))
		}
		if here != check.Checksum {
			w.Fatalf("checksum %x, want %x", check.Checksum, here)
		}
		got, crc = append(got, pairs...), crc^here
		return nil, nil
	})
	for _, k := range w.keys(start, end) {
		sum = append(sum, k+"="+w.model[k].value)
	}
	// A region may be read twice, if it was split in between; then nothing is new.
	if got = slices.Compact(got); !slices.Equal(got, sum) {
		w.Fatalf("scan of [%q, %q): got %q, want %q", start, end, got, sum)
	}
}

func (w *world) readTTL() {
	key := w.key()
	w.on(key, func(s *raw.Service, rc *kvrpcpb.Context) (*errorpb.Error, error) {
		resp, err := s.RawGetKeyTTL(context.Background(), &kvrpcpb.RawGetKeyTTLRequest{Context: rc, Key: []byte(key)})
		if err != nil || resp.RegionError != nil {
			return resp.GetRegionError(), err
		}
		e, ok := w.live(key)
		var want uint64
		if ok && !e.expires.IsZero() {
			want = uint64(e.expires.Unix() - time.Now().Unix())
		}
		if resp.NotFound == ok || resp.Ttl != want {
			w.Fatalf("TTL of %q (%v, %v): %v", key, e, ok, resp)
		}
		return nil, nil
	})
}

// shuffle splits, merges, moves leaders, sweeps, or lets time pass.
func (w *world) shuffle() {
	key := w.key()
	region := w.c.RegionAt(w.routed(key))
	if region == nil {
		return
	}
	lead := w.c.LeaderOf(region.Id)
	switch w.rng.IntN(6) {
	case 0:
		if keys := engine.RawBoundaries(region.StartKey, region.EndKey, [][]byte{[]byte(w.routed(key))}); lead != 0 && len(keys) > 0 {
			_, _ = w.c.Node(lead).Store.SplitRegion(context.Background(), w.c.Context(lead, region.Id), keys)
		}
	case 1:
		if len(region.EndKey) > 0 {
			if right := w.c.RegionAt(string(region.EndKey)); right != nil {
				w.c.PD.TryMerge(region.Id, right.Id)
			}
		}
	case 2:
		peer := region.Peers[w.rng.IntN(len(region.Peers))]
		w.c.PD.Operate(&pdpb.RegionHeartbeatResponse{RegionId: region.Id, TransferLeader: &pdpb.TransferLeader{Peer: peer}})
	case 3:
		time.Sleep(time.Duration(w.rng.IntN(90)) * time.Second)
	default:
		for _, checker := range w.checkers {
			w.sweeps.Go(func() { // while writes go on
				// A region that has just moved is the next sweep's.
				if _, err := checker.Sweep(context.Background()); err != nil && kv.AsRegionError(err) == nil {
					w.Error(err)
				}
			})
		}
	}
}

// TestRandomOperations runs raw operations of both API versions against models,
// while regions split, merge and move and expired values are removed.
func TestRandomOperations(t *testing.T) {
	steps := 4000
	if os.Getenv("COPRA_TEST_LONG") != "" {
		steps = 60_000
	}
	synctest.Test(t, func(t *testing.T) {
		c := rafttest.NewCluster(t, 3, 3, raftstore.Config{})
		defer c.Close()
		rng := rand.New(rand.NewPCG(11, 17))
		c.WaitLeader(rafttest.FirstRegion)
		one, two := newWorld(t, c, rng), newWorld(t, c, rng)
		two.version, two.prefix = kvrpcpb.APIVersion_V2, "r\x00\x00\x07"
		regions := 0
		for range steps {
			w := one
			if rng.IntN(3) == 0 {
				w = two
			}
			switch n := rng.IntN(100); {
			case n < 30:
				w.put()
			case n < 45:
				w.batchPut()
			case n < 52:
				w.remove()
			case n < 67:
				w.compareAndSwap()
			case n < 70:
				w.deleteRange()
			case n < 80:
				w.readTTL()
			case n < 88:
				w.read()
			default:
				w.shuffle()
			}
			regions = max(regions, len(c.Node(1).Store.Regions()))
		}
		one.sweeps.Wait()
		two.sweeps.Wait()
		if regions < 5 {
			t.Fatalf("there were %d regions at most", regions)
		}
		// In the end nothing that has expired is left on any disk.
		time.Sleep(time.Hour)
		c.Eventually("a sweep everywhere", func() bool {
			for _, checker := range one.checkers {
				if _, err := checker.Sweep(context.Background()); err != nil {
					return false
				}
			}
			return true
		})
		one.read()
		two.read()
		want := len(one.keys("", "")) + len(two.keys("", ""))
		for _, id := range c.IDs() {
			c.Eventually(fmt.Sprintf("store %d with %d entries", id, want), func() bool { return onDisk(t, c.Node(id)) == want })
		}
	})
}

func onDisk(t *testing.T, n *rafttest.Node) (count int) {
	snap := n.Engine.NewSnapshot()
	it, err := snap.NewIter(kv.CFRaw, kv.IterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		count++
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	if err := snap.Close(); err != nil {
		t.Fatal(err)
	}
	return count
}
