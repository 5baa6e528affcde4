package raftstore

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/copradb/copra/raftstore/engine"
	"github.com/pingcap/kvproto/pkg/pdpb"
)

// splitTimeout bounds one split that the store itself wants.
const splitTimeout = 10 * time.Second

// splitKeysFound says how large a region is and where to cut it.
type splitKeysFound struct {
	version uint64 // of the region that was measured
	engine.Split
	writtenKeys uint64 // when the measurement began
	err         error
	force       bool // PD wants the split, whatever the size
}

// tickSplitCheck measures a region whose estimate says that it may be too
// large. The estimate is the last measurement plus what was written since.
func (p *peer) tickSplitCheck() {
	c := &p.store.cfg
	// The first time comes soon: PD waits for the size, and the region for its sleep.
	unknown := p.stats.sizeBytes.Load() == 0
	first := unknown && p.report.lastSplitCheck == 0
	if p.report.splitBusy || (!first && p.now-p.report.lastSplitCheck < int64(c.SplitCheckInterval)) {
		return
	}
	p.report.lastSplitCheck = p.now
	region := p.region.Load()
	if unknown {
		p.report.splitBusy = p.store.measures.submit(func() {
			size, err := p.store.engine.ApproxSize(region.StartKey, region.EndKey)
			p.send(&splitKeysFound{Split: engine.Split{Bytes: size}, err: err})
		})
		if !p.report.splitBusy {
			p.report.lastSplitCheck = 0 // too many wait; at the next tick
		}
		return
	}
	if p.stats.sizeBytes.Load()+p.stats.sizeDelta.Load() >= c.RegionMaxBytes || p.approxKeys() >= c.RegionMaxKeys {
		p.findSplitKeys(engine.SplitLimits{Bytes: c.RegionSplitBytes, Keys: c.RegionSplitKeys, CutCountMax: splitCutCountMax}, false)
	}
}

func (p *peer) findSplitKeys(limits engine.SplitLimits, force bool) {
	region, written := p.region.Load(), p.stats.writtenKeys.Load()
	p.report.splitBusy = p.store.measures.submit(func() {
		m := &splitKeysFound{version: region.RegionEpoch.GetVersion(), writtenKeys: written, force: force}
		m.Split, m.err = p.store.engine.SplitKeys(region.StartKey, region.EndKey, limits)
		p.send(m)
	})
}

// onSplitKeys takes the measurement, and splits if it must be.
func (p *peer) onSplitKeys(m *splitKeysFound) {
	p.report.splitBusy = false
	region, st, c := p.region.Load(), &p.stats, &p.store.cfg
	if m.err != nil {
		p.log.Warn("region not measured", slog.Any("error", m.err))
		return
	}
	if m.version == 0 { // only measured on disk: what is in memory is in the delta
		st.sizeBytes.Store(max(m.Bytes, 1))
		if st.sizeGuessed.CompareAndSwap(true, false) {
			st.sizeDelta.Add(-min(m.Bytes, st.sizeDelta.Load())) // it was part of the guess
		}
		return
	}
	if m.version != region.RegionEpoch.GetVersion() {
		return
	}
	st.sizeBytes.Store(max(m.Bytes, 1))
	st.sizeDelta.Store(0)
	st.sizeGuessed.Store(false)
	st.sizeKeys.Store(max(m.EntryCount, 1))
	st.sizeKeysAt.Store(m.writtenKeys)
	large := m.Bytes >= c.RegionMaxBytes || m.EntryCount >= c.RegionMaxKeys
	if len(m.Keys) == 0 || !p.role.Load().leader || (!m.force && !large) {
		return
	}
	p.splitInBackground(m.Keys)
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

// splitByOperator splits because PD wants it: at its keys, which are boundaries
// or raw keys, or in the middle.
func (p *peer) splitByOperator(op *pdpb.SplitRegion) {
	if op.GetPolicy() != pdpb.CheckPolicy_USEKEY {
		half := (p.stats.sizeBytes.Load() + p.stats.sizeDelta.Load()) / 2
		if !p.report.splitBusy {
			p.findSplitKeys(engine.SplitLimits{Bytes: max(half, 1), CutCountMax: 1}, true)
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
	if keys = engine.RawBoundaries(region.StartKey, region.EndKey, keys); len(keys) == 0 {
		p.log.Warn("split operator refused", slog.Any("error", fmt.Errorf("none of its %d keys is inside the region", len(op.GetKeys()))))
		return
	}
	p.splitInBackground(keys)
}
