package resolvedts

import (
	"context"
	"sync"
	"time"

	"github.com/copradb/copra/raftstore"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"
)

const (
	// CheckRegionsMax is how many regions one CheckLeader may name.
	CheckRegionsMax = 8192
	// checkTimeoutMax bounds a CheckLeader; the interval does, too.
	checkTimeoutMax = 5 * time.Second
	// checkCallsMax bounds the CheckLeaders to one store in one pass.
	checkCallsMax = 64
)

// leading is a region of a pass.
type leading struct {
	raftstore.LeaderState
	t      *tracker
	agreed []uint64 // stores, this one included
	sure   bool
}

// pass advances all regions that this store leads, and returns how many these
// are.
func (m *Manager) pass(ctx context.Context) int {
	ts, err := m.o.Timestamp(ctx)
	if err != nil {
		if ctx.Err() == nil {
			m.o.Logger.Warn("resolved timestamps do not advance: no timestamp from PD", "err", err)
		}
		return 0
	}
	floor := m.o.Txn.ResolveFloor(ts)
	regions := m.reconcile()
	m.confirm(ctx, regions)
	least := ts
	for _, r := range regions {
		if !r.sure {
			m.metrics.failed.WithLabelValues("not_leader").Inc()
			least = min(least, m.o.Regions.SafeTS(r.Region.GetId()))
			continue
		}
		st, held, ok := r.t.resolve(floor, m.o.Txn.TxnStatus)
		if held {
			m.metrics.failed.WithLabelValues("lock").Inc()
		}
		if ok {
			m.o.Regions.LearnReadState(r.Region.GetId(), st)
			least = min(least, st.SafeTS)
		}
	}
	m.metrics.observe(least, m)
	if m.o.Report != nil {
		m.o.Report(ctx, m.o.Regions.MinSafeTS(nil, nil))
	}
	return len(regions)
}

// reconcile gives every region that this store leads a tracker, ends those of
// others, and returns those that are ready.
func (m *Manager) reconcile() map[uint64]*leading {
	now := time.Now()
	ready, seen := map[uint64]*leading{}, map[uint64]bool{}
	for _, l := range m.o.Regions.Leaders() {
		id := l.Region.GetId()
		seen[id] = true
		t := m.tracker(id)
		if t != nil && (!t.matches(&l) || t.wantsRestart(now)) {
			m.trackers.Delete(id)
			t.stop()
			t = nil
		}
		if t == nil {
			t = newTracker(&l, &m.quota)
			m.trackers.Store(id, t)
		}
		if _, ok := t.resolved(); ok {
			ready[id] = &leading{LeaderState: l, t: t, agreed: []uint64{m.o.StoreID}}
			continue
		}
		m.wantScan(l, t)
	}
	m.trackers.Range(func(k, v any) bool {
		if !seen[k.(uint64)] {
			m.trackers.Delete(k)
			v.(*tracker).stop()
		}
		return true
	})
	return ready
}

// info is what a CheckLeader says of a region. The state that was resolved
// last goes along.
func (r *leading) info() *kvrpcpb.LeaderInfo {
	info := &kvrpcpb.LeaderInfo{RegionId: r.Region.GetId(), PeerId: r.PeerID, Term: r.Term, RegionEpoch: r.Region.GetRegionEpoch()}
	if last, _ := r.t.resolved(); last.SafeTS != 0 {
		info.ReadState = &kvrpcpb.ReadState{AppliedIndex: last.Index, SafeTs: last.SafeTS}
	}
	return info
}

// confirm asks the other stores, until every region has its quorum or time is
// up. Stores that are slow still get their read states: their calls go on
// behind the pass.
func (m *Manager) confirm(ctx context.Context, regions map[uint64]*leading) {
	byStore := map[uint64][]*kvrpcpb.LeaderInfo{}
	unsure := 0
	for _, r := range regions {
		if r.sure = quorum(r.Region, r.agreed); !r.sure {
			unsure++
		}
		info := r.info()
		for _, p := range r.Region.GetPeers() {
			if p.GetStoreId() != m.o.StoreID {
				byStore[p.GetStoreId()] = append(byStore[p.GetStoreId()], info)
			}
		}
	}
	answers := make(chan answer, len(byStore)*checkCallsMax)
	var calls sync.WaitGroup
	for store, infos := range byStore {
		if m.claim(store) {
			calls.Add(1)
			m.wg.Go(func() {
				defer calls.Done()
				defer m.unclaim(store)
				m.ask(store, infos, answers)
			})
		}
	}
	done := make(chan struct{})
	m.wg.Go(func() { calls.Wait(); close(done) })
	timer := time.NewTimer(min(checkTimeoutMax, max(m.o.Interval, time.Second)))
	defer timer.Stop()
	for unsure > 0 {
		select {
		case a := <-answers:
			unsure -= take(a, regions)
			continue
		default:
		}
		select {
		case a := <-answers:
			unsure -= take(a, regions)
		case <-done:
			for len(answers) > 0 {
				take(<-answers, regions)
			}
			return
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

type answer struct {
	store   uint64
	regions []uint64
}

// take counts an answer in, and returns how many regions have become sure.
func take(a answer, regions map[uint64]*leading) (sure int) {
	for _, id := range a.regions {
		r := regions[id]
		if r == nil || r.sure {
			continue
		}
		r.agreed = append(r.agreed, a.store)
		if r.sure = quorum(r.Region, r.agreed); r.sure {
			sure++
		}
	}
	return sure
}

// ask sends a store its infos, in pieces.
func (m *Manager) ask(store uint64, infos []*kvrpcpb.LeaderInfo, answers chan<- answer) {
	ctx, cancel := context.WithTimeout(m.ctx, checkTimeoutMax)
	defer cancel()
	start := time.Now()
	for i := 0; i < checkCallsMax && len(infos) > 0; i++ {
		n := min(len(infos), CheckRegionsMax)
		req := &kvrpcpb.CheckLeaderRequest{Regions: infos[:n]}
		infos = infos[n:]
		m.metrics.items.Observe(float64(n))
		resp, err := m.o.CheckLeader(ctx, store, req)
		if err != nil {
			if m.ctx.Err() == nil {
				m.o.Logger.Debug("check leader failed", "to", store, "err", err)
			}
			m.metrics.failed.WithLabelValues("check_leader").Inc()
			return
		}
		answers <- answer{store, resp.GetRegions()}
	}
	m.metrics.check.Observe(time.Since(start).Seconds())
}

// claim takes the only slot for calls to a store: one that hangs must not
// collect them.
func (m *Manager) claim(store uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.asking[store] {
		return false
	}
	m.asking[store] = true
	return true
}

func (m *Manager) unclaim(store uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.asking, store)
}

// quorum reports whether the stores have a majority of the region's voters, of
// both configurations while it changes its members.
func quorum(region *metapb.Region, stores []uint64) bool {
	var voters, votes [2]int // incoming, outgoing
	for _, p := range region.GetPeers() {
		in, out := false, false
		switch p.GetRole() {
		case metapb.PeerRole_Voter:
			in, out = true, true
		case metapb.PeerRole_IncomingVoter:
			in = true
		case metapb.PeerRole_DemotingVoter:
			out = true
		}
		for i, counts := range [2]bool{in, out} {
			if !counts {
				continue
			}
			voters[i]++
			for _, s := range stores {
				if s == p.GetStoreId() {
					votes[i]++
					break
				}
			}
		}
	}
	return votes[0] > voters[0]/2 && votes[1] > voters[1]/2
}
