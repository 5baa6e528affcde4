package raftstore

import (
	"bytes"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore/engine"
)

// A region that is small and busy is cut by load: when it takes more than
// Config.LoadSplitQPS requests, or LoadSplitBytes of reads, in every second of
// loadSplitSeconds, the keys of some of its requests tell where its load
// halves. Nothing is sampled, and nothing is allocated, below that.
//
// A load that cannot be halved (one hot key, or scans over all of it) stays
// together; it is looked at again later.
const (
	loadSplitSeconds    = 10
	loadSampleEvery     = 32  // requests, of which one is sampled
	loadSampleCountMax  = 200 // samples kept of those
	loadSampleCountMin  = 50  // fewer say nothing
	loadSampleBytesMax  = 1 << 10
	loadBalancePercent  = 25 // the halves may differ by this part of both
	loadContainPercent  = 50 // of the requests may touch both halves
	loadSplitBackoff    = time.Minute
	loadMeasureInterval = time.Second
)

// loadState is the Raft worker's view of a region's load.
type loadState struct {
	last                int64 // when it was measured
	requests, readBytes uint64
	seconds             int // hot in a row
	quietUntil          int64
}

// reset forgets what was sampled, because the region is another one now.
func (l *loadState) reset(p *peer) {
	l.seconds = 0
	p.stats.sampler.Store(nil)
}

// tickLoad measures the load of a leader once a second.
func (p *peer) tickLoad() {
	l, c := &p.load, &p.store.cfg
	elapsed := p.now - l.last
	if elapsed < int64(loadMeasureInterval) {
		return
	}
	requests, read := p.stats.requests.Load(), p.stats.readBytes.Load()
	qps := int64(requests-l.requests) * int64(time.Second) / elapsed
	bps := int64(read-l.readBytes) * int64(time.Second) / elapsed
	fresh := l.last == 0
	l.last, l.requests, l.readBytes = p.now, requests, read
	hot := (c.LoadSplitQPS > 0 && qps >= c.LoadSplitQPS) || (c.LoadSplitBytes > 0 && bps >= c.LoadSplitBytes)
	if fresh || !hot || p.now < l.quietUntil {
		if l.seconds > 0 {
			l.reset(p)
		}
		return
	}
	if l.seconds == 0 {
		p.stats.sampler.Store(new(loadSampler))
	}
	if l.seconds++; l.seconds > loadSplitSeconds {
		p.splitByLoad(qps, bps)
	}
}

func (p *peer) splitByLoad(qps, bps int64) {
	sm := p.stats.sampler.Load()
	p.load.reset(p)
	p.load.quietUntil = p.now + int64(loadSplitBackoff)
	region := p.region.Load()
	best, ok := sm.choose()
	if !ok {
		p.log.Debug("hot region not split: no key halves its load", slog.Int64("requests_per_second", qps), slog.Int64("bytes_per_second", bps))
		return
	}
	keys := engine.Boundaries(region.StartKey, region.EndKey, best.cf, best.start)
	if len(keys) == 0 {
		return
	}
	p.log.Info("region split by load", slog.Int64("requests_per_second", qps), slog.Int64("bytes_per_second", bps))
	p.store.metrics.loadSplits.Inc()
	p.splitInBackground(keys)
}

// loadSampler keeps the keys of some requests, each with the same probability.
type loadSampler struct {
	seen atomic.Uint64

	mu      sync.Mutex
	offered int // samples that were offered
	samples []loadSample
}

// loadSample is one key (end is nil), or a range.
type loadSample struct {
	cf         kv.CF
	start, end []byte
}

// add offers a request. The versions of one user key are a range that no
// boundary cuts, so they count as a key.
func (s *loadSampler) add(cf kv.CF, start, end []byte) {
	if s.seen.Add(1)%loadSampleEvery != 0 || len(start)+len(end) > loadSampleBytesMax {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offered++
	at := len(s.samples)
	if at == loadSampleCountMax {
		if at = rand.IntN(s.offered); at >= loadSampleCountMax {
			return
		}
	} else {
		s.samples = append(s.samples, loadSample{})
	}
	if n := codec.EncodedPrefixLen(start); n >= 0 && (cf == kv.CFDefault || cf == kv.CFWrite) {
		start = start[:n] // without the timestamp
	}
	s.samples[at] = loadSample{cf: cf, start: bytes.Clone(start), end: bytes.Clone(end)}
}

func (s *loadSampler) addBatch(b *kv.Batch) {
	r := kv.ReadBatch(b.Bytes())
	if op, cf, key, _, ok, err := r.Next(); ok && err == nil && op != kv.OpDeleteRange {
		s.add(cf, key, nil)
	}
}

// choose returns the sample at whose start the load halves best.
func (s *loadSampler) choose() (best loadSample, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.samples) < loadSampleCountMin {
		return best, false
	}
	bestScore := 100
	for _, c := range s.samples {
		if score, fits := s.score(c.start); fits && score < bestScore {
			best, bestScore, ok = c, score, true
		}
	}
	return best, ok
}

// score is by how many percent of both the halves left and right of key
// differ.
func (s *loadSampler) score(key []byte) (percent int, ok bool) {
	left, right, both := 0, 0, 0
	for _, o := range s.samples {
		switch {
		case bytes.Compare(o.start, key) >= 0:
			right++
		case o.end == nil || bytes.Compare(o.end, key) <= 0:
			left++
		default:
			both++
		}
	}
	if left == 0 || right == 0 || both*100 > loadContainPercent*len(s.samples) {
		return 0, false
	}
	percent = max(left-right, right-left) * 100 / (left + right)
	return percent, percent <= loadBalancePercent
}
