package pd

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/copradb/copra/pd/gcworker"
	"github.com/copradb/copra/pd/tso"
)

// gcStorage keeps what garbage collection's driver remembers.
type gcStorage struct {
	s *Server
	t *term
}

func (g gcStorage) key(key string) string { return g.s.root + "/gc/worker/" + key }

// Load implements gcworker.Storage.
func (g gcStorage) Load(ctx context.Context, key string) ([]byte, bool, error) {
	return g.t.fence.Get(ctx, g.key(key))
}

// Save implements gcworker.Storage.
func (g gcStorage) Save(ctx context.Context, key string, value []byte) error {
	return g.t.put(ctx, g.key(key), value)
}

// newGCWorker makes the driver of garbage collection for a term.
func (s *Server) newGCWorker(t *term) (*gcworker.Worker, error) {
	return gcworker.New(t.ctx, gcworker.Options{
		State: t.gc, Storage: gcStorage{s, t}, Metrics: s.metrics.gc, Logger: s.log,
		Keyspaces: t.ownGCKeyspaces,
		Timestamp: func(ctx context.Context) (uint64, error) {
			physical, logical, err := t.tso.Grant(ctx, 1)
			return tso.Compose(physical, logical), err
		},
		Ready: func() bool { return t.cluster.bootstrapped() == nil },
		NewResolver: func(ctx context.Context) (gcworker.Resolver, error) {
			if s.cfg.GCResolver == nil {
				return nil, errors.New("this PD was started without a way to resolve locks")
			}
			u, err := url.Parse(s.clientURL)
			if err != nil {
				return nil, err
			}
			return s.cfg.GCResolver(ctx, []string{u.Host})
		},
	})
}

func (s *Server) gcRoutes() map[string]termHandler {
	return map[string]termHandler{
		"GET /pd/api/v1/gc/worker": func(t *term, _ *http.Request) (any, error) { return t.collector.Status(), nil },
		"POST /pd/api/v1/gc/run":   s.httpRunGC,
	}
}

// httpRunGC starts a round now. The body may have a life_time for this round.
func (s *Server) httpRunGC(t *term, r *http.Request) (any, error) {
	var req struct {
		LifeTime string `json:"life_time"`
	}
	if r.ContentLength != 0 {
		if err := readJSON(r, &req, "the life time"); err != nil {
			return nil, err
		}
	}
	lifeTime := time.Duration(0)
	if req.LifeTime != "" {
		d, err := time.ParseDuration(req.LifeTime)
		if err != nil || d <= 0 {
			return nil, badRequest(fmt.Errorf("pd: %q is not a life time such as 10m", req.LifeTime))
		}
		lifeTime = d
	}
	if !t.collector.Trigger(lifeTime) {
		return "A round of garbage collection is about to start already.", nil
	}
	return "A round of garbage collection starts.", nil
}

// splitGCSettings takes garbage collection's settings out of the changes.
func splitGCSettings(changes map[string]any) map[string]any {
	out := map[string]any{}
	for name, v := range changes {
		if gcworker.IsSetting(name) {
			out[name] = v
			delete(changes, name)
		}
	}
	return out
}
