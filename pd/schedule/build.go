package schedule

import (
	"context"
	"fmt"
	"sort"

	"github.com/pingcap/kvproto/pkg/metapb"

	"github.com/copradb/copra/pd/core"
)

// Builder makes the steps from the peers that a region has to those that it
// should have: learners first, then one joint change of all votes, then the
// removals. At no time the region has fewer voters than the smaller of the two
// sets.
type Builder struct {
	c    *Controller
	desc string
	kind Kind
	r    *core.Region
	// target has the role that the region's peer on a store shall have.
	target   map[uint64]metapb.PeerRole
	leader   uint64 // the store that shall lead; 0: no matter
	mayLead  func(store uint64) bool
	priority Priority
	voters   int // fewer voters are refused, unless there are fewer already
	err      error
}

// Build starts from the region as it is.
func (c *Controller) Build(desc string, kind Kind, r *core.Region) *Builder {
	b := &Builder{c: c, desc: desc, kind: kind, r: r, priority: kind.priority(), target: make(map[uint64]metapb.PeerRole),
		mayLead: func(uint64) bool { return true }}
	switch {
	case r.Leader == nil:
		b.err = fmt.Errorf("region %d has no known leader", r.ID())
	case r.InJoint():
		b.err = fmt.Errorf("region %d is changing its peers", r.ID())
	}
	for _, p := range r.Meta.Peers {
		b.target[p.StoreId] = p.Role
	}
	return b
}

// AddPeer gives the region a peer on a store.
func (b *Builder) AddPeer(store uint64, role metapb.PeerRole) *Builder {
	if p := b.r.StorePeer(store); p != nil {
		b.fail("region %d has peer %d on store %d already", b.r.ID(), p.Id, store)
	}
	if b.c.cluster.Stores().Get(store) == nil {
		b.fail("there is no store %d", store)
	}
	b.target[store] = role
	return b
}

// RemovePeer takes the region's peer off a store.
func (b *Builder) RemovePeer(store uint64) *Builder {
	if b.r.StorePeer(store) == nil {
		b.fail("region %d has no peer on store %d", b.r.ID(), store)
	}
	delete(b.target, store)
	return b
}

// SetRole makes the region's peer on a store a voter or a learner.
func (b *Builder) SetRole(store uint64, role metapb.PeerRole) *Builder {
	if b.r.StorePeer(store) == nil {
		b.fail("region %d has no peer on store %d", b.r.ID(), store)
	}
	b.target[store] = role
	return b
}

// SetPeers says where the region shall have peers, and nowhere else.
func (b *Builder) SetPeers(target map[uint64]metapb.PeerRole) *Builder {
	b.target = make(map[uint64]metapb.PeerRole, len(target))
	for store, role := range target {
		if b.c.cluster.Stores().Get(store) == nil {
			b.fail("there is no store %d", store)
		}
		b.target[store] = role
	}
	return b
}

// SetLeader says which store shall lead.
func (b *Builder) SetLeader(store uint64) *Builder {
	b.leader = store
	return b
}

// MayLead limits which stores a leader that must move goes to.
func (b *Builder) MayLead(may func(store uint64) bool) *Builder {
	b.mayLead = may
	return b
}

// KeepVoters refuses a change that leaves fewer voters than n and than there are.
func (b *Builder) KeepVoters(n int) *Builder {
	b.voters = n
	return b
}

// Priority sets what the operator replaces.
func (b *Builder) Priority(p Priority) *Builder {
	b.priority = p
	return b
}

func (b *Builder) fail(format string, args ...any) {
	if b.err == nil {
		b.err = fmt.Errorf(format, args...)
	}
}

// Operator returns the operator, without steps where the region is as it should
// be. It allocates the ids of new peers.
func (b *Builder) Operator(ctx context.Context) (*Operator, error) {
	steps, err := b.steps(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s of region %d: %w", b.desc, b.r.ID(), err)
	}
	op := NewOperator(b.desc, b.kind, b.r, steps...)
	op.Priority = b.priority
	return op, nil
}

// plan is what changes.
type plan struct {
	fresh, promote, demote, remove []PeerAt // fresh are promoted, too, where they shall vote
	keep                           []uint64 // stores whose peers go on voting
	waiting                        []PeerAt // learners that are there and have to catch up
}

func (b *Builder) plan(ctx context.Context) (*plan, error) {
	if b.err != nil {
		return nil, b.err
	}
	p := &plan{}
	voters := 0
	stores := make([]uint64, 0, len(b.target))
	for store, role := range b.target {
		stores = append(stores, store)
		voters += int(count(role == metapb.PeerRole_Voter))
	}
	if least := min(b.voters, len(b.r.Voters())); voters < max(least, 1) {
		return nil, fmt.Errorf("it would have %d voters left, fewer than %d", voters, max(least, 1))
	}
	if b.leader != 0 && b.target[b.leader] != metapb.PeerRole_Voter {
		return nil, fmt.Errorf("store %d has no voter that could lead", b.leader)
	}
	if _, ok := b.target[b.leader]; b.leader != 0 && !ok {
		return nil, fmt.Errorf("store %d has no peer that could lead", b.leader)
	}
	sort.Slice(stores, func(i, j int) bool { return stores[i] < stores[j] })
	for _, store := range stores {
		if err := b.planStore(ctx, p, store); err != nil {
			return nil, err
		}
	}
	for _, peer := range b.r.Meta.Peers {
		at := PeerAt{peer.StoreId, peer.Id}
		role, stays := b.target[peer.StoreId]
		if isVoter(peer) && (!stays || role == metapb.PeerRole_Learner) {
			p.demote = append(p.demote, at)
		}
		if !stays {
			p.remove = append(p.remove, at)
		}
	}
	return p, nil
}

func (b *Builder) planStore(ctx context.Context, p *plan, store uint64) error {
	have, votes := b.r.StorePeer(store), b.target[store] == metapb.PeerRole_Voter
	if have == nil {
		id, err := b.c.cluster.AllocID(ctx)
		if err != nil {
			return fmt.Errorf("an id for the new peer: %w", err)
		}
		at := PeerAt{store, id}
		p.fresh = append(p.fresh, at)
		if votes {
			p.promote = append(p.promote, at)
		}
		return nil
	}
	at := PeerAt{store, have.Id}
	switch {
	case votes && isVoter(have):
		p.keep = append(p.keep, store)
	case votes:
		p.promote = append(p.promote, at)
		p.waiting = append(p.waiting, at)
	}
	return nil
}

func (b *Builder) steps(ctx context.Context) ([]Step, error) {
	p, err := b.plan(ctx)
	if err != nil {
		return nil, err
	}
	var steps []Step
	for _, at := range append(p.fresh, p.waiting...) {
		steps = append(steps, AddLearner(at))
	}
	leads := b.r.Leader.StoreId
	final, err := b.finalLeader(p)
	if err != nil {
		return nil, err
	}
	if has(p.demote, leads) {
		// A store does not demote the peer that leads.
		switch {
		case !has(p.promote, final): // it votes already
			steps, leads = append(steps, TransferLeader{To: final}), final
		default:
			if via := b.healthyKept(p); via != 0 {
				steps, leads = append(steps, TransferLeader{To: via}), via
				break
			}
			// Nobody goes on voting: the new leader votes beside the old ones
			// for a while.
			at := take(&p.promote, final)
			steps, leads = append(steps, Promote(at), TransferLeader{To: final}), final
		}
	}
	steps = append(steps, votes(p.promote, p.demote, p.remove)...)
	if leads != final {
		steps = append(steps, TransferLeader{To: final})
	}
	for _, at := range p.remove {
		steps = append(steps, Remove(at))
	}
	return steps, nil
}

// votes changes who votes: one joint change, or a plain one where that is
// enough. A voter that goes for good is demoted by its removal.
func votes(promote, demote, remove []PeerAt) []Step {
	switch {
	case len(promote)+len(demote) == 0:
		return nil
	case len(promote) == 1 && len(demote) == 0:
		return []Step{Promote(promote[0])}
	case len(promote) == 0 && len(demote) == 1 && len(remove) > 0 && has(remove, demote[0].Store):
		return nil
	}
	return []Step{EnterJoint{promote, demote}, LeaveJoint{Changes: len(promote) + len(demote)}}
}

// finalLeader is the store that leads in the end.
func (b *Builder) finalLeader(p *plan) (uint64, error) {
	if b.leader != 0 {
		return b.leader, nil
	}
	if now := b.r.Leader.StoreId; !has(p.demote, now) {
		return now, nil
	}
	if s := b.healthyKept(p); s != 0 {
		return s, nil
	}
	for _, at := range p.promote {
		if b.mayLead(at.Store) {
			return at.Store, nil
		}
	}
	return 0, fmt.Errorf("no healthy voter is left that may lead")
}

// healthyKept is a store whose peer votes, goes on voting, is well and may
// lead; 0 where there is none.
func (b *Builder) healthyKept(p *plan) uint64 {
	// In the order of the region's peers, so that repeated plans agree.
	for _, peer := range b.r.Meta.Peers {
		for _, store := range p.keep {
			if peer.StoreId == store && b.r.Healthy(peer.Id) && b.mayLead(store) {
				return store
			}
		}
	}
	return 0
}

func has(list []PeerAt, store uint64) bool {
	for _, at := range list {
		if at.Store == store {
			return true
		}
	}
	return false
}

func take(list *[]PeerAt, store uint64) PeerAt {
	for i, at := range *list {
		if at.Store == store {
			*list = append((*list)[:i:i], (*list)[i+1:]...)
			return at
		}
	}
	panic(fmt.Sprintf("pd/schedule: store %d is not among those that change", store))
}

// otherVoter is a healthy voter but the one given, or nil.
func otherVoter(r *core.Region, but uint64) *metapb.Peer {
	for _, p := range r.Voters() {
		if p.Id != but && r.Healthy(p.Id) {
			return p
		}
	}
	return nil
}

// replace moves a peer, with its role, to another store.
func (c *Controller) replace(ctx context.Context, desc string, kind Kind, r *core.Region, old *metapb.Peer, to *core.Store) (*Operator, error) {
	return c.Build(desc, kind, r).RemovePeer(old.StoreId).AddPeer(to.ID(), old.Role).
		MayLead(c.leaderPlaces(r)).Operator(ctx)
}
