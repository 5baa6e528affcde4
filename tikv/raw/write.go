package raw

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/internal/tracker"
	"github.com/copradb/copra/txn/latch"
	"github.com/pingcap/kvproto/pkg/errorpb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
)

// write replicates the batch; with forCAS under the latches of its keys. An
// empty batch is no write. Who holds latches, here or around the call, writes
// under a context without cancellation: a proposal can't be taken back, and the
// keys must stay locked until it is known what became of it.
func (s *Service) write(ctx context.Context, rc *kvrpcpb.Context, b *kv.Batch, forCAS bool, keys ...[]byte) error {
	if b.Len() == 0 {
		return nil
	}
	if b.Size() > BatchBytesMax {
		return &kv.RegionError{Err: &errorpb.Error{
			Message:           fmt.Sprintf("raw write of %d bytes to region %d is too large, at most %d are possible", b.Size(), rc.GetRegionId(), BatchBytesMax),
			RaftEntryTooLarge: &errorpb.RaftEntryTooLarge{RegionId: rc.GetRegionId(), EntrySize: uint64(b.Size())},
		}}
	}
	if forCAS {
		var g latch.Guard
		until := s.deadline(rc)
		if err := s.acquire(ctx, &g, keys); err != nil {
			return err
		}
		defer g.Release()
		if err := until.check(); err != nil {
			return err
		}
		ctx = context.WithoutCancel(ctx)
	}
	return undetermined(s.engine.Write(ctx, rc, b))
}

// acquire takes the latches of the keys.
func (s *Service) acquire(ctx context.Context, g *latch.Guard, keys [][]byte) error {
	t := tracker.From(ctx)
	was := t.Enter(tracker.Latch)
	defer func() { t.Enter(was) }()
	return s.latches.Acquire(ctx, g, keys)
}

// undetermined marks failures after which nobody knows whether the write will
// be applied (hazard 23).
func undetermined(err error) error {
	if err == nil || kv.AsRegionError(err) != nil {
		return err
	}
	msg := fmt.Sprintf("the outcome of the raw write is not known: %v; read the key to see", err)
	return &kv.RegionError{Err: &errorpb.Error{Message: msg, UndeterminedResult: &errorpb.UndeterminedResult{Message: msg}}}
}

// RawPut writes a key.
func (s *Service) RawPut(ctx context.Context, req *kvrpcpb.RawPutRequest) (*kvrpcpb.RawPutResponse, error) {
	err := s.put(ctx, req.GetContext(), req.GetCf(), []*kvrpcpb.KvPair{{Key: req.GetKey(), Value: req.GetValue()}}, []uint64{req.GetTtl()}, req.GetForCas())
	resp := &kvrpcpb.RawPutResponse{}
	resp.RegionError, resp.Error, err = answer(err)
	return resp, err
}

// RawBatchPut writes keys of one region as one batch. ttls has one entry for
// all pairs or one for each; without it ttl is for all.
func (s *Service) RawBatchPut(ctx context.Context, req *kvrpcpb.RawBatchPutRequest) (*kvrpcpb.RawBatchPutResponse, error) {
	ttls := req.GetTtls()
	if len(ttls) == 0 {
		ttls = []uint64{req.GetTtl()}
	}
	err := s.put(ctx, req.GetContext(), req.GetCf(), req.GetPairs(), ttls, req.GetForCas())
	resp := &kvrpcpb.RawBatchPutResponse{}
	resp.RegionError, resp.Error, err = answer(err)
	return resp, err
}

func (s *Service) put(ctx context.Context, rc *kvrpcpb.Context, cf string, pairs []*kvrpcpb.KvPair, ttls []uint64, forCAS bool) error {
	if err := checkCF(cf); err != nil {
		return err
	}
	if len(ttls) != 1 && len(ttls) != len(pairs) {
		return bad(fmt.Errorf("raw batch put of %d pairs has %d TTLs; give none, one, or one for each pair", len(pairs), len(ttls)))
	}
	c, now := keyCodec(rc), s.now()
	var b kv.Batch
	keys := make([][]byte, 0, len(pairs))
	for i, p := range pairs {
		key, err := c.stored(p.GetKey())
		if err != nil {
			return bad(err)
		}
		ttl := ttls[0]
		if len(ttls) > 1 {
			ttl = ttls[i]
		}
		value, err := encodeValue(p.GetValue(), ttl, now)
		if err != nil {
			return bad(err)
		}
		b.Put(kv.CFRaw, key, value)
		keys = append(keys, key)
	}
	return s.write(ctx, rc, &b, forCAS, keys...)
}

// RawDelete deletes a key.
func (s *Service) RawDelete(ctx context.Context, req *kvrpcpb.RawDeleteRequest) (*kvrpcpb.RawDeleteResponse, error) {
	err := s.remove(ctx, req.GetContext(), req.GetCf(), [][]byte{req.GetKey()}, req.GetForCas())
	resp := &kvrpcpb.RawDeleteResponse{}
	resp.RegionError, resp.Error, err = answer(err)
	return resp, err
}

// RawBatchDelete deletes keys of one region as one batch.
func (s *Service) RawBatchDelete(ctx context.Context, req *kvrpcpb.RawBatchDeleteRequest) (*kvrpcpb.RawBatchDeleteResponse, error) {
	err := s.remove(ctx, req.GetContext(), req.GetCf(), req.GetKeys(), req.GetForCas())
	resp := &kvrpcpb.RawBatchDeleteResponse{}
	resp.RegionError, resp.Error, err = answer(err)
	return resp, err
}

func (s *Service) remove(ctx context.Context, rc *kvrpcpb.Context, cf string, keys [][]byte, forCAS bool) error {
	if err := checkCF(cf); err != nil {
		return err
	}
	c := keyCodec(rc)
	var b kv.Batch
	stored := make([][]byte, 0, len(keys))
	for _, k := range keys {
		key, err := c.stored(k)
		if err != nil {
			return bad(err)
		}
		b.Delete(kv.CFRaw, key)
		stored = append(stored, key)
	}
	return s.write(ctx, rc, &b, forCAS, stored...)
}

// RawDeleteRange deletes the part of [start, end) that lies in the region.
func (s *Service) RawDeleteRange(ctx context.Context, req *kvrpcpb.RawDeleteRangeRequest) (*kvrpcpb.RawDeleteRangeResponse, error) {
	err := s.deleteRange(ctx, req)
	resp := &kvrpcpb.RawDeleteRangeResponse{}
	resp.RegionError, resp.Error, err = answer(err)
	return resp, err
}

func (s *Service) deleteRange(ctx context.Context, req *kvrpcpb.RawDeleteRangeRequest) error {
	rc := req.GetContext()
	segs, err := keyCodec(rc).segments(req.GetStartKey(), req.GetEndKey())
	if err = errors.Join(checkCF(req.GetCf()), bad(err)); err != nil {
		return err
	}
	snap, err := s.snapshot(ctx, rc)
	if err != nil {
		return err
	}
	region, term := snap.Region(), snap.Term()
	start, end := region.GetStartKey(), region.GetEndKey()
	if err := snap.Close(); err != nil {
		return err
	}
	var b kv.Batch
	for _, seg := range segs {
		seg = segment{maxStart(seg.start, start), minEnd(seg.end, end)}
		for _, seg := range nonEmpty(seg) {
			upper := seg.end
			if len(upper) == 0 {
				// A batch's range has an end: above every raw key.
				upper = bytes.Repeat([]byte{0xFF}, KeyBytesMax+1)
			}
			b.DeleteRange(kv.CFRaw, seg.start, upper)
		}
	}
	return s.write(ctx, inTerm(rc, term), &b, false)
}

// inTerm is rc bound to a term, so that what a snapshot of that term showed is
// not written under another leadership.
func inTerm(rc *kvrpcpb.Context, term uint64) *kvrpcpb.Context {
	out := *rc
	out.Term = term
	return &out
}

// RawCompareAndSwap writes (or deletes) a key if its value is the expected one.
func (s *Service) RawCompareAndSwap(ctx context.Context, req *kvrpcpb.RawCASRequest) (*kvrpcpb.RawCASResponse, error) {
	resp := &kvrpcpb.RawCASResponse{}
	err := s.compareAndSwap(ctx, req, resp)
	region, text, err := answer(err)
	if region != nil || text != "" {
		resp = &kvrpcpb.RawCASResponse{RegionError: region, Error: text}
	}
	return resp, err
}

func (s *Service) compareAndSwap(ctx context.Context, req *kvrpcpb.RawCASRequest, resp *kvrpcpb.RawCASResponse) error {
	rc := req.GetContext()
	key, err := keyCodec(rc).stored(req.GetKey())
	if err = errors.Join(checkCF(req.GetCf()), bad(err)); err != nil {
		return err
	}
	value, err := encodeValue(req.GetValue(), req.GetTtl(), s.now())
	if err != nil {
		return bad(err)
	}
	var g latch.Guard
	until := s.deadline(rc)
	if err := s.acquire(ctx, &g, [][]byte{key}); err != nil {
		return err
	}
	defer g.Release()
	snap, err := s.snapshot(ctx, rc)
	if err != nil {
		return err
	}
	old, _, ok, err := s.get(snap, key)
	term := snap.Term()
	if err = errors.Join(err, snap.Close()); err != nil {
		return err
	}
	resp.PreviousNotExist, resp.PreviousValue = !ok, old
	if ok == req.GetPreviousNotExist() || ok && !bytes.Equal(old, req.GetPreviousValue()) {
		return nil
	}
	if err := until.check(); err != nil {
		return err
	}
	var b kv.Batch
	if req.GetDelete() {
		b.Delete(kv.CFRaw, key)
	} else {
		b.Put(kv.CFRaw, key, value)
	}
	if err := s.write(context.WithoutCancel(ctx), inTerm(rc, term), &b, false); err != nil {
		return err
	}
	resp.Succeed = true
	return nil
}
