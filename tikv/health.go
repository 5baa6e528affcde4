package tikv

import (
	"time"

	"github.com/copradb/copra/internal/gossip"
)

// healthTellInterval is how often a change of the store's health is told.
const healthTellInterval = time.Second

// tellHealth gossips how slow the store is and how full its disk.
func (n *Node) tellHealth() {
	ticker := time.NewTicker(healthTellInterval)
	defer ticker.Stop()
	told := gossip.Status{SlowScore: slowScoreHealthy}
	for {
		select {
		case <-ticker.C:
		case <-n.ctx.Done():
			return
		}
		now := gossip.Status{SlowScore: uint32(n.regions.SlowScore()), Disk: gossip.Disk(n.space.Level())}
		if now == told {
			continue
		}
		if err := n.gossip.Load().UpdateStatus(now); err != nil {
			n.log.Warn("health not gossiped", "err", err)
			continue
		}
		told = now
	}
}
