package pd

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/pingcap/kvproto/pkg/pdpb"
)

// Stores say, about once a second, up to which timestamp all their replicas can
// be read without a leader. It is not saved: a new leader of PD knows as much as
// the old one after a second, and must not promise more meanwhile.

// ReportMinResolvedTS implements pdpb.PDServer.
func (p *service) ReportMinResolvedTS(_ context.Context, req *pdpb.ReportMinResolvedTsRequest) (*pdpb.ReportMinResolvedTsResponse, error) {
	t, h, err := p.s.serveRegions(req.GetHeader())
	if t == nil {
		return &pdpb.ReportMinResolvedTsResponse{Header: h}, err
	}
	if err := t.cluster.setMinResolvedTS(req.GetStoreId(), req.GetMinResolvedTs()); err != nil {
		return nil, rpcError(err)
	}
	return &pdpb.ReportMinResolvedTsResponse{Header: h}, nil
}

func (c *cluster) setMinResolvedTS(store, ts uint64) error {
	c.metaMu.Lock()
	defer c.metaMu.Unlock()
	old, err := c.store(store)
	if err != nil {
		return err
	}
	next := *old
	next.MinResolvedTS = max(ts, old.MinResolvedTS)
	c.stores.Put(&next)
	return nil
}

// minResolvedTS is the smallest of all stores that lead regions, 0 where one has
// not reported.
func (c *cluster) minResolvedTS() uint64 {
	least := uint64(math.MaxUint64)
	for _, st := range c.stores.All() {
		least = min(least, c.storeMinResolvedTS(st.ID()))
	}
	if least == math.MaxUint64 {
		return 0
	}
	return least
}

// storeMinResolvedTS is a store's; as in PD, MaxUint64 says that there is no
// such store, or that it leads nothing: it may be dead, and is not to hold the
// cluster back.
func (c *cluster) storeMinResolvedTS(id uint64) uint64 {
	st := c.stores.Get(id)
	if st == nil || st.IsTombstone() || c.regions.StoreCounts(id).Leaders == 0 {
		return math.MaxUint64
	}
	return st.MinResolvedTS
}

// httpMinResolvedTS answers for the cluster. scope=cluster adds every store's;
// with scope=1,4 it answers for these stores.
func (s *Server) httpMinResolvedTS(t *term, r *http.Request) (any, error) {
	// is_real_time says that stores' reports are taken in at all.
	out := map[string]any{"min_resolved_ts": t.cluster.minResolvedTS(), "is_real_time": true, "persist_interval": "1s"}
	scope := r.URL.Query().Get("scope")
	if scope == "" {
		return out, nil
	}
	stores := map[uint64]uint64{}
	if scope == "cluster" {
		for _, st := range t.cluster.stores.All() {
			stores[st.ID()] = t.cluster.storeMinResolvedTS(st.ID())
		}
	} else {
		least := uint64(math.MaxUint64)
		for _, text := range strings.Split(scope, ",") {
			id, err := strconv.ParseUint(text, 10, 64)
			if err != nil {
				return nil, badRequest(fmt.Errorf("pd: scope is %q: want cluster, or ids of stores separated by commas", scope))
			}
			stores[id] = t.cluster.storeMinResolvedTS(id)
			least = min(least, stores[id])
		}
		out["min_resolved_ts"] = least
	}
	out["stores_min_resolved_ts"] = stores
	return out, nil
}

// httpStoreMinResolvedTS answers for one store.
func (s *Server) httpStoreMinResolvedTS(t *term, r *http.Request) (any, error) {
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	if _, err := t.cluster.store(id); err != nil {
		return nil, notFound(err)
	}
	return map[string]any{"min_resolved_ts": t.cluster.storeMinResolvedTS(id), "is_real_time": true, "persist_interval": "1s"}, nil
}
