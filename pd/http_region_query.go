package pd

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sort"
	"strings"

	"github.com/copradb/copra/pd/core"
	"github.com/copradb/copra/pd/schedule"
)

// httpTop lists the regions with the most of something, the first first.
func (s *Server) httpTop(of func(*core.Region) uint64) termHandler {
	return func(t *term, r *http.Request) (any, error) {
		limit, err := intParam(r.URL.Query(), "limit", regionsDefault)
		if err != nil {
			return nil, err
		}
		if limit < 1 || limit > topRegionsMax {
			return nil, badRequest(fmt.Errorf("pd: limit=%d is outside of 1 to %d", limit, topRegionsMax))
		}
		var top []*core.Region
		t.cluster.regions.Each(nil, nil, func(r *core.Region) bool {
			n := of(r)
			if len(top) == limit && n <= of(top[limit-1]) {
				return true
			}
			at := sort.Search(len(top), func(i int) bool { return of(top[i]) < n })
			top = slices.Insert(top, at, r)
			top = top[:min(len(top), limit)]
			return true
		})
		return regionList(top), nil
	}
}

// httpRegionsByState lists the regions with which something is the matter.
func (s *Server) httpRegionsByState(t *term, req *http.Request) (any, error) {
	state := schedule.RegionState(req.PathValue("state"))
	if !slices.Contains(schedule.RegionStates, state) {
		return nil, badRequest(fmt.Errorf("pd: region state %q is none of %v, hist-size, hist-keys", state, schedule.RegionStates))
	}
	if err := t.cluster.bootstrapped(); err != nil {
		return nil, err
	}
	var out []*core.Region
	t.cluster.regions.Each(nil, nil, func(r *core.Region) bool {
		if slices.Contains(t.cluster.sched.StatesOf(r), state) {
			out = append(out, r)
		}
		return req.Context().Err() == nil
	})
	return regionList(out), nil
}

type histogramItem struct {
	Start uint64 `json:"start"`
	End   uint64 `json:"end"`
	Count uint64 `json:"count"`
}

// httpHistogram counts regions by a figure, in steps of bound, at least least.
func (s *Server) httpHistogram(least int, of func(*core.Region) uint64) termHandler {
	return func(t *term, r *http.Request) (any, error) {
		bound, err := intParam(r.URL.Query(), "bound", least)
		if err != nil {
			return nil, err
		}
		step := uint64(max(bound, least))
		counts := map[uint64]uint64{}
		t.cluster.regions.Each(nil, nil, func(r *core.Region) bool {
			counts[of(r)/step]++
			return true
		})
		out := make([]histogramItem, 0, len(counts))
		for n, count := range counts {
			out = append(out, histogramItem{n * step, (n+1)*step - 1, count})
		}
		sort.Slice(out, func(i, j int) bool { return out[i].Start < out[j].Start })
		return out, nil
	}
}

// httpRangeHoles lists key ranges of which no region is known, as pairs.
func (s *Server) httpRangeHoles(t *term, _ *http.Request) (any, error) {
	holes, last := [][2]string{}, []byte{}
	text := func(key []byte) string { return strings.ToUpper(hex.EncodeToString(key)) }
	unbounded := false
	t.cluster.regions.Each(nil, nil, func(r *core.Region) bool {
		if bytes.Compare(last, r.Meta.StartKey) < 0 {
			holes = append(holes, [2]string{text(last), text(r.Meta.StartKey)})
		}
		last = r.Meta.EndKey
		unbounded = len(last) == 0
		return !unbounded
	})
	if !unbounded {
		holes = append(holes, [2]string{text(last), ""})
	}
	return holes, nil
}

// httpReplicated tells whether all regions of a range are as the rules ask for:
// REPLICATED, INPROGRESS, or PENDING where a region has no known leader.
func (s *Server) httpReplicated(t *term, r *http.Request) (any, error) {
	q := r.URL.Query()
	start, end, err := hexRange(q.Get("startKey"), q.Get("endKey"))
	if err != nil {
		return nil, err
	}
	if err := t.cluster.bootstrapped(); err != nil {
		return nil, err
	}
	state := "REPLICATED"
	t.cluster.regions.Each(start, end, func(r *core.Region) bool {
		if r.Leader == nil {
			state = "PENDING"
			return false
		}
		if !t.cluster.sched.Fit(r).Satisfied() || len(r.Down)+len(r.Pending) > 0 {
			state = "INPROGRESS"
		}
		return true
	})
	return state, nil
}

type regionStatsJSON struct {
	Count            int               `json:"count"`
	EmptyCount       int               `json:"empty_count"`
	StorageMiB       uint64            `json:"storage_size"`
	UserStorageMiB   uint64            `json:"user_storage_size"`
	StorageKeys      uint64            `json:"storage_keys"`
	StoreLeaderCount map[uint64]int    `json:"store_leader_count"`
	StorePeerCount   map[uint64]int    `json:"store_peer_count"`
	StoreLeaderMiB   map[uint64]uint64 `json:"store_leader_size"`
	StoreLeaderKeys  map[uint64]uint64 `json:"store_leader_keys"`
	StorePeerMiB     map[uint64]uint64 `json:"store_peer_size"`
	StorePeerKeys    map[uint64]uint64 `json:"store_peer_keys"`
}

// httpRegionStats sums the regions of a range up.
func (s *Server) httpRegionStats(t *term, r *http.Request) (any, error) {
	q := r.URL.Query()
	start, err := keyParam(q.Get("start_key"), q.Get("format"))
	if err != nil {
		return nil, err
	}
	end, err := keyParam(q.Get("end_key"), q.Get("format"))
	if err != nil {
		return nil, err
	}
	if err := t.cluster.bootstrapped(); err != nil {
		return nil, err
	}
	_, countOnly := q["count"]
	out := regionStatsJSON{
		StoreLeaderCount: map[uint64]int{}, StorePeerCount: map[uint64]int{}, StoreLeaderMiB: map[uint64]uint64{},
		StoreLeaderKeys: map[uint64]uint64{}, StorePeerMiB: map[uint64]uint64{}, StorePeerKeys: map[uint64]uint64{},
	}
	t.cluster.regions.Each(start, end, func(r *core.Region) bool {
		out.Count++
		if !countOnly {
			out.add(r, slices.Contains(t.cluster.sched.StatesOf(r), schedule.EmptyRegion))
		}
		return true
	})
	return out, nil
}

func (s *regionStatsJSON) add(r *core.Region, empty bool) {
	if empty {
		s.EmptyCount++
	}
	mib := r.SizeBytes >> 20
	s.StorageMiB += mib
	s.UserStorageMiB += mib
	s.StorageKeys += r.Keys
	for _, p := range r.Meta.Peers {
		s.StorePeerCount[p.StoreId]++
		s.StorePeerMiB[p.StoreId] += mib
		s.StorePeerKeys[p.StoreId] += r.Keys
	}
	if l := r.Leader; l != nil {
		s.StoreLeaderCount[l.StoreId]++
		s.StoreLeaderMiB[l.StoreId] += mib
		s.StoreLeaderKeys[l.StoreId] += r.Keys
	}
}

// httpDropRegion forgets a region until its leader reports it again.
func (s *Server) httpDropRegion(t *term, r *http.Request) (any, error) {
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	t.cluster.regions.Drop(id)
	return "The region is removed from server cache.", nil
}

func (s *Server) httpDropRegions(t *term, _ *http.Request) (any, error) {
	t.cluster.regions.Each(nil, nil, func(r *core.Region) bool {
		t.cluster.regions.Drop(r.ID())
		return true
	})
	return "All regions are removed from server cache.", nil
}

// rangeRequest names regions by ids or by a range of keys in hexadecimal.
type rangeRequest struct {
	StartKey   *string  `json:"start_key"`
	EndKey     *string  `json:"end_key"`
	RegionIDs  []uint64 `json:"regions_id"`
	Group      string   `json:"group"`
	RetryLimit uint64   `json:"retry_limit"`
}

// httpScatterRegions spreads regions among the stores.
func (s *Server) httpScatterRegions(t *term, r *http.Request) (any, error) {
	var in rangeRequest
	if err := readJSON(r, &in, "the regions"); err != nil {
		return nil, err
	}
	return s.scatterRange(t, r, in)
}

func (s *Server) scatterRange(t *term, r *http.Request, in rangeRequest) (any, error) {
	regions := t.cluster.regionsByID(in.RegionIDs)
	switch {
	case in.StartKey != nil && in.EndKey != nil:
		start, end, err := hexRange(*in.StartKey, *in.EndKey)
		if err != nil {
			return nil, err
		}
		regions = map[uint64]*core.Region{}
		for _, r := range t.cluster.regions.Scan(start, end, 0) {
			regions[r.ID()] = r
		}
	case len(in.RegionIDs) == 0:
		return nil, badRequest(errors.New("pd: name the regions: by their ids, or by start_key and end_key"))
	}
	percent, failed := t.cluster.scatter(r.Context(), regions, in.Group)
	slices.Sort(failed)
	return map[string]any{"processed-percentage": percent, "failed-regions-id": nonNil(failed)}, nil
}

func nonNil(ids []uint64) []uint64 {
	if ids == nil {
		return []uint64{}
	}
	return ids
}

// httpSplitRegions splits regions at keys.
func (s *Server) httpSplitRegions(t *term, r *http.Request) (any, error) {
	var in struct {
		SplitKeys  []string `json:"split_keys"`
		RetryLimit uint64   `json:"retry_limit"`
	}
	if err := readJSON(r, &in, "the split"); err != nil {
		return nil, err
	}
	if len(in.SplitKeys) == 0 {
		return nil, badRequest(errors.New("pd: split_keys is missing: keys in hexadecimal"))
	}
	keys := make([][]byte, len(in.SplitKeys))
	for i, text := range in.SplitKeys {
		key, err := keyParam(text, "hex")
		if err != nil {
			return nil, err
		}
		keys[i] = key
	}
	percent, ids, err := t.cluster.splitRegions(r.Context(), keys, in.RetryLimit)
	if err != nil {
		return nil, requestError(err)
	}
	return map[string]any{"processed-percentage": percent, "regions-id": nonNil(ids)}, nil
}

// httpCheckSoon has the regions of a range checked before all others.
func (s *Server) httpCheckSoon(t *term, r *http.Request) (any, error) {
	var in rangeRequest
	if err := readJSON(r, &in, "the key range"); err != nil {
		return nil, err
	}
	return s.checkSoon(t, in)
}

func (s *Server) httpCheckSoonBatch(t *term, r *http.Request) (any, error) {
	var in []rangeRequest
	if err := readJSON(r, &in, "the list of key ranges"); err != nil {
		return nil, err
	}
	return s.checkSoon(t, in...)
}

func (s *Server) checkSoon(t *term, ranges ...rangeRequest) (any, error) {
	n := 0
	for _, in := range ranges {
		if in.StartKey == nil || in.EndKey == nil {
			return nil, badRequest(errors.New("pd: want start_key and end_key, in hexadecimal"))
		}
		start, end, err := hexRange(*in.StartKey, *in.EndKey)
		if err != nil {
			return nil, err
		}
		t.cluster.regions.Each(start, end, func(r *core.Region) bool {
			t.cluster.sched.CheckSoon(r)
			n++
			return true
		})
	}
	return fmt.Sprintf("%d regions are checked first.", n), nil
}
