package pd

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/pingcap/kvproto/pkg/metapb"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/pd/core"
)

const (
	// regionsDefault is how many regions are listed where nobody says, as in PD;
	// topRegionsMax is how many a list of the largest has at most.
	regionsDefault = 16
	topRegionsMax  = 10_240
)

func (s *Server) regionRoutes() map[string]termHandler {
	return map[string]termHandler{
		"GET /pd/api/v1/regions":                            s.httpRegions,
		"GET /pd/api/v1/regions/count":                      s.httpRegionCount,
		"GET /pd/api/v1/regions/key":                        s.httpRegionsByKey,
		"GET /pd/api/v1/regions/store/{id}":                 s.httpRegionsByStore,
		"GET /pd/api/v1/regions/keyspace/id/{id}":           s.httpRegionsByKeyspace,
		"GET /pd/api/v1/regions/sibling/{id}":               s.httpSiblings,
		"GET /pd/api/v1/regions/range-holes":                s.httpRangeHoles,
		"GET /pd/api/v1/regions/replicated":                 s.httpReplicated,
		"GET /pd/api/v1/regions/check/{state}":              s.httpRegionsByState,
		"GET /pd/api/v1/regions/check/hist-size":            s.httpHistogram(1, func(r *core.Region) uint64 { return r.SizeBytes >> 20 }),
		"GET /pd/api/v1/regions/check/hist-keys":            s.httpHistogram(1000, func(r *core.Region) uint64 { return r.Keys }),
		"GET /pd/api/v1/regions/writeflow":                  s.httpTop(func(r *core.Region) uint64 { return r.WrittenBytes }),
		"GET /pd/api/v1/regions/readflow":                   s.httpTop(func(r *core.Region) uint64 { return r.ReadBytes }),
		"GET /pd/api/v1/regions/writequery":                 s.httpTop(func(r *core.Region) uint64 { return r.WriteQueries }),
		"GET /pd/api/v1/regions/readquery":                  s.httpTop(func(r *core.Region) uint64 { return r.ReadQueries }),
		"GET /pd/api/v1/regions/confver":                    s.httpTop(func(r *core.Region) uint64 { return r.Epoch().ConfVer }),
		"GET /pd/api/v1/regions/version":                    s.httpTop(func(r *core.Region) uint64 { return r.Epoch().Version }),
		"GET /pd/api/v1/regions/size":                       s.httpTop(func(r *core.Region) uint64 { return r.SizeBytes }),
		"GET /pd/api/v1/regions/keys":                       s.httpTop(func(r *core.Region) uint64 { return r.Keys }),
		"GET /pd/api/v1/region/id/{id}":                     s.httpRegionByID,
		"GET /pd/api/v1/region/key/{key...}":                s.httpRegionByKey,
		"GET /pd/api/v1/stats/region":                       s.httpRegionStats,
		"DELETE /pd/api/v1/admin/cache/region/{id}":         s.httpDropRegion,
		"DELETE /pd/api/v1/admin/cache/regions":             s.httpDropRegions,
		"POST /pd/api/v1/regions/scatter":                   s.httpScatterRegions,
		"POST /pd/api/v1/regions/split":                     s.httpSplitRegions,
		"POST /pd/api/v1/regions/accelerate-schedule":       s.httpCheckSoon,
		"POST /pd/api/v1/regions/accelerate-schedule/batch": s.httpCheckSoonBatch,
	}
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

func (s *Server) httpRegionCount(t *term, _ *http.Request) (any, error) {
	return map[string]any{"count": t.cluster.regions.Len()}, nil
}

// httpRegionsByKey lists regions from a key on.
func (s *Server) httpRegionsByKey(t *term, r *http.Request) (any, error) {
	q := r.URL.Query()
	limit, err := intParam(q, "limit", regionsDefault)
	if err != nil {
		return nil, err
	}
	start, err := keyParam(q.Get("key"), q.Get("format"))
	if err != nil {
		return nil, err
	}
	end, err := keyParam(q.Get("end_key"), q.Get("format"))
	if err != nil {
		return nil, err
	}
	return regionList(t.cluster.regions.Scan(start, end, limit)), nil
}

func (s *Server) httpRegionsByStore(t *term, r *http.Request) (any, error) {
	st, err := s.pathStore(t, r)
	if err != nil {
		return nil, err
	}
	return regionList(t.cluster.regions.StoreRegions(st.ID())), nil
}

// httpRegionsByKeyspace lists a keyspace's regions: those of its raw keys (r)
// and of its transactional ones (x).
func (s *Server) httpRegionsByKeyspace(t *term, r *http.Request) (any, error) {
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	if id > keyspaceIDMax {
		return nil, badRequest(fmt.Errorf("pd: keyspace id %d is above %d", id, keyspaceIDMax))
	}
	limit, err := intParam(r.URL.Query(), "limit", regionsDefault)
	if err != nil {
		return nil, err
	}
	var out []*core.Region
	for _, mode := range []byte{'r', 'x'} {
		prefix := []byte{mode, byte(id >> 16), byte(id >> 8), byte(id)}
		left := limit - len(out)
		if limit > 0 && left <= 0 {
			break
		}
		start, end := codec.EncodeBytes(nil, prefix), codec.EncodeBytes(nil, codec.PrefixNext(prefix))
		for _, region := range t.cluster.regions.Scan(start, end, left) {
			if len(out) == 0 || out[len(out)-1].ID() != region.ID() {
				out = append(out, region)
			}
		}
	}
	return regionList(out), nil
}

// keyspaceIDMax is the largest id of a keyspace: it has three bytes in keys.
const keyspaceIDMax = 1<<24 - 1

func (s *Server) pathRegion(t *term, r *http.Request) (*core.Region, error) {
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	region, err := t.cluster.region(id)
	return region, requestError(err)
}

func (s *Server) httpRegionByID(t *term, r *http.Request) (any, error) {
	region, err := s.pathRegion(t, r)
	if err != nil {
		return nil, err
	}
	return regionInfo(region), nil
}

// httpRegionByKey takes a key that is escaped as in a query, as PD's clients do:
// + is a space.
func (s *Server) httpRegionByKey(t *term, r *http.Request) (any, error) {
	_, escaped, _ := strings.Cut(r.URL.EscapedPath(), "/region/key/")
	text, err := url.QueryUnescape(escaped)
	if err != nil {
		return nil, badRequest(fmt.Errorf("pd: the key %q is not escaped as in a URL: %w", escaped, err))
	}
	key, err := keyParam(text, r.URL.Query().Get("format"))
	if err != nil {
		return nil, err
	}
	region := t.cluster.regions.ByKey(key)
	if region == nil {
		return nil, notFound(fmt.Errorf("no region is known for key %x", key))
	}
	return regionInfo(region), nil
}

// httpSiblings lists the regions before and after one.
func (s *Server) httpSiblings(t *term, r *http.Request) (any, error) {
	region, err := s.pathRegion(t, r)
	if err != nil {
		return nil, err
	}
	var out []*core.Region
	if prev := t.cluster.regions.Prev(region.Meta.StartKey); prev != nil {
		out = append(out, prev)
	}
	if end := region.Meta.EndKey; len(end) > 0 {
		if next := t.cluster.regions.ByKey(end); next != nil {
			out = append(out, next)
		}
	}
	return regionList(out), nil
}
