package isolation_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/copradb/copra/internal/isolation"
	"github.com/stretchr/testify/require"
)

// model is a database that is right by construction, unless it is told not to
// be: multi-version, with timestamps, one step of a transaction at a time.
type model struct {
	rng      *rand.Rand
	clock    int64
	versions map[string][]version // by commit timestamp
	next     int64                // value
	flaw     flaw
	history  []isolation.Txn
}

type version struct {
	commit int64
	list   []int64
}

type flaw int

const (
	none         flaw = iota
	serial            // no flaw: one transaction at a time
	noConflicts       // two transactions may change the same key
	readsNewest       // reads see what is newest, not the snapshot
	readsDirty        // reads see what isn't committed
	keepsAborted      // aborted writes stay
	staleReads        // some snapshots are older than they should be
	halfCommits       // some commits leave a key out
	flaws
)

type open struct {
	isolation.Txn
	start  int64
	writes map[string][]int64
	left   int
}

const (
	modelKeys  = 4
	modelSeeds = 60
)

func newModel(seed uint64, f flaw) *model {
	return &model{rng: rand.New(rand.NewPCG(seed, uint64(f))), versions: map[string][]version{}, flaw: f}
}

func (m *model) now() int64 { m.clock++; return m.clock }

// run interleaves the steps of some sessions.
func (m *model) run(txns int) []isolation.Txn {
	sessions := make([]*open, 5)
	if m.flaw == serial {
		sessions = sessions[:1]
	}
	for len(m.history) < txns {
		n := m.rng.IntN(len(sessions))
		t := sessions[n]
		switch {
		case t == nil:
			now := m.now()
			sessions[n] = &open{Txn: isolation.Txn{Process: n, Begin: now}, start: now, writes: map[string][]int64{}, left: 1 + m.rng.IntN(5)}
			if m.flaw == staleReads && m.rng.IntN(10) == 0 {
				sessions[n].start = max(0, now-40)
			}
		case t.left > 0:
			t.left--
			m.step(t)
		default:
			m.end(t)
			sessions[n] = nil
		}
	}
	// A session that sees everything at the end.
	last := &open{Txn: isolation.Txn{Process: 99, Begin: m.now()}, start: m.clock, writes: map[string][]int64{}}
	for i := range modelKeys {
		last.Ops = append(last.Ops, isolation.Read(key(i), m.read(last, key(i))...))
	}
	m.end(last)
	return m.history
}

func key(i int) string { return fmt.Sprint("k", i) }

func (m *model) step(t *open) {
	k := key(m.rng.IntN(modelKeys))
	if m.rng.IntN(2) == 0 {
		t.Ops = append(t.Ops, isolation.Read(k, m.read(t, k)...))
		return
	}
	if m.rng.IntN(2) == 0 { // as clients do who have no append
		t.Ops = append(t.Ops, isolation.Read(k, m.read(t, k)...))
	}
	m.next++
	t.Ops = append(t.Ops, isolation.Append(k, m.next))
	t.writes[k] = append(t.writes[k], m.next)
	if m.flaw == readsDirty {
		m.put(k, m.now(), []int64{m.next})
	}
}

func (m *model) at(k string, ts int64) []int64 {
	v := m.versions[k]
	for i := len(v) - 1; i >= 0; i-- {
		if v[i].commit <= ts {
			return v[i].list
		}
	}
	return nil
}

func (m *model) read(t *open, k string) []int64 {
	ts := t.start
	if m.flaw == readsNewest || m.flaw == readsDirty {
		ts = m.clock
	}
	list := slices.Clone(m.at(k, ts))
	if m.flaw != readsDirty {
		list = append(list, t.writes[k]...)
	}
	return list
}

// put appends to the newest version.
func (m *model) put(k string, ts int64, values []int64) {
	list := append(slices.Clone(m.at(k, ts)), values...)
	m.versions[k] = append(m.versions[k], version{ts, list})
}

func (m *model) end(t *open) {
	t.Outcome = isolation.Committed
	for k := range t.writes {
		v := m.versions[k]
		conflict := m.flaw != readsDirty && len(v) > 0 && v[len(v)-1].commit > t.start
		if (conflict && m.flaw != noConflicts) || m.rng.IntN(20) == 0 {
			t.Outcome = isolation.Aborted
		}
	}
	commit := m.now()
	if (t.Outcome == isolation.Committed || (m.flaw == keepsAborted && m.rng.IntN(3) == 0)) && m.flaw != readsDirty {
		for k, values := range t.writes {
			if m.flaw != halfCommits || m.rng.IntN(10) > 0 {
				m.put(k, commit, values)
			}
		}
	}
	t.End = m.now()
	if len(t.writes) > 0 && m.rng.IntN(10) == 0 {
		t.Outcome = isolation.Unknown
	}
	m.history = append(m.history, t.Txn)
}

// Valid histories pass, and whatever is broken is found.
func TestModel(t *testing.T) {
	found, broken := map[flaw]map[isolation.Kind]int{}, map[flaw]int{}
	for f := none; f < flaws; f++ {
		found[f] = map[isolation.Kind]int{}
		for seed := range uint64(modelSeeds) {
			report := isolation.Check(newModel(seed, f).run(120))
			switch f {
			case none:
				require.NoError(t, report.Err(isolation.StrongSnapshotIsolation), "seed %d", seed)
			case serial:
				require.NoError(t, report.Err(isolation.StrictSerializable), "seed %d", seed)
			case staleReads:
				require.NoError(t, report.Err(isolation.SnapshotIsolation), "seed %d: of another time, but snapshots", seed)
				fallthrough
			default:
				if report.Err(isolation.StrongSnapshotIsolation) != nil {
					broken[f]++
				}
			}
			for _, k := range report.Kinds() {
				found[f][k]++
			}
			require.Positive(t, report.WW+report.WR+report.RW)
		}
		t.Logf("flaw %d: %v", f, found[f])
	}
	for f, kinds := range map[flaw][]isolation.Kind{
		none:         {isolation.G2Item},
		noConflicts:  {isolation.LostUpdate, isolation.GSingle},
		readsNewest:  {isolation.GSingle, isolation.Internal},
		readsDirty:   {isolation.G1a, isolation.G1b, isolation.G1c, isolation.G0, isolation.DirtyUpdate},
		keepsAborted: {isolation.G1a, isolation.DirtyUpdate},
		staleReads:   {isolation.GSingle.Realtime()},
		halfCommits:  {isolation.GSingle},
	} {
		if f > serial {
			require.Greater(t, broken[f], modelSeeds/2, "flaw %d", f)
		}
		for _, k := range kinds {
			require.Positive(t, found[f][k], "flaw %d never showed as %s: %v", f, k, found[f])
		}
	}
}

// One change of one read of a valid history is found, if it changes anything
// that others depend on.
func TestMutations(t *testing.T) {
	missed := 0
	const count = 300
	for seed := range uint64(count) {
		history := newModel(seed, none).run(150)
		rng := rand.New(rand.NewPCG(seed, 77))
		what := mutate(rng, history)
		if isolation.Check(history).Err(isolation.StrongSnapshotIsolation) == nil {
			missed++
			t.Logf("seed %d: not found: %s", seed, what)
		}
	}
	// A read that was moved by one version, by a transaction that was open when
	// that was committed, may be that of a valid history.
	require.Less(t, missed, count/3)
}

// mutate changes one list that a committed transaction has read.
func mutate(rng *rand.Rand, history []isolation.Txn) string {
	for {
		t := &history[rng.IntN(len(history))]
		if t.Outcome != isolation.Committed || len(t.Ops) == 0 {
			continue
		}
		o := &t.Ops[rng.IntN(len(t.Ops))]
		if n := len(o.List); !o.Append && n > 1 {
			before := o.String()
			list := slices.Clone(o.List)
			switch rng.IntN(3) {
			case 0:
				list = list[:n-1-rng.IntN(n-1)]
			case 1:
				list[0], list[n-1] = list[n-1], list[0]
			default:
				list = slices.Delete(list, 0, 1)
			}
			o.List = list
			return strings.Join([]string{before, o.String()}, " became ")
		}
	}
}

// A history of the size that a soak makes is checked in seconds.
func TestLargeHistory(t *testing.T) {
	history := newModel(1, none).run(3000)
	require.NoError(t, isolation.Check(history).Err(isolation.StrongSnapshotIsolation))
}
