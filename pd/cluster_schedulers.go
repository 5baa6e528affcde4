package pd

import (
	"context"
	"strings"
)

// schedulerStorage keeps the schedulers' settings in etcd.
type schedulerStorage struct {
	s *Server
	t *term
}

func (s *Server) schedulerPrefix() string { return s.root + "/scheduler_config/" }

// SaveScheduler implements schedule.SchedulerStorage.
func (p schedulerStorage) SaveScheduler(ctx context.Context, name string, value []byte) error {
	key := p.s.schedulerPrefix() + name
	if len(value) == 0 {
		return p.t.fence.Delete(ctx, key)
	}
	return p.t.fence.Put(ctx, key, value)
}

// LoadSchedulers implements schedule.SchedulerStorage.
func (p schedulerStorage) LoadSchedulers(ctx context.Context) (map[string][]byte, error) {
	out := make(map[string][]byte)
	err := p.t.fence.Scan(ctx, p.s.schedulerPrefix(), func(key string, value []byte) error {
		out[strings.TrimPrefix(key, p.s.schedulerPrefix())] = value
		return nil
	})
	return out, err
}
