package txn

import (
	"context"
	"errors"
	"github.com/copradb/copra/internal/answers"
	"slices"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/internal/tracker"
	"github.com/copradb/copra/txn/mvcc"
)

// KvGet reads one key at a timestamp.
func (s *Store) KvGet(ctx context.Context, req *kvrpcpb.GetRequest) (*kvrpcpb.GetResponse, error) {
	resp := &kvrpcpb.GetResponse{}
	err := s.get(ctx, req, resp)
	re, ke, err := split(err)
	if err != nil {
		return nil, err
	}
	resp.RegionError, resp.Error = re, ke
	return resp, nil
}

func (s *Store) get(ctx context.Context, req *kvrpcpb.GetRequest, resp *kvrpcpb.GetResponse) (err error) {
	r := s.getReaders.Get().(*Reader)
	defer s.getReaders.Put(r)
	if err := s.openPoint(ctx, req.Context, req.Version, req.Key, r); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	r.o.NeedCommitTS = req.NeedCommitTs
	value, commitTS, ok, err := r.get.Get(req.Key)
	if err != nil {
		return err
	}
	resp.NotFound = !ok
	if ok {
		tracker.From(ctx).CountRows(1, len(req.Key)+len(value))
		resp.Value = append(make([]byte, 0, len(value)), value...)
		if req.NeedCommitTs {
			resp.CommitTs = commitTS
		}
	}
	return nil
}

// KvBatchGet reads keys of a region at a timestamp. Keys that do not exist are
// left out; a locked key gets a pair with an error.
func (s *Store) KvBatchGet(ctx context.Context, req *kvrpcpb.BatchGetRequest) (*kvrpcpb.BatchGetResponse, error) {
	resp := &kvrpcpb.BatchGetResponse{}
	err := s.batchGet(ctx, req, resp)
	if re, ke, err := split(err); re != nil || ke != nil || err != nil {
		return &kvrpcpb.BatchGetResponse{RegionError: re, Error: ke}, err
	}
	return resp, nil
}

func (s *Store) batchGet(ctx context.Context, req *kvrpcpb.BatchGetRequest, resp *kvrpcpb.BatchGetResponse) (err error) {
	r := s.getReaders.Get().(*Reader)
	defer s.getReaders.Put(r)
	ranges := make([]kv.KeyRange, len(req.Keys))
	if s.mem.Len() > 0 || req.Context.GetReplicaRead() {
		for i, k := range req.Keys {
			ranges[i] = kv.KeyRange{Start: k, End: append(slices.Clone(k), 0)}
		}
	} else if len(req.Keys) > 0 {
		ranges[0].Start = req.Keys[0] // whose keyspace's safe point it is
	}
	if err := s.openReader(ctx, req.Context, ReaderOptions{TS: req.Version, Ranges: ranges}, r); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	r.o.NeedCommitTS = req.NeedCommitTs
	size := s.meter()
	defer size.Release()
	for i, key := range req.Keys {
		if i%256 == 255 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		value, commitTS, ok, err := r.Get(key)
		var locked *LockedError
		var newer *NewerError
		switch {
		case errors.As(err, &locked):
			resp.Pairs = append(resp.Pairs, &kvrpcpb.KvPair{Error: &kvrpcpb.KeyError{Locked: locked.Info}, Key: slices.Clone(key)})
			continue
		case errors.As(err, &newer):
			resp.Pairs = append(resp.Pairs, &kvrpcpb.KvPair{Error: newerPB(newer), Key: slices.Clone(key)})
			continue
		case err != nil:
			return err
		case !ok:
			continue
		}
		pair := &kvrpcpb.KvPair{Key: slices.Clone(key), Value: append([]byte{}, value...)}
		if req.NeedCommitTs {
			pair.CommitTs = commitTS
		}
		if err := grow(&size, len(key)+len(value), "keys"); err != nil {
			return err
		}
		resp.Pairs = append(resp.Pairs, pair)
	}
	tracker.From(ctx).CountRows(len(resp.Pairs), size.Bytes())
	return nil
}

// meter measures an answer.
func (s *Store) meter() answers.Meter {
	return answers.Meter{BytesMax: s.limits.ResponseBytesMax, Shared: s.answers}
}

// grow counts bytes that an answer is about to get.
func grow(m *answers.Meter, n int, what string) error {
	switch m.Add(n) {
	case answers.TooLarge:
		return errTooLarge(m.Bytes(), m.BytesMax, what)
	case answers.Busy:
		return busy(answers.BusyReason)
	}
	return nil
}

// errTooLarge refuses an answer; a shorter one would be taken for all there is.
func errTooLarge(bytes, bytesMax int, what string) error {
	return errAbort("the answer has more than %d bytes (limit %d); ask for fewer %s", bytes, bytesMax, what)
}

// KvBufferBatchGet reads back what a pipelined transaction has flushed: its own
// locks' values. A deleted key has an empty value; keys that it has not flushed
// are left out.
func (s *Store) KvBufferBatchGet(ctx context.Context, req *kvrpcpb.BufferBatchGetRequest) (*kvrpcpb.BufferBatchGetResponse, error) {
	resp := &kvrpcpb.BufferBatchGetResponse{}
	err := s.bufferBatchGet(ctx, req, resp)
	if re, ke, err := split(err); re != nil || ke != nil || err != nil {
		return &kvrpcpb.BufferBatchGetResponse{RegionError: re, Error: ke}, err
	}
	return resp, nil
}

func (s *Store) bufferBatchGet(ctx context.Context, req *kvrpcpb.BufferBatchGetRequest, resp *kvrpcpb.BufferBatchGetResponse) (err error) {
	snap, err := s.engine.Snapshot(ctx, req.Context, kv.SnapshotOptions{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	var r mvcc.Reader
	r.Init(snap)
	defer func() { err = errors.Join(err, r.Close()) }()
	size := s.meter()
	defer size.Release()
	var enc []byte
	for _, key := range req.Keys {
		enc = codec.EncodeBytes(enc[:0], key)
		l, err := r.LoadLock(enc)
		if err != nil {
			return err
		}
		if l == nil || l.StartTS != req.Version || l.Type != mvcc.LockPut && l.Type != mvcc.LockDelete {
			continue
		}
		value := []byte{}
		if l.Type == mvcc.LockPut {
			if value, err = r.LoadValue(enc, mvcc.Write{StartTS: l.StartTS, HasShort: l.HasShort, ShortValue: l.ShortValue}); err != nil {
				return err
			}
		}
		if err := grow(&size, len(key)+len(value), "keys"); err != nil {
			return err
		}
		resp.Pairs = append(resp.Pairs, &kvrpcpb.KvPair{Key: slices.Clone(key), Value: value})
	}
	tracker.From(ctx).CountRows(len(resp.Pairs), size.Bytes())
	return nil
}
