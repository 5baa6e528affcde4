package pd

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
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
