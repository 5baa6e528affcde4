package pd

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/copradb/copra/pd/gcstate"
	"github.com/copradb/copra/pd/schedule"
	"github.com/copradb/copra/pd/tso"
)

func (s *Server) httpLeader(*http.Request) (any, error) {
	l := s.leader.Load()
	if l == nil {
		return nil, &httpError{http.StatusServiceUnavailable, errors.New("pd: there is no leader now")}
	}
	return l, nil
}

type memberHealth struct {
	Name       string   `json:"name"`
	MemberID   uint64   `json:"member_id"`
	ClientURLs []string `json:"client_urls"`
	Health     bool     `json:"health"`
}

// httpHealth reports each member as this one sees it: reachable by etcd.
func (s *Server) httpHealth(r *http.Request) (any, error) {
	var out []memberHealth
	client := http.Client{Timeout: time.Second}
	for _, m := range s.members() {
		h := memberHealth{Name: m.Name, MemberID: m.MemberId, ClientURLs: m.ClientUrls}
		if m.MemberId == s.memberID() {
			h.Health = s.etcd.Server.Leader() != 0
		} else if len(m.ClientUrls) > 0 {
			req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, m.ClientUrls[0]+"/health", nil)
			if err == nil {
				if resp, err := client.Do(req); err == nil {
					_ = resp.Body.Close()
					h.Health = resp.StatusCode == http.StatusOK
				}
			}
		}
		out = append(out, h)
	}
	return out, nil
}

// httpSelfHealth is etcd's form of health: of this member alone.
func (s *Server) httpSelfHealth(*http.Request) (any, error) {
	if s.etcd.Server.Leader() == 0 {
		return nil, &httpError{http.StatusServiceUnavailable, errors.New("pd: this member knows no etcd leader")}
	}
	return map[string]string{"health": "true"}, nil
}

func (s *Server) httpVersion(*http.Request) (any, error) {
	return map[string]string{"version": Version}, nil
}

func (s *Server) httpStatus(*http.Request) (any, error) {
	return map[string]any{
		"build_ts": "", "version": Version, "git_hash": "", "kernel_type": "Classic", "start_timestamp": s.startMS / 1000,
	}, nil
}

func (s *Server) httpCluster(t *term, _ *http.Request) (any, error) {
	return map[string]any{"id": s.clusterID, "max_peer_count": t.cluster.Options().Replicas}, nil
}

func (s *Server) httpClusterStatus(t *term, _ *http.Request) (any, error) {
	out := map[string]any{"is_initialized": t.cluster.sched.Prepared(), "replication_status": ""}
	if t.cluster.bootstrapped() == nil {
		out["raft_bootstrap_time"] = time.Unix(int64(s.clusterID>>32), 0).UTC()
	}
	return out, nil
}

func (s *Server) httpSafePoints(t *term, r *http.Request) (any, error) {
	st, err := t.gc.Get(r.Context(), gcstate.NullKeyspace)
	if err != nil {
		return nil, err
	}
	type service struct {
		ID        string `json:"service_id"`
		ExpiredAt int64  `json:"expired_at"`
		SafePoint uint64 `json:"safe_point"`
	}
	list := []service{{ID: gcWorker, ExpiredAt: gcstate.TTLForever, SafePoint: st.TxnSafePoint}}
	for _, b := range append(st.Barriers, st.Global...) {
		expires := b.Expires
		if expires == 0 {
			expires = gcstate.TTLForever
		}
		list = append(list, service{b.ID, expires, b.TS})
	}
	return map[string]any{
		"service_gc_safe_points": list, "min_service_gc_safe_point": st.TxnSafePoint, "gc_safe_point": st.GCSafePoint,
	}, nil
}

// httpDeleteBarrier removes a service's safe point.
func (s *Server) httpDeleteBarrier(t *term, r *http.Request) (any, error) {
	name := r.PathValue("name")
	if name == gcWorker {
		return nil, badRequest(fmt.Errorf("pd: %s is the transaction safe point itself: it cannot be deleted", gcWorker))
	}
	_, ok, err := t.gc.DeleteBarrier(r.Context(), gcstate.NullKeyspace, name)
	if err == nil && !ok {
		err = notFound(fmt.Errorf("pd: service %q has no safe point", name))
	}
	return done("Delete service GC safepoint successfully.", err)
}

type barrierJSON struct {
	ID         string `json:"barrier_id"`
	TS         uint64 `json:"barrier_ts"`
	TTLSeconds int64  `json:"ttl_seconds"` // -1 for ever
}

// httpGCState tells up to where versions may be removed, and who holds that
// back, for the keyspace keyspace_id or for those without a GC of their own.
func (s *Server) httpGCState(t *term, r *http.Request) (any, error) {
	ks := gcstate.NullKeyspace
	if text := r.URL.Query().Get("keyspace_id"); text != "" {
		id, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return nil, badRequest(fmt.Errorf("pd: %q is no keyspace id", text))
		}
		ks = uint32(id)
		if _, err := t.keyspaces.ByID(ks); err != nil {
			return keyspaceAnswer(nil, err)
		}
	}
	st, err := t.gc.Get(r.Context(), ks)
	if err != nil {
		return nil, err
	}
	list := func(barriers []gcstate.Barrier) []barrierJSON {
		out := make([]barrierJSON, len(barriers))
		for i, b := range barriers {
			out[i] = barrierJSON{b.ID, b.TS, b.TTLSeconds(time.Now())}
			if b.Expires == 0 {
				out[i].TTLSeconds = -1
			}
		}
		return out
	}
	return map[string]any{
		"keyspace_id": st.Keyspace, "is_keyspace_level": st.OwnGC, "txn_safe_point": st.TxnSafePoint,
		"gc_safe_point": st.GCSafePoint, "gc_barriers": list(st.Barriers), "global_gc_barriers": list(st.Global),
	}, nil
}

// gcWorker is the service that PD's own safe point is shown as.
const gcWorker = "gc_worker"

// Interface checks: what PD's packages see of each other.
var (
	_ schedule.Cluster = (*cluster)(nil)
	_ tso.Clock        = (*tso.SystemClock)(nil)
)
