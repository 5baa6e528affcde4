package pd

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/pingcap/kvproto/pkg/keyspacepb"
	"github.com/pingcap/kvproto/pkg/metapb"

	"github.com/copradb/copra/pd/core"
	"github.com/copradb/copra/pd/keyspace"
)

// The JSON shapes are pd-ctl's.

type storeJSON struct {
	*metapb.Store
	StateName string `json:"state_name"`
}

type storeInfoJSON struct {
	Store  storeJSON      `json:"store"`
	Status map[string]any `json:"status"`
}

func (c *cluster) storeInfo(s *core.Store) storeInfoJSON {
	now := time.Now()
	n := c.regions.StoreCounts(s.ID())
	status := map[string]any{
		"capacity": bytesText(s.Stats.GetCapacity()), "available": bytesText(s.Stats.GetAvailable()),
		"used_size": bytesText(s.Stats.GetUsedSize()), "leader_count": n.Leaders, "leader_weight": 1,
		"leader_score": n.Leaders, "leader_size": n.LeaderBytes >> 20, "region_count": n.Peers, "region_weight": 1,
		"region_score": n.Peers, "region_size": n.PeerBytes >> 20, "learner_count": n.Learners,
		"pending_peer_count": n.Pending, "slow_score": s.Stats.GetSlowScore(),
		"sending_snap_count": s.Stats.GetSendingSnapCount(), "receiving_snap_count": s.Stats.GetReceivingSnapCount(),
		"is_busy": s.Stats.GetIsBusy(),
	}
	if s.Meta.StartTimestamp > 0 {
		start := time.Unix(s.Meta.StartTimestamp, 0)
		status["start_ts"] = start
		status["uptime"] = now.Sub(start).Round(time.Second).String()
	}
	if s.Meta.LastHeartbeat > 0 {
		status["last_heartbeat_ts"] = time.Unix(0, s.Meta.LastHeartbeat)
	}
	return storeInfoJSON{storeJSON{s.Meta, s.StateName(now, c.Options().MaxStoreDownTime)}, status}
}

// bytesText is a size as pd-ctl shows it.
func bytesText(n uint64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	f, i := float64(n), 0
	for f >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	return strconv.FormatFloat(f, 'g', 4, 64) + units[i]
}

func (s *Server) httpStores(t *term, r *http.Request) (any, error) {
	if err := t.cluster.bootstrapped(); err != nil {
		return nil, err
	}
	// "state" picks stores by state; without it tombstones are left out.
	states := map[metapb.StoreState]bool{}
	for _, v := range r.URL.Query()["state"] {
		n, err := strconv.Atoi(v)
		if err != nil {
			return nil, badRequest(fmt.Errorf("pd: %q is no store state", v))
		}
		states[metapb.StoreState(n)] = true
	}
	list := []storeInfoJSON{}
	for _, st := range t.cluster.stores.All() {
		if len(states) == 0 && !st.IsTombstone() || states[st.Meta.State] {
			list = append(list, t.cluster.storeInfo(st))
		}
	}
	return map[string]any{"count": len(list), "stores": list}, nil
}

func (s *Server) pathStore(t *term, r *http.Request) (*core.Store, error) {
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	st, err := t.cluster.store(id)
	if err != nil {
		return nil, notFound(err)
	}
	return st, nil
}

func (s *Server) httpStore(t *term, r *http.Request) (any, error) {
	st, err := s.pathStore(t, r)
	if err != nil {
		return nil, err
	}
	return t.cluster.storeInfo(st), nil
}

func (s *Server) httpDeleteStore(t *term, r *http.Request) (any, error) {
	st, err := s.pathStore(t, r)
	if err != nil {
		return nil, err
	}
	if err := t.cluster.removeStore(r.Context(), st.ID(), r.URL.Query().Get("force") == "true"); err != nil {
		return nil, storeStateError(err)
	}
	return "The store is set as Offline.", nil
}

func storeStateError(err error) error {
	if isServerError(err) {
		return err
	}
	return badRequest(err)
}

func (s *Server) httpStoreState(t *term, r *http.Request) (any, error) {
	st, err := s.pathStore(t, r)
	if err != nil {
		return nil, err
	}
	state, ok := metapb.StoreState_value[r.URL.Query().Get("state")]
	if !ok || metapb.StoreState(state) == metapb.StoreState_Tombstone {
		return nil, badRequest(fmt.Errorf("pd: state %q: it can be set to Up or Offline", r.URL.Query().Get("state")))
	}
	if err := t.cluster.setStoreState(r.Context(), st.ID(), metapb.StoreState(state)); err != nil {
		return nil, storeStateError(err)
	}
	return "The store's state is updated.", nil
}

func (s *Server) httpRemoveTombstones(t *term, r *http.Request) (any, error) {
	if err := t.cluster.removeTombstones(r.Context()); err != nil {
		return nil, err
	}
	return "Remove tombstone successfully.", nil
}

type peerJSON struct {
	ID        uint64 `json:"id"`
	StoreID   uint64 `json:"store_id"`
	Role      int32  `json:"role,omitempty"`
	RoleName  string `json:"role_name"`
	IsLearner bool   `json:"is_learner,omitempty"`
}

type downJSON struct {
	Peer        peerJSON `json:"peer"`
	DownSeconds uint64   `json:"down_seconds"`
}

type regionJSON struct {
	ID              uint64            `json:"id"`
	StartKey        string            `json:"start_key"`
	EndKey          string            `json:"end_key"`
	Epoch           map[string]uint64 `json:"epoch"`
	Peers           []peerJSON        `json:"peers"`
	Leader          *peerJSON         `json:"leader,omitempty"`
	DownPeers       []downJSON        `json:"down_peers,omitempty"`
	PendingPeers    []peerJSON        `json:"pending_peers,omitempty"`
	WrittenBytes    uint64            `json:"written_bytes"`
	ReadBytes       uint64            `json:"read_bytes"`
	WrittenKeys     uint64            `json:"written_keys"`
	ReadKeys        uint64            `json:"read_keys"`
	ApproximateSize uint64            `json:"approximate_size"` // MiB
	ApproximateKeys uint64            `json:"approximate_keys"`
}

func peerInfo(p *metapb.Peer) peerJSON {
	return peerJSON{ID: p.Id, StoreID: p.StoreId, Role: int32(p.Role), RoleName: p.Role.String(),
		IsLearner: p.Role == metapb.PeerRole_Learner}
}

func regionInfo(r *core.Region) regionJSON {
	out := regionJSON{
		ID: r.ID(), StartKey: strings.ToUpper(hex.EncodeToString(r.Meta.StartKey)),
		EndKey:       strings.ToUpper(hex.EncodeToString(r.Meta.EndKey)),
		Epoch:        map[string]uint64{"conf_ver": r.Epoch().ConfVer, "version": r.Epoch().Version},
		WrittenBytes: r.WrittenBytes, ReadBytes: r.ReadBytes, WrittenKeys: r.WrittenKeys, ReadKeys: r.ReadKeys,
		ApproximateSize: r.SizeBytes >> 20, ApproximateKeys: r.Keys,
	}
	for _, p := range r.Meta.Peers {
		out.Peers = append(out.Peers, peerInfo(p))
	}
	if r.Leader != nil {
		l := peerInfo(r.Leader)
		out.Leader = &l
	}
	for _, d := range r.Down {
		out.DownPeers = append(out.DownPeers, downJSON{peerInfo(d.Peer), d.DownSeconds})
	}
	for _, p := range r.Pending {
		out.PendingPeers = append(out.PendingPeers, peerInfo(p))
	}
	return out
}

func regionList(rs []*core.Region) any {
	list := make([]regionJSON, len(rs))
	for i, r := range rs {
		list[i] = regionInfo(r)
	}
	return map[string]any{"count": len(list), "regions": list}
}

func (s *Server) httpRegions(t *term, _ *http.Request) (any, error) {
	return regionList(t.cluster.regions.Scan(nil, nil, 0)), nil
}

func (s *Server) httpRegionsByKey(t *term, r *http.Request) (any, error) {
	q := r.URL.Query()
	limit := 16 // PD's default
	if v := q.Get("limit"); v != "" {
		var err error
		if limit, err = strconv.Atoi(v); err != nil {
			return nil, badRequest(fmt.Errorf("pd: %q is no limit", v))
		}
	}
	return regionList(t.cluster.regions.Scan([]byte(q.Get("key")), []byte(q.Get("end_key")), limit)), nil
}

func (s *Server) httpRegionsByStore(t *term, r *http.Request) (any, error) {
	st, err := s.pathStore(t, r)
	if err != nil {
		return nil, err
	}
	return regionList(t.cluster.regions.StoreRegions(st.ID())), nil
}

func (s *Server) httpRegionByID(t *term, r *http.Request) (any, error) {
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	region := t.cluster.regions.ByID(id)
	if region == nil {
		return nil, notFound(regionNotFound(id))
	}
	return regionInfo(region), nil
}

func (s *Server) httpRegionByKey(t *term, r *http.Request) (any, error) {
	key := []byte(r.PathValue("key"))
	if r.URL.Query().Get("format") == "hex" {
		var err error
		if key, err = hex.DecodeString(string(key)); err != nil {
			return nil, badRequest(fmt.Errorf("pd: the key is not hexadecimal: %w", err))
		}
	}
	region := t.cluster.regions.ByKey(key)
	if region == nil {
		return nil, notFound(fmt.Errorf("no region is known for key %x", key))
	}
	return regionInfo(region), nil
}

func (s *Server) httpKeyspaces(t *term, _ *http.Request) (any, error) {
	list := []keyspaceJSON{}
	for _, ks := range t.keyspaces.List(0, keyspaceListMax) {
		list = append(list, keyspaceInfo(ks))
	}
	return map[string]any{"keyspaces": list, "next_page_token": ""}, nil
}

type keyspaceJSON struct {
	ID             uint32            `json:"id"`
	Name           string            `json:"name"`
	State          string            `json:"state"`
	CreatedAt      int64             `json:"created_at"`
	StateChangedAt int64             `json:"state_changed_at"`
	Config         map[string]string `json:"config"`
}

func keyspaceInfo(ks *keyspacepb.KeyspaceMeta) keyspaceJSON {
	return keyspaceJSON{ks.Id, ks.Name, ks.State.String(), ks.CreatedAt, ks.StateChangedAt, ks.Config}
}

func keyspaceAnswer(ks *keyspacepb.KeyspaceMeta, err error) (any, error) {
	switch {
	case errors.Is(err, keyspace.ErrNotFound):
		return nil, notFound(err)
	case err != nil && isServerError(err):
		return nil, err
	case err != nil:
		return nil, badRequest(err)
	}
	return keyspaceInfo(ks), nil
}

func (s *Server) httpKeyspace(t *term, r *http.Request) (any, error) {
	return keyspaceAnswer(t.keyspaces.ByName(r.PathValue("name")))
}

func (s *Server) httpKeyspaceByID(t *term, r *http.Request) (any, error) {
	id, err := strconv.ParseUint(r.PathValue("id"), 10, 32)
	if err != nil {
		return nil, badRequest(fmt.Errorf("pd: %q is no keyspace id", r.PathValue("id")))
	}
	return keyspaceAnswer(t.keyspaces.ByID(uint32(id)))
}

func (s *Server) httpCreateKeyspace(t *term, r *http.Request) (any, error) {
	var req struct {
		Name   string            `json:"name"`
		Config map[string]string `json:"config"`
	}
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		return nil, badRequest(fmt.Errorf("pd: the keyspace is no JSON object: %w", err))
	}
	return keyspaceAnswer(t.keyspaces.Create(r.Context(), req.Name, req.Config))
}

func (s *Server) httpKeyspaceState(t *term, r *http.Request) (any, error) {
	var req struct {
		State string `json:"state"`
	}
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		return nil, badRequest(fmt.Errorf("pd: the state is no JSON object: %w", err))
	}
	state, ok := keyspacepb.KeyspaceState_value[strings.ToUpper(req.State)]
	if !ok {
		return nil, badRequest(fmt.Errorf("pd: there is no keyspace state %q", req.State))
	}
	ks, err := t.keyspaces.ByName(r.PathValue("name"))
	if err == nil {
		ks, err = t.keyspaces.SetState(r.Context(), ks.Id, keyspacepb.KeyspaceState(state))
	}
	return keyspaceAnswer(ks, err)
}
