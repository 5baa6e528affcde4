package placement

import (
	"math"
	"math/bits"
	"time"

	"github.com/pingcap/kvproto/pkg/metapb"

	"github.com/copradb/copra/pd/core"
)

// isolationBase is how much more a difference in a wider label counts than one
// in the next narrower: more than all pairs of peers together.
const isolationBase = 200

// Stores is where Fit finds stores.
type Stores interface{ Get(id uint64) *core.Store }

// Fit is how the peers of a region meet the rules of its range.
type Fit struct {
	// Rules has one entry a rule; none where the region crosses a segment's end.
	Rules []RuleFit `json:"rule-fits"`
	// Orphans are the peers that no rule takes.
	Orphans []*metapb.Peer `json:"orphan-peers"`

	// Room for the usual case, so that a fit is one allocation.
	fewRules [2]RuleFit
	fewPeers [5]*metapb.Peer
}

// RuleFit is how some peers meet one rule.
type RuleFit struct {
	Rule  *Rule          `json:"rule"`
	Peers []*metapb.Peer `json:"peers"`
	// WrongRole are those of Peers that should be something else.
	WrongRole []*metapb.Peer `json:"peers-different-role"`
	// GivenUp is how many of Peers are on stores that are leaving or down.
	GivenUp int `json:"peers-given-up"`
	// Isolation grows with the distance between the peers.
	Isolation float64 `json:"isolation-score"`
}

// Satisfied reports whether every rule has its peers and no peer is left over.
func (f *Fit) Satisfied() bool {
	for i := range f.Rules {
		if rf := &f.Rules[i]; len(rf.Peers) != rf.Rule.Count || len(rf.WrongRole) > 0 {
			return false
		}
	}
	return len(f.Rules) > 0 && len(f.Orphans) == 0
}

// Of returns the entry that holds the peer, or nil.
func (f *Fit) Of(peerID uint64) *RuleFit {
	for i := range f.Rules {
		for _, p := range f.Rules[i].Peers {
			if p.Id == peerID {
				return &f.Rules[i]
			}
		}
	}
	return nil
}

// Compare is positive where f is better than g: a fit of the same rules.
func (f *Fit) Compare(g *Fit) int {
	if len(f.Rules) != len(g.Rules) {
		return len(f.Rules) - len(g.Rules)
	}
	for i := range f.Rules {
		if c := f.Rules[i].score().compare(g.Rules[i].score()); c != 0 {
			return c
		}
	}
	return len(g.Orphans) - len(f.Orphans)
}

func (rf *RuleFit) score() score {
	return score{len(rf.Peers), rf.GivenUp, len(rf.WrongRole), rf.Isolation}
}

// score orders the choices for one rule.
type score struct {
	peers, givenUp, wrongRole int
	isolation                 float64
}

func (a score) compare(b score) int {
	switch {
	case a.peers != b.peers:
		return a.peers - b.peers
	case a.givenUp != b.givenUp:
		return b.givenUp - a.givenUp
	case a.wrongRole != b.wrongRole:
		return b.wrongRole - a.wrongRole
	case a.isolation > b.isolation:
		return 1
	case a.isolation < b.isolation:
		return -1
	}
	return 0
}

// When is what decides whether a peer is given up.
type When struct {
	Now time.Time
	// MaxDown is how long a store or peer may be silent.
	MaxDown time.Duration
}

type fitPeer struct {
	peer                    *metapb.Peer
	store                   *core.Store
	rank                    int // 2 healthy, 1 pending, 0 down
	leads, learner, givenUp bool
}

// fitter searches the best choice of peers, rule by rule.
type fitter struct {
	n     int
	peers [RulePeersMax]fitPeer
	rest  []*metapb.Peer // beyond what is searched: orphans
	rules []*Rule

	cur, best         [segmentRulesMax]score
	curMask, bestMask [segmentRulesMax]uint32
	found, perfect    bool
}

// FitRules fits a region to rules. Peers beyond RulePeersMax, those in the worst
// state, are orphans.
func FitRules(stores Stores, r *core.Region, rules []*Rule, when When) *Fit {
	var w fitter
	w.rules = rules[:min(len(rules), segmentRulesMax)]
	w.load(stores, r, when)
	if len(w.rules) > 0 {
		w.search(0, 0)
	}
	return w.result()
}

func (w *fitter) load(stores Stores, r *core.Region, when When) {
	whole := len(r.Down) == 0 && len(r.Pending) == 0
	for _, p := range r.Meta.Peers {
		fp := fitPeer{
			peer: p, store: stores.Get(p.StoreId), rank: 2,
			leads:   r.Leader != nil && r.Leader.Id == p.Id,
			learner: p.Role == metapb.PeerRole_Learner || p.Role == metapb.PeerRole_DemotingVoter,
		}
		var down time.Duration
		if !whole {
			down = time.Duration(r.DownSeconds(p.Id)) * time.Second
			if down > 0 {
				fp.rank = 0
			} else if r.IsPending(p.Id) {
				fp.rank = 1
			}
		}
		fp.givenUp = fp.store == nil || !fp.store.IsUp() || down >= when.MaxDown ||
			fp.store.SilentFor(when.Now) >= when.MaxDown
		w.insert(fp)
	}
}

// insert keeps the peers in the order of their state and id, so that the result
// depends on nothing else.
func (w *fitter) insert(p fitPeer) {
	i := w.n
	for i > 0 && before(&p, &w.peers[i-1]) {
		i--
	}
	if w.n == len(w.peers) {
		if i == w.n {
			w.rest = append(w.rest, p.peer)
			return
		}
		w.rest = append(w.rest, w.peers[w.n-1].peer)
		w.n--
	}
	copy(w.peers[i+1:w.n+1], w.peers[i:w.n])
	w.peers[i] = p
	w.n++
}

func before(a, b *fitPeer) bool {
	return a.rank > b.rank || a.rank == b.rank && a.peer.Id < b.peer.Id
}

// search tries all choices for rule i and those after it among the peers that
// are not used, and stops at one that can't be better.
func (w *fitter) search(i int, used uint32) {
	if i == len(w.rules) {
		w.leaf(used)
		return
	}
	var candidates [RulePeersMax]int
	n := 0
	for k := range w.n {
		if used&(1<<k) == 0 && MatchStore(w.peers[k].store, w.rules[i].LabelConstraints) {
			candidates[n] = k
			n++
		}
	}
	count := min(n, w.rules[i].Count)
	for pick := uint32(1)<<count - 1; pick < 1<<n && !w.perfect; pick = nextPick(pick) {
		mask := uint32(0)
		for b := pick; b != 0; b &= b - 1 {
			mask |= 1 << candidates[bits.TrailingZeros32(b)]
		}
		w.cur[i], w.curMask[i] = w.score(w.rules[i], mask), mask
		if !w.found || w.comparePrefix(i) >= 0 {
			w.search(i+1, used|mask)
		}
		if pick == 0 {
			break
		}
	}
}

// nextPick is the next larger number with as many bits set.
func nextPick(v uint32) uint32 {
	if v == 0 {
		return math.MaxUint32
	}
	c := v & -v
	r := v + c
	return (r^v)>>2/c | r
}

// comparePrefix compares the present choice up to rule i with the best one.
func (w *fitter) comparePrefix(i int) int {
	for k := 0; k <= i; k++ {
		if c := w.cur[k].compare(w.best[k]); c != 0 {
			return c
		}
	}
	return 0
}

func (w *fitter) leaf(used uint32) {
	if w.found && w.comparePrefix(len(w.rules)-1) <= 0 {
		return
	}
	w.found, w.best, w.bestMask = true, w.cur, w.curMask
	w.perfect = true
	for k, rule := range w.rules {
		s := &w.cur[k]
		if s.peers < rule.Count || s.givenUp > 0 || s.wrongRole > 0 || s.isolation < maxIsolation(rule) {
			w.perfect = false
		}
	}
	// A healthy peer that is left over might be better than one that is not.
	for k := range w.n {
		if used&(1<<k) != 0 && w.peers[k].rank < 2 && w.n > bits.OnesCount32(used) {
			w.perfect = false
		}
	}
}

func (w *fitter) score(rule *Rule, mask uint32) score {
	var s score
	for b := mask; b != 0; b &= b - 1 {
		i := bits.TrailingZeros32(b)
		p := &w.peers[i]
		s.peers++
		if p.givenUp {
			s.givenUp++
		}
		if !p.hasRole(rule.Role) {
			s.wrongRole++
		}
		if len(rule.LocationLabels) == 0 {
			continue
		}
		for o := b & (b - 1); o != 0; o &= o - 1 {
			s.isolation += distance(p.store, w.peers[bits.TrailingZeros32(o)].store, rule.LocationLabels)
		}
	}
	return s
}

func (p *fitPeer) hasRole(role Role) bool {
	switch role {
	case Voter:
		return !p.learner
	case Leader:
		return p.leads
	case Follower:
		return !p.learner && !p.leads
	}
	return p.learner
}

func (w *fitter) result() *Fit {
	f := &Fit{}
	used := uint32(0)
	switch {
	case len(w.rules) > len(f.fewRules):
		f.Rules = make([]RuleFit, len(w.rules))
	case len(w.rules) > 0:
		f.Rules = f.fewRules[:len(w.rules)]
	}
	all := f.fewPeers[:0] // of all rules
	for k, rule := range w.rules {
		rf := &f.Rules[k]
		rf.Rule, rf.Isolation, rf.GivenUp = rule, w.best[k].isolation, w.best[k].givenUp
		from := len(all)
		for b := w.bestMask[k]; b != 0; b &= b - 1 {
			p := &w.peers[bits.TrailingZeros32(b)]
			all = append(all, p.peer)
			if !p.hasRole(rule.Role) {
				rf.WrongRole = append(rf.WrongRole, p.peer)
			}
		}
		rf.Peers = all[from:len(all):len(all)]
		used |= w.bestMask[k]
	}
	for i := range w.n {
		if used&(1<<i) == 0 {
			f.Orphans = append(f.Orphans, w.peers[i].peer)
		}
	}
	f.Orphans = append(f.Orphans, w.rest...)
	return f
}

// distance is by how much two stores are apart.
func distance(a, b *core.Store, labels []string) float64 {
	i := a.CompareLocation(b, labels)
	if i < 0 {
		return 0
	}
	d := 1.0
	for range len(labels) - 1 - i {
		d *= isolationBase
	}
	return d
}

// Isolation is how far a set of stores is apart, all pairs added.
func Isolation(stores []*core.Store, labels []string) float64 {
	sum := 0.0
	for i, a := range stores {
		for _, b := range stores[i+1:] {
			sum += distance(a, b, labels)
		}
	}
	return sum
}

// maxIsolation is that of peers which differ in the widest label.
func maxIsolation(rule *Rule) float64 {
	if len(rule.LocationLabels) == 0 {
		return 0
	}
	d := float64(rule.Count * (rule.Count - 1) / 2)
	for range len(rule.LocationLabels) - 1 {
		d *= isolationBase
	}
	return d
}

// FullyIsolated reports whether the peers can't be further apart.
func (rf *RuleFit) FullyIsolated() bool {
	return len(rf.Peers) == rf.Rule.Count && rf.Isolation >= maxIsolation(rf.Rule)
}
