package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
	"hash/fnv"
	"slices"
	"time"

	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore/engine"
	"github.com/copradb/copra/raftstore/rafttest"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"
)

const (
	// availableWithin is how long after the last fault every key must take
	// writes again; fake time.
	availableWithin = 30 * time.Second
	// convergeWithin is how long all replicas have to catch up, and removed
	// peers to notice.
	convergeWithin = 3 * time.Minute
)

// converge ends all faults and checks that the cluster comes to rest with
// everything in place; and again after a restart of all stores.
func (w *world) converge() {
	w.net.heal()
	for _, n := range w.sorted() {
		n.lock()
		n.resume()
		n.disk.latency.Store(0)
		w.restart(n)
		n.unlock()
	}
	w.log.add(0, 0, "the faults are over")
	w.touchAll("final")
	w.settle()
	if w.failed() {
		return
	}
	w.log.add(0, 0, "all stores restart")
	for _, n := range w.sorted() {
		w.c.Stop(n.id)
	}
	for _, n := range w.sorted() {
		w.restart(n)
	}
	w.touchAll("restarted")
	w.settle()
}

// touchAll reads and writes every key.
func (w *world) touchAll(value string) {
	end := time.Now().Add(availableWithin)
	if w.load != nil {
		w.load.Touch(end)
		return
	}
	for i, key := range w.keys {
		w.touch(100+i, key, "", end)
		w.touch(100+i, key, value, end)
		w.touch(100+i, key, "", end)
	}
}

// touch writes a value, or reads if it is empty, until that succeeds.
func (w *world) touch(id int, key, value string, end time.Time) {
	var err error
	tries := 0
	for !w.failed() {
		attempt := value
		if value != "" { // every value is written once
			tries++
			attempt = fmt.Sprint(value, ".", tries)
		}
		if err = w.tryTouch(id, key, attempt); err == nil {
			return
		}
		if time.Now().After(end) {
			w.fail("key %s is not available %s after the last fault: %v\n%s", key, availableWithin, err, w.c.Dump())
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (w *world) tryTouch(id int, key, value string) error {
	region, lead := w.regionAt(key)
	if region == nil || lead == 0 {
		return fmt.Errorf("nobody leads its region")
	}
	rc := &kvrpcpb.Context{RegionId: region.Id, RegionEpoch: region.RegionEpoch, Peer: peerOn(region, lead)}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	before := len(w.hist.ops)
	c := &client{w: w, id: id, rng: w.rng("touch")}
	if value != "" {
		c.write(ctx, lead, rc, key, value)
	} else {
		c.read(ctx, lead, rc, key)
	}
	if n := len(w.hist.ops); n == before || w.hist.ops[n-1].refused || w.hist.ops[n-1].returned > w.hist.now() {
		return fmt.Errorf("store %d, region %d refused it", lead, region.Id)
	}
	return nil
}

// settle waits until all replicas of all regions are the same.
func (w *world) settle() {
	var why string
	for end := time.Now().Add(convergeWithin); !w.failed(); time.Sleep(100 * time.Millisecond) {
		w.checkStores()
		if why = w.unsettled(); why == "" {
			return
		}
		if time.Now().After(end) {
			w.fail("not at rest %s after the last fault: %s\n%s", convergeWithin, why, w.c.Dump())
		}
	}
}

// unsettled says what is not as it should be at rest, or nothing.
func (w *world) unsettled() string {
	regions := w.newestRegions()
	if why := tiling(regions); why != "" {
		return why
	}
	for _, r := range regions {
		if why := w.differs(r); why != "" {
			return why
		}
	}
	for _, n := range w.sorted() {
		why := "it is down"
		w.c.Use(n.id, func(up *rafttest.Node) { why = superfluous(n.id, up, regions) })
		if why != "" {
			return fmt.Sprintf("store %d: %s", n.id, why)
		}
	}
	return ""
}

// tiling checks that regions cover the key space without gaps and overlaps.
func tiling(regions map[uint64]*metapb.Region) string {
	var all []*metapb.Region
	for _, r := range regions {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b *metapb.Region) int { return bytes.Compare(a.StartKey, b.StartKey) })
	var at []byte
	for i, r := range all {
		if !bytes.Equal(r.StartKey, at) || (len(r.EndKey) == 0 && i != len(all)-1) {
			return fmt.Sprintf("the regions don't tile the key space at %q: region %d is %s", at, r.Id, describe(r))
		}
		at = r.EndKey
	}
	if len(all) == 0 || len(at) > 0 {
		return fmt.Sprintf("no region holds the keys from %q on", at)
	}
	return ""
}

// differs compares the replicas of a region.
func (w *world) differs(r *metapb.Region) string {
	var first uint64
	var applied uint64
	for i, p := range r.Peers {
		if p.Role != metapb.PeerRole_Voter && p.Role != metapb.PeerRole_Learner {
			return fmt.Sprintf("region %d is in a joint configuration: %s", r.Id, describe(r))
		}
		why := "it is down"
		w.c.Use(p.StoreId, func(up *rafttest.Node) {
			info, ok := up.Store.Region(r.Id)
			switch {
			case !ok || info.PeerID != p.Id:
				why = fmt.Sprintf("it has no peer %d of region %d", p.Id, r.Id)
				return
			case newer(r, info.Region) || len(info.Region.Peers) == 0:
				why = fmt.Sprintf("it knows region %d only as %v", r.Id, info.Region)
				return
			case i > 0 && info.AppliedIndex != applied:
				why = fmt.Sprintf("region %d has applied %d, the first replica %d", r.Id, info.AppliedIndex, applied)
				return
			}
			sum, keys, err := regionHash(up, r)
			if err != nil {
				w.fail("store %d: %v", p.StoreId, err)
				return
			}
			again, _ := up.Store.Region(r.Id)
			if again.AppliedIndex != info.AppliedIndex {
				why = "it is not quiet"
				return
			}
			why = ""
			if i > 0 && sum != first {
				w.fail("region %d at applied index %d: store %d has other data (%d keys) than store %d: %s",
					r.Id, applied, p.StoreId, keys, r.Peers[0].StoreId, describe(r))
			}
			if i == 0 {
				first, applied = sum, info.AppliedIndex
			}
		})
		if why != "" {
			return fmt.Sprintf("store %d: %s", p.StoreId, why)
		}
	}
	return ""
}

// superfluous looks for peers that are no members, and for data outside of all
// regions of the store.
func superfluous(store uint64, up *rafttest.Node, regions map[uint64]*metapb.Region) string {
	for _, r := range up.Store.Regions() {
		id := r.Region.GetId()
		if regions[id] == nil || peerOn(regions[id], store).Id != r.PeerID {
			return fmt.Sprintf("peer %d of region %d is no member of %v", r.PeerID, id, regions[id])
		}
	}
	all, err := states(up)
	if err != nil {
		return err.Error()
	}
	snap := up.Engine.NewSnapshot()
	defer snap.Close()
	at := []byte(nil)
	for _, st := range all {
		if bytes.Compare(at, st.Region.StartKey) < 0 {
			if why := strayData(snap, at, st.Region.StartKey); why != "" {
				return why
			}
		}
		if at = st.Region.EndKey; len(at) == 0 {
			return ""
		}
	}
	return strayData(snap, at, nil)
}

func strayData(snap *engine.Snapshot, start, end []byte) string {
	for _, cf := range kv.CFs {
		n, err := hashRange(newHash(), snap, cf, start, end)
		if err != nil || n > 0 {
			return fmt.Sprintf("%d keys of family %s in [%q, %q), where it has no region (%v)", n, cf, start, end, err)
		}
	}
	return ""
}

func newHash() hash.Hash64 { return fnv.New64a() }

// hashRange adds a range of a family to a hash and counts its keys.
func hashRange(h hash.Hash64, snap *engine.Snapshot, cf kv.CF, start, end []byte) (keys int, err error) {
	it, err := snap.NewIter(cf, kv.IterOptions{Lower: start, Upper: end})
	if err != nil {
		return 0, err
	}
	for ok := it.First(); ok; ok = it.Next() {
		keys++
		value, err := it.Value()
		if err != nil {
			return keys, errors.Join(err, it.Close())
		}
		for _, b := range [][]byte{it.Key(), value} {
			_, _ = h.Write(append(appendLen(nil, len(b)), b...))
		}
	}
	return keys, it.Close()
}
