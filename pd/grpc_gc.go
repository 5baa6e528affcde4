package pd

import (
	"context"
	"time"

	"github.com/pingcap/kvproto/pkg/pdpb"

	"github.com/copradb/copra/pd/gcstate"
)

// scope is the keyspace of a request; a request without one means all of them.
func scope(k *pdpb.KeyspaceScope) uint32 {
	if k == nil {
		return gcstate.NullKeyspace
	}
	return k.KeyspaceId
}

func barrierPB(b gcstate.Barrier) *pdpb.GCBarrierInfo {
	return &pdpb.GCBarrierInfo{BarrierId: b.ID, BarrierTs: b.TS, TtlSeconds: b.TTLSeconds(time.Now())}
}

func globalBarrierPB(b gcstate.Barrier) *pdpb.GlobalGCBarrierInfo {
	return &pdpb.GlobalGCBarrierInfo{BarrierId: b.ID, BarrierTs: b.TS, TtlSeconds: b.TTLSeconds(time.Now())}
}

func gcStatePB(st gcstate.State, withoutBarriers bool) *pdpb.GCState {
	out := &pdpb.GCState{
		KeyspaceScope:     &pdpb.KeyspaceScope{KeyspaceId: st.Keyspace},
		IsKeyspaceLevelGc: st.OwnGC, TxnSafePoint: st.TxnSafePoint, GcSafePoint: st.GCSafePoint,
	}
	if !withoutBarriers {
		for _, b := range st.Barriers {
			out.GcBarriers = append(out.GcBarriers, barrierPB(b))
		}
	}
	return out
}

// GetGCSafePoint implements pdpb.PDServer.
func (p *service) GetGCSafePoint(ctx context.Context, req *pdpb.GetGCSafePointRequest) (*pdpb.GetGCSafePointResponse, error) {
	t, err := p.s.serve(req.GetHeader())
	if err != nil {
		return nil, err
	}
	st, err := t.gc.Get(ctx, gcstate.NullKeyspace)
	if err != nil {
		return nil, rpcError(err)
	}
	return &pdpb.GetGCSafePointResponse{Header: p.s.header(), SafePoint: st.GCSafePoint}, nil
}

// UpdateGCSafePoint implements pdpb.PDServer.
func (p *service) UpdateGCSafePoint(ctx context.Context, req *pdpb.UpdateGCSafePointRequest) (*pdpb.UpdateGCSafePointResponse, error) {
	t, err := p.s.serve(req.GetHeader())
	if err != nil {
		return nil, err
	}
	safePoint, err := t.gc.Update(ctx, req.GetSafePoint())
	if err != nil {
		return nil, rpcError(err)
	}
	return &pdpb.UpdateGCSafePointResponse{Header: p.s.header(), NewSafePoint: safePoint}, nil
}

// UpdateServiceGCSafePoint implements pdpb.PDServer.
func (p *service) UpdateServiceGCSafePoint(ctx context.Context, req *pdpb.UpdateServiceGCSafePointRequest) (*pdpb.UpdateServiceGCSafePointResponse, error) {
	t, err := p.s.serve(req.GetHeader())
	if err != nil {
		return nil, err
	}
	service, ts, err := t.gc.UpdateService(ctx, string(req.GetServiceId()), req.GetSafePoint(), req.GetTTL())
	if err != nil {
		h, err := p.s.refuse(err)
		return &pdpb.UpdateServiceGCSafePointResponse{Header: h}, err
	}
	return &pdpb.UpdateServiceGCSafePointResponse{
		Header: p.s.header(), ServiceId: []byte(service), TTL: gcstate.TTLForever, MinSafePoint: ts,
	}, nil
}

// AdvanceTxnSafePoint implements pdpb.PDServer.
func (p *service) AdvanceTxnSafePoint(ctx context.Context, req *pdpb.AdvanceTxnSafePointRequest) (*pdpb.AdvanceTxnSafePointResponse, error) {
	t, err := p.s.serve(req.GetHeader())
	if err != nil {
		return nil, err
	}
	before, after, blocker, err := t.gc.AdvanceTxn(ctx, scope(req.GetKeyspaceScope()), req.GetTarget())
	if err != nil {
		h, err := p.s.refuse(err)
		return &pdpb.AdvanceTxnSafePointResponse{Header: h}, err
	}
	return &pdpb.AdvanceTxnSafePointResponse{
		Header: p.s.header(), OldTxnSafePoint: before, NewTxnSafePoint: after, BlockerDescription: blocker,
	}, nil
}

// AdvanceGCSafePoint implements pdpb.PDServer.
func (p *service) AdvanceGCSafePoint(ctx context.Context, req *pdpb.AdvanceGCSafePointRequest) (*pdpb.AdvanceGCSafePointResponse, error) {
	t, err := p.s.serve(req.GetHeader())
	if err != nil {
		return nil, err
	}
	before, after, err := t.gc.AdvanceGC(ctx, scope(req.GetKeyspaceScope()), req.GetTarget())
	if err != nil {
		h, err := p.s.refuse(err)
		return &pdpb.AdvanceGCSafePointResponse{Header: h}, err
	}
	return &pdpb.AdvanceGCSafePointResponse{Header: p.s.header(), OldGcSafePoint: before, NewGcSafePoint: after}, nil
}

// SetGCBarrier implements pdpb.PDServer.
func (p *service) SetGCBarrier(ctx context.Context, req *pdpb.SetGCBarrierRequest) (*pdpb.SetGCBarrierResponse, error) {
	t, err := p.s.serve(req.GetHeader())
	if err != nil {
		return nil, err
	}
	b, err := t.gc.SetBarrier(ctx, scope(req.GetKeyspaceScope()), req.GetBarrierId(), req.GetBarrierTs(), req.GetTtlSeconds())
	if err != nil {
		h, err := p.s.refuse(err)
		return &pdpb.SetGCBarrierResponse{Header: h}, err
	}
	return &pdpb.SetGCBarrierResponse{Header: p.s.header(), NewBarrierInfo: barrierPB(b)}, nil
}

// DeleteGCBarrier implements pdpb.PDServer.
func (p *service) DeleteGCBarrier(ctx context.Context, req *pdpb.DeleteGCBarrierRequest) (*pdpb.DeleteGCBarrierResponse, error) {
	t, err := p.s.serve(req.GetHeader())
	if err != nil {
		return nil, err
	}
	b, ok, err := t.gc.DeleteBarrier(ctx, scope(req.GetKeyspaceScope()), req.GetBarrierId())
	if err != nil {
		return nil, rpcError(err)
	}
	resp := &pdpb.DeleteGCBarrierResponse{Header: p.s.header()}
	if ok {
		resp.DeletedBarrierInfo = barrierPB(b)
	}
	return resp, nil
}

// SetGlobalGCBarrier implements pdpb.PDServer.
func (p *service) SetGlobalGCBarrier(ctx context.Context, req *pdpb.SetGlobalGCBarrierRequest) (*pdpb.SetGlobalGCBarrierResponse, error) {
	t, err := p.s.serve(req.GetHeader())
	if err != nil {
		return nil, err
	}
	b, err := t.gc.SetGlobalBarrier(ctx, t.ownGCKeyspaces(), req.GetBarrierId(), req.GetBarrierTs(), req.GetTtlSeconds())
	if err != nil {
		h, err := p.s.refuse(err)
		return &pdpb.SetGlobalGCBarrierResponse{Header: h}, err
	}
	return &pdpb.SetGlobalGCBarrierResponse{Header: p.s.header(), NewBarrierInfo: globalBarrierPB(b)}, nil
}

// DeleteGlobalGCBarrier implements pdpb.PDServer.
func (p *service) DeleteGlobalGCBarrier(ctx context.Context, req *pdpb.DeleteGlobalGCBarrierRequest) (*pdpb.DeleteGlobalGCBarrierResponse, error) {
	t, err := p.s.serve(req.GetHeader())
	if err != nil {
		return nil, err
	}
	b, ok, err := t.gc.DeleteGlobalBarrier(ctx, req.GetBarrierId())
	if err != nil {
		return nil, rpcError(err)
	}
	resp := &pdpb.DeleteGlobalGCBarrierResponse{Header: p.s.header()}
	if ok {
		resp.DeletedBarrierInfo = globalBarrierPB(b)
	}
	return resp, nil
}

// GetGCState implements pdpb.PDServer.
func (p *service) GetGCState(ctx context.Context, req *pdpb.GetGCStateRequest) (*pdpb.GetGCStateResponse, error) {
	markTransactional(ctx)
	t, err := p.s.serve(req.GetHeader())
	if err != nil {
		return nil, err
	}
	st, err := t.gc.Get(ctx, scope(req.GetKeyspaceScope()))
	if err != nil {
		return nil, rpcError(err)
	}
	return &pdpb.GetGCStateResponse{Header: p.s.header(), GcState: gcStatePB(st, req.GetExcludeGcBarriers())}, nil
}

// GetAllKeyspacesGCStates implements pdpb.PDServer: the shared state, then one
// for each keyspace; of those without safe points of their own only the fact.
func (p *service) GetAllKeyspacesGCStates(ctx context.Context, req *pdpb.GetAllKeyspacesGCStatesRequest) (*pdpb.GetAllKeyspacesGCStatesResponse, error) {
	t, err := p.s.serve(req.GetHeader())
	if err != nil {
		return nil, err
	}
	resp := &pdpb.GetAllKeyspacesGCStatesResponse{Header: p.s.header()}
	for _, ks := range append([]uint32{gcstate.NullKeyspace}, t.ownGCKeyspaces()...) {
		st, err := t.gc.Get(ctx, ks)
		if err != nil {
			return nil, rpcError(err)
		}
		resp.GcStates = append(resp.GcStates, gcStatePB(st, req.GetExcludeGcBarriers()))
		if ks == gcstate.NullKeyspace && !req.GetExcludeGlobalGcBarriers() {
			for _, b := range st.Global {
				resp.GlobalGcBarriers = append(resp.GlobalGcBarriers, globalBarrierPB(b))
			}
		}
	}
	for _, ks := range t.keyspaces.List(0, 0) {
		if !t.keyspaces.UsesOwnGC(ks.Id) {
			resp.GcStates = append(resp.GcStates, &pdpb.GCState{KeyspaceScope: &pdpb.KeyspaceScope{KeyspaceId: ks.Id}})
		}
	}
	return resp, nil
}

// ownGCKeyspaces are the keyspaces with safe points of their own.
func (t *term) ownGCKeyspaces() []uint32 {
	var out []uint32
	for _, ks := range t.keyspaces.List(0, 0) {
		if t.keyspaces.UsesOwnGC(ks.Id) {
			out = append(out, ks.Id)
		}
	}
	return out
}
