package catalog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	tikverr "github.com/tikv/client-go/v2/error"
	"github.com/tikv/client-go/v2/tikv"
	"github.com/tikv/client-go/v2/txnkv/transaction"
	"github.com/tikv/client-go/v2/txnkv/txnsnapshot"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/pgerror"
)

// VersionLease is how long this node may go on using a schema version without
// looking whether there is a newer one. A schema change that others must know
// of before its next step waits for longer than that (Change and its users).
const VersionLease = 40 * time.Millisecond

// Store reads the catalog from the SQL keyspace and keeps the newest version
// that this node has seen. It is safe for concurrent use.
type Store struct {
	kv       *tikv.KVStore
	virtuals Virtuals
	current  atomic.Pointer[Snapshot]
	// fresh is when (nanoseconds since epoch) current was last found to be the newest.
	fresh atomic.Int64
	// changed is when a change was last committed here: what was found before,
	// or by a look that began before, is too old.
	changed atomic.Int64
	epoch   time.Time
	load    sync.Mutex
	ids     counters
}

// NewStore opens the catalog, which may be empty. virtuals may be nil.
func NewStore(kv *tikv.KVStore, virtuals Virtuals) *Store {
	s := &Store{kv: kv, virtuals: virtuals, epoch: time.Now()}
	s.ids.store = s
	s.fresh.Store(int64(-2 * VersionLease))
	s.changed.Store(int64(-2 * VersionLease))
	return s
}

// Latest returns the catalog: the newest version as of some moment within the
// last VersionLease.
func (s *Store) Latest(ctx context.Context) (*Snapshot, error) {
	fresh := s.fresh.Load()
	if cur := s.current.Load(); cur != nil && fresh > s.changed.Load() && time.Since(s.epoch)-time.Duration(fresh) < VersionLease {
		return cur, nil
	}
	start := time.Since(s.epoch)
	ts, err := s.kv.CurrentTimestamp("global")
	if err != nil {
		return nil, fmt.Errorf("get a timestamp to read the catalog: %w", err)
	}
	return s.at(ctx, ts, start)
}

// At returns the catalog as of timestamp ts, which must not be in the future.
func (s *Store) At(ctx context.Context, ts uint64) (*Snapshot, error) {
	return s.at(ctx, ts, -2*VersionLease)
}

// at reads the catalog at ts and, if it is the newest known, keeps it; began is
// when on the store's clock ts was asked for.
func (s *Store) at(ctx context.Context, ts uint64, began time.Duration) (*Snapshot, error) {
	snap := s.kv.GetSnapshot(ts)
	version, err := readVersion(ctx, snap)
	if err != nil {
		return nil, err
	}
	if cur := s.current.Load(); cur != nil && cur.version == version {
		s.touch(began)
		return cur, nil
	}
	s.load.Lock()
	defer s.load.Unlock()
	cur := s.current.Load()
	if cur != nil && cur.version == version {
		s.touch(began)
		return cur, nil
	}
	loaded, err := s.read(ctx, snap, version)
	if err != nil {
		return nil, err
	}
	if cur == nil || version > cur.version {
		s.current.Store(loaded)
		s.touch(began)
	}
	return loaded, nil
}

func (s *Store) touch(began time.Duration) {
	for {
		old := s.fresh.Load()
		if int64(began) <= old || s.fresh.CompareAndSwap(old, int64(began)) {
			return
		}
	}
}

// Invalidate makes the next Latest look for a newer version: after a change was
// committed here.
func (s *Store) Invalidate() { s.changed.Store(int64(time.Since(s.epoch))) }

// getter is a snapshot or a transaction.
type getter interface {
	Get(ctx context.Context, k []byte, options ...tikvGetOption) (tikvValue, error)
}

func readVersion(ctx context.Context, g getter) (int64, error) {
	v, err := g.Get(ctx, versionKey)
	if isNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the schema version: %w", err)
	}
	return decodeInt(versionKey, v.Value)
}

func isNotFound(err error) bool { return err != nil && errors.Is(err, tikverr.ErrNotExist) }

// read loads every descriptor.
func (s *Store) read(ctx context.Context, snap *txnsnapshot.KVSnapshot, version int64) (*Snapshot, error) {
	out := newSnapshot(version, s.virtuals)
	err := s.scan(ctx, snap, schemaPrefix, func(key []byte, _ int64, data []byte) error {
		sc := &Schema{}
		if err := decode(key, data, sc); err != nil {
			return err
		}
		out.schemas[sc.Name] = sc
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = s.scan(ctx, snap, tablePrefix, func(key []byte, _ int64, data []byte) error {
		t := &Table{}
		if err := decode(key, data, t); err != nil {
			return err
		}
		out.addTable(t)
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = s.scan(ctx, snap, statsPrefix, func(key []byte, id int64, data []byte) error {
		var st Stats
		if err := decode(key, data, &st); err != nil {
			return err
		}
		out.stats[id] = st
		return nil
	})
	return out, err
}

func (s *Store) scan(ctx context.Context, snap *txnsnapshot.KVSnapshot, prefix string, fn func(key []byte, id int64, data []byte) error) error {
	it, err := snap.Iter([]byte(prefix), codec.PrefixNext([]byte(prefix)))
	if err != nil {
		return fmt.Errorf("read the catalog: %w", err)
	}
	defer it.Close()
	for it.Valid() {
		if err := ctx.Err(); err != nil {
			return err
		}
		id, err := idOfKey(prefix, it.Key())
		if err != nil {
			return pgerror.Wrap(err, pgerror.DataCorrupted, "the catalog holds a key it cannot have")
		}
		if err := fn(it.Key(), id, it.Value()); err != nil {
			return err
		}
		if err := it.Next(); err != nil {
			return fmt.Errorf("read the catalog: %w", err)
		}
	}
	return nil
}

// Txn is the transaction type that changes are written in.
type Txn = transaction.KVTxn
