package sqlfront

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/tikv/client-go/v2/tikv"
	"github.com/tikv/client-go/v2/tikvrpc"
)

const (
	// giveBackMax is how long a cancelled statement looks after its locks.
	giveBackMax = time.Second
	// giveBackKeysMax is how many keys one request names.
	giveBackKeysMax = 1024
)

// notLocked returns those of the keys that the transaction has not locked yet.
func (t *txn) notLocked(keys [][]byte) [][]byte {
	buf := t.kv.GetMemBuffer()
	return slices.DeleteFunc(slices.Clone(keys), func(key []byte) bool {
		flags, err := buf.GetFlags(key)
		return err == nil && flags.HasLocked() || t.kv.IsInAggressiveLockingStage(key)
	})
}

// giveBack ends the waits of a cancelled statement in the stores, and takes back
// the locks that it has got meanwhile. The client would do so under the context
// that was cancelled, and a store does not hear of that: it would lock the row
// for a statement that is no more, as soon as it is free, for as long as the
// transaction, or the lock's time to live.
func (t *txn) giveBack(ctx context.Context, keys [][]byte) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveBackMax)
	defer cancel()
	// A lock may be of a conflict's timestamp, above the statement's.
	ts, err := t.s.db.timestamp(ctx)
	for chunk := range slices.Chunk(keys, giveBackKeysMax) {
		if err == nil {
			err = t.giveBackChunk(ctx, ts, chunk)
		}
	}
	if err != nil {
		t.s.db.log.Warn("locks of a cancelled statement may stay until its transaction ends, or until they expire", "session", t.s.id, "error", err)
	}
}

func (t *txn) giveBackChunk(ctx context.Context, ts uint64, keys [][]byte) error {
	store := t.s.db.kv
	bo := tikv.NewBackofferWithVars(ctx, int(giveBackMax.Milliseconds()), nil)
	for len(keys) > 0 {
		groups, _, err := store.GetRegionCache().GroupKeysByRegion(bo, keys, nil)
		if err != nil {
			return err
		}
		keys = nil
		for region, group := range groups {
			resp, err := store.SendReq(bo, tikvrpc.NewRequest(tikvrpc.CmdPessimisticRollback, &kvrpcpb.PessimisticRollbackRequest{
				StartVersion: t.kv.StartTS(), ForUpdateTs: ts, Keys: group,
			}), region, giveBackMax)
			if err != nil {
				return err
			}
			regionErr, err := resp.GetRegionError()
			if err != nil {
				return err
			}
			if regionErr != nil {
				if err := bo.Backoff(tikv.BoRegionMiss(), errors.New(regionErr.String())); err != nil {
					return err
				}
				keys = append(keys, group...)
			}
		}
	}
	return nil
}
