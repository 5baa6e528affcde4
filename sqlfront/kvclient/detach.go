package kvclient

import (
	"fmt"
	"reflect"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
)

// message is a gogo protobuf.
type message interface {
	Marshal() ([]byte, error)
	Unmarshal([]byte) error
}

// detach makes a response the client's own. The codec strips the keyspace from
// keys in place; over gRPC that happens in the client's copy, but here the
// response may share regions and locks with the store. Answers of the hot paths
// that carry nothing of the kind pass as they are.
func detach(out any) (any, error) {
	if plain(out) {
		return out, nil
	}
	from, ok := out.(message)
	if !ok {
		return nil, fmt.Errorf("kvclient: response of type %T cannot be copied", out)
	}
	data, err := from.Marshal()
	if err != nil {
		return nil, fmt.Errorf("kvclient: copy %T: %w", out, err)
	}
	to := reflect.New(reflect.TypeOf(out).Elem()).Interface().(message)
	if err := to.Unmarshal(data); err != nil {
		return nil, fmt.Errorf("kvclient: copy %T: %w", out, err)
	}
	return to, nil
}

// plain tells the responses without regions and locks.
func plain(out any) bool {
	switch r := out.(type) {
	case *kvrpcpb.GetResponse:
		return r.RegionError == nil && r.Error == nil
	case *kvrpcpb.BatchGetResponse:
		return r.RegionError == nil && r.Error == nil && plainPairs(r.Pairs)
	case *kvrpcpb.BufferBatchGetResponse:
		return r.RegionError == nil && r.Error == nil && plainPairs(r.Pairs)
	case *kvrpcpb.ScanResponse:
		return r.RegionError == nil && r.Error == nil && plainPairs(r.Pairs)
	case *kvrpcpb.PrewriteResponse:
		return r.RegionError == nil && len(r.Errors) == 0
	case *kvrpcpb.FlushResponse:
		return r.RegionError == nil && len(r.Errors) == 0
	case *kvrpcpb.CommitResponse:
		return r.RegionError == nil && r.Error == nil
	case *kvrpcpb.PessimisticLockResponse:
		return r.RegionError == nil && len(r.Errors) == 0
	case *kvrpcpb.TxnHeartBeatResponse:
		return r.RegionError == nil && r.Error == nil
	case *kvrpcpb.ResolveLockResponse:
		return r.RegionError == nil && r.Error == nil
	}
	return false
}

func plainPairs(pairs []*kvrpcpb.KvPair) bool {
	for _, p := range pairs {
		if p.Error != nil {
			return false
		}
	}
	return true
}
