package raw

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/copradb/copra/internal/answers"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/internal/tracker"
	"github.com/copradb/copra/txn/latch"
	"github.com/pingcap/kvproto/pkg/errorpb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Limits.
const (
	KeyBytesMax      = 8 << 10
	ValueBytesMax    = 6 << 20
	BatchBytesMax    = 8 << 20 // one write request
	TTLSecondsMax    = 100 * 365 * 86400
	ScanCountMax     = 100_000   // pairs of one request
	ResponseBytesMax = 128 << 20 // keys and values of one answer
	latchSlots       = 4 << 10
)

// Service answers raw requests. Its methods may be called concurrently.
type Service struct {
	engine  kv.Engine
	now     func() time.Time
	latches *latch.Latches
	answers answers.Budget // nil: no limit over all
}

// WithAnswers makes large answers share a budget; before the first request.
func (s *Service) WithAnswers(b answers.Budget) *Service {
	s.answers = b
	return s
}

// New returns a service on e. now is the clock of TTLs, time.Now if nil.
func New(e kv.Engine, now func() time.Time) *Service {
	if now == nil {
		now = time.Now
	}
	return &Service{engine: e, now: now, latches: latch.New(latchSlots)}
}

// answer sorts an error into a response: a region error for region_error, a
// text for error, or a failure of the whole call.
func answer(err error) (region *errorpb.Error, text string, fatal error) {
	if err == nil {
		return nil, "", nil
	}
	var bad *badRequest
	switch re := kv.AsRegionError(err); {
	case re != nil:
		return re, "", nil
	case errors.As(err, &bad):
		return nil, bad.Error(), nil
	default:
		return nil, "", err
	}
}

// badRequest is an error of the request, for the response's error field.
type badRequest struct{ err error }

func (e *badRequest) Error() string { return e.err.Error() }

func bad(err error) error {
	if err == nil {
		return nil
	}
	return &badRequest{err}
}

// noText is answer for responses without an error field: the text becomes an
// InvalidArgument.
func noText(err error) (region *errorpb.Error, fatal error) {
	region, text, fatal := answer(err)
	if text != "" {
		fatal = status.Error(codes.InvalidArgument, text)
	}
	return region, fatal
}

// checkCF accepts only the default column family.
func checkCF(cf string) error {
	if cf == "" || cf == "default" {
		return nil
	}
	return bad(fmt.Errorf("raw column family %q is not supported; use the default one", cf))
}

// snapshot is a linearizable view for reads.
func (s *Service) snapshot(ctx context.Context, rc *kvrpcpb.Context) (kv.Snapshot, error) {
	t := tracker.From(ctx)
	was := t.Enter(tracker.Snapshot)
	defer func() { t.Enter(was) }()
	return s.engine.Snapshot(ctx, rc, kv.SnapshotOptions{})
}

// get reads one key. The value is a copy; ok is false if the key is absent or
// expired.
func (s *Service) get(snap kv.Snapshot, stored []byte) (value []byte, ttl uint64, ok bool, err error) {
	raw, closer, err := snap.Get(kv.CFRaw, stored)
	if errors.Is(err, kv.ErrNotFound) {
		return nil, 0, false, nil
	}
	if err != nil {
		return nil, 0, false, err
	}
	v, ttl, ok, err := decodeValue(raw, s.now())
	if ok {
		value = append(make([]byte, 0, len(v)), v...)
	}
	return value, ttl, ok, errors.Join(err, closer.Close())
}

// read opens a snapshot for one key and reads it.
func (s *Service) read(ctx context.Context, rc *kvrpcpb.Context, cf string, key []byte) (value []byte, ttl uint64, ok bool, err error) {
	stored, err := keyCodec(rc).stored(key)
	if err = errors.Join(checkCF(cf), bad(err)); err != nil {
		return nil, 0, false, err
	}
	snap, err := s.snapshot(ctx, rc)
	if err != nil {
		return nil, 0, false, err
	}
	if value, ttl, ok, err = s.get(snap, stored); ok {
		tracker.From(ctx).CountRows(1, len(key)+len(value))
	}
	return value, ttl, ok, errors.Join(err, snap.Close())
}

// RawGet reads a key.
func (s *Service) RawGet(ctx context.Context, req *kvrpcpb.RawGetRequest) (*kvrpcpb.RawGetResponse, error) {
	value, _, ok, err := s.read(ctx, req.GetContext(), req.GetCf(), req.GetKey())
	resp := &kvrpcpb.RawGetResponse{Value: value, NotFound: err == nil && !ok}
	resp.RegionError, resp.Error, err = answer(err)
	return resp, err
}

// RawGetKeyTTL reads the remaining seconds of a key, 0 if it does not expire.
func (s *Service) RawGetKeyTTL(ctx context.Context, req *kvrpcpb.RawGetKeyTTLRequest) (*kvrpcpb.RawGetKeyTTLResponse, error) {
	_, ttl, ok, err := s.read(ctx, req.GetContext(), req.GetCf(), req.GetKey())
	resp := &kvrpcpb.RawGetKeyTTLResponse{Ttl: ttl, NotFound: err == nil && !ok}
	resp.RegionError, resp.Error, err = answer(err)
	return resp, err
}

// RawBatchGet reads keys; absent ones are left out.
func (s *Service) RawBatchGet(ctx context.Context, req *kvrpcpb.RawBatchGetRequest) (*kvrpcpb.RawBatchGetResponse, error) {
	resp := &kvrpcpb.RawBatchGetResponse{}
	pairs, err := s.batchGet(ctx, req)
	if resp.RegionError, err = noText(err); err == nil && resp.RegionError == nil {
		resp.Pairs = pairs
	}
	return resp, err
}

func (s *Service) batchGet(ctx context.Context, req *kvrpcpb.RawBatchGetRequest) (pairs []*kvrpcpb.KvPair, err error) {
	if err := checkCF(req.GetCf()); err != nil {
		return nil, err
	}
	c := keyCodec(req.GetContext())
	snap, err := s.snapshot(ctx, req.GetContext())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	size := s.meter()
	defer size.Release()
	until := s.deadline(req.GetContext())
	for _, key := range req.GetKeys() {
		if err := errors.Join(ctx.Err(), until.check()); err != nil {
			return nil, err
		}
		stored, err := c.stored(key)
		if err != nil {
			return nil, bad(err)
		}
		value, _, ok, err := s.get(snap, stored)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		if err := grow(&size, len(key)+len(value)); err != nil {
			return nil, err
		}
		pairs = append(pairs, &kvrpcpb.KvPair{Key: key, Value: value})
	}
	tracker.From(ctx).CountRows(len(pairs), size.Bytes())
	return pairs, nil
}

// responseBusyBackoff is what a client is told to wait while others' answers
// have no room left.
const responseBusyBackoff = 100 * time.Millisecond

func (s *Service) meter() answers.Meter {
	return answers.Meter{BytesMax: ResponseBytesMax, Shared: s.answers}
}

// grow counts bytes that an answer is about to get. One that would be too large
// fails: cutting it off instead would look like the end of the data.
func grow(m *answers.Meter, n int) error {
	switch m.Add(n) {
	case answers.TooLarge:
		return status.Errorf(codes.ResourceExhausted, "the answer exceeds %d bytes; ask for fewer keys", ResponseBytesMax)
	case answers.Busy:
		ms := uint64(responseBusyBackoff.Milliseconds())
		return &kv.RegionError{Err: &errorpb.Error{Message: "server is busy: " + answers.BusyReason,
			ServerIsBusy: &errorpb.ServerIsBusy{Reason: answers.BusyReason, BackoffMs: ms, EstimatedWaitMs: uint32(ms)}}}
	}
	return nil
}
