package kvclient

import (
	"context"
	"fmt"
	"time"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	tikvkv "github.com/tikv/client-go/v2/kv"
	"github.com/tikv/client-go/v2/oracle"
	"github.com/tikv/client-go/v2/tikv"
)

const (
	// pointGetTimeout is what client-go gives a request that reads a key.
	pointGetTimeout = tikv.ReadTimeoutShort
	// pointGetBackoffMsMax bounds the wait for the address of a store that the
	// region cache has not met yet.
	pointGetBackoffMsMax = 1000
)

// PointReader reads single keys from stores of this process at a third of the
// allocations of client-go, whose region cache, keyspace and safe point it
// shares. What is not plain it leaves to client-go.
type PointReader struct {
	store  *tikv.KVStore
	local  *Local
	cache  *tikv.RegionCache
	codec  tikv.Codec
	header kvrpcpb.Context // what all requests have in common
	scope  oracle.Option
}

// NewPointReader returns a reader for a client that Open has made, and the
// stores of this process.
func NewPointReader(store *tikv.KVStore, local *Local) (*PointReader, error) {
	pd, ok := store.GetPDClient().(*tikv.CodecPDClient)
	if !ok {
		return nil, fmt.Errorf("kvclient: the store's PD client is a %T, not a *tikv.CodecPDClient", store.GetPDClient())
	}
	r := &PointReader{
		store: store, local: local, cache: store.GetRegionCache(), codec: pd.GetCodec(),
		scope: oracle.Option{TxnScope: oracle.GlobalTxnScope},
	}
	r.header = kvrpcpb.Context{
		ClusterId: store.GetClusterID(), ApiVersion: r.codec.GetAPIVersion(), KeyspaceId: uint32(r.codec.GetKeyspaceID()),
		MaxExecutionDurationMs: uint64(pointGetTimeout / time.Millisecond),
	}
	if m := r.codec.GetKeyspaceMeta(); m != nil {
		r.header.KeyspaceName = m.Name
	}
	return r, nil
}

// pointGet is one request, in one piece of memory.
type pointGet struct {
	req kvrpcpb.GetRequest
	rc  kvrpcpb.Context
}

// Get returns the value of key at ts, as KVSnapshot.Get reads it from leaders;
// it is the caller's. ok is false unless the answer is a value or that there is
// none: if a lock is in the way, if the region is not known, has moved or has
// its leader in another process, if the timestamp is below the safe point, or
// after an error. Then client-go is to be asked, which sees to all of these.
func (r *PointReader) Get(ctx context.Context, ts uint64, key []byte) (value []byte, found, ok bool) {
	loc := r.cache.TryLocateKey(key)
	if loc == nil {
		return nil, false, false
	}
	bo := tikv.NewBackofferWithVars(ctx, pointGetBackoffMsMax, nil)
	at, err := r.cache.GetTiKVRPCContext(bo, loc.Region, tikvkv.ReplicaReadLeader, 0)
	if err != nil || at == nil || at.ProxyStore != nil {
		return nil, false, false
	}
	server := r.local.get(at.Addr)
	if server == nil || r.store.GetOracle().ValidateReadTS(ctx, ts, false, &r.scope) != nil {
		return nil, false, false
	}
	get := &pointGet{rc: r.header}
	get.rc.RegionId, get.rc.RegionEpoch, get.rc.Peer = at.Meta.Id, at.Meta.RegionEpoch, at.Peer
	get.req = kvrpcpb.GetRequest{Context: &get.rc, Key: r.codec.EncodeKey(key), Version: ts}

	limited := newDeadline(ctx, pointGetTimeout)
	defer limited.stop()
	resp, err := server.KvGet(limited, &get.req)
	if err != nil || resp.RegionError != nil || resp.Error != nil || r.store.CheckVisibility(ts) != nil {
		return nil, false, false
	}
	// To client-go, too, an empty value is none.
	return resp.Value, len(resp.Value) > 0, true
}
