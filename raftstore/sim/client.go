package sim

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore/rafttest"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"
)

// A client remembers where regions are and who leads them, like client-go: it
// asks again only after an error. So deposed, paused and partitioned leaders
// hear from it, too.
type client struct {
	w     *world
	id    int
	rng   *rand.Rand
	n     int
	cache []*cachedRegion
}

type cachedRegion struct {
	region *metapb.Region
	store  uint64 // believed to lead
}

// client is an actor.
func (w *world) client(id int) {
	c := &client{w: w, id: id, rng: w.rng("client", uint64(id))}
	for w.sleep(c.rng, 0, w.shape.think) {
		c.n++
		c.step()
	}
}

func (c *client) step() {
	key := c.w.keys[c.rng.IntN(len(c.w.keys))]
	kind, timeout := c.rng.IntN(100), between(c.rng, time.Millisecond, 2*time.Second)
	anywhere, replica := c.rng.IntN(100) < 10, c.rng.IntN(100) < 35
	pick := c.rng.IntN(1 << 20)
	r := c.locate(key)
	if r == nil {
		return
	}
	store := r.store
	if anywhere || (replica && kind >= 50) {
		store = r.region.Peers[pick%len(r.region.Peers)].StoreId
	}
	rc := &kvrpcpb.Context{RegionId: r.region.Id, RegionEpoch: r.region.RegionEpoch, Peer: peerOn(r.region, store)}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	c.w.nodes[store].gate.wait() // what is sent to a stopped process waits
	switch {
	case kind < 42:
		c.write(ctx, store, rc, key, fmt.Sprintf("%d.%d", c.id, c.n))
	case kind < 50:
		c.write(ctx, store, rc, key, "")
	default:
		rc.ReplicaRead = replica
		c.read(ctx, store, rc, key)
	}
}

func peerOn(region *metapb.Region, store uint64) *metapb.Peer {
	for _, p := range region.Peers {
		if p.StoreId == store {
			return p
		}
	}
	return &metapb.Peer{StoreId: store}
}

// locate finds the region of a key in the cache, or asks.
func (c *client) locate(key string) *cachedRegion {
	for _, r := range c.cache {
		if inRegion(key, r.region) {
			return r
		}
	}
	region, lead := c.w.regionAt(key)
	if region == nil || lead == 0 {
		return nil
	}
	r := &cachedRegion{region, lead}
	c.cache = append(c.cache, r)
	return r
}

// forget is what a client does after an error, sooner or later.
func (c *client) forget(key string) {
	if c.rng.IntN(3) == 0 {
		return
	}
	kept := c.cache[:0]
	for _, r := range c.cache {
		if !inRegion(key, r.region) {
			kept = append(kept, r)
		}
	}
	c.cache = kept
}

func inRegion(key string, r *metapb.Region) bool {
	return key >= string(r.StartKey) && (len(r.EndKey) == 0 || key < string(r.EndKey))
}

// families are those that every write goes to, in one batch.
var families = [...]kv.CF{kv.CFDefault, kv.CFRaw}

// write puts a value, or deletes the key if it is empty.
func (c *client) write(ctx context.Context, store uint64, rc *kvrpcpb.Context, key, value string) {
	var b kv.Batch
	for _, cf := range families {
		if value == "" {
			b.Delete(cf, []byte(key))
		} else {
			b.Put(cf, []byte(key), []byte(value))
		}
	}
	call := c.w.hist.now()
	n := c.w.c.Node(store)
	if !n.Up.Load() {
		c.forget(key)
		return // never sent
	}
	err := n.Store.Write(ctx, rc, &b)
	if err == nil && !n.Up.Load() {
		err = rafttest.ErrCrashed
	}
	op := operation{client: c.id, key: key, write: true, value: value, call: call, returned: c.w.hist.now(), store: store, region: rc.RegionId}
	re := kv.AsRegionError(err)
	switch {
	case err == nil:
	case re == nil || re.UndeterminedResult != nil:
		op.returned = math.MaxInt64
	default:
		op.refused = true
	}
	c.w.hist.add(op)
	c.w.log.op(store, rc.RegionId, "client %d: put %s = %q from %s: %v", c.id, key, value, stamp(time.Duration(call)), brief(err))
	if err != nil {
		c.forget(key)
	}
}

// brief is an error without its dump of regions.
func brief(err error) string {
	if err == nil {
		return "ok"
	}
	if re := kv.AsRegionError(err); re != nil {
		return re.Message
	}
	return err.Error()
}

func (c *client) read(ctx context.Context, store uint64, rc *kvrpcpb.Context, key string) {
	op := operation{client: c.id, key: key, call: c.w.hist.now(), store: store, region: rc.RegionId}
	value, err := c.w.get(ctx, store, rc, key)
	op.value, op.returned = value, c.w.hist.now()
	how := "get"
	if rc.ReplicaRead {
		how = "replica get"
	}
	c.w.log.op(store, rc.RegionId, "client %d: %s %s = %q from %s: %v", c.id, how, key, value, stamp(time.Duration(op.call)), brief(err))
	if err != nil {
		c.forget(key)
		return
	}
	c.w.hist.add(op)
}

// get reads a key in all families; a missing key is "".
func (w *world) get(ctx context.Context, store uint64, rc *kvrpcpb.Context, key string) (value string, err error) {
	err = rafttest.ErrCrashed
	w.c.Use(store, func(n *rafttest.Node) {
		var snap kv.Snapshot
		if snap, err = n.Store.Snapshot(ctx, rc, kv.SnapshotOptions{}); err != nil {
			return
		}
		defer snap.Close()
		if !n.Up.Load() {
			err = rafttest.ErrCrashed
			return
		}
		var values [len(families)]string
		for i, cf := range families {
			v, closer, getErr := snap.Get(cf, []byte(key))
			if errors.Is(getErr, kv.ErrNotFound) {
				continue
			}
			if err = getErr; err != nil {
				return
			}
			values[i] = string(v)
			err = closer.Close()
		}
		if values[0] != values[1] {
			w.fail("store %d, region %d: a snapshot of key %s has %q in one family and %q in the other", store, rc.RegionId, key, values[0], values[1])
		}
		value = values[0]
	})
	return value, err
}
