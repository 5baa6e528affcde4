package catalog

import (
	"context"
	"fmt"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/tikv/client-go/v2/kv"

	"github.com/copradb/copra/internal/pgerror"
)

// DropRange is a key range whose table or index is gone. It stays in the queue
// until its data is deleted, so that a crash leaks nothing.
type DropRange struct {
	ID         int64
	Start, End []byte
	// Counters are the keys of row ids and sequences that go with it.
	Counters [][]byte
	// QueuedTS is the start of the transaction that dropped it.
	QueuedTS uint64
	// CommitTS is when that was committed; DropRanges fills it in.
	CommitTS uint64 `json:"-"`
	// Begun: somebody deletes it, and nobody can take it back any more.
	Begun bool   `json:",omitempty"`
	What  string // for logs
}

// Key is where the queue has it.
func (r DropRange) Key() []byte { return idKey(dropPrefix, r.ID) }

// DropRanges lists the queue.
func (s *Store) DropRanges(ctx context.Context) ([]DropRange, error) {
	ts, err := s.kv.CurrentTimestamp("global")
	if err != nil {
		return nil, fmt.Errorf("get a timestamp: %w", err)
	}
	var out []DropRange
	snap := s.kv.GetSnapshot(ts)
	err = s.scan(ctx, snap, dropPrefix, func(key []byte, _ int64, data []byte) error {
		var r DropRange
		if err := decode(key, data, &r); err != nil {
			return err
		}
		out = append(out, r)
		return nil
	})
	for i := range out {
		v, err := snap.Get(ctx, idKey(dropPrefix, out[i].ID), kv.WithReturnCommitTS())
		if err != nil {
			return nil, fmt.Errorf("find out when %s was dropped: %w", out[i].What, err)
		}
		out[i].CommitTS = v.CommitTS
	}
	return out, err
}

// readDropRange returns a range as it is queued, if it is.
func readDropRange(ctx context.Context, txn *Txn, key []byte) (r DropRange, ok bool, err error) {
	v, err := txn.Get(ctx, key)
	if isNotFound(err) {
		return r, false, nil
	}
	if err == nil {
		err = decode(key, v.Value, &r)
	}
	return r, err == nil, err
}

// BeginDelete makes sure that a range stays in the queue until it is deleted, or
// reports that it is not there any more: it was deleted, or taken back.
func (s *Store) BeginDelete(ctx context.Context, r DropRange) (queued bool, err error) {
	txn, err := s.kv.Begin()
	if err != nil {
		return false, err
	}
	now, ok, err := readDropRange(ctx, txn, r.Key())
	if err != nil {
		return false, rollback(txn, err)
	}
	if !ok || now.Begun {
		return ok, txn.Rollback()
	}
	now.Begun = true
	data, err := encode(now)
	if err != nil {
		return false, rollback(txn, err)
	}
	txn.SetDiskFullOpt(kvrpcpb.DiskFullOpt_AllowedOnAlmostFull) // as in DeleteRange
	if err := txn.Set(r.Key(), data); err != nil {
		return false, rollback(txn, err)
	}
	return true, txn.Commit(ctx)
}

// DeleteRange deletes a queued range's data, all versions of it, and then takes
// it off the queue. BeginDelete comes before. Deleting twice is harmless: ids are never reused.
func (s *Store) DeleteRange(ctx context.Context, r DropRange) error {
	if len(r.Start) == 0 || len(r.End) == 0 || r.Start[0] != 't' || r.End[0] != 't' {
		return pgerror.New(pgerror.DataCorrupted, "queued range %d [%x, %x) is not inside a table", r.ID, r.Start, r.End)
	}
	if _, err := s.kv.DeleteRange(ctx, r.Start, r.End, 1); err != nil {
		return fmt.Errorf("delete the data of %s: %w", r.What, err)
	}
	txn, err := s.kv.Begin()
	if err != nil {
		return err
	}
	txn.SetDiskFullOpt(kvrpcpb.DiskFullOpt_AllowedOnAlmostFull) // this is what makes room
	for _, key := range append(r.Counters, idKey(dropPrefix, r.ID)) {
		if err := txn.Delete(key); err != nil {
			return rollback(txn, err)
		}
	}
	return txn.Commit(ctx)
}
