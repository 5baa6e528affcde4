package core

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/pingcap/kvproto/pkg/metapb"
	"pgregory.net/rapid"
)

func region(id, version, confVer uint64, start, end string, stores ...uint64) *Region {
	m := &metapb.Region{Id: id, StartKey: []byte(start), EndKey: []byte(end),
		RegionEpoch: &metapb.RegionEpoch{Version: version, ConfVer: confVer}}
	for _, s := range stores {
		m.Peers = append(m.Peers, &metapb.Peer{Id: id*100 + s, StoreId: s})
	}
	r := &Region{Meta: m}
	if len(m.Peers) > 0 {
		r.Leader = m.Peers[0]
	}
	return r
}

func TestPutSplitAndStale(t *testing.T) {
	rs := NewRegions()
	put := func(r *Region) Change {
		t.Helper()
		ch, err := rs.Put(r)
		if err != nil {
			t.Fatal(err)
		}
		return ch
	}
	put(region(1, 1, 1, "", "", 1))
	if ch := put(region(2, 2, 1, "m", "", 1)); !slices.Equal(ch.Removed, []uint64{1}) {
		t.Fatalf("the right half removed %v", ch.Removed)
	}
	if rs.ByKey([]byte("a")) != nil {
		t.Fatal("the left half is not reported yet")
	}
	if _, err := rs.Put(region(1, 1, 9, "", "", 1)); !errors.Is(err, ErrStale) {
		t.Fatalf("the region before the split came back: %v", err)
	}
	put(region(1, 2, 1, "", "m", 1))
	if rs.ByKey([]byte("a")).ID() != 1 || rs.ByKey([]byte("m")).ID() != 2 {
		t.Fatal("lookup after the split")
	}
	if p := rs.Prev([]byte("z")); p == nil || p.ID() != 1 {
		t.Fatalf("prev of region 2 is %v", p)
	}
	if rs.Prev([]byte("a")) != nil {
		t.Fatal("the first region has no prev")
	}
	if _, err := rs.Put(region(2, 2, 0, "m", "", 1)); !errors.Is(err, ErrStale) {
		t.Fatalf("an older conf_ver: %v", err)
	}
	if ch := put(region(2, 2, 1, "m", "", 1)); ch.Meta || ch.Leader {
		t.Fatalf("nothing changed, but: %+v", ch)
	}
	if ch := put(region(2, 2, 2, "m", "", 2, 1)); !ch.Meta || !ch.Leader {
		t.Fatalf("peers and leader changed, but: %+v", ch)
	}
	if n := rs.StoreCounts(2); n.Leaders != 1 || n.Peers != 1 {
		t.Fatalf("store 2: %+v", n)
	}
}

// TestRegionsAgainstAModel puts random reports; the tree never has overlaps,
// agrees with a scan over all regions, and the counts agree with the regions.
func TestRegionsAgainstAModel(t *testing.T) {
	keys := []string{"", "b", "c", "d", "e", "f", "g", "h"}
	rapid.Check(t, func(t *rapid.T) {
		rs := NewRegions()
		for i := range rapid.IntRange(1, 80).Draw(t, "puts") {
			a := rapid.IntRange(0, len(keys)-1).Draw(t, "start")
			b := rapid.IntRange(a+1, len(keys)).Draw(t, "end")
			end := ""
			if b < len(keys) {
				end = keys[b]
			}
			r := region(rapid.Uint64Range(1, 6).Draw(t, "id"), rapid.Uint64Range(1, 10).Draw(t, "version"),
				rapid.Uint64Range(1, 3).Draw(t, "conf"), keys[a], end, rapid.SampledFrom([][]uint64{{1}, {1, 2}, {3, 2, 1}}).Draw(t, "stores")...)
			before := rs.Scan(nil, nil, 0)
			ch, err := rs.Put(r)
			if err != nil {
				if !errors.Is(err, ErrStale) || !slices.Equal(before, rs.Scan(nil, nil, 0)) {
					t.Fatalf("put %d: %v", i, err)
				}
				continue
			}
			for _, id := range ch.Removed {
				if rs.ByID(id) != nil {
					t.Fatalf("put %d: region %d was removed and is there", i, id)
				}
			}
			checkRegions(t, rs)
		}
	})
}

func checkRegions(t *rapid.T, rs *Regions) {
	all := rs.Scan(nil, nil, 0)
	if len(all) != rs.Len() {
		t.Fatalf("%d in the tree, %d by id", len(all), rs.Len())
	}
	counts := map[uint64]Counts{}
	for i, r := range all {
		if rs.ByID(r.ID()) != r || rs.ByKey(r.Meta.StartKey) != r {
			t.Fatalf("region %d is not found", r.ID())
		}
		if i > 0 {
			prev := all[i-1].Meta
			if len(prev.EndKey) == 0 || bytes.Compare(prev.EndKey, r.Meta.StartKey) > 0 {
				t.Fatalf("%v overlaps %v", prev, r.Meta)
			}
		}
		for _, p := range r.Meta.Peers {
			c := counts[p.StoreId]
			c.Peers++
			if r.Leader.Id == p.Id {
				c.Leaders++
			}
			counts[p.StoreId] = c
		}
	}
	for s := uint64(1); s <= 3; s++ {
		if got := rs.StoreCounts(s); got != counts[s] {
			t.Fatalf("store %d: counted %+v, is %+v", s, got, counts[s])
		}
	}
}

func TestCheckMeta(t *testing.T) {
	bad := []*metapb.Region{
		nil, {}, {Id: 1}, {Id: 1, RegionEpoch: &metapb.RegionEpoch{}},
		{Id: 1, RegionEpoch: &metapb.RegionEpoch{}, Peers: []*metapb.Peer{nil}},
		{Id: 1, RegionEpoch: &metapb.RegionEpoch{}, Peers: []*metapb.Peer{{Id: 1}}},
		{Id: 1, RegionEpoch: &metapb.RegionEpoch{}, Peers: []*metapb.Peer{{Id: 1, StoreId: 1}}, StartKey: []byte("b"), EndKey: []byte("a")},
	}
	for i, m := range bad {
		if CheckMeta(m) == nil {
			t.Errorf("case %d: %v was taken", i, m)
		}
	}
}

func BenchmarkByKey(b *testing.B) {
	rs := NewRegions()
	for i := range 10_000 {
		end := fmt.Sprintf("%08d", i+1)
		if _, err := rs.Put(region(uint64(i+1), 1, 1, fmt.Sprintf("%08d", i), end, 1, 2, 3)); err != nil {
			b.Fatal(err)
		}
	}
	key := []byte("00005000x")
	b.ReportAllocs()
	for b.Loop() {
		rs.ByKey(key)
	}
}
