package raftstore_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/rafttest"
	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
)

// orderedModel replays what is applied, one entry after the other.
type orderedModel struct {
	raftstore.NoObserver
	mu     sync.Mutex
	values map[string]string
	rounds int // that had a conditional delete behind another write
}

func (m *orderedModel) Applied(_ uint64, entries []*raftpb.Entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, e := range entries {
		data, ok := raftstore.DecodeWrite(e)
		if !ok {
			continue
		}
		if i > 0 && kv.Conditional(data) {
			m.rounds++
		}
		for r := kv.ReadBatch(data); ; {
			op, _, key, value, ok, err := r.Next()
			if err != nil {
				panic(err)
			}
			if !ok {
				break
			}
			switch k, v := string(key), string(value); op {
			case kv.OpPut:
				m.values[k] = v
			case kv.OpDelete:
				delete(m.values, k)
			case kv.OpDeleteIf:
				if have, ok := m.values[k]; ok && strings.HasPrefix(have, v) {
					delete(m.values, k)
				}
			case kv.OpDeleteRange:
				maps.DeleteFunc(m.values, func(have, _ string) bool { return have >= k && have < v })
			}
		}
	}
}

// TestConditionalDeletes: many entries are applied at once, and a conditional
// delete still goes by exactly those before it, on every replica.
func TestConditionalDeletes(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		lead := c.WaitLeader(rafttest.FirstRegion)
		models := map[uint64]*orderedModel{}
		for _, id := range c.IDs() {
			models[id] = &orderedModel{values: map[string]string{}}
			c.Node(id).Events.Also(models[id])
			c.Node(id).Events.SlowApply(time.Duration(id) * 3 * time.Millisecond)
		}
		rng := rand.New(rand.NewPCG(3, 4))
		key := func() []byte { return fmt.Appendf(nil, "k%d", rng.IntN(6)) }
		value := func() []byte { return fmt.Appendf(nil, "%d", rng.IntN(3)) }
		var wg sync.WaitGroup
		for i := range 2000 {
			var b kv.Batch
			switch rng.IntN(10) {
			case 0:
				b.Delete(kv.CFRaw, key())
			case 1:
				b.DeleteRange(kv.CFRaw, []byte("k2"), []byte("k4"))
			case 2, 3, 4, 5:
				for range 3 {
					b.DeleteIf(kv.CFRaw, key(), value())
				}
			default:
				b.Put(kv.CFRaw, key(), append(value(), "tail"...))
			}
			wg.Go(func() {
				if err := c.Node(lead).Store.Write(context.Background(), c.Context(lead, rafttest.FirstRegion), &b); err != nil {
					t.Error(err)
				}
			})
			if i%20 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
		wg.Wait()
		applied := func(id uint64) uint64 {
			info, _ := c.Node(id).Store.Region(rafttest.FirstRegion)
			return info.AppliedIndex
		}
		for _, id := range c.IDs() {
			c.Eventually("the end of the log", func() bool { return applied(id) == applied(lead) })
			time.Sleep(time.Second)
			es := c.Node(id).Engine.NewSnapshot()
			it, err := es.NewIter(kv.CFRaw, kv.IterOptions{})
			require.NoError(t, err)
			got := map[string]string{}
			for ok := it.First(); ok; ok = it.Next() {
				v, err := it.Value()
				require.NoError(t, err)
				got[string(it.Key())] = string(v)
			}
			require.NoError(t, it.Close())
			require.NoError(t, es.Close())
			models[id].mu.Lock()
			require.Equal(t, models[id].values, got, "store %d", id)
			require.Greater(t, models[id].rounds, 50, "store %d applied them one by one", id)
			models[id].mu.Unlock()
		}
		var mixed kv.Batch
		mixed.DeleteIf(kv.CFRaw, []byte("k1"), []byte("x"))
		mixed.Put(kv.CFRaw, []byte("k1"), []byte("x"))
		require.ErrorContains(t, c.Node(lead).Store.Write(context.Background(), c.Context(lead, rafttest.FirstRegion), &mixed), "conditional")
	})
}
