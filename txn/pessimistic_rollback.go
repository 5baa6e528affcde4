package txn

import (
	"context"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
)

// KVPessimisticRollback releases pessimistic locks, shared ones too, taken at
// for_update_ts or before, and ends the waits for such. Prewritten keys are left alone. No keys mean all of
// the transaction's in the region.
func (s *Store) KVPessimisticRollback(ctx context.Context, req *kvrpcpb.PessimisticRollbackRequest) (*kvrpcpb.PessimisticRollbackResponse, error) {
	if req.StartVersion == 0 {
		return nil, invalid("pessimistic rollback without start_version")
	}
	release := func(c *command) error {
		for _, enc := range c.keys {
			s.waiters.Withdraw(enc, req.StartVersion, req.ForUpdateTs)
			on, err := c.r.LoadLock(enc)
			if err != nil {
				return err
			}
			if l := on.Of(req.StartVersion); l != nil && l.Pessimistic() && l.ForUpdateTS <= req.ForUpdateTs {
				c.unlock(enc, on, l, 0)
			}
		}
		return nil
	}
	var err error
	if len(req.Keys) > 0 {
		err = s.exec(ctx, cmdPessimisticRollback, req.Context, req.StartVersion, req.Keys, release)
	} else {
		of := func(startTS uint64) bool { return startTS == req.StartVersion }
		err = s.eachLock(ctx, req.Context, of, func(keys [][]byte) error {
			return s.exec(ctx, cmdPessimisticRollback, req.Context, req.StartVersion, keys, release)
		})
	}
	re, kes, err := splitMany(err)
	return &kvrpcpb.PessimisticRollbackResponse{RegionError: re, Errors: kes}, err
}
