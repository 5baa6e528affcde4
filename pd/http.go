package pd

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"

	"github.com/copradb/copra/pd/statistics"
)

const (
	// requestBodyBytesMax is the largest body that the HTTP API reads.
	requestBodyBytesMax = 1 << 20
	// forwardedHeader marks a request that a follower has passed on, so that
	// two members without a leader do not pass it to and fro.
	forwardedHeader = "PD-Redirector"
)

// httpError is an answer that is not 200.
type httpError struct {
	code int
	err  error
}

func (e *httpError) Error() string { return e.err.Error() }

func badRequest(err error) error { return &httpError{http.StatusBadRequest, err} }
func notFound(err error) error   { return &httpError{http.StatusNotFound, err} }

// handler returns what is written as JSON; nil writes nothing.
type handler func(r *http.Request) (any, error)

// termHandler is a handler that only the leader can answer.
type termHandler func(t *term, r *http.Request) (any, error)

func (s *Server) newHTTP() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", s.metrics.handler())
	mux.Handle("GET /health", s.local(s.httpSelfHealth))
	mux.Handle("GET /ping", s.local(func(*http.Request) (any, error) { return nil, nil }))
	for pattern, h := range map[string]handler{
		"GET /pd/api/v1/members": s.httpMembers, "GET /pd/api/v1/leader": s.httpLeader,
		"GET /pd/api/v1/health": s.httpHealth, "GET /pd/api/v1/gossip": s.httpGossip, "GET /pd/api/v1/version": s.httpVersion,
		"GET /pd/api/v1/status": s.httpStatus, "GET /pd/api/v1/ping": func(*http.Request) (any, error) { return nil, nil },
	} {
		mux.Handle(pattern, s.local(h))
	}
	for pattern, h := range map[string]termHandler{
		"GET /pd/api/v1/stores":                     s.httpStores,
		"GET /pd/api/v1/store/{id}":                 s.httpStore,
		"DELETE /pd/api/v1/store/{id}":              s.httpDeleteStore,
		"POST /pd/api/v1/store/{id}/state":          s.httpStoreState,
		"DELETE /pd/api/v1/stores/remove-tombstone": s.httpRemoveTombstones,
		"GET /pd/api/v1/regions":                    s.httpRegions,
		"GET /pd/api/v1/regions/key":                s.httpRegionsByKey,
		"GET /pd/api/v1/regions/store/{id}":         s.httpRegionsByStore,
		"GET /pd/api/v1/region/id/{id}":             s.httpRegionByID,
		"GET /pd/api/v1/region/key/{key...}":        s.httpRegionByKey,
		"GET /pd/api/v1/config":                     s.httpConfig,
		"POST /pd/api/v1/config":                    s.httpSetConfig,
		"GET /pd/api/v1/config/schedule":            s.httpScheduleConfig,
		"GET /pd/api/v1/config/replicate":           s.httpReplicateConfig,
		"GET /pd/api/v1/config/cluster-version":     func(*term, *http.Request) (any, error) { return Version, nil },
		"GET /pd/api/v1/schedulers":                 s.httpSchedulers,
		"GET /pd/api/v1/operators":                  s.httpOperators,
		"GET /pd/api/v1/operators/{id}":             s.httpOperator,
		"DELETE /pd/api/v1/operators/{id}":          s.httpDeleteOperator,
		"GET /pd/api/v1/hotspot/regions/read":       s.httpHot(statistics.Read),
		"GET /pd/api/v1/hotspot/regions/write":      s.httpHot(statistics.Write),
		"GET /pd/api/v1/min-resolved-ts":            s.httpMinResolvedTS,
		"GET /pd/api/v1/min-resolved-ts/{id}":       s.httpStoreMinResolvedTS,
		"GET /pd/api/v1/cluster":                    s.httpCluster,
		"GET /pd/api/v1/cluster/status":             s.httpClusterStatus,
		"GET /pd/api/v1/gc/safepoint":               s.httpSafePoints,
		"POST /pd/api/v1/leader/resign":             s.httpResign,
		"POST /pd/api/v1/leader/transfer/{name}":    s.httpTransfer,
		"POST /pd/api/v1/members":                   s.httpAddMember,
		"POST /pd/api/v1/members/name/{name}":       s.httpSetPriority,
		"DELETE /pd/api/v1/members/name/{name}":     s.httpRemoveMember,
		"DELETE /pd/api/v1/members/id/{id}":         s.httpRemoveMember,
		"GET /pd/api/v2/keyspaces":                  s.httpKeyspaces,
		"POST /pd/api/v2/keyspaces":                 s.httpCreateKeyspace,
		"GET /pd/api/v2/keyspaces/{name}":           s.httpKeyspace,
		"GET /pd/api/v2/keyspaces/id/{id}":          s.httpKeyspaceByID,
		"PUT /pd/api/v2/keyspaces/{name}/state":     s.httpKeyspaceState,
	} {
		mux.Handle(pattern, s.leaderOnly(h))
	}
	return mux
}

// local serves a handler on every member.
func (s *Server) local(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.started(); err != nil {
			s.writeHTTP(w, nil, &httpError{http.StatusServiceUnavailable, err})
			return
		}
		v, err := h(r)
		s.writeHTTP(w, v, err)
	})
}

// leaderOnly serves a handler on the leader; the others pass the request on.
func (s *Server) leaderOnly(h termHandler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.started(); err != nil {
			s.writeHTTP(w, nil, &httpError{http.StatusServiceUnavailable, err})
			return
		}
		t, err := s.leading()
		if err != nil {
			s.forward(w, r)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, requestBodyBytesMax)
		v, err := h(t, r)
		s.writeHTTP(w, v, err)
	})
}

// forward passes a request on to the leader, once.
func (s *Server) forward(w http.ResponseWriter, r *http.Request) {
	leader := s.leader.Load()
	if leader == nil || leader.MemberId == s.memberID() || len(leader.ClientUrls) == 0 || r.Header.Get(forwardedHeader) != "" {
		s.writeHTTP(w, nil, &httpError{http.StatusServiceUnavailable, errors.New("pd: there is no leader now")})
		return
	}
	target, err := url.Parse(leader.ClientUrls[0])
	if err != nil {
		s.writeHTTP(w, nil, err)
		return
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(pr *httputil.ProxyRequest) {
		pr.SetURL(target)
		pr.Out.Header.Set(forwardedHeader, s.cfg.Name)
	}}
	proxy.ServeHTTP(w, r)
}

func (s *Server) writeHTTP(w http.ResponseWriter, v any, err error) {
	if err != nil {
		code := http.StatusInternalServerError
		var he *httpError
		if errors.As(err, &he) {
			code = he.code
		} else if isServerError(err) {
			code = http.StatusServiceUnavailable
		}
		v = err.Error()
		w.Header().Set("Content-Type", "application/json; charset=UTF-8")
		w.WriteHeader(code)
	} else if v == nil {
		return
	} else {
		w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil && !strings.Contains(err.Error(), "write") {
		s.log.Warn("pd: encode an HTTP answer", "err", err)
	}
}
