package txn

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/txn/mvcc"
)

// protectedMark is the value of a protected rollback, as TiKV shows (and stores) it.
const protectedMark = "P"

// mvccRecordsMax bounds the records of one key that the debug requests answer.
const mvccRecordsMax = 10_000

// MvccGetByKey shows everything that is stored of a key.
func (s *Store) MvccGetByKey(ctx context.Context, req *kvrpcpb.MvccGetByKeyRequest) (*kvrpcpb.MvccGetByKeyResponse, error) {
	resp := &kvrpcpb.MvccGetByKeyResponse{}
	err := s.withSnapshot(ctx, req.Context, func(snap kv.Snapshot) (err error) {
		enc := codec.EncodeBytes(nil, req.Key)
		if err := keyNotInRegion(snap, req.Key, enc); err != nil {
			return err
		}
		resp.Info, err = mvccInfo(snap, enc)
		return err
	})
	re, ke, err := split(err)
	if re != nil || ke != nil || err != nil {
		return &kvrpcpb.MvccGetByKeyResponse{RegionError: re, Error: debugError(ke)}, err
	}
	return resp, nil
}

// MvccGetByStartTs shows the first key of the region that the transaction has a
// lock or a commit record on. It reads the whole region: a tool for people.
func (s *Store) MvccGetByStartTs(ctx context.Context, req *kvrpcpb.MvccGetByStartTsRequest) (*kvrpcpb.MvccGetByStartTsResponse, error) {
	resp := &kvrpcpb.MvccGetByStartTsResponse{}
	err := s.withSnapshot(ctx, req.Context, func(snap kv.Snapshot) error {
		enc, err := findTxn(ctx, snap, req.StartTs)
		if err != nil || enc == nil {
			return err
		}
		resp.Key = plainKey(enc)
		resp.Info, err = mvccInfo(snap, enc)
		return err
	})
	re, ke, err := split(err)
	if re != nil || ke != nil || err != nil {
		return &kvrpcpb.MvccGetByStartTsResponse{RegionError: re, Error: debugError(ke)}, err
	}
	return resp, nil
}

func debugError(ke *kvrpcpb.KeyError) string {
	if ke == nil {
		return ""
	}
	return ke.String()
}

func (s *Store) withSnapshot(ctx context.Context, rc *kvrpcpb.Context, f func(kv.Snapshot) error) (err error) {
	snap, err := s.engine.Snapshot(ctx, rc, kv.SnapshotOptions{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	return f(snap)
}

// eachEntry calls f for the family's entries in [lower, upper) until it says stop.
func eachEntry(snap kv.Snapshot, cf kv.CF, lower, upper []byte, f func(key, value []byte) (stop bool, err error)) (err error) {
	it, err := snap.NewIter(cf, kv.IterOptions{Lower: lower, Upper: upper})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		value, err := it.Value()
		if err != nil {
			return err
		}
		if stop, err := f(it.Key(), value); stop || err != nil {
			return err
		}
	}
	return it.Error()
}

// findTxn returns the first encoded key with a trace of the transaction.
func findTxn(ctx context.Context, snap kv.Snapshot, startTS uint64) (enc []byte, err error) {
	n := 0
	cancelled := func() error {
		if n++; n%1024 == 0 {
			return ctx.Err()
		}
		return nil
	}
	err = eachEntry(snap, kv.CFLock, nil, nil, func(key, value []byte) (bool, error) {
		txns, err := mvcc.LockTxns(nil, value)
		if slices.Contains(txns, startTS) {
			enc = bytes.Clone(key)
		}
		return enc != nil, errors.Join(err, cancelled())
	})
	if err != nil || enc != nil {
		return enc, err
	}
	err = eachEntry(snap, kv.CFWrite, nil, nil, func(key, value []byte) (bool, error) {
		w, err := mvcc.ParseWrite(value)
		if err == nil && w.StartTS == startTS {
			enc = bytes.Clone(key[:len(key)-codec.TSLen])
		}
		return enc != nil, errors.Join(err, cancelled())
	})
	return enc, err
}

func mvccInfo(snap kv.Snapshot, enc []byte) (*kvrpcpb.MvccInfo, error) {
	info := &kvrpcpb.MvccInfo{}
	var r mvcc.Reader
	r.Init(snap)
	l, err := r.LoadLock(enc)
	if err != nil {
		return nil, err
	}
	if l != nil && l.Shared() {
		l = &l.Holders[0] // there is no place for more in the answer; KvScanLock has all
	}
	if l != nil {
		info.Lock = &kvrpcpb.MvccLock{
			Type: l.Type.Op(), StartTs: l.StartTS, Primary: l.Primary, ShortValue: l.ShortValue,
			Ttl: l.TTL, ForUpdateTs: l.ForUpdateTS, TxnSize: l.TxnSize,
			UseAsyncCommit: l.UseAsyncCommit, Secondaries: l.Secondaries, RollbackTs: l.RollbackTS,
			LastChangeTs: l.LastChange.TS, VersionsToLastChange: l.LastChange.Versions,
		}
	}
	upper := append(codec.EncodeTS(bytes.Clone(enc), 0), 0)
	err = eachEntry(snap, kv.CFWrite, enc, upper, func(key, value []byte) (bool, error) {
		_, commitTS, err := codec.DecodeTS(key)
		if err != nil {
			return false, err
		}
		w, err := mvcc.ParseWrite(value)
		if err != nil {
			return false, fmt.Errorf("key %x at %d: %w", enc, commitTS, err)
		}
		value = bytes.Clone(w.ShortValue)
		if w.Protected {
			value = []byte(protectedMark)
		}
		info.Writes = append(info.Writes, &kvrpcpb.MvccWrite{
			Type: w.Type.Op(), StartTs: w.StartTS, CommitTs: commitTS,
			ShortValue: value, HasOverlappedRollback: w.OverlappedRollback,
			LastChangeTs: w.LastChange.TS, VersionsToLastChange: w.LastChange.Versions,
		})
		return len(info.Writes) == mvccRecordsMax, nil
	})
	if err != nil {
		return nil, err
	}
	err = eachEntry(snap, kv.CFDefault, enc, upper, func(key, value []byte) (bool, error) {
		_, startTS, err := codec.DecodeTS(key)
		if err != nil {
			return false, err
		}
		info.Values = append(info.Values, &kvrpcpb.MvccValue{StartTs: startTS, Value: bytes.Clone(value)})
		return len(info.Values) == mvccRecordsMax, nil
	})
	return info, err
}
