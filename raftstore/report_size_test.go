package raftstore

import (
	"testing"

	"github.com/copradb/copra/raftstore/engine"
)

// TestSizeReported: a region that was not measured since the start has no size
// for PD, whatever was written to it, or PD would merge a large one as small; the
// child of a split has a share of its parent's until it is measured.
func TestSizeReported(t *testing.T) {
	for _, c := range []struct {
		name            string
		measured, delta uint64
		guessed         bool
		want            uint64
	}{
		{"just started", 0, 0, false, 0},
		{"started and written to", 0, 500, false, 0},
		{"measured", 1000, 500, false, 1500},
		{"split off", 0, 700, true, 700},
	} {
		p := &peer{}
		p.stats.sizeBytes.Store(c.measured)
		p.stats.sizeDelta.Store(c.delta)
		p.stats.sizeGuessed.Store(c.guessed)
		if got := p.approxSize(); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
	// Its measurement takes the place of the guess.
	p := &peer{}
	p.stats.sizeDelta.Store(700)
	p.stats.sizeGuessed.Store(true)
	p.store = &Store{}
	for _, measured := range []uint64{600, 600} {
		p.onSplitKeys(&splitKeysFound{Split: engine.Split{Bytes: measured}})
		if got := p.approxSize(); got != 700 {
			t.Errorf("measured %d of a guess of 700: %d", measured, got)
		}
	}
}
