package txn_test

import (
	"context"
	"testing"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/stretchr/testify/require"

	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/txn"
	"github.com/copradb/copra/txn/txntest"
)

// optEngine keeps the disk-full option of the last write.
type optEngine struct {
	*txntest.Engine
	opt kvrpcpb.DiskFullOpt
}

func (e *optEngine) Write(ctx context.Context, rc *kvrpcpb.Context, b *kv.Batch) error {
	e.opt = rc.DiskFullOpt
	return e.Engine.Write(ctx, rc, b)
}

// What a transaction writes is refused by a full disk; deletes, and what ends
// transactions, are marked.
func TestDiskFullOptions(t *testing.T) {
	inner, err := txntest.New()
	require.NoError(t, err)
	e := &optEngine{Engine: inner}
	s := txn.NewStore(e, txn.Options{})
	t.Cleanup(func() {
		s.Close()
		require.NoError(t, inner.Close())
	})
	ctx, key := context.Background(), []byte("a")
	prewrite := func(ts uint64, op kvrpcpb.Op) {
		resp, err := s.KvPrewrite(ctx, &kvrpcpb.PrewriteRequest{Context: e.Context(key), StartVersion: ts, PrimaryLock: key, LockTtl: 1000,
			Mutations: []*kvrpcpb.Mutation{{Op: op, Key: key, Value: []byte("v")}}})
		require.NoError(t, err)
		require.Empty(t, resp.Errors)
		require.Nil(t, resp.RegionError)
	}
	prewrite(10, kvrpcpb.Op_Put)
	require.Equal(t, kvrpcpb.DiskFullOpt_NotAllowedOnFull, e.opt)
	_, err = s.KvCommit(ctx, &kvrpcpb.CommitRequest{Context: e.Context(key), StartVersion: 10, CommitVersion: 11, Keys: [][]byte{key}})
	require.NoError(t, err)
	require.Equal(t, kvrpcpb.DiskFullOpt_AllowedOnAlreadyFull, e.opt)
	prewrite(20, kvrpcpb.Op_Del)
	require.Equal(t, kvrpcpb.DiskFullOpt_AllowedOnAlmostFull, e.opt)
	_, err = s.KvBatchRollback(ctx, &kvrpcpb.BatchRollbackRequest{Context: e.Context(key), StartVersion: 20, Keys: [][]byte{key}})
	require.NoError(t, err)
	require.Equal(t, kvrpcpb.DiskFullOpt_AllowedOnAlreadyFull, e.opt)
}
