package schedule

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/copradb/copra/pd/core"
)

const (
	// slowScoreEvict is from which slow score on a store loses its leaders, and
	// slowScoreRecovered up to which it gets them back; a store reports 1 to 100.
	slowScoreEvict, slowScoreRecovered = 80, 1
	defaultSlowRecovery                = 10 * time.Minute
)

type evictSlowConfig struct {
	// Evicted is the store whose leaders were moved away, none where it is 0.
	Evicted uint64 `json:"evicted-store,omitempty"`
	// RecoverySeconds is for how long a store must be fast again before it may
	// lead.
	RecoverySeconds int `json:"recovery-duration"`
}

// evictSlowStore moves the leaders off a store whose disk has become slow. One
// store at a time: where several are slow the cluster is overloaded, and moving
// leaders around would make it worse.
type evictSlowStore struct {
	cfg evictSlowConfig
	held
	fastSince time.Time // zero: it is slow
}

func newEvictSlowStore(raw json.RawMessage) (Scheduler, error) {
	e := &evictSlowStore{cfg: evictSlowConfig{RecoverySeconds: int(defaultSlowRecovery / time.Second)}}
	if err := decodeConfig(EvictSlowStoreName, raw, &e.cfg); err != nil {
		return nil, err
	}
	if e.cfg.RecoverySeconds < 1 {
		return nil, fmt.Errorf("pd: %s: a recovery duration of %d s", EvictSlowStoreName, e.cfg.RecoverySeconds)
	}
	return e, nil
}

func (*evictSlowStore) Name() string  { return EvictSlowStoreName }
func (*evictSlowStore) Kind() Kind    { return KindLeader }
func (e *evictSlowStore) Config() any { return e.cfg }
func (e *evictSlowStore) start(c *Controller) error {
	if e.cfg.Evicted != 0 {
		e.hold(c, []uint64{e.cfg.Evicted}, core.LeadersIn)
	}
	return nil
}
func (e *evictSlowStore) stop(c *Controller) { e.release(c, core.LeadersIn) }

func (e *evictSlowStore) Schedule(ctx context.Context, c *Controller, room int) int {
	if e.cfg.Evicted == 0 {
		slow := c.onlySlowStore()
		if slow == 0 {
			return 0
		}
		c.log.Warn("pd: a store is slow; its leaders move away", "store", slow)
		e.set(ctx, c, slow)
	}
	s := c.cluster.Stores().Get(e.cfg.Evicted)
	if s == nil || s.IsTombstone() {
		e.set(ctx, c, 0)
		return 0
	}
	if e.recovered(s, c.now()) {
		c.log.Info("pd: the slow store is fast again and may lead", "store", e.cfg.Evicted)
		e.set(ctx, c, 0)
		return 0
	}
	return c.evict(e.cfg.Evicted, nil, "evict-slow-store", room)
}

// onlySlowStore returns the store that is slow, if there is one and only one,
// and another that could lead.
func (c *Controller) onlySlowStore() uint64 {
	slow, up := uint64(0), 0
	for _, s := range c.cluster.Stores().All() {
		if !s.IsUp() || !s.IsConnected(c.now()) {
			continue
		}
		up++
		if s.Stats.GetSlowScore() >= slowScoreEvict {
			if slow != 0 {
				return 0
			}
			slow = s.ID()
		}
	}
	if up < 2 {
		return 0
	}
	return slow
}

func (e *evictSlowStore) recovered(s *core.Store, now time.Time) bool {
	if s.Stats.GetSlowScore() > slowScoreRecovered || !s.Reported {
		e.fastSince = time.Time{}
		return false
	}
	if e.fastSince.IsZero() {
		e.fastSince = now
	}
	return now.Sub(e.fastSince) >= time.Duration(e.cfg.RecoverySeconds)*time.Second
}

// set remembers the evicted store, also for PD's next leader.
func (e *evictSlowStore) set(ctx context.Context, c *Controller, id uint64) {
	e.release(c, core.LeadersIn)
	e.cfg.Evicted, e.fastSince = id, time.Time{}
	if id != 0 {
		e.hold(c, []uint64{id}, core.LeadersIn)
	}
	c.saveScheduler(ctx, e)
}
