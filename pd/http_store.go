package pd

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pingcap/kvproto/pkg/metapb"

	"github.com/copradb/copra/pd/core"
	"github.com/copradb/copra/pd/schedule"
)

// The JSON shapes are pd-ctl's.

func (s *Server) storeRoutes() map[string]termHandler {
	return map[string]termHandler{
		"GET /pd/api/v1/stores":                     s.httpStores,
		"GET /pd/api/v1/stores/check":               s.httpStoresByState,
		"GET /pd/api/v1/stores/refusals":            s.httpStoreRefusals,
		"GET /pd/api/v1/stores/limit":               s.httpStoreLimits,
		"POST /pd/api/v1/stores/limit":              s.httpSetStoreLimits,
		"DELETE /pd/api/v1/stores/remove-tombstone": s.httpRemoveTombstones,
		"GET /pd/api/v1/store/{id}":                 s.httpStore,
		"DELETE /pd/api/v1/store/{id}":              s.httpDeleteStore,
		"POST /pd/api/v1/store/{id}/state":          s.httpStoreState,
		"POST /pd/api/v1/store/{id}/label":          s.httpSetStoreLabels,
		"DELETE /pd/api/v1/store/{id}/label":        s.httpDeleteStoreLabel,
		"POST /pd/api/v1/store/{id}/weight":         s.httpSetStoreWeight,
		"POST /pd/api/v1/store/{id}/limit":          s.httpSetStoreLimit,
		"GET /pd/api/v1/labels":                     s.httpStoreLabels,
		"GET /pd/api/v1/labels/stores":              s.httpStoresByLabel,
	}
}

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
	leaderWeight, regionWeight := s.LeaderWeight, s.RegionWeight
	if leaderWeight == 0 {
		leaderWeight = 1
	}
	if regionWeight == 0 {
		regionWeight = 1
	}
	status := map[string]any{
		"capacity": bytesText(s.Stats.GetCapacity()), "available": bytesText(s.Stats.GetAvailable()),
		"used_size": bytesText(s.Stats.GetUsedSize()), "leader_count": n.Leaders, "leader_weight": leaderWeight,
		"leader_score": float64(n.Leaders) / leaderWeight, "leader_size": n.LeaderBytes >> 20, "region_count": n.Peers, "region_weight": regionWeight,
		"region_score": float64(n.PeerBytes>>20) / regionWeight, "region_size": n.PeerBytes >> 20, "learner_count": n.Learners,
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
		if _, ok := metapb.StoreState_name[int32(n)]; err != nil || !ok {
			return nil, badRequest(fmt.Errorf("pd: state=%q is none of 0 (Up), 1 (Offline), 2 (Tombstone)", v))
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

// refusalJSON is why a store gets nothing, empty where it does.
type refusalJSON struct {
	Store   uint64 `json:"store"`
	Peers   string `json:"peers,omitempty"`
	Leaders string `json:"leaders,omitempty"`
}

// httpStoreRefusals lists the stores that get no peers or leaders, and why. PD's
// own API has no such call; its log and metrics say it.
func (s *Server) httpStoreRefusals(t *term, _ *http.Request) (any, error) {
	if err := t.cluster.bootstrapped(); err != nil {
		return nil, err
	}
	list := []refusalJSON{}
	for _, st := range t.cluster.stores.All() {
		if st.IsTombstone() {
			continue
		}
		j := refusalJSON{Store: st.ID()}
		if why := t.cluster.sched.PeerRefusal(st); why != nil {
			j.Peers = why.Reason
		}
		if why := t.cluster.sched.LeaderRefusal(st); why != nil {
			j.Leaders = why.Reason
		}
		if j.Peers != "" || j.Leaders != "" {
			list = append(list, j)
		}
	}
	return list, nil
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
	return done("The store is set as Offline.", t.cluster.removeStore(r.Context(), st.ID(), flagParam(r, "force")))
}

func (s *Server) httpStoreState(t *term, r *http.Request) (any, error) {
	st, err := s.pathStore(t, r)
	if err != nil {
		return nil, err
	}
	switch state := r.URL.Query().Get("state"); {
	case strings.EqualFold(state, metapb.StoreState_Up.String()):
		err = t.cluster.upStore(r.Context(), st.ID())
	case strings.EqualFold(state, metapb.StoreState_Offline.String()):
		err = t.cluster.removeStore(r.Context(), st.ID(), false)
	default:
		err = badRequest(fmt.Errorf("pd: state=%q: it can be set to Up or Offline", state))
	}
	return done("The store's state is updated.", err)
}

func (s *Server) httpRemoveTombstones(t *term, r *http.Request) (any, error) {
	if err := t.cluster.removeTombstones(r.Context()); err != nil {
		return nil, err
	}
	return "Remove tombstone successfully.", nil
}

// storeList lists stores.
func (c *cluster) storeList(want func(*core.Store) bool) any {
	list := []storeInfoJSON{}
	for _, st := range c.stores.All() {
		if want(st) {
			list = append(list, c.storeInfo(st))
		}
	}
	return map[string]any{"count": len(list), "stores": list}
}

// httpStoresByState lists the stores in a state as pd-ctl shows it: Up,
// Disconnected, Down, Offline, Tombstone.
func (s *Server) httpStoresByState(t *term, r *http.Request) (any, error) {
	if err := t.cluster.bootstrapped(); err != nil {
		return nil, err
	}
	states := r.URL.Query()["state"]
	for i, state := range states {
		at := slices.IndexFunc(storeStates, func(known string) bool { return strings.EqualFold(state, known) })
		if at < 0 {
			return nil, badRequest(fmt.Errorf("pd: state=%q is none of %s", state, strings.Join(storeStates, ", ")))
		}
		states[i] = storeStates[at]
	}
	now, maxDown := time.Now(), t.cluster.Options().MaxStoreDownTime
	return t.cluster.storeList(func(st *core.Store) bool { return slices.Contains(states, st.StateName(now, maxDown)) }), nil
}

var storeStates = []string{"Up", "Disconnected", "Down", "Offline", "Tombstone"}

// httpSetStoreLabels lays labels over the store's; with force they replace them.
func (s *Server) httpSetStoreLabels(t *term, r *http.Request) (any, error) {
	st, err := s.pathStore(t, r)
	if err != nil {
		return nil, err
	}
	var in map[string]string
	if err := readJSON(r, &in, "the object of labels"); err != nil {
		return nil, err
	}
	force := flagParam(r, "force")
	if len(in) == 0 && !force {
		return nil, badRequest(errors.New("pd: no label is named"))
	}
	labels := make([]*metapb.StoreLabel, 0, len(in))
	for k, v := range in {
		labels = append(labels, &metapb.StoreLabel{Key: k, Value: v})
	}
	slices.SortFunc(labels, func(a, b *metapb.StoreLabel) int { return strings.Compare(a.Key, b.Key) })
	return done("The store's label is updated.", t.cluster.setStoreLabels(r.Context(), st.ID(), labels, force))
}

func (s *Server) httpDeleteStoreLabel(t *term, r *http.Request) (any, error) {
	st, err := s.pathStore(t, r)
	if err != nil {
		return nil, err
	}
	var key string
	if err := readJSON(r, &key, "the label's key"); err != nil {
		return nil, err
	}
	if st.Label(key) == "" {
		return nil, notFound(fmt.Errorf("pd: store %d has no label %q", st.ID(), key))
	}
	return done(fmt.Sprintf("The label %s is deleted for store %d.", key, st.ID()),
		t.cluster.setStoreLabels(r.Context(), st.ID(), []*metapb.StoreLabel{{Key: key}}, false))
}

func (s *Server) httpSetStoreWeight(t *term, r *http.Request) (any, error) {
	st, err := s.pathStore(t, r)
	if err != nil {
		return nil, err
	}
	var in struct{ Leader, Region *float64 }
	if err := readJSON(r, &in, "the object of weights"); err != nil {
		return nil, err
	}
	if in.Leader == nil || in.Region == nil {
		return nil, badRequest(errors.New(`pd: want {"leader": number, "region": number}`))
	}
	return done("The store's weight is updated.", t.cluster.setStoreWeight(r.Context(), st.ID(), *in.Leader, *in.Region))
}

// limitRequest sets a store's limit, in peers a minute.
type limitRequest struct {
	Rate   float64           `json:"rate"`
	Type   string            `json:"type"` // add-peer, remove-peer; empty is both
	Labels map[string]string `json:"labels"`
}

func readLimit(r *http.Request) (in limitRequest, err error) {
	if err := readJSON(r, &in, "the limit"); err != nil {
		return in, err
	}
	if !(in.Rate > 0) {
		return in, badRequest(fmt.Errorf("pd: rate is %v: want a number above 0, of peers a minute", in.Rate))
	}
	if in.Type != "" && in.Type != "add-peer" && in.Type != "remove-peer" {
		return in, badRequest(fmt.Errorf("pd: type %q is neither add-peer nor remove-peer", in.Type))
	}
	return in, nil
}

// over is the rate changed as it is wanted.
func (in limitRequest) over(rate schedule.StoreRate) schedule.StoreRate {
	if in.Type != "remove-peer" {
		rate.AddPeer = in.Rate
	}
	if in.Type != "add-peer" {
		rate.RemovePeer = in.Rate
	}
	return rate
}

func (s *Server) httpSetStoreLimit(t *term, r *http.Request) (any, error) {
	st, err := s.pathStore(t, r)
	if err != nil {
		return nil, err
	}
	in, err := readLimit(r)
	if err != nil {
		return nil, err
	}
	rates := map[uint64]schedule.StoreRate{st.ID(): in.over(t.cluster.Options().RateOf(st.ID()))}
	return done("The store's limit is updated.", t.cluster.setOptions(r.Context(), map[string]any{"store-limit": rates}))
}

// httpSetStoreLimits sets the limit of all stores, of those to come, too, or of
// those with some labels.
func (s *Server) httpSetStoreLimits(t *term, r *http.Request) (any, error) {
	in, err := readLimit(r)
	if err != nil {
		return nil, err
	}
	o := t.cluster.Options()
	changes, rates := map[string]any{}, map[uint64]schedule.StoreRate{}
	if len(in.Labels) == 0 {
		changes["default-store-limit"] = in.over(o.StoreRate)
	}
	for _, st := range t.cluster.stores.All() {
		matches := !st.IsTombstone()
		for k, v := range in.Labels {
			matches = matches && st.Label(k) == v
		}
		if _, exception := o.StoreRates[st.ID()]; matches && (exception || len(in.Labels) > 0) {
			rates[st.ID()] = in.over(o.RateOf(st.ID()))
		}
	}
	if len(in.Labels) > 0 && len(rates) == 0 {
		return nil, notFound(fmt.Errorf("pd: no store has the labels %v", in.Labels))
	}
	if len(rates) > 0 {
		changes["store-limit"] = rates
	}
	return done("Set store limit successfully.", t.cluster.setOptions(r.Context(), changes))
}

// httpStoreLimits is the limit of each store.
func (s *Server) httpStoreLimits(t *term, r *http.Request) (any, error) {
	if err := t.cluster.bootstrapped(); err != nil {
		return nil, err
	}
	tombstones, o := r.URL.Query().Get("include_tombstone") == "true", t.cluster.Options()
	out := map[uint64]schedule.StoreRate{}
	for _, st := range t.cluster.stores.All() {
		if tombstones || !st.IsTombstone() {
			out[st.ID()] = o.RateOf(st.ID())
		}
	}
	return out, nil
}

// httpStoreLabels lists the labels that stores have, each once.
func (s *Server) httpStoreLabels(t *term, _ *http.Request) (any, error) {
	if err := t.cluster.bootstrapped(); err != nil {
		return nil, err
	}
	labels := []*metapb.StoreLabel{}
	for _, st := range t.cluster.stores.All() {
		for _, l := range st.Meta.Labels {
			if !slices.ContainsFunc(labels, func(have *metapb.StoreLabel) bool { return have.Key == l.Key && have.Value == l.Value }) {
				labels = append(labels, l)
			}
		}
	}
	return labels, nil
}

func (s *Server) httpStoresByLabel(t *term, r *http.Request) (any, error) {
	if err := t.cluster.bootstrapped(); err != nil {
		return nil, err
	}
	name, value := r.URL.Query().Get("name"), r.URL.Query().Get("value")
	if name == "" {
		return nil, badRequest(errors.New("pd: name is missing: the label's key"))
	}
	return t.cluster.storeList(func(st *core.Store) bool {
		have := st.Label(name)
		return have != "" && (value == "" || have == value)
	}), nil
}
