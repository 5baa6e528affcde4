package txn

import (
	"context"
	"math"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
)

// KvFlush prewrites part of a transaction that is still running (pipelined
// DML). A key may be flushed again with a larger generation, and then has the
// newer value; a late copy of an older flush is ignored.
func (s *Store) KvFlush(ctx context.Context, req *kvrpcpb.FlushRequest) (*kvrpcpb.FlushResponse, error) {
	if req.Generation == 0 || req.StartTs == 0 {
		return nil, invalid("flush without generation or start_ts")
	}
	if len(req.Mutations) == 0 {
		return &kvrpcpb.FlushResponse{}, nil
	}
	if err := checkMutations(req.Mutations, false); err != nil {
		return nil, err
	}
	p := prewriter{
		primary: req.PrimaryKey, startTS: req.StartTs, ttl: req.LockTtl, txnSize: math.MaxUint64,
		minCommitTS: max(req.MinCommitTs, req.StartTs+1), level: req.AssertionLevel, generation: req.Generation,
		retry: req.Context.GetIsRetryRequest(),
	}
	resp := &kvrpcpb.FlushResponse{}
	err := s.exec(ctx, cmdFlush, req.Context, req.StartTs, mutationKeys(req.Mutations), func(c *command) (err error) {
		p.c = c
		if onlyFrees(req.Mutations) {
			c.allowOnDisk(onAlmostFull)
		}
		resp.Errors, err = p.run(req.Mutations, nil, nil)
		return err
	})
	if re, kes, err := splitMany(err); re != nil || kes != nil || err != nil {
		return &kvrpcpb.FlushResponse{RegionError: re, Errors: kes}, err
	}
	return resp, nil
}
