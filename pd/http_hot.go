package pd

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pingcap/kvproto/pkg/metapb"

	"github.com/copradb/copra/pd/statistics"
)

// hotRegionsMax is how many regions a store's list of hot ones names.
const hotRegionsMax = 100

func (s *Server) hotRoutes() map[string]termHandler {
	return map[string]termHandler{
		"GET /pd/api/v1/hotspot/regions/read":    s.httpHot(statistics.Read),
		"GET /pd/api/v1/hotspot/regions/write":   s.httpHot(statistics.Write),
		"GET /pd/api/v1/hotspot/regions/history": httpHotHistory,
		"GET /pd/api/v1/hotspot/stores":          httpHotStores,
	}
}

func idParams(texts []string) ([]uint64, error) {
	out := make([]uint64, len(texts))
	for i, text := range texts {
		id, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return nil, badRequest(fmt.Errorf("pd: %q is no id", text))
		}
		out[i] = id
	}
	return out, nil
}

type hotJSON struct {
	StoreID        uint64    `json:"store_id"`
	Stores         []uint64  `json:"stores"`
	IsLeader       bool      `json:"is_leader"`
	RegionID       uint64    `json:"region_id"`
	HotDegree      int       `json:"hot_degree"`
	ByteRate       float64   `json:"flow_bytes"`
	KeyRate        float64   `json:"flow_keys"`
	QueryRate      float64   `json:"flow_query"`
	LastUpdateTime time.Time `json:"last_update_time"`
}

type hotStoreJSON struct {
	StoreByteRate  float64   `json:"store_bytes"`
	StoreKeyRate   float64   `json:"store_keys"`
	StoreQueryRate float64   `json:"store_query"`
	TotalBytesRate float64   `json:"total_flow_bytes"`
	TotalKeysRate  float64   `json:"total_flow_keys"`
	TotalQueryRate float64   `json:"total_flow_query"`
	Count          int       `json:"regions_count"`
	Stats          []hotJSON `json:"statistics"`
}

// httpHot lists the hot regions by the store that leads them; for writes by every
// store that has a peer, too.
func (s *Server) httpHot(kind statistics.Kind) termHandler {
	return func(t *term, r *http.Request) (any, error) {
		ids, err := idParams(r.URL.Query()["store_id"])
		if err != nil {
			return nil, err
		}
		hot := t.cluster.sched.Statistics()
		leaders, peers := map[uint64]*hotStoreJSON{}, map[uint64]*hotStoreJSON{}
		for _, store := range hot.Caches[kind].StoreIDs() {
			if len(ids) > 0 && !slices.Contains(ids, store) {
				continue
			}
			total, _ := hot.Stores.Get(store, kind)
			for _, p := range hot.Caches[kind].Peers(store, statistics.Bytes, 0) {
				if p.Leader {
					addHot(leaders, p, total)
				}
				addHot(peers, p, total)
			}
		}
		return map[string]any{"as_leader": leaders, "as_peer": peers}, nil
	}
}

// addHot counts a peer in, and names it unless there are enough of them.
func addHot(byStore map[uint64]*hotStoreJSON, p statistics.HotPeer, total statistics.Loads) {
	st := byStore[p.StoreID]
	if st == nil {
		st = &hotStoreJSON{StoreByteRate: total[statistics.Bytes], StoreKeyRate: total[statistics.Keys],
			StoreQueryRate: total[statistics.Queries]}
		byStore[p.StoreID] = st
	}
	st.Count++
	st.TotalBytesRate += p.Loads[statistics.Bytes]
	st.TotalKeysRate += p.Loads[statistics.Keys]
	st.TotalQueryRate += p.Loads[statistics.Queries]
	if len(st.Stats) < hotRegionsMax {
		st.Stats = append(st.Stats, hotJSON{StoreID: p.StoreID, Stores: p.Stores, IsLeader: p.Leader, RegionID: p.RegionID,
			HotDegree: p.Degree, ByteRate: p.Loads[statistics.Bytes], KeyRate: p.Loads[statistics.Keys],
			QueryRate: p.Loads[statistics.Queries], LastUpdateTime: p.UpdatedAt})
	}
}

// httpHotStores is how much each store reads and writes in a second, by its own
// reports.
func httpHotStores(t *term, _ *http.Request) (any, error) {
	if err := t.cluster.bootstrapped(); err != nil {
		return nil, err
	}
	hot, out := t.cluster.sched.Statistics(), map[string]map[uint64]float64{}
	for _, kind := range []statistics.Kind{statistics.Read, statistics.Write} {
		for dim, name := range map[int]string{statistics.Bytes: "bytes", statistics.Keys: "keys", statistics.Queries: "query"} {
			rates := map[uint64]float64{}
			for _, st := range t.cluster.stores.All() {
				if loads, ok := hot.Stores.Get(st.ID(), kind); ok && !st.IsTombstone() {
					rates[st.ID()] = loads[dim]
				}
			}
			out[name+"-"+kind.String()+"-rate"] = rates
		}
	}
	return out, nil
}

// historyRequest picks what was hot; empty lists pick all.
type historyRequest struct {
	StartMS    int64    `json:"start_time"`
	EndMS      int64    `json:"end_time"`
	RegionIDs  []uint64 `json:"region_ids"`
	StoreIDs   []uint64 `json:"store_ids"`
	PeerIDs    []uint64 `json:"peer_ids"`
	IsLearners []bool   `json:"is_learners"`
	IsLeaders  []bool   `json:"is_leaders"`
	Types      []string `json:"hot_region_type"`
}

type historyJSON struct {
	UpdateMS  int64   `json:"update_time"`
	RegionID  uint64  `json:"region_id"`
	PeerID    uint64  `json:"peer_id"`
	StoreID   uint64  `json:"store_id"`
	IsLeader  bool    `json:"is_leader"`
	IsLearner bool    `json:"is_learner"`
	Type      string  `json:"hot_region_type"`
	HotDegree int     `json:"hot_degree"`
	ByteRate  float64 `json:"flow_bytes"`
	KeyRate   float64 `json:"key_rate"`
	QueryRate float64 `json:"query_rate"`
	StartKey  string  `json:"start_key"`
	EndKey    string  `json:"end_key"`
}

func picks[T comparable](list []T, v T) bool { return len(list) == 0 || slices.Contains(list, v) }

// httpHotHistory lists what was hot. Keys and learners are as the regions are
// now.
func httpHotHistory(t *term, r *http.Request) (any, error) {
	in := historyRequest{}
	if err := readJSON(r, &in, "the selection"); err != nil && r.ContentLength != 0 {
		return nil, err
	}
	if in.EndMS == 0 {
		in.EndMS = time.Now().UnixMilli() + 1
	}
	out := []historyJSON{}
	for _, e := range t.cluster.sched.Statistics().History.Between(time.UnixMilli(in.StartMS), time.UnixMilli(in.EndMS)) {
		j := historyJSON{UpdateMS: e.At.UnixMilli(), RegionID: e.RegionID, PeerID: e.PeerID, StoreID: e.StoreID, IsLeader: e.Leader,
			Type: e.Kind.String(), HotDegree: e.Degree, ByteRate: e.Loads[statistics.Bytes], KeyRate: e.Loads[statistics.Keys],
			QueryRate: e.Loads[statistics.Queries]}
		if region := t.cluster.regions.ByID(e.RegionID); region != nil {
			p := region.Peer(e.PeerID)
			j.IsLearner = p != nil && p.Role == metapb.PeerRole_Learner
			j.StartKey = strings.ToUpper(hex.EncodeToString(region.Meta.StartKey))
			j.EndKey = strings.ToUpper(hex.EncodeToString(region.Meta.EndKey))
		}
		if picks(in.RegionIDs, j.RegionID) && picks(in.StoreIDs, j.StoreID) && picks(in.PeerIDs, j.PeerID) &&
			picks(in.IsLeaders, j.IsLeader) && picks(in.IsLearners, j.IsLearner) && picks(in.Types, j.Type) {
			out = append(out, j)
		}
	}
	return map[string]any{"history_hot_region": out}, nil
}
