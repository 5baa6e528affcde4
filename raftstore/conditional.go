package raftstore

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/copradb/copra/internal/kv"
)

// A conditional delete is decided when it is applied, from nothing but the
// region's data as of the entry before: so every replica decides the same, and
// a write that was proposed before it and is applied before it counts. This is
// how the TTL sweep removes a value without a lock on its key.

// resolve returns the deletes of a conditional batch that take effect.
func (a *applier) resolve(data []byte) []byte {
	values := a.pendingValues(data)
	snap := a.p.store.engine.NewSnapshot()
	var out kv.Batch
	eachWrite(data, func(_ kv.Op, cf kv.CF, key, prefix []byte) {
		id := pendingKey(cf, key)
		value, pending := values[id]
		if pending {
			if value != nil && bytes.HasPrefix(value, prefix) {
				out.Delete(cf, key)
			}
			return
		}
		value, closer, err := snap.Get(cf, key)
		if errors.Is(err, kv.ErrNotFound) {
			return
		}
		if err != nil {
			panic(fmt.Sprintf("raftstore: region %d: conditional delete of %x: %v", a.p.regionID, key, err))
		}
		if bytes.HasPrefix(value, prefix) {
			out.Delete(cf, key)
		}
		if err := closer.Close(); err != nil {
			panic(fmt.Sprintf("raftstore: region %d: conditional delete of %x: %v", a.p.regionID, key, err))
		}
	})
	if err := snap.Close(); err != nil {
		panic(fmt.Sprintf("raftstore: region %d: conditional deletes: %v", a.p.regionID, err))
	}
	return out.Bytes()
}

// pendingValues returns what the entries of this round, which are not in the
// engine yet, have made of the keys of a conditional batch: a value, or nil for
// none. A conditional delete of this round leaves its key out: whether it took
// effect or not, the engine's value is decided on in the same way once more.
func (a *applier) pendingValues(data []byte) map[string][]byte {
	if len(a.writes) == 0 {
		return nil
	}
	asked, values := map[string]bool{}, map[string][]byte{}
	eachWrite(data, func(_ kv.Op, cf kv.CF, key, _ []byte) { asked[pendingKey(cf, key)] = true })
	for _, e := range a.writes {
		_, rest, err := decodeEntry(e.GetData())
		if err != nil {
			panic(fmt.Sprintf("raftstore: region %d, entry %d: %v", a.p.regionID, e.GetIndex(), err))
		}
		eachWrite(rest, func(op kv.Op, cf kv.CF, key, value []byte) {
			switch op {
			case kv.OpPut:
				if id := pendingKey(cf, key); asked[id] {
					values[id] = value
				}
			case kv.OpDelete:
				if id := pendingKey(cf, key); asked[id] {
					values[id] = nil
				}
			case kv.OpDeleteIf:
				if id := pendingKey(cf, key); bytes.HasPrefix(values[id], value) {
					values[id] = nil
				}
			case kv.OpDeleteRange:
				for id := range asked {
					if k := []byte(id[1:]); id[0] == byte(cf) && bytes.Compare(k, key) >= 0 && bytes.Compare(k, value) < 0 {
						values[id] = nil
					}
				}
			}
		})
	}
	return values
}

func pendingKey(cf kv.CF, key []byte) string { return string(append([]byte{byte(cf)}, key...)) }

// eachWrite calls fn for what a batch from the log holds.
func eachWrite(data []byte, fn func(op kv.Op, cf kv.CF, key, value []byte)) {
	for r := kv.ReadBatch(data); ; {
		op, cf, key, value, ok, err := r.Next()
		if err != nil {
			panic(fmt.Sprintf("raftstore: batch in the log: %v", err))
		}
		if !ok {
			return
		}
		fn(op, cf, key, value)
	}
}
