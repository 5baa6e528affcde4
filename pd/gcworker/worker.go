package gcworker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/copradb/copra/pd/gcstate"
)

const (
	// standBackDuration is how long the worker leaves the safe points alone after
	// somebody else has moved them: three times TiDB's interval.
	standBackDuration = 30 * time.Minute
	// roundTimeout bounds a round; the next one begins where it ended.
	roundTimeout = time.Hour
)

// State are the safe points: *gcstate.Manager.
type State interface {
	Get(ctx context.Context, ks uint32) (gcstate.State, error)
	AdvanceTxn(ctx context.Context, ks uint32, target uint64) (before, after uint64, blocker string, err error)
	AdvanceGC(ctx context.Context, ks uint32, target uint64) (before, after uint64, err error)
}

// Range is [Start, End) of plain keys, as transactional clients of the whole
// cluster know them; an empty End is unbounded.
type Range struct{ Start, End []byte }

// Resolved counts what a Resolver did.
type Resolved struct{ Regions, Locks int }

// Resolver ends transactions: after ResolveLocks there is no lock in the ranges
// with start_ts <= maxTS, in memory or stored, in any region, and none will be
// committed at or below maxTS.
type Resolver interface {
	ResolveLocks(ctx context.Context, maxTS uint64, ranges []Range) (Resolved, error)
	Close() error
}

// Storage keeps what the worker remembers, fenced by the leader's term.
type Storage interface {
	Load(ctx context.Context, key string) ([]byte, bool, error)
	Save(ctx context.Context, key string, value []byte) error
}

// Options of New. All are required but Now and Logger.
type Options struct {
	State   State
	Storage Storage
	// Timestamp is a new one of PD's.
	Timestamp func(ctx context.Context) (uint64, error)
	// Keyspaces are those with safe points of their own.
	Keyspaces func() []uint32
	// Ready reports whether there is anything to collect from: a store.
	Ready func() bool
	// NewResolver is called when the first round begins.
	NewResolver func(ctx context.Context) (Resolver, error)
	Metrics     *Metrics
	Now         func() time.Time
	Logger      *slog.Logger
}

// Worker moves the safe points for one term of PD's leader.
type Worker struct {
	o        Options
	run      chan time.Duration // a round is asked for; not 0: with that life time
	changed  chan struct{}
	resolver Resolver

	mu       sync.Mutex
	settings Settings
	rounds   map[uint32]Round // the last one of each keyspace
	running  bool
}

// Round is what one round did with one keyspace's safe points.
type Round struct {
	Keyspace     uint32    `json:"keyspace_id"`
	Started      time.Time `json:"started"`
	Ended        time.Time `json:"ended"`
	Target       uint64    `json:"target"`
	TxnSafePoint uint64    `json:"txn_safe_point"`
	GCSafePoint  uint64    `json:"gc_safe_point"`
	Blocker      string    `json:"blocker,omitempty"`
	Regions      int       `json:"regions"`
	Locks        int       `json:"locks_resolved"`
	// Skipped says why the round did nothing, Error why it failed.
	Skipped string `json:"skipped,omitempty"`
	Error   string `json:"error,omitempty"`
}

// Status is what people are shown.
type Status struct {
	Settings map[string]any `json:"settings"`
	Running  bool           `json:"running"`
	Rounds   []Round        `json:"rounds"`
}

// record is what is stored: the newest target, by which the worker tells its own
// safe points from others'.
type record struct {
	Target  uint64 `json:"target"`
	Foreign int64  `json:"foreign_unix,omitempty"` // when others' were last seen
}

// New loads the settings.
func New(ctx context.Context, o Options) (*Worker, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	w := &Worker{o: o, run: make(chan time.Duration, 1), changed: make(chan struct{}, 1), settings: DefaultSettings(), rounds: map[uint32]Round{}}
	raw, ok, err := o.Storage.Load(ctx, "settings")
	if err != nil || !ok {
		return w, err
	}
	changes := map[string]any{}
	if err := json.Unmarshal(raw, &changes); err != nil {
		return nil, fmt.Errorf("pd: the settings of garbage collection are damaged: %w", err)
	}
	w.settings, err = w.settings.With(changes)
	return w, err
}

// Settings are the present ones.
func (w *Worker) Settings() Settings {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.settings
}

// Change changes settings by name, for good.
func (w *Worker) Change(ctx context.Context, changes map[string]any) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	next, err := w.settings.With(changes)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(next.Map())
	if err != nil {
		return err
	}
	if err := w.o.Storage.Save(ctx, "settings", raw); err != nil {
		return err
	}
	w.settings = next
	select {
	case w.changed <- struct{}{}:
	default:
	}
	return nil
}

// Trigger asks for a round now, with another life time if that is not 0. It
// returns false where one is waiting already.
func (w *Worker) Trigger(lifeTime time.Duration) bool {
	select {
	case w.run <- lifeTime:
		return true
	default:
		return false
	}
}

// Status of the last rounds.
func (w *Worker) Status() Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	st := Status{Settings: w.settings.Map(), Running: w.running, Rounds: []Round{}}
	for _, ks := range append([]uint32{gcstate.NullKeyspace}, w.o.Keyspaces()...) {
		if r, ok := w.rounds[ks]; ok {
			st.Rounds = append(st.Rounds, r)
		}
	}
	return st
}

// Run makes a round every interval until ctx ends.
func (w *Worker) Run(ctx context.Context) {
	defer w.close()
	timer := time.NewTimer(w.Settings().RunInterval)
	defer timer.Stop()
	for {
		lifeTime, asked := time.Duration(0), false
		select {
		case <-timer.C:
		case lifeTime = <-w.run:
			asked = true
		case <-w.changed:
			timer.Reset(w.Settings().RunInterval)
			continue
		case <-ctx.Done():
			return
		}
		w.Rounds(ctx, lifeTime, asked)
		timer.Reset(w.Settings().RunInterval)
	}
}

func (w *Worker) close() {
	if w.resolver == nil {
		return
	}
	if err := w.resolver.Close(); err != nil {
		w.o.Logger.Warn("GC: the client that resolves locks was not closed", "err", err)
	}
	w.resolver = nil
}

// Rounds makes one round for each set of safe points. A lifeTime of 0 is the
// setting. asked says that somebody wants it now, whatever others do.
func (w *Worker) Rounds(ctx context.Context, lifeTime time.Duration, asked bool) {
	s := w.Settings()
	if lifeTime == 0 {
		lifeTime = s.LifeTime
	}
	w.setRunning(true)
	defer w.setRunning(false)
	ctx, cancel := context.WithTimeout(ctx, roundTimeout)
	defer cancel()
	own := w.o.Keyspaces()
	for _, ks := range append([]uint32{gcstate.NullKeyspace}, own...) {
		r := Round{Keyspace: ks, Started: w.o.Now()}
		var err error
		switch {
		case !s.Enabled && !asked:
			r.Skipped = "switched off (gc-enable)"
		case !w.o.Ready():
			r.Skipped = "no store has joined yet"
		default:
			err = w.round(ctx, &r, lifeTime, asked, Ranges(ks, own))
		}
		r.Ended = w.o.Now()
		w.ended(ctx, r, err)
	}
}

func (w *Worker) setRunning(running bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running = running
}

func (w *Worker) ended(ctx context.Context, r Round, err error) {
	if err != nil {
		r.Error = err.Error()
		if ctx.Err() == nil {
			w.o.Logger.Warn("GC round failed; it is tried again", "keyspace", r.Keyspace, "err", err)
		}
	} else if r.Skipped == "" {
		w.o.Logger.Info("GC round", "keyspace", r.Keyspace, "safe_point", r.GCSafePoint, "locks", r.Locks, "blocker", r.Blocker, "took", r.Ended.Sub(r.Started))
	}
	w.o.Metrics.note(&r)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rounds[r.Keyspace] = r
}

// round moves one keyspace's safe points.
func (w *Worker) round(ctx context.Context, r *Round, lifeTime time.Duration, asked bool, ranges []Range) error {
	st, err := w.o.State.Get(ctx, r.Keyspace)
	if err != nil {
		return err
	}
	r.TxnSafePoint, r.GCSafePoint = st.TxnSafePoint, st.GCSafePoint
	rec, err := w.recall(ctx, r.Keyspace, st)
	if err != nil {
		return err
	}
	if since := w.o.Now().Sub(time.Unix(rec.Foreign, 0)); rec.Foreign != 0 && since < standBackDuration && !asked {
		r.Skipped = fmt.Sprintf("somebody else moved the safe points %v ago", since.Round(time.Second))
		return nil
	}
	now, err := w.o.Timestamp(ctx)
	if err != nil {
		return fmt.Errorf("get a timestamp: %w", err)
	}
	if ms := uint64(lifeTime.Milliseconds()); now>>18 > ms {
		r.Target = (now>>18 - ms) << 18
	}
	r.Target = max(r.Target, st.TxnSafePoint) // a longer life time doesn't bring versions back
	if rec.Target < r.Target {
		rec.Target = r.Target // before it is used: a leader that dies has still said whose it was
		if err := w.remember(ctx, r.Keyspace, rec); err != nil {
			return err
		}
	}
	if _, r.TxnSafePoint, r.Blocker, err = w.o.State.AdvanceTxn(ctx, r.Keyspace, r.Target); err != nil {
		return fmt.Errorf("advance the transaction safe point: %w", err)
	}
	if r.TxnSafePoint <= st.GCSafePoint {
		return nil // held back where it was; its locks were resolved then
	}
	if err := w.resolve(ctx, r, ranges); err != nil {
		return fmt.Errorf("resolve locks below %d: %w", r.TxnSafePoint, err)
	}
	if _, r.GCSafePoint, err = w.o.State.AdvanceGC(ctx, r.Keyspace, r.TxnSafePoint); err != nil && !errors.Is(err, gcstate.ErrDecreasing) {
		return fmt.Errorf("advance the GC safe point: %w", err)
	}
	return nil
}

// resolve ends the transactions below the safe point. The one that began at it
// goes on: it may be the one whose barrier is there.
func (w *Worker) resolve(ctx context.Context, r *Round, ranges []Range) error {
	if w.resolver == nil {
		resolver, err := w.o.NewResolver(ctx)
		if err != nil {
			return err
		}
		w.resolver = resolver
	}
	got, err := w.resolver.ResolveLocks(ctx, r.TxnSafePoint-1, ranges)
	r.Regions, r.Locks = got.Regions, got.Locks
	return err
}

// recall loads what is remembered, and notes safe points that are not our own.
func (w *Worker) recall(ctx context.Context, ks uint32, st gcstate.State) (record, error) {
	var rec record
	raw, ok, err := w.o.Storage.Load(ctx, recordKey(ks))
	if err != nil {
		return rec, err
	}
	if ok {
		if err := json.Unmarshal(raw, &rec); err != nil {
			return rec, fmt.Errorf("pd: the record of garbage collection of keyspace %d is damaged: %w", ks, err)
		}
	}
	if newest := max(st.TxnSafePoint, st.GCSafePoint); newest > rec.Target {
		rec.Target, rec.Foreign = newest, w.o.Now().Unix()
		return rec, w.remember(ctx, ks, rec)
	}
	return rec, nil
}

func (w *Worker) remember(ctx context.Context, ks uint32, rec record) error {
	raw, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	return w.o.Storage.Save(ctx, recordKey(ks), raw)
}

func recordKey(ks uint32) string { return fmt.Sprintf("record/%d", ks) }

// Ranges are the keys that a keyspace's safe points are for; own are the
// keyspaces that have safe points of their own. Keys of a transactional keyspace
// begin with 'x' and its id in three bytes.
func Ranges(ks uint32, own []uint32) []Range {
	prefix := func(id uint32) []byte { return []byte{'x', byte(id >> 16), byte(id >> 8), byte(id)} }
	after := func(id uint32) []byte {
		if id == 1<<24-1 {
			return []byte{'x' + 1}
		}
		return prefix(id + 1)
	}
	if ks != gcstate.NullKeyspace {
		return []Range{{prefix(ks), after(ks)}}
	}
	var out []Range
	var from []byte
	for _, id := range sorted(own) {
		if to := prefix(id); string(from) < string(to) {
			out = append(out, Range{from, to})
		}
		from = after(id)
	}
	return append(out, Range{from, nil})
}
