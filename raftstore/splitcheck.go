package raftstore

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/pingcap/kvproto/pkg/pdpb"
)

// splitTimeout bounds one split that the store itself wants.
const splitTimeout = 10 * time.Second

// splitKeysFound says how large a region is and where to cut it.
type splitKeysFound struct {
	version uint64 // of the region that was measured
	keys    [][]byte
	total   uint64
	err     error
	force   bool // PD wants the split, whatever the size
}

// tickSplitCheck measures a region whose estimate says that it may be too
// large. The estimate is the last measurement plus what was written since.
func (p *peer) tickSplitCheck() {
	c := &p.store.cfg
	if p.report.splitBusy || p.now-p.report.lastSplitCheck < int64(c.SplitCheckInterval) {
		return
	}
	p.report.lastSplitCheck = p.now
	region := p.region.Load()
	if p.stats.sizeBytes.Load() == 0 {
		p.report.splitBusy = p.store.splits.submit(func() {
			size, err := p.store.engine.ApproxSize(region.StartKey, region.EndKey)
			p.send(&splitKeysFound{total: size, err: err})
		})
		return
	}
	if p.stats.sizeBytes.Load()+p.stats.sizeDelta.Load() >= c.RegionMaxBytes {
		p.findSplitKeys(c.RegionSplitBytes, splitKeyCountMax, false)
	}
}

func (p *peer) findSplitKeys(splitBytes uint64, keysMax int, force bool) {
	region := p.region.Load()
	p.report.splitBusy = p.store.splits.submit(func() {
		m := &splitKeysFound{version: region.RegionEpoch.GetVersion(), force: force}
		m.keys, m.total, m.err = p.store.engine.SplitKeys(region.StartKey, region.EndKey, splitBytes, keysMax)
		p.send(m)
	})
}

// onSplitKeys takes the measurement, and splits if it must be.
func (p *peer) onSplitKeys(m *splitKeysFound) {
	p.report.splitBusy = false
	region := p.region.Load()
	if m.err != nil {
		p.log.Warn("region not measured", slog.Any("error", m.err))
		return
	}
	if m.version == 0 { // only measured on disk: what is in memory is in the delta
		p.stats.sizeBytes.Store(max(m.total, 1))
		return
	}
	if m.version != region.RegionEpoch.GetVersion() {
		return
	}
	p.stats.sizeBytes.Store(max(m.total, 1))
	p.stats.sizeDelta.Store(0)
	if len(m.keys) == 0 || !p.role.Load().leader || (!m.force && m.total < p.store.cfg.RegionMaxBytes) {
		return
	}
	p.splitInBackground(m.keys)
}

func (p *peer) splitInBackground(keys [][]byte) {
	region := p.region.Load()
	p.store.splits.submit(func() {
		ctx, cancel := context.WithTimeout(p.store.ctx, splitTimeout)
		defer cancel()
		if _, err := p.split(ctx, region, keys); err != nil {
			p.log.Warn("split failed; it will be tried again", slog.Int("keys", len(keys)), slog.Any("error", err))
		}
	})
}

// splitByOperator splits because PD wants it: at its keys, or in the middle.
func (p *peer) splitByOperator(op *pdpb.SplitRegion) {
	if op.GetPolicy() != pdpb.CheckPolicy_USEKEY {
		half := (p.stats.sizeBytes.Load() + p.stats.sizeDelta.Load()) / 2
		if !p.report.splitBusy {
			p.findSplitKeys(max(half, 1), 1, true)
		}
		return
	}
	region := p.region.Load()
	var keys [][]byte
	for _, key := range op.GetKeys() {
		if len(key) > 0 && keyInRegion(key, region) && string(key) != string(region.StartKey) {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		p.log.Warn("split operator refused", slog.Any("error", fmt.Errorf("none of its %d keys is inside the region", len(op.GetKeys()))))
		return
	}
	p.splitInBackground(keys)
}
