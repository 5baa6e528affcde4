package client

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/pingcap/kvproto/pkg/errorpb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/tikv/client-go/v2/config/retry"
	tikvkv "github.com/tikv/client-go/v2/kv"
	"github.com/tikv/client-go/v2/tikv"
	"github.com/tikv/client-go/v2/txnkv/txnlock"

	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/proto/coprpb"
)

// router knows where regions are. cacheRouter is the real one.
type router interface {
	// encode puts the keyspace's prefix in front of ranges of SQL keys.
	encode(ranges []kv.KeyRange) []kv.KeyRange
	// locate splits ascending encoded ranges by region, in key order.
	locate(bo *tikv.Backoffer, ranges []kv.KeyRange, rr coprpb.ReplicaRead) ([]*route, error)
	// header fills in what all requests have in common.
	header(r *plan.Request)
	// regionError learns from an error and backs off as it demands.
	regionError(bo *tikv.Backoffer, r *route, e *errorpb.Error) error
	// sendFailed learns that a store was not reached. It does not wait.
	sendFailed(bo *tikv.Backoffer, r *route, cause error)
	// resolve finds out which transactions' locks a read at ts may ignore, which
	// it must read through, and how long the others may live, in ms.
	resolve(bo *tikv.Backoffer, ts uint64, locks []*kvrpcpb.LockInfo) (ttlMs int64, ignore, access []uint64, err error)
}

// route is a region and the store that is to be asked for it.
type route struct {
	addr string
	task plan.RegionTask
	rpc  *tikv.RPCContext // nil in tests
}

// cacheRouter is client-go's region cache and lock resolver.
type cacheRouter struct {
	store *tikv.KVStore
	cache *tikv.RegionCache
	codec tikv.Codec
}

func newCacheRouter(store *tikv.KVStore) (*cacheRouter, error) {
	pd, ok := store.GetPDClient().(*tikv.CodecPDClient)
	if !ok {
		return nil, fmt.Errorf("copr: the store's PD client is a %T, not a *tikv.CodecPDClient", store.GetPDClient())
	}
	return &cacheRouter{store: store, cache: store.GetRegionCache(), codec: pd.GetCodec()}, nil
}

func (c *cacheRouter) encode(ranges []kv.KeyRange) []kv.KeyRange {
	out := make([]kv.KeyRange, len(ranges))
	for i, r := range ranges {
		out[i].Start, out[i].End = c.codec.EncodeRange(r.Start, r.End)
	}
	return out
}

func (c *cacheRouter) header(r *plan.Request) {
	r.ClusterID = c.store.GetClusterID()
	r.APIVersion = c.codec.GetAPIVersion()
	if r.APIVersion == kvrpcpb.APIVersion_V2 {
		r.KeyspaceID = uint32(c.codec.GetKeyspaceID())
	}
}

func (c *cacheRouter) locate(bo *tikv.Backoffer, ranges []kv.KeyRange, rr coprpb.ReplicaRead) ([]*route, error) {
	for {
		routes, err := c.tryLocate(bo, ranges, rr)
		if err != nil || routes != nil {
			return routes, err
		}
		if err := bo.Backoff(tikv.BoRegionMiss(), fmt.Errorf("a region has no leader or no store that is known")); err != nil {
			return nil, err
		}
	}
}

// tryLocate returns nil if some region is not known well enough.
func (c *cacheRouter) tryLocate(bo *tikv.Backoffer, ranges []kv.KeyRange, rr coprpb.ReplicaRead) ([]*route, error) {
	var out []*route
	seed := rand.Uint32()
	mode := tikvkv.ReplicaReadLeader
	switch rr {
	case coprpb.ReplicaRead_REPLICA_READ_FOLLOWER:
		mode = tikvkv.ReplicaReadFollower
	case coprpb.ReplicaRead_REPLICA_READ_STALE:
		mode = tikvkv.ReplicaReadMixed
	}
	for _, r := range ranges {
		start, end, err := c.codec.DecodeRange(r.Start, r.End)
		if err != nil {
			return nil, err
		}
		locs, err := c.cache.LocateKeyRange(bo, start, end)
		if err != nil {
			return nil, err
		}
		for _, loc := range locs {
			if bytes.Compare(loc.StartKey, start) > 0 {
				return nil, nil // a hole: a region without a leader
			}
			part := kv.KeyRange{Start: start, End: loc.EndKey}
			if len(loc.EndKey) == 0 || len(end) > 0 && bytes.Compare(end, loc.EndKey) <= 0 {
				part.End = end
			}
			start = loc.EndKey
			if part.Start, part.End = c.codec.EncodeRange(part.Start, part.End); len(part.End) > 0 && bytes.Compare(part.Start, part.End) >= 0 {
				continue
			}
			if n := len(out); n > 0 && out[n-1].rpc.Region == loc.Region {
				out[n-1].task.Ranges = append(out[n-1].task.Ranges, part)
				continue
			}
			rt, err := c.route(bo, loc, mode, seed)
			if err != nil || rt == nil {
				return nil, err
			}
			rt.task.Ranges = []kv.KeyRange{part}
			out = append(out, rt)
		}
	}
	if out == nil {
		out = []*route{}
	}
	return out, nil
}

// route chooses the peer to ask; nil if the region is not up to date.
func (c *cacheRouter) route(bo *tikv.Backoffer, loc *tikv.KeyLocation, mode tikvkv.ReplicaReadType, seed uint32) (*route, error) {
	rpc, err := c.cache.GetTiKVRPCContext(bo, loc.Region, mode, seed)
	if err != nil || rpc == nil {
		return nil, err
	}
	return &route{addr: rpc.Addr, rpc: rpc, task: plan.RegionTask{
		ID:    loc.Region.GetID(),
		Epoch: &metapb.RegionEpoch{ConfVer: loc.Region.GetConfVer(), Version: loc.Region.GetVer()},
		Peer:  rpc.Peer,
	}}, nil
}

func (c *cacheRouter) sendFailed(bo *tikv.Backoffer, r *route, cause error) {
	c.cache.OnSendFail(bo, r.rpc, true, cause)
}

// regionError follows client-go's region_request.go: what each error says
// about the cache, and how long to wait before the next try.
func (c *cacheRouter) regionError(bo *tikv.Backoffer, r *route, e *errorpb.Error) error {
	cause := fmt.Errorf("region %d: %s", r.task.ID, e.String())
	switch {
	case e.NotLeader != nil:
		c.cache.UpdateLeader(r.rpc.Region, e.NotLeader.Leader, r.rpc.AccessIdx)
		if e.NotLeader.Leader == nil {
			return bo.Backoff(retry.BoRegionScheduling, cause)
		}
		return bo.Backoff(retry.BoRegionScheduling, cause)
	case e.EpochNotMatch != nil:
		return c.epochNotMatch(bo, r, e)
	case e.ServerIsBusy != nil:
		return bo.Backoff(retry.BoTiKVServerBusy, cause)
	case e.MaxTimestampNotSynced != nil:
		return bo.Backoff(retry.BoMaxTsNotSynced, cause)
	case e.DataIsNotReady != nil:
		return nil // the stream goes on at the leader
	case e.ReadIndexNotReady != nil, e.ProposalInMergingMode != nil, e.RegionNotInitialized != nil, e.RecoveryInProgress != nil:
		return bo.Backoff(retry.BoRegionScheduling, cause)
	case e.StaleCommand != nil:
		return bo.Backoff(retry.BoStaleCmd, cause)
	}
	// RegionNotFound, KeyNotInRegion, StoreNotMatch, MismatchPeerId and whatever
	// else: the cache is not to be trusted.
	c.cache.InvalidateCachedRegion(r.rpc.Region)
	return bo.Backoff(tikv.BoRegionMiss(), cause)
}

func (c *cacheRouter) epochNotMatch(bo *tikv.Backoffer, r *route, e *errorpb.Error) error {
	regions := make([]*metapb.Region, 0, len(e.EpochNotMatch.CurrentRegions))
	for _, m := range e.EpochNotMatch.CurrentRegions {
		start, end, err := c.codec.DecodeRegionRange(m.StartKey, m.EndKey)
		if err != nil {
			continue // beside our keyspace
		}
		// client-go writes into the list of peers that it is given; a store of the
		// same process goes by that list.
		regions = append(regions, &metapb.Region{
			Id: m.Id, StartKey: start, EndKey: end, RegionEpoch: m.RegionEpoch, Peers: slices.Clone(m.Peers),
			EncryptionMeta: m.EncryptionMeta, IsInFlashback: m.IsInFlashback, FlashbackStartTs: m.FlashbackStartTs,
		})
	}
	_, err := c.cache.OnRegionEpochNotMatch(bo, r.rpc, regions)
	return err
}

func (c *cacheRouter) resolve(bo *tikv.Backoffer, ts uint64, infos []*kvrpcpb.LockInfo) (int64, []uint64, []uint64, error) {
	locks := make([]*txnlock.Lock, len(infos))
	for i, info := range infos {
		l := *info
		var err error
		if l.Key, err = c.codec.DecodeKey(info.Key); err != nil {
			return 0, nil, nil, err
		}
		if l.PrimaryLock, err = c.codec.DecodeKey(info.PrimaryLock); err != nil {
			return 0, nil, nil, err
		}
		locks[i] = txnlock.NewLock(&l)
	}
	return c.store.GetLockResolver().ResolveLocksForRead(bo, ts, locks, false)
}
