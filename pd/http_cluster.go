package pd

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
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

func (s *Server) httpScheduleConfig(t *term, _ *http.Request) (any, error) {
	o := t.cluster.Options()
	return map[string]any{
		"max-store-down-time": o.MaxStoreDownTime.String(), "leader-schedule-limit": o.LeaderLimit,
		"region-schedule-limit": o.RegionLimit, "replica-schedule-limit": o.ReplicaLimit,
		"merge-schedule-limit": o.MergeLimit, "hot-region-schedule-limit": o.HotRegionLimit,
		"max-merge-region-size": o.MaxMergeRegionMiB, "max-merge-region-keys": o.MaxMergeRegionKeys,
		"region-max-size": o.RegionMaxMiB, "split-merge-interval": o.SplitMergeInterval.String(),
		"enable-one-way-merge": o.OneWayMerge, "enable-cross-table-merge": !o.DisableCrossTableMerge,
		"leader-schedule-policy": o.LeaderPolicy, "tolerant-size-ratio": o.TolerantSizeRatio,
		"hot-region-cache-hits-threshold": o.HotCacheHits,
		"max-snapshot-count":              o.MaxSnapshots, "max-pending-peer-count": o.MaxPendingPeers,
		"low-space-ratio": o.LowSpaceRatio, "store-limit": o.StoreRates, "default-store-limit": o.StoreRate,
		"store-adding-peers-limit": o.StoreLimit, "patrol-region-interval": o.PatrolInterval.String(),
		"balance-interval": o.BalanceInterval.String(), "disable-balance": o.DisableBalance,
	}, nil
}

func (s *Server) httpReplicateConfig(t *term, _ *http.Request) (any, error) {
	o := t.cluster.Options()
	return map[string]any{
		"max-replicas": o.Replicas, "location-labels": strings.Join(o.LocationLabels, ","), "strictly-match-label": "false",
		"enable-placement-rules": strconv.FormatBool(!o.DisablePlacementRules), "isolation-level": o.IsolationLevel,
	}, nil
}

func (s *Server) httpConfig(t *term, r *http.Request) (any, error) {
	sched, err := s.httpScheduleConfig(t, r)
	if err != nil {
		return nil, err
	}
	repl, err := s.httpReplicateConfig(t, r)
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"name": s.cfg.Name, "data-dir": s.cfg.DataDir, "client-urls": "http://" + s.clientAddr,
		"peer-urls": "http://" + s.peerAddr, "advertise-client-urls": s.clientURL,
		"lease": s.cfg.LeaderLeaseSeconds, "cluster-version": Version,
		"schedule": sched, "replication": repl,
	}, nil
}

func (s *Server) httpSetConfig(t *term, r *http.Request) (any, error) {
	changes := map[string]any{}
	if err := json.NewDecoder(r.Body).Decode(&changes); err != nil {
		return nil, badRequest(fmt.Errorf("pd: the settings are no JSON object: %w", err))
	}
	flat := map[string]any{}
	for k, v := range changes {
		// pd-ctl sends "schedule.x" or {"schedule": {"x": …}}, too.
		if sub, ok := v.(map[string]any); ok && (k == "schedule" || k == "replication") {
			for k, v := range sub {
				flat[k] = v
			}
			continue
		}
		for _, section := range []string{"schedule.", "replication."} {
			if len(k) > len(section) && k[:len(section)] == section {
				k = k[len(section):]
			}
		}
		flat[k] = v
	}
	if _, err := applyOptions(t.cluster.Options(), flat); err != nil {
		return nil, badRequest(err)
	}
	if err := t.cluster.setOptions(r.Context(), flat); err != nil {
		return nil, err
	}
	return "The config is updated.", nil
}

func (s *Server) httpSchedulers(t *term, _ *http.Request) (any, error) {
	names := []string{}
	for _, info := range t.cluster.sched.ListSchedulers() {
		names = append(names, info.Name)
	}
	return names, nil
}

func (s *Server) httpOperators(t *term, _ *http.Request) (any, error) {
	return t.cluster.sched.List(), nil
}

func pathID(r *http.Request) (uint64, error) {
	id, err := strconv.ParseUint(r.PathValue("id"), 10, 64)
	if err != nil {
		return 0, badRequest(fmt.Errorf("pd: %q is no id", r.PathValue("id")))
	}
	return id, nil
}

func (s *Server) httpOperator(t *term, r *http.Request) (any, error) {
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	rec, ok := t.cluster.sched.Status(id)
	if !ok {
		return nil, notFound(fmt.Errorf("pd: no operator on region %d is known", id))
	}
	return fmt.Sprintf("status: %v, operator: %s %s", rec.Status, rec.Op.Desc, rec.Reason), nil
}

func (s *Server) httpDeleteOperator(t *term, r *http.Request) (any, error) {
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	if !t.cluster.sched.Cancel(id, "cancelled by an administrator") {
		return nil, notFound(fmt.Errorf("pd: no operator runs on region %d", id))
	}
	return "The pending operator is canceled.", nil
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
	list := []service{{ID: "gc_worker", ExpiredAt: gcstate.TTLForever, SafePoint: st.TxnSafePoint}}
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

// Interface checks: what PD's packages see of each other.
var (
	_ schedule.Cluster = (*cluster)(nil)
	_ tso.Clock        = (*tso.SystemClock)(nil)
)
