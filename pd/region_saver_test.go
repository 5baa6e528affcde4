package pd

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/pingcap/kvproto/pkg/metapb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/copradb/copra/pd/core"
)

// savedRegions is where a saver writes to.
type savedRegions struct {
	m      map[string]uint64 // key → version
	before func()            // runs before each write
	err    error
}

func (s *savedRegions) txn(_ context.Context, ops ...clientv3.Op) error {
	if f := s.before; f != nil {
		s.before = nil
		f()
	}
	if s.err != nil {
		return s.err
	}
	for _, op := range ops {
		if op.IsDelete() {
			delete(s.m, string(op.KeyBytes()))
			continue
		}
		m := &metapb.Region{}
		if err := m.Unmarshal(op.ValueBytes()); err != nil {
			return err
		}
		s.m[string(op.KeyBytes())] = m.RegionEpoch.Version
	}
	return nil
}

func testRegion(id, version uint64, start, end string) *core.Region {
	return &core.Region{Meta: &metapb.Region{Id: id, StartKey: []byte(start), EndKey: []byte(end),
		RegionEpoch: &metapb.RegionEpoch{Version: version, ConfVer: 1}, Peers: []*metapb.Peer{{Id: id + 100, StoreId: 1}}}}
}

// TestSaverWritesWhatIsKnown has the marks of two reports arrive in the wrong
// order, and a region change while it is being written: the region that was
// merged away must not come back, and the last state must be the one saved.
func TestSaverWritesWhatIsKnown(t *testing.T) {
	ctx, saved := context.Background(), &savedRegions{m: map[string]uint64{}}
	rs := core.NewRegions()
	w := newRegionSaver(rs, func(id uint64) string { return fmt.Sprint(id) }, saved.txn)
	put := func(r *core.Region) {
		t.Helper()
		if _, err := rs.Put(r); err != nil {
			t.Fatal(err)
		}
	}
	check := func(want map[string]uint64) {
		t.Helper()
		if err := w.flush(ctx); err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(saved.m) != fmt.Sprint(want) {
			t.Fatalf("saved %v, want %v", saved.m, want)
		}
	}
	// Region 1 is put, and before that report has marked it region 2 has covered
	// it and marked both.
	put(testRegion(1, 1, "", "m"))
	put(testRegion(2, 2, "", ""))
	w.mark(1, 2)
	w.mark(1)
	check(map[string]uint64{"2": 2})
	// Region 2 changes while its last state is on its way to etcd.
	put(testRegion(2, 3, "", ""))
	w.mark(2)
	saved.before = func() {
		put(testRegion(2, 4, "", "x"))
		w.mark(2)
	}
	check(map[string]uint64{"2": 3})
	check(map[string]uint64{"2": 4})
	// It is removed while its last state is on its way.
	put(testRegion(2, 5, "", "x"))
	w.mark(2)
	saved.before = func() {
		put(testRegion(3, 6, "", ""))
		w.mark(2, 3)
	}
	check(map[string]uint64{"2": 5})
	check(map[string]uint64{"3": 6})
	// A write that fails is repeated, with what is known then.
	saved.err = errors.New("etcd is away")
	put(testRegion(3, 7, "", ""))
	w.mark(3)
	if err := w.flush(ctx); !errors.Is(err, saved.err) {
		t.Fatal(err)
	}
	put(testRegion(3, 8, "", ""))
	saved.err = nil
	check(map[string]uint64{"3": 8})
}

// TestSaverBatches saves more regions than one write takes.
func TestSaverBatches(t *testing.T) {
	saved, rs := &savedRegions{m: map[string]uint64{}}, core.NewRegions()
	w := newRegionSaver(rs, func(id uint64) string { return fmt.Sprint(id) }, nil)
	w.txn = func(ctx context.Context, ops ...clientv3.Op) error {
		if len(ops) > saveBatchRegionsMax {
			t.Errorf("a batch of %d", len(ops))
		}
		return saved.txn(ctx, ops...)
	}
	const n = 3*saveBatchRegionsMax + 1
	for i := range uint64(n) {
		if _, err := rs.Put(testRegion(i+1, 1, fmt.Sprintf("%06d", i), fmt.Sprintf("%06d", i+1))); err != nil {
			t.Fatal(err)
		}
		w.mark(i + 1)
	}
	if err := w.flush(context.Background()); err != nil || len(saved.m) != n {
		t.Fatalf("%d of %d saved: %v", len(saved.m), n, err)
	}
}
