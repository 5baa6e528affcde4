package pd

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/copradb/copra/internal/gossip"
)

// startGossip makes this member part of the gossip: stores find each other
// through it, and what it hears it shows. The states of stores come from their
// heartbeats; what gossip says of one that died a moment ago only keeps leaders
// and peers from being sent there (storeDeadSince).
func (s *Server) startGossip() error {
	var reg prometheus.Registerer
	if s.cfg.Registerer != nil {
		reg = prometheus.WrapRegistererWith(prometheus.Labels{"node": s.cfg.Name}, s.cfg.Registerer)
	}
	g, err := gossip.Start(gossip.Options{
		ClusterID: s.clusterID, Kind: gossip.KindPD, ID: s.memberID(), Address: hostPort(s.clientURL),
		Service: s.gossiping, Seeds: s.gossipSeeds,
		DialOptions: []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())},
		Logger:      s.log, Registerer: reg,
	})
	if err != nil {
		return err
	}
	s.gossip.Store(g)
	return nil
}

// storeDeadSince is when this member saw a store die; zero where it lives or
// nothing is known.
func (s *Server) storeDeadSince(id uint64) time.Time {
	g := s.gossip.Load()
	if g == nil {
		return time.Time{}
	}
	if m, ok := g.StoreMember(id); ok && !m.Alive {
		return m.Since
	}
	return time.Time{}
}

// gossipSeeds are the other members and, while this one leads, the stores.
func (s *Server) gossipSeeds() []string {
	var out []string
	for _, m := range s.members() {
		for _, u := range m.ClientUrls {
			out = append(out, hostPort(u))
		}
	}
	if t, err := s.leading(); err == nil {
		for _, st := range t.cluster.stores.All() {
			if st.Meta.GetState() != metapb.StoreState_Tombstone {
				out = append(out, st.Meta.GetAddress())
			}
		}
	}
	return out
}

// hostPort is a URL's address.
func hostPort(url string) string {
	if _, rest, ok := strings.Cut(url, "://"); ok {
		return rest
	}
	return url
}

// httpGossip lists who this member hears of, and whether they live.
func (s *Server) httpGossip(*http.Request) (any, error) {
	g := s.gossip.Load()
	if g == nil {
		return nil, &httpError{http.StatusServiceUnavailable, errors.New("pd: this member is starting")}
	}
	return g.Members(), nil
}
