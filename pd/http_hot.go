package pd

import (
	"net/http"
	"time"

	"github.com/copradb/copra/pd/statistics"
)

// hotRegionsMax is how many regions a store's list of hot ones names.
const hotRegionsMax = 100

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
	return func(t *term, _ *http.Request) (any, error) {
		hot := t.cluster.sched.Statistics()
		leaders, peers := map[uint64]*hotStoreJSON{}, map[uint64]*hotStoreJSON{}
		for _, store := range hot.Caches[kind].StoreIDs() {
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
