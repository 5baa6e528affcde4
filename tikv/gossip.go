package tikv

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/copradb/copra/internal/gossip"
	"github.com/copradb/copra/internal/kv"
	"github.com/pingcap/kvproto/pkg/errorpb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
)

const (
	// peersFile has the addresses that the store found others at, so that it
	// finds them again without PD.
	peersFile = "PEERS"
	// peersEvery is how often PD is asked where the stores are.
	peersEvery   = 30 * time.Second
	peersTimeout = 5 * time.Second
	// tellDeadEvery is how often the raftstore is told who is dead.
	tellDeadEvery = 500 * time.Millisecond
	// peersMax is how many addresses are remembered.
	peersMax = 4096
)

// peerAddresses is the content of peersFile.
type peerAddresses struct {
	Addresses []string `json:"addresses"`
}

// startGossip makes the store part of the gossip.
func (n *Node) startGossip(svc *gossip.Service) error {
	var known peerAddresses
	if _, err := n.readJSON(peersFile, &known); err != nil {
		n.log.Warn("the addresses of other stores are not read; PD will tell them", "err", err)
	}
	n.seeds.Store(&known.Addresses)
	g, err := gossip.Start(gossip.Options{
		ClusterID: n.clusterID, Kind: gossip.KindStore, ID: n.storeID, Address: n.addr, Service: svc,
		Status: gossip.Status{SlowScore: slowScoreHealthy}, Seeds: n.gossipSeeds, OnChange: n.onGossip,
		DialOptions: n.cfg.DialOptions, Logger: n.log, Registerer: n.cfg.Registerer,
	})
	if err != nil {
		return err
	}
	n.gossip.Store(g)
	n.onStop(g.Close)
	n.wg.Go(n.refreshPeers)
	n.wg.Go(n.tellDead)
	n.wg.Go(n.tellHealth)
	return nil
}

// Gossip is this store's part in the gossip, nil before it takes part.
func (n *Node) Gossip() *gossip.Node { return n.gossip.Load() }

func (n *Node) gossipSeeds() []string {
	return append(n.pd.Endpoints(), *n.seeds.Load()...)
}

// onGossip passes on who lives.
func (n *Node) onGossip(e gossip.Event) {
	if e.Member.Kind != gossip.KindStore {
		return
	}
	switch e.Type {
	case gossip.EventAlive:
		n.regions.OnStoreLiveness(e.Member.ID, true)
	case gossip.EventDead:
		n.regions.OnStoreLiveness(e.Member.ID, false)
	}
}

// tellDead says again who is dead, until the node stops: the raftstore does not
// believe it of a store that it has just heard from.
func (n *Node) tellDead() {
	ticker := time.NewTicker(tellDeadEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-n.ctx.Done():
			return
		}
		for _, m := range n.gossip.Load().Members() {
			if m.Kind == gossip.KindStore && !m.Alive {
				n.regions.OnStoreLiveness(m.ID, false)
			}
		}
	}
}

// refreshPeers keeps the addresses of other stores, and the file that has them,
// up to date until the node stops.
func (n *Node) refreshPeers() {
	ticker := time.NewTicker(peersEvery)
	defer ticker.Stop()
	for {
		if err := n.refreshPeersOnce(); err != nil && n.ctx.Err() == nil {
			n.log.Warn("the addresses of other stores were not refreshed", "err", err)
		}
		select {
		case <-ticker.C:
		case <-n.ctx.Done():
			return
		}
	}
}

func (n *Node) refreshPeersOnce() error {
	ctx, cancel := context.WithTimeout(n.ctx, peersTimeout)
	defer cancel()
	stores, err := n.pd.GetAllStores(ctx)
	if err != nil {
		return err
	}
	addrs := n.pd.Endpoints()
	for _, s := range stores {
		if s.GetId() != n.storeID && s.GetAddress() != "" {
			addrs = append(addrs, s.GetAddress())
		}
	}
	slices.Sort(addrs)
	addrs = slices.Compact(addrs)
	addrs = addrs[:min(len(addrs), peersMax)]
	if slices.Equal(addrs, *n.seeds.Load()) {
		return nil
	}
	n.seeds.Store(&addrs)
	return n.writeJSON(peersFile, peerAddresses{addrs})
}

// steered is the regions' engine as clients see it: it does not send them to a
// leader whose store is known to be dead. They then ask the other replicas,
// which have or are about to have another leader.
type steered struct {
	kv.Engine
	n *Node
}

// Snapshot implements kv.Engine.
func (s steered) Snapshot(ctx context.Context, rc *kvrpcpb.Context, o kv.SnapshotOptions) (kv.Snapshot, error) {
	snap, err := s.Engine.Snapshot(ctx, rc, o)
	return snap, s.steer(err)
}

// Write implements kv.Engine.
func (s steered) Write(ctx context.Context, rc *kvrpcpb.Context, b *kv.Batch) error {
	return s.steer(s.Engine.Write(ctx, rc, b))
}

func (s steered) steer(err error) error {
	if err == nil {
		return nil
	}
	var re *kv.RegionError
	g := s.n.gossip.Load()
	if g == nil || !errors.As(err, &re) || re.Err.GetNotLeader().GetLeader() == nil {
		return err
	}
	leader := re.Err.NotLeader.Leader.GetStoreId()
	if alive, known := g.StoreAlive(leader); alive || !known {
		return err
	}
	return &kv.RegionError{Err: &errorpb.Error{
		Message:   re.Err.Message + "; the store of the leader that it knows is dead",
		NotLeader: &errorpb.NotLeader{RegionId: re.Err.NotLeader.RegionId},
	}}
}
