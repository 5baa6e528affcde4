package pd

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
)

// localRoutes are what every member answers for itself.
func (s *Server) localRoutes() map[string]handler {
	ping := func(*http.Request) (any, error) { return nil, nil }
	return map[string]handler{
		"GET /health":            s.httpSelfHealth,
		"GET /ping":              ping,
		"GET /pd/api/v1/members": s.httpMembers,
		"GET /pd/api/v1/leader":  s.httpLeader,
		"GET /pd/api/v1/health":  s.httpHealth,
		"GET /pd/api/v1/gossip":  s.httpGossip,
		"GET /pd/api/v1/version": s.httpVersion,
		"GET /pd/api/v1/status":  s.httpStatus,
		"GET /pd/api/v1/ping":    ping,
	}
}

// leaderRoutes are what only the leader answers.
func (s *Server) leaderRoutes() map[string]termHandler {
	all := map[string]termHandler{
		"GET /pd/api/v1/min-resolved-ts":         s.httpMinResolvedTS,
		"GET /pd/api/v1/min-resolved-ts/{id}":    s.httpStoreMinResolvedTS,
		"GET /pd/api/v1/cluster":                 s.httpCluster,
		"GET /pd/api/v1/cluster/status":          s.httpClusterStatus,
		"GET /pd/api/v1/gc/safepoint":            s.httpSafePoints,
		"DELETE /pd/api/v1/gc/safepoint/{name}":  s.httpDeleteBarrier,
		"GET /pd/api/v1/gc/state":                s.httpGCState,
		"POST /pd/api/v1/leader/resign":          s.httpResign,
		"POST /pd/api/v1/leader/transfer/{name}": s.httpTransfer,
		"POST /pd/api/v1/members":                s.httpAddMember,
		"POST /pd/api/v1/members/name/{name}":    s.httpSetPriority,
		"DELETE /pd/api/v1/members/name/{name}":  s.httpRemoveMember,
		"DELETE /pd/api/v1/members/id/{id}":      s.httpRemoveMember,
		"GET /pd/api/v2/keyspaces":               s.httpKeyspaces,
		"POST /pd/api/v2/keyspaces":              s.httpCreateKeyspace,
		"GET /pd/api/v2/keyspaces/{name}":        s.httpKeyspace,
		"GET /pd/api/v2/keyspaces/id/{id}":       s.httpKeyspaceByID,
		"PUT /pd/api/v2/keyspaces/{name}/state":  s.httpKeyspaceState,
	}
	for _, part := range []map[string]termHandler{
		s.configRoutes(), s.storeRoutes(), s.regionRoutes(), s.ruleRoutes(), s.labelRoutes(),
		s.schedulerRoutes(), s.operatorRoutes(), s.hotRoutes(), s.gcRoutes(),
	} {
		maps.Copy(all, part)
	}
	return all
}

// missingRoutes are calls of pd-ctl's and PD's that are not here, and why or
// what to do instead.
var missingRoutes = map[string]string{
	"/pd/api/v1/admin/base-alloc-id":           "ids are never set by hand",
	"/pd/api/v1/admin/cluster/markers/":        "there is no restore of a whole cluster",
	"/pd/api/v1/admin/log":                     "the log level is set at the start (--log-level)",
	"/pd/api/v1/admin/persist-file/":           "PD writes no files for others",
	"/pd/api/v1/admin/reset-ts":                "timestamps are never set by hand",
	"/pd/api/v1/admin/storage/":                "what PD has saved of regions follows their heartbeats",
	"/pd/api/v1/admin/unsafe/":                 "stop the stores that are left and run copra ctl offline unsafe-recover on each",
	"/pd/api/v1/checker/":                      "checkers cannot be paused; set replica-schedule-limit or merge-schedule-limit to 0",
	"POST /pd/api/v1/config/cluster-version":   "the cluster version is that of the binary",
	"/pd/api/v1/config/label-property":         "use placement rules",
	"POST /pd/api/v1/config/replication-mode":  "replication is by majority",
	"/pd/api/v1/debug/":                        "profiles are at /debug/pprof of stores and SQL nodes",
	"/pd/api/v1/hotspot/buckets":               "hot spots are known by region",
	"/pd/api/v1/metric/":                       "ask Prometheus itself; PD's metrics are at /metrics",
	"/pd/api/v1/plugin":                        "there are no plugins",
	"/pd/api/v1/regions/cpu":                   "stores do not report a region's CPU time; use readquery or writequery",
	"/pd/api/v1/replication_mode/status":       "replication is by majority",
	"/pd/api/v1/schedulers/diagnostic/{name}":  "see pd_scheduler_event_count at /metrics",
	"/pd/api/v1/service-middleware/":           "there is no rate limit on PD's services",
	"/pd/api/v1/stores/progress":               "see region_count of the store",
	"/pd/api/v1/tso/":                          "there are no local timestamp allocators",
	"PATCH /pd/api/v2/keyspaces/{name}/config": "a keyspace's settings are given when it is created",
	"/pd/api/v2/affinity-groups":               "use placement rules",
	"/pd/api/v2/affinity-groups/":              "use placement rules",
	"/pd/api/v2/maintenance":                   "there are no maintenance tasks",
	"/pd/api/v2/maintenance/":                  "there are no maintenance tasks",
	"/pd/api/v2/meta-service-groups":           "there is one etcd, PD's own",
	"/pd/api/v2/meta-service-groups/":          "there is one etcd, PD's own",
	"/pd/api/v2/ms/":                           "PD's services are one process",
	"/pd/api/v2/tso/":                          "there is one timestamp allocator",
}

func (s *Server) newHTTP() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", s.metrics.handler())
	for pattern, h := range s.localRoutes() {
		mux.Handle(pattern, s.local(h))
	}
	for pattern, h := range s.leaderRoutes() {
		mux.Handle(pattern, s.leaderOnly(h))
	}
	for pattern, why := range missingRoutes {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			s.writeHTTP(w, nil, &httpError{http.StatusNotImplemented,
				fmt.Errorf("pd: %s %s is not supported: %s", r.Method, r.URL.Path, why)})
		})
	}
	mux.HandleFunc("/pd/", func(w http.ResponseWriter, r *http.Request) { s.noSuchRoute(mux, w, r) })
	// A web page that somebody has open beside a PD on loopback may not tell it
	// what to do; programs send neither Origin nor Sec-Fetch-Site.
	return http.NewCrossOriginProtection().Handler(mux)
}

// noSuchRoute tells a wrong method from a wrong path.
func (s *Server) noSuchRoute(mux *http.ServeMux, w http.ResponseWriter, r *http.Request) {
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		other := r.Clone(r.Context())
		other.Method = method
		if _, pattern := mux.Handler(other); pattern != "/pd/" {
			w.Header().Add("Allow", method)
		}
	}
	if len(w.Header()["Allow"]) > 0 {
		s.writeHTTP(w, nil, &httpError{http.StatusMethodNotAllowed, fmt.Errorf("pd: %s takes no %s", r.URL.Path, r.Method)})
		return
	}
	s.writeHTTP(w, nil, notFound(errors.New("pd: there is nothing at "+r.URL.Path)))
}
