package e2e

import (
	"fmt"
	"strings"
	"sync"
)

// swapKeys are few: clients are in each other's way.
const swapKeys = 3

// swaps is what clients know of the counters that they swap forward, in a
// keyspace of API V2. A value is a number and who wrote it, so that no value
// comes twice.
type swaps struct {
	mu    sync.Mutex
	acked map[string]map[int64]string // by key and number: whose swap
	high  map[string]int64            // largest number that somebody was told of
}

func swapKey(i int) string { return fmt.Sprintf("swap-%d", i) }

func parseSwap(raw []byte) (n int64, err error) {
	if raw == nil {
		return 0, nil
	}
	var who string
	if _, err = fmt.Sscan(string(raw), &n, &who); err != nil {
		err = fmt.Errorf("%.40q is not of a swap: %w", raw, err)
	}
	return n, err
}

// saw notes that a client was told of number n of key, of which another was told
// low before it asked.
func (s *swaps) saw(key string, low, n int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.high[key] = max(s.high[key], n)
	if n < low {
		return fmt.Errorf("stale read: %s is %d, and %d was seen before", key, n, low)
	}
	return nil
}

func (s *swaps) low(key string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.high[key]
}

// won notes a swap that was acknowledged: a number is given once.
func (s *swaps) won(key string, n int64, value string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.acked[key] == nil {
		s.acked[key] = map[int64]string{}
	}
	if other := s.acked[key][n]; other != "" {
		return fmt.Errorf("%s: %q and %q both were swapped in", key, other, value)
	}
	s.acked[key][n] = value
	s.high[key] = max(s.high[key], n)
	return nil
}

// swapStep reads a counter and swaps it forward by one.
func (w *worker) swapStep() error {
	ctx, cancel := within(soakOpTimeout)
	defer cancel()
	s, key := &w.l.swaps, swapKey(w.rng.Intn(swapKeys))
	low := s.low(key)
	raw, err := w.l.swap.Get(ctx, []byte(key))
	if err != nil {
		return err
	}
	n, err := parseSwap(raw)
	if err == nil {
		err = s.saw(key, low, n)
	}
	if err != nil {
		w.l.t.Error(err)
		return err
	}
	value := fmt.Sprintf("%d %d-%d-%s", n+1, w.id, w.next(), strings.Repeat("s", 500))
	low = s.low(key)
	before, ok, err := w.l.swap.CompareAndSwap(ctx, []byte(key), raw, []byte(value))
	if err != nil {
		return err // it may be there, or come: then nobody else's number n+1 does
	}
	switch {
	case ok, string(before) == value: // sent twice, the second time it found its own
		err = s.won(key, n+1, value)
	default:
		if n, err = parseSwap(before); err == nil {
			err = s.saw(key, low, n)
		}
	}
	if err != nil {
		w.l.t.Error(err)
	}
	return err
}

// verifySwaps: no counter is behind what anybody was told.
func (l *load) verifySwaps() {
	l.t.Helper()
	ctx, cancel := within(soakOpTimeout)
	defer cancel()
	total := 0
	for i := range swapKeys {
		key := swapKey(i)
		raw, err := l.swap.Get(ctx, []byte(key))
		n, parseErr := parseSwap(raw)
		if err != nil || parseErr != nil || n < l.swaps.low(key) {
			l.t.Errorf("in the end %s is %d (%v, %v), %d was seen before", key, n, err, parseErr, l.swaps.low(key))
		}
		if own := l.swaps.acked[key][n]; own != "" && own != string(raw) {
			l.t.Errorf("in the end %s is %.40q, acknowledged was %.40q", key, raw, own)
		}
		total += len(l.swaps.acked[key])
	}
	l.t.Logf("%d swaps acknowledged", total)
}
