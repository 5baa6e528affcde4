package engine

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/copradb/copra/internal/kv"
	"github.com/stretchr/testify/require"
)

func openForSnapshots(t *testing.T) *Engine {
	t.Helper()
	e, err := Open(Options{Dir: "data", FS: vfs.NewMem(), CacheBytes: 1 << 20, MemTableBytes: 1 << 20})
	require.NoError(t, err)
	return e
}

func put(e *Engine, key, value string) error {
	b := e.NewBatch()
	b.Put(kv.CFDefault, []byte(key), []byte(value))
	return errors.Join(e.Apply(b), b.Close())
}

func read(s *Snapshot, key string) (string, error) {
	v, closer, err := s.Get(kv.CFDefault, []byte(key))
	if err != nil {
		return "", err
	}
	return string(v), closer.Close()
}

func TestSnapshotsAreShared(t *testing.T) {
	e := openForSnapshots(t)
	require.NoError(t, put(e, "k", "1"))
	a, b := e.NewSnapshot(), e.NewSnapshot()
	require.Same(t, a, b, "nothing was written between them")
	require.NoError(t, put(e, "k", "2"))
	c := e.NewSnapshot()
	require.NotSame(t, a, c)
	require.NoError(t, a.Close())
	for s, want := range map[*Snapshot]string{b: "1", c: "2"} {
		got, err := read(s, "k")
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	require.NoError(t, b.Close())
	require.Panics(t, func() { _ = b.Close() })
	require.EqualValues(t, 1, e.db.Metrics().Snapshots.Count, "what was written over is not held")
	require.NoError(t, c.Close())
	d := e.NewSnapshot()
	require.Same(t, c, d, "the engine kept it")
	require.NoError(t, d.Close())
	require.NoError(t, e.DestroyRange([]byte("a"), []byte("z"), nil))
	f := e.NewSnapshot()
	_, err := read(f, "k")
	require.ErrorIs(t, err, kv.ErrNotFound)
	require.NoError(t, f.Close())
	require.NoError(t, e.Close())
}

// Whoever asks for a snapshot behind a write sees it, and nobody sees less than
// they saw before.
func TestSharedSnapshotsAreNeverStale(t *testing.T) {
	e := openForSnapshots(t)
	var written atomic.Int64
	require.NoError(t, put(e, "k", "0"))
	var readers, writer sync.WaitGroup
	var stop atomic.Bool
	writer.Go(func() {
		for i := int64(1); i <= 3000; i++ {
			if err := put(e, "k", fmt.Sprint(i)); err != nil {
				t.Error(err)
			}
			written.Store(i)
		}
		stop.Store(true)
	})
	for range 4 {
		readers.Go(func() {
			for !stop.Load() {
				least := written.Load()
				s := e.NewSnapshot()
				v, err := read(s, "k")
				got, convErr := strconv.ParseInt(v, 10, 64)
				if err := errors.Join(err, convErr, s.Close()); err != nil || got < least {
					t.Errorf("read %q, %v: at least %d was written", v, err, least)
					return
				}
			}
		})
	}
	writer.Wait()
	readers.Wait()
	require.LessOrEqual(t, e.db.Metrics().Snapshots.Count, 1)
	require.NoError(t, e.Close())
}
