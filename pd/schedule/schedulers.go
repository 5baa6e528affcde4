package schedule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"sync"
	"time"
)

const (
	// idleIntervalMax is how long a scheduler that finds nothing to do rests at
	// most; each time in vain doubles its rest.
	idleIntervalMax = 5 * time.Second
	// startedPerTurnMax is how many operators a scheduler starts before others
	// have their turn.
	startedPerTurnMax = 256
)

// Errors of AddScheduler and its kin.
var (
	ErrSchedulerExists   = errors.New("the scheduler exists already")
	ErrSchedulerNotFound = errors.New("the scheduler does not run")
)

// SchedulerStorage keeps which schedulers run, with what settings. An empty value
// removes one.
type SchedulerStorage interface {
	SaveScheduler(ctx context.Context, name string, value []byte) error
	LoadSchedulers(ctx context.Context) (map[string][]byte, error)
}

// SchedulerInfo describes a scheduler that runs.
type SchedulerInfo struct {
	Name string `json:"name"`
	// Status is "running", "paused" or "disabled" (by the option
	// disable-balance).
	Status      string    `json:"status"`
	PausedUntil time.Time `json:"paused_until,omitzero"`
}

// savedScheduler is what is stored under a scheduler's name.
type savedScheduler struct {
	// Removed says that a scheduler that runs by default does not.
	Removed bool            `json:"removed,omitempty"`
	Config  json.RawMessage `json:"config,omitempty"`
}

// schedulers are those that run.
type schedulers struct {
	// changes serialises changes with their writes; mu guards the fields and is
	// held while a scheduler has its turn.
	changes sync.Mutex
	mu      sync.Mutex
	byName  map[string]*turn
	storage SchedulerStorage // nil: nothing is kept
}

// turn is when a scheduler has its next one.
type turn struct {
	Scheduler
	typ         schedulerType
	rest        time.Duration
	next        time.Time
	pausedUntil time.Time
}

// init starts those that run by default.
func (p *schedulers) init(c *Controller) {
	p.byName = make(map[string]*turn)
	for _, t := range schedulerTypes {
		if t.runs {
			s, err := t.make(nil)
			if err == nil {
				err = p.install(c, t, s)
			}
			if err != nil {
				panic(fmt.Sprintf("pd/schedule: %s does not start with its defaults: %v", t.name, err))
			}
		}
	}
}

// install puts a scheduler in the place of the one with its name.
func (p *schedulers) install(c *Controller, t schedulerType, s Scheduler) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.byName[s.Name()]
	if old != nil {
		if h, ok := old.Scheduler.(holder); ok {
			h.stop(c)
		}
	}
	if h, ok := s.(holder); ok {
		if err := h.start(c); err != nil {
			if was, ok := old.asHolder(); ok {
				// It held them a moment ago; that the store went in between only means
				// that there is nothing to hold.
				_ = was.start(c)
			}
			return err
		}
	}
	next := &turn{Scheduler: s, typ: t}
	if old != nil {
		next.pausedUntil = old.pausedUntil
	}
	p.byName[s.Name()] = next
	return nil
}

func (t *turn) asHolder() (holder, bool) {
	if t == nil {
		return nil, false
	}
	h, ok := t.Scheduler.(holder)
	return h, ok
}

func (p *schedulers) uninstall(c *Controller, name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.byName[name]
	if h, ok := t.asHolder(); ok {
		h.stop(c)
	}
	delete(p.byName, name)
	return t != nil
}

// LoadSchedulers lays what is stored over the defaults, and keeps later changes
// there. Called once, before Run.
func (c *Controller) LoadSchedulers(ctx context.Context, storage SchedulerStorage) error {
	saved, err := storage.LoadSchedulers(ctx)
	if err != nil {
		return err
	}
	c.plans.changes.Lock()
	defer c.plans.changes.Unlock()
	c.plans.storage = storage
	for name, raw := range saved {
		var s savedScheduler
		if err := json.Unmarshal(raw, &s); err != nil {
			return fmt.Errorf("pd: the stored settings of %s are damaged: %w", name, err)
		}
		if s.Removed {
			c.plans.uninstall(c, name)
			continue
		}
		t, err := typeOf(name)
		if err != nil {
			c.log.Warn("pd: a stored scheduler is not known here and does not run", "scheduler", name)
			continue
		}
		if err := c.installFrom(t, s.Config); err != nil {
			// A store it was for may be gone.
			c.log.Warn("pd: a stored scheduler does not run", "scheduler", name, "err", err)
		}
	}
	return nil
}

func (c *Controller) installFrom(t schedulerType, config json.RawMessage) error {
	s, err := t.make(config)
	if err != nil {
		return err
	}
	return c.plans.install(c, t, s)
}

// save is called with changes held.
func (p *schedulers) save(ctx context.Context, name string, v savedScheduler) error {
	if p.storage == nil {
		return nil
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return p.storage.SaveScheduler(ctx, name, raw)
}

// saveScheduler keeps the settings of a scheduler that changed them itself, in
// its turn.
func (c *Controller) saveScheduler(ctx context.Context, s Scheduler) {
	raw, err := json.Marshal(s.Config())
	if err == nil {
		err = c.plans.save(ctx, s.Name(), savedScheduler{Config: raw})
	}
	if err != nil {
		c.log.Warn("pd: a scheduler's settings are not saved", "scheduler", s.Name(), "err", err)
	}
}

// ListSchedulers describes the schedulers by name.
func (c *Controller) ListSchedulers() []SchedulerInfo {
	now, disabled := c.now(), c.cluster.Options().DisableBalance
	c.plans.mu.Lock()
	defer c.plans.mu.Unlock()
	out := make([]SchedulerInfo, 0, len(c.plans.byName))
	for name, t := range c.plans.byName {
		info := SchedulerInfo{Name: name, Status: "running"}
		switch {
		case disabled && t.typ.balances:
			info.Status = "disabled"
		case now.Before(t.pausedUntil):
			info.Status, info.PausedUntil = "paused", t.pausedUntil
		}
		out = append(out, info)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// AddScheduler starts a scheduler by PD's name, with the arguments that pd-ctl
// gives it: a store's id for evict-leader and grant-leader (added to those they
// have), start key, end key and a name for scatter-range, ranges of keys for the
// others. Keys are hexadecimal.
func (c *Controller) AddScheduler(ctx context.Context, name string, args []string) error {
	t, err := typeOf(name)
	if err != nil {
		return err
	}
	c.plans.changes.Lock()
	defer c.plans.changes.Unlock()
	have, err := c.SchedulerConfig(name)
	if err == nil && len(args) == 0 {
		return fmt.Errorf("pd: %s: %w", name, ErrSchedulerExists)
	}
	config, err := t.args(have, args)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return c.change(ctx, t, config)
}

// change makes a scheduler, saves it and lets it run. Called with changes held.
func (c *Controller) change(ctx context.Context, t schedulerType, config json.RawMessage) error {
	s, err := t.make(config)
	if err != nil {
		return err
	}
	if v, ok := s.(interface{ check(*Controller) error }); ok {
		if err := v.check(c); err != nil {
			return fmt.Errorf("pd: %s: %w", s.Name(), err)
		}
	}
	full, err := json.Marshal(s.Config())
	if err != nil {
		return err
	}
	if err := c.plans.save(ctx, s.Name(), savedScheduler{Config: full}); err != nil {
		return err
	}
	c.log.Info("pd: scheduler", "name", s.Name(), "config", string(full))
	return c.plans.install(c, t, s)
}

// RemoveScheduler ends a scheduler, also one that runs by default. Its operators
// go on.
func (c *Controller) RemoveScheduler(ctx context.Context, name string) error {
	c.plans.changes.Lock()
	defer c.plans.changes.Unlock()
	if _, err := c.SchedulerConfig(name); err != nil {
		return err
	}
	t, err := typeOf(name)
	if err != nil {
		return err
	}
	if t.runs {
		err = c.plans.save(ctx, name, savedScheduler{Removed: true})
	} else if c.plans.storage != nil {
		err = c.plans.storage.SaveScheduler(ctx, name, nil)
	}
	if err != nil {
		return err
	}
	c.plans.uninstall(c, name)
	c.log.Info("pd: scheduler removed", "name", name)
	return nil
}

// PauseScheduler gives a scheduler no turns for a while; zero resumes it. All of
// them are meant by "all". A pause does not outlive PD's leader.
func (c *Controller) PauseScheduler(name string, d time.Duration) error {
	if d < 0 {
		return fmt.Errorf("pd: a pause of %v", d)
	}
	until := c.now().Add(d)
	c.plans.mu.Lock()
	defer c.plans.mu.Unlock()
	if name == "all" {
		for _, t := range c.plans.byName {
			t.pausedUntil = until
		}
		return nil
	}
	t := c.plans.byName[name]
	if t == nil {
		return fmt.Errorf("pd: %s: %w", name, ErrSchedulerNotFound)
	}
	t.pausedUntil = until
	return nil
}

// SchedulerConfig returns a scheduler's settings.
func (c *Controller) SchedulerConfig(name string) (json.RawMessage, error) {
	c.plans.mu.Lock()
	defer c.plans.mu.Unlock()
	t := c.plans.byName[name]
	if t == nil {
		return nil, fmt.Errorf("pd: %s: %w", name, ErrSchedulerNotFound)
	}
	return json.Marshal(t.Config())
}

// SetSchedulerConfig changes some of a scheduler's settings.
func (c *Controller) SetSchedulerConfig(ctx context.Context, name string, changes json.RawMessage) error {
	c.plans.changes.Lock()
	defer c.plans.changes.Unlock()
	have, err := c.SchedulerConfig(name)
	if err != nil {
		return err
	}
	over := map[string]any{}
	if err := json.Unmarshal(changes, &over); err != nil {
		return fmt.Errorf("pd: %s: the settings are no JSON object: %w", name, err)
	}
	merged, err := mergeJSON(have, over)
	if err != nil {
		return err
	}
	t, err := typeOf(name)
	if err != nil {
		return err
	}
	return c.change(ctx, t, merged)
}

// Balance gives a turn to each scheduler that is due.
func (c *Controller) Balance(ctx context.Context) {
	if !c.Prepared() {
		return
	}
	o := c.cluster.Options()
	c.plans.mu.Lock()
	defer c.plans.mu.Unlock()
	names := make([]string, 0, len(c.plans.byName))
	for name := range c.plans.byName {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		if t := c.plans.byName[name]; ctx.Err() == nil {
			c.giveTurn(ctx, t, o)
		}
	}
}

// giveTurn is called with the schedulers' lock held.
func (c *Controller) giveTurn(ctx context.Context, t *turn, o Options) {
	now := c.now()
	allowed := !now.Before(t.pausedUntil) && !(o.DisableBalance && t.typ.balances)
	c.metrics.allow(t.Name(), allowed)
	if !allowed || now.Before(t.next) {
		return
	}
	room := min(c.room(t.Kind()), startedPerTurnMax)
	if room <= 0 {
		c.metrics.turn(t.Name(), "limit")
		return
	}
	started := t.Schedule(ctx, c, room)
	if started > 0 {
		t.rest = 0
		c.metrics.turn(t.Name(), "new-operator")
	} else {
		t.rest = min(max(2*t.rest, o.BalanceInterval), idleIntervalMax)
		c.metrics.turn(t.Name(), "idle")
	}
	t.next = now.Add(t.rest)
}
