package server

import (
	"context"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"

	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/txn"
)

// locksMax is how many locks of a range go back to the client at a time, to be
// resolved together.
const locksMax = 64

// TxnSource reads regions through a transactional store.
func TxnSource(s *txn.Store) ReaderSource { return txnSource{s} }

type txnSource struct{ s *txn.Store }

func (t txnSource) OpenReader(ctx context.Context, rc *kvrpcpb.Context, ts uint64, ranges []kv.KeyRange) (Reader, error) {
	r, err := t.s.OpenReader(ctx, rc, txn.ReaderOptions{TS: ts, Ranges: ranges})
	if err != nil {
		return nil, err
	}
	return txnReader{r}, nil
}

type txnReader struct{ r *txn.Reader }

func (t txnReader) Rows(r kv.KeyRange, desc, keyOnly bool) (Rows, error) {
	sc, err := t.r.NewScanner(txn.ScanOptions{Start: r.Start, End: r.End, Desc: desc, KeyOnly: keyOnly, LocksMax: locksMax})
	if err != nil {
		return nil, err
	}
	return sc, nil
}

// Snapshot, TS and Get are for the columnar cache.
func (t txnReader) Snapshot() kv.Snapshot { return t.r.Snapshot() }
func (t txnReader) TS() uint64            { return t.r.TS() }

func (t txnReader) Get(key []byte) (value []byte, ok bool, err error) {
	value, _, ok, err = t.r.Get(key)
	return value, ok, err
}

func (t txnReader) Close() error { return t.r.Close() }
