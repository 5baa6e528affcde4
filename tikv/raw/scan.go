package raw

import (
	"context"
	"errors"
	"fmt"
	"hash/crc64"
	"slices"

	"github.com/copradb/copra/internal/answers"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/internal/tracker"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
)

// scan describes one walk over a request's range.
type scan struct {
	codec      codecOf
	start, end []byte // of the request; reverse: start is the exclusive upper bound
	reverse    bool
	keyOnly    bool
	limit      uint32
	until      deadline
}

// each calls fn for the live pairs of the scan, in its order, until fn returns
// false or fails. The slices are valid during the call.
func (s *Service) each(ctx context.Context, snap kv.Snapshot, sc scan, fn func(stored, value []byte) (bool, error)) error {
	// A request may have any number of ranges with next to nothing in them.
	if err := errors.Join(ctx.Err(), sc.until.check()); err != nil {
		return err
	}
	lower, upper := sc.start, sc.end
	if sc.reverse {
		lower, upper = sc.end, sc.start
	}
	if sc.codec.v2 && sc.reverse && len(lower) == 0 && len(upper) >= v2PrefixBytes {
		lower = upper[:v2PrefixBytes] // the keyspace of the upper bound
	}
	segs, err := sc.codec.segments(lower, upper)
	if err != nil {
		return bad(err)
	}
	if sc.reverse {
		slices.Reverse(segs)
	}
	for _, seg := range segs {
		more, err := s.eachIn(ctx, snap, seg, sc, fn)
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// contextCheckKeys is how many keys are read between two looks at the context.
const contextCheckKeys = 256

func (s *Service) eachIn(ctx context.Context, snap kv.Snapshot, seg segment, sc scan, fn func(stored, value []byte) (bool, error)) (more bool, err error) {
	// nil means the region's bound.
	o := kv.IterOptions{Lower: orNil(seg.start), Upper: orNil(seg.end)}
	it, err := snap.NewIter(kv.CFRaw, o)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	first, next := it.First, it.Next
	if sc.reverse {
		first, next = it.Last, it.Prev
	}
	now := s.now()
	count := 0
	for ok := first(); ok; ok = next() {
		if count++; count%contextCheckKeys == 0 {
			if err := errors.Join(ctx.Err(), sc.until.check()); err != nil {
				return false, err
			}
		}
		raw, err := it.Value()
		if err != nil {
			return false, err
		}
		value, _, live, err := decodeValue(raw, now)
		if err != nil {
			return false, fmt.Errorf("raw key %x: %w", it.Key(), err)
		}
		if !live {
			continue
		}
		if more, err := fn(it.Key(), value); err != nil || !more {
			return false, err
		}
	}
	return true, it.Error()
}

func orNil(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}

// collect appends the pairs of a scan.
func (s *Service) collect(ctx context.Context, snap kv.Snapshot, sc scan, size *answers.Meter, pairs []*kvrpcpb.KvPair) ([]*kvrpcpb.KvPair, error) {
	if sc.limit == 0 {
		return pairs, nil
	}
	left := sc.limit
	err := s.each(ctx, snap, sc, func(stored, value []byte) (bool, error) {
		key, err := sc.codec.plain(nil, stored)
		if err != nil {
			return false, err
		}
		p := &kvrpcpb.KvPair{Key: key}
		if !sc.keyOnly {
			p.Value = append(make([]byte, 0, len(value)), value...)
		}
		if err := grow(size, len(p.Key)+len(p.Value)); err != nil {
			return false, err
		}
		pairs = append(pairs, p)
		left--
		return left > 0, nil
	})
	return pairs, err
}

func checkLimit(n uint64) error {
	if n > ScanCountMax {
		return bad(fmt.Errorf("a raw scan of %d pairs is too long, at most %d are possible", n, ScanCountMax))
	}
	return nil
}

// RawScan reads the pairs of a range, clamped to the region.
func (s *Service) RawScan(ctx context.Context, req *kvrpcpb.RawScanRequest) (*kvrpcpb.RawScanResponse, error) {
	pairs, err := s.scanRanges(ctx, req.GetContext(), req.GetCf(), []scan{{
		codec: keyCodec(req.GetContext()), start: req.GetStartKey(), end: req.GetEndKey(),
		reverse: req.GetReverse(), keyOnly: req.GetKeyOnly(), limit: req.GetLimit(),
	}})
	resp := &kvrpcpb.RawScanResponse{}
	if resp.RegionError, err = noText(err); err == nil && resp.RegionError == nil {
		resp.Kvs = pairs
	}
	return resp, err
}

// RawBatchScan reads up to each_limit pairs of every range.
func (s *Service) RawBatchScan(ctx context.Context, req *kvrpcpb.RawBatchScanRequest) (*kvrpcpb.RawBatchScanResponse, error) {
	scans := make([]scan, 0, len(req.GetRanges()))
	for _, r := range req.GetRanges() {
		scans = append(scans, scan{
			codec: keyCodec(req.GetContext()), start: r.GetStartKey(), end: r.GetEndKey(),
			reverse: req.GetReverse(), keyOnly: req.GetKeyOnly(), limit: req.GetEachLimit(),
		})
	}
	pairs, err := s.scanRanges(ctx, req.GetContext(), req.GetCf(), scans)
	resp := &kvrpcpb.RawBatchScanResponse{}
	if resp.RegionError, err = noText(err); err == nil && resp.RegionError == nil {
		resp.Kvs = pairs
	}
	return resp, err
}

func (s *Service) scanRanges(ctx context.Context, rc *kvrpcpb.Context, cf string, scans []scan) (pairs []*kvrpcpb.KvPair, err error) {
	var total uint64
	for _, sc := range scans {
		total += uint64(sc.limit)
	}
	if err := errors.Join(checkCF(cf), checkLimit(total)); err != nil {
		return nil, err
	}
	snap, err := s.snapshot(ctx, rc)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	size := s.meter()
	defer size.Release()
	until := s.deadline(rc)
	for _, sc := range scans {
		sc.until = until
		if pairs, err = s.collect(ctx, snap, sc, &size, pairs); err != nil {
			return nil, err
		}
	}
	tracker.From(ctx).CountRows(len(pairs), size.Bytes())
	return pairs, nil
}

var crcTable = crc64.MakeTable(crc64.ECMA)

// RawChecksum combines the CRC-64 of every live pair by exclusive or, so that
// the checksums of the regions of a range combine the same way.
func (s *Service) RawChecksum(ctx context.Context, req *kvrpcpb.RawChecksumRequest) (*kvrpcpb.RawChecksumResponse, error) {
	resp := &kvrpcpb.RawChecksumResponse{}
	err := s.checksum(ctx, req, resp)
	region, text, err := answer(err)
	if region != nil || text != "" {
		resp = &kvrpcpb.RawChecksumResponse{RegionError: region, Error: text}
	}
	return resp, err
}

func (s *Service) checksum(ctx context.Context, req *kvrpcpb.RawChecksumRequest, resp *kvrpcpb.RawChecksumResponse) (err error) {
	if req.GetAlgorithm() != kvrpcpb.ChecksumAlgorithm_Crc64_Xor {
		return bad(fmt.Errorf("raw checksum algorithm %s is not supported; use Crc64_Xor", req.GetAlgorithm()))
	}
	snap, err := s.snapshot(ctx, req.GetContext())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	c, until := keyCodec(req.GetContext()), s.deadline(req.GetContext())
	var key []byte
	for _, r := range req.GetRanges() {
		err := s.each(ctx, snap, scan{codec: c, start: r.GetStartKey(), end: r.GetEndKey(), until: until}, func(stored, value []byte) (bool, error) {
			var err error
			if key, err = c.plain(key[:0], stored); err != nil {
				return false, err
			}
			resp.Checksum ^= crc64.Update(crc64.Update(0, crcTable, key), crcTable, value)
			resp.TotalKvs++
			resp.TotalBytes += uint64(len(key) + len(value))
			return true, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
