package pd

import (
	"context"
	"errors"
	"strings"

	"github.com/pingcap/kvproto/pkg/meta_storagepb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// metaService is the meta storage: etcd's keys in another dress, for clients
// that should not depend on etcd. Every member answers. PD's own keys are out of
// its reach.
type metaService struct{ s *Server }

func (m *metaService) check(h *meta_storagepb.RequestHeader, key, end []byte, write bool) error {
	// PD's client asks for its services' addresses without a cluster id.
	if id := h.GetClusterId(); id != 0 {
		if err := m.s.checkCluster(id); err != nil {
			return err
		}
	} else if err := m.s.started(); err != nil {
		return err
	}
	if len(key) == 0 {
		return status.Error(codes.InvalidArgument, "pd: meta storage: the key is empty")
	}
	const own = "/pd/"
	touches := strings.HasPrefix(string(key), own) ||
		len(end) > 0 && string(key) < own && (string(end) > own || string(end) == "\x00")
	if write && touches {
		return status.Errorf(codes.PermissionDenied, "pd: meta storage: keys under %s belong to PD", own)
	}
	return nil
}

func (m *metaService) header(revision int64) *meta_storagepb.ResponseHeader {
	return &meta_storagepb.ResponseHeader{ClusterId: m.s.clusterID, Revision: revision}
}

func kvPB(kv *mvccpb.KeyValue) *meta_storagepb.KeyValue {
	if kv == nil {
		return nil
	}
	return &meta_storagepb.KeyValue{
		Key: kv.Key, Value: kv.Value, CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision,
		Version: kv.Version, Lease: kv.Lease,
	}
}

func rangeOf(end []byte) []clientv3.OpOption {
	if len(end) == 0 {
		return nil
	}
	return []clientv3.OpOption{clientv3.WithRange(string(end))}
}

// Get implements meta_storagepb.MetaStorageServer.
func (m *metaService) Get(ctx context.Context, req *meta_storagepb.GetRequest) (*meta_storagepb.GetResponse, error) {
	if err := m.check(req.GetHeader(), req.GetKey(), req.GetRangeEnd(), false); err != nil {
		return nil, err
	}
	opts := append(rangeOf(req.GetRangeEnd()), clientv3.WithLimit(req.GetLimit()), clientv3.WithRev(req.GetRevision()))
	got, err := m.s.cli.Get(ctx, string(req.GetKey()), opts...)
	if err != nil {
		if errors.Is(err, rpctypes.ErrCompacted) {
			h := m.header(0)
			h.Error = &meta_storagepb.Error{Type: meta_storagepb.ErrorType_DATA_COMPACTED, Message: err.Error()}
			return &meta_storagepb.GetResponse{Header: h}, nil
		}
		return nil, rpcError(err)
	}
	resp := &meta_storagepb.GetResponse{Header: m.header(got.Header.Revision), More: got.More, Count: got.Count}
	for _, kv := range got.Kvs {
		resp.Kvs = append(resp.Kvs, kvPB(kv))
	}
	return resp, nil
}

// Put implements meta_storagepb.MetaStorageServer.
func (m *metaService) Put(ctx context.Context, req *meta_storagepb.PutRequest) (*meta_storagepb.PutResponse, error) {
	if err := m.check(req.GetHeader(), req.GetKey(), nil, true); err != nil {
		return nil, err
	}
	opts := []clientv3.OpOption{clientv3.WithLease(clientv3.LeaseID(req.GetLease()))}
	if req.GetPrevKv() {
		opts = append(opts, clientv3.WithPrevKV())
	}
	put, err := m.s.cli.Put(ctx, string(req.GetKey()), string(req.GetValue()), opts...)
	if err != nil {
		return nil, rpcError(err)
	}
	return &meta_storagepb.PutResponse{Header: m.header(put.Header.Revision), PrevKv: kvPB(put.PrevKv)}, nil
}

// Delete implements meta_storagepb.MetaStorageServer.
func (m *metaService) Delete(ctx context.Context, req *meta_storagepb.DeleteRequest) (*meta_storagepb.DeleteResponse, error) {
	if err := m.check(req.GetHeader(), req.GetKey(), req.GetRangeEnd(), true); err != nil {
		return nil, err
	}
	opts := rangeOf(req.GetRangeEnd())
	if req.GetPrevKv() {
		opts = append(opts, clientv3.WithPrevKV())
	}
	del, err := m.s.cli.Delete(ctx, string(req.GetKey()), opts...)
	if err != nil {
		return nil, rpcError(err)
	}
	resp := &meta_storagepb.DeleteResponse{Header: m.header(del.Header.Revision), Deleted: del.Deleted}
	for _, kv := range del.PrevKvs {
		resp.PrevKvs = append(resp.PrevKvs, kvPB(kv))
	}
	return resp, nil
}

// Watch implements meta_storagepb.MetaStorageServer.
func (m *metaService) Watch(req *meta_storagepb.WatchRequest, stream meta_storagepb.MetaStorage_WatchServer) error {
	if err := m.check(req.GetHeader(), req.GetKey(), req.GetRangeEnd(), false); err != nil {
		return err
	}
	opts := append(rangeOf(req.GetRangeEnd()), clientv3.WithRev(req.GetStartRevision()))
	if req.GetPrevKv() {
		opts = append(opts, clientv3.WithPrevKV())
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	for w := range m.s.cli.Watch(ctx, string(req.GetKey()), opts...) {
		resp := &meta_storagepb.WatchResponse{Header: m.header(w.Header.Revision), CompactRevision: w.CompactRevision}
		if w.CompactRevision != 0 {
			resp.Header.Error = &meta_storagepb.Error{Type: meta_storagepb.ErrorType_DATA_COMPACTED,
				Message: "the revision is no longer kept"}
		}
		for _, e := range w.Events {
			resp.Events = append(resp.Events, &meta_storagepb.Event{
				Type: meta_storagepb.Event_EventType(e.Type), Kv: kvPB(e.Kv), PrevKv: kvPB(e.PrevKv),
			})
		}
		if err := stream.Send(resp); err != nil {
			return err
		}
		if w.CompactRevision != 0 {
			return nil
		}
	}
	return stream.Context().Err()
}
