package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	tikverr "github.com/tikv/client-go/v2/error"
	"github.com/tikv/client-go/v2/kv"
	"github.com/tikv/client-go/v2/tikv"
	"github.com/tikv/client-go/v2/tikvrpc"
	"github.com/tikv/client-go/v2/txnkv/rangetask"
	pd "github.com/tikv/pd/client"
	"github.com/tikv/pd/client/opt"
	"github.com/tikv/pd/client/pkg/caller"

	"github.com/copradb/copra/pd/gcworker"
)

// gcResolveConcurrency is how many ranges of regions are looked through for
// locks at a time.
const gcResolveConcurrency = 4

// gcLocksMax is how many locks one request asks for; what client-go asks for.
const gcLocksMax = tikv.GCScanLockLimit

// wholeCodec is the codec of a client over all keyspaces at once: keys are sent
// as they are, like API V1's, and the requests say that they are V2's, whose keys
// have their keyspace in front.
type wholeCodec struct{ tikv.Codec }

// EncodeRequest implements tikv.Codec.
func (c wholeCodec) EncodeRequest(req *tikvrpc.Request) (*tikvrpc.Request, error) {
	r, err := c.Codec.EncodeRequest(req)
	if err == nil {
		r.ApiVersion = kvrpcpb.APIVersion_V2
	}
	return r, err
}

// gcResolver resolves locks by client-go: the very code that clients of TiKV
// trust with it.
type gcResolver struct {
	store *tikv.KVStore
	end   context.CancelFunc
}

// NewGCResolver connects PD's leader to its own cluster. ctx bounds the start.
func NewGCResolver(ctx context.Context, pdEndpoints []string) (gcworker.Resolver, error) {
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	started := context.AfterFunc(ctx, end)
	client, err := pd.NewClientWithContext(life, caller.Component("copra-gc"), pdEndpoints, pd.SecurityOption{}, opt.WithCustomTimeoutOption(10*time.Second))
	if err != nil {
		end()
		return nil, fmt.Errorf("connect to PD at %v: %w", pdEndpoints, err)
	}
	codec := wholeCodec{tikv.NewCodecV1(tikv.ModeTxn)}
	store, err := tikv.NewKVStore("copra-gc-"+uuid.NewString(), tikv.NewCodecPDClient(tikv.ModeTxn, client),
		tikv.NewMockSafePointKV(), tikv.NewRPCClient(tikv.WithCodec(codec)))
	if err != nil {
		client.Close()
		end()
		return nil, fmt.Errorf("open the client that resolves locks: %w", err)
	}
	r := &gcResolver{store: store, end: end}
	if !started() {
		return nil, errors.Join(ctx.Err(), r.Close())
	}
	return r, nil
}

// ResolveLocks implements gcworker.Resolver. A region that splits or merges while
// it is looked through is looked through again: every answer is for one epoch,
// and the next key to ask for is where that epoch's range ends.
func (r *gcResolver) ResolveLocks(ctx context.Context, maxTS uint64, ranges []gcworker.Range) (gcworker.Resolved, error) {
	resolver := &countingResolver{BaseRegionLockResolver: tikv.NewRegionLockResolver("copra-gc", r.store)}
	var out gcworker.Resolved
	for _, span := range ranges {
		runner := rangetask.NewRangeTaskRunnerWithID("gc-resolve-locks", fmt.Sprint(maxTS), r.store, gcResolveConcurrency,
			func(ctx context.Context, part kv.KeyRange) (rangetask.TaskStat, error) {
				return tikv.ResolveLocksForRange(ctx, resolver, maxTS, part.StartKey, part.EndKey, tikv.NewGcResolveLockMaxBackoffer, gcLocksMax)
			})
		err := runner.RunOnRange(ctx, span.Start, span.End)
		out.Regions += runner.CompletedRegions()
		out.Locks = int(resolver.locks.Load())
		if err != nil {
			return out, fmt.Errorf("in [%x, %x): %w", span.Start, span.End, err)
		}
		if runner.FailedRegions() > 0 {
			return out, fmt.Errorf("in [%x, %x): %d regions failed: %w", span.Start, span.End, runner.FailedRegions(), tikverr.ErrUnknown)
		}
	}
	return out, nil
}

// Close implements gcworker.Resolver.
func (r *gcResolver) Close() error {
	err := r.store.Close()
	r.end()
	return err
}
