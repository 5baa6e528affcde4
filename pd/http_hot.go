package pd

import (
	"net/http"
	"sort"
	"time"

	"github.com/copradb/copra/pd/core"
)

const (
	// hotRegionsMax is how many regions a store's list of hot ones names.
	hotRegionsMax = 100
	// hotBytesPerSecondMin is the flow from which a region is hot, as in PD.
	hotBytesPerSecondMin = 1 << 10
)

type hotJSON struct {
	StoreID        uint64    `json:"store_id"`
	Stores         []uint64  `json:"stores"`
	IsLeader       bool      `json:"is_leader"`
	RegionID       uint64    `json:"region_id"`
	HotDegree      int       `json:"hot_degree"`
	ByteRate       float64   `json:"flow_bytes"`
	KeyRate        float64   `json:"flow_keys"`
	LastUpdateTime time.Time `json:"last_update_time"`
}

type hotStoreJSON struct {
	StoreByteRate  float64   `json:"store_bytes"`
	StoreKeyRate   float64   `json:"store_keys"`
	TotalBytesRate float64   `json:"total_flow_bytes"`
	TotalKeysRate  float64   `json:"total_flow_keys"`
	Count          int       `json:"regions_count"`
	Stats          []hotJSON `json:"statistics"`
}

// httpHot lists the regions with the most flow in their last heartbeat, by the
// store that leads them; for writes by every store that has a peer, too.
func (s *Server) httpHot(writes bool) termHandler {
	return func(t *term, _ *http.Request) (any, error) {
		leaders, peers := map[uint64]*hotStoreJSON{}, map[uint64]*hotStoreJSON{}
		for _, r := range t.cluster.regions.Scan(nil, nil, 0) {
			hot, ok := hotRegion(r, writes)
			if !ok {
				continue
			}
			addHot(leaders, r.Leader.StoreId, hot)
			for _, p := range r.Meta.Peers {
				if writes || p.StoreId == r.Leader.StoreId {
					hot.IsLeader = p.StoreId == r.Leader.StoreId
					addHot(peers, p.StoreId, hot)
				}
			}
		}
		for _, byStore := range []map[uint64]*hotStoreJSON{leaders, peers} {
			for _, st := range byStore {
				sort.Slice(st.Stats, func(i, j int) bool { return st.Stats[i].ByteRate > st.Stats[j].ByteRate })
				st.Stats = st.Stats[:min(len(st.Stats), hotRegionsMax)]
			}
		}
		return map[string]any{"as_leader": leaders, "as_peer": peers}, nil
	}
}

func hotRegion(r *core.Region, writes bool) (hotJSON, bool) {
	if r.Leader == nil || r.IntervalSeconds == 0 {
		return hotJSON{}, false
	}
	bytes, keys := r.ReadBytes, r.ReadKeys
	if writes {
		bytes, keys = r.WrittenBytes, r.WrittenKeys
	}
	seconds := float64(r.IntervalSeconds)
	h := hotJSON{
		StoreID: r.Leader.StoreId, IsLeader: true, RegionID: r.ID(), HotDegree: 1,
		ByteRate: float64(bytes) / seconds, KeyRate: float64(keys) / seconds, LastUpdateTime: r.ReportedAt,
	}
	for _, p := range r.Meta.Peers {
		h.Stores = append(h.Stores, p.StoreId)
	}
	return h, h.ByteRate >= hotBytesPerSecondMin
}

func addHot(byStore map[uint64]*hotStoreJSON, store uint64, h hotJSON) {
	st := byStore[store]
	if st == nil {
		st = &hotStoreJSON{}
		byStore[store] = st
	}
	h.StoreID = store
	st.Count++
	st.TotalBytesRate += h.ByteRate
	st.TotalKeysRate += h.KeyRate
	st.StoreByteRate, st.StoreKeyRate = st.TotalBytesRate, st.TotalKeysRate
	st.Stats = append(st.Stats, h)
}
