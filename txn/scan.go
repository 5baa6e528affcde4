package txn

import (
	"context"
	"errors"
	"slices"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"

	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/internal/tracker"
)

// KvScan reads up to limit rows of a region in key order, or from the top with
// reverse, where start_key is the upper bound. A locked key takes part as a pair
// with an error. sample_step n > 0 keeps every n-th row.
func (s *Store) KvScan(ctx context.Context, req *kvrpcpb.ScanRequest) (*kvrpcpb.ScanResponse, error) {
	resp := &kvrpcpb.ScanResponse{}
	err := s.scan(ctx, req, resp)
	if re, ke, err := split(err); re != nil || ke != nil || err != nil {
		return &kvrpcpb.ScanResponse{RegionError: re, Error: ke}, err
	}
	return resp, nil
}

func (s *Store) scan(ctx context.Context, req *kvrpcpb.ScanRequest, resp *kvrpcpb.ScanResponse) (err error) {
	lower, upper := req.StartKey, req.EndKey
	if req.Reverse {
		lower, upper = upper, lower
	}
	r, err := s.OpenReader(ctx, req.Context, ReaderOptions{TS: req.Version, Ranges: []kv.KeyRange{{Start: lower, End: upper}}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	sc, err := r.NewScanner(ScanOptions{Start: lower, End: upper, Desc: req.Reverse, KeyOnly: req.KeyOnly})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sc.Close()) }()
	size, step := s.meter(), max(int(req.SampleStep), 1)
	defer size.Release()
	defer func() { tracker.From(ctx).CountRows(len(resp.Pairs), size.Bytes()) }()
	for row, n := 0, 0; len(resp.Pairs) < int(req.Limit); n++ {
		if n%1024 == 1023 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		key, value, ok, err := sc.Next()
		var locked *LockedError
		switch {
		case errors.As(err, &locked):
			resp.Pairs = append(resp.Pairs, &kvrpcpb.KvPair{Error: &kvrpcpb.KeyError{Locked: locked.Info}, Key: locked.Info.Key})
			continue
		case err != nil:
			return err
		case !ok:
			return nil
		}
		if row++; (row-1)%step != 0 {
			continue
		}
		pair := &kvrpcpb.KvPair{Key: slices.Clone(key)}
		if !req.KeyOnly {
			pair.Value = append([]byte{}, value...)
		}
		if err := grow(&size, len(key)+len(pair.Value), "rows"); err != nil {
			return err
		}
		resp.Pairs = append(resp.Pairs, pair)
	}
	return nil
}
