package txn

import (
	"context"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
)

// KVPessimisticRollback releases pessimistic locks taken at for_update_ts or
// before. Prewritten keys are left alone. No keys mean all of the transaction's
// in the region.
func (s *Store) KVPessimisticRollback(ctx context.Context, req *kvrpcpb.PessimisticRollbackRequest) (*kvrpcpb.PessimisticRollbackResponse, error) {
	release := func(c *command) error {
		for _, enc := range c.keys {
			l, err := c.r.LoadLock(enc)
			if err != nil {
				return err
			}
			if l != nil && l.Pessimistic() && l.StartTS == req.StartVersion && l.ForUpdateTS <= req.ForUpdateTs {
				c.unlock(enc, l, 0)
			}
		}
		return nil
	}
	var err error
	if len(req.Keys) > 0 {
		err = s.exec(ctx, cmdPessimisticRollback, req.Context, req.StartVersion, req.Keys, release)
	} else {
		of := func(startTS uint64) bool { return startTS == req.StartVersion }
		err = s.eachLock(ctx, req.Context, of, func(keys []lockedKey) error {
			return s.exec(ctx, cmdPessimisticRollback, req.Context, req.StartVersion, plainKeys(keys), release)
		})
	}
	re, kes, err := splitMany(err)
	return &kvrpcpb.PessimisticRollbackResponse{RegionError: re, Errors: kes}, err
}
