package clientsuite

import (
	"fmt"

	tikverr "github.com/tikv/client-go/v2/error"
)

var adminMethods = []method{
	{name: "split-and-scatter", run: (*session).splitAndScatter},
	{name: "delete-range", run: (*session).deleteRange},
	{name: "unsafe-destroy-range", run: (*session).unsafeDestroyRange, calm: true},
	{name: "scan-locks", run: (*session).scanLocks},
}

func (s *session) splitAndScatter() {
	s.fill(30, 1)
	keys := s.keys(30)
	ids, err := s.cl.SplitRegions(s.ctx, [][]byte{keys[10], keys[20], s.end()}, true, nil)
	s.must(err)
	if len(ids) != 3 {
		s.Fatalf("regions %d", ids)
	}
	for _, id := range ids {
		s.must(s.cl.WaitScatterRegionFinish(s.ctx, id, 0))
		if busy, err := s.cl.CheckRegionInScattering(id); err != nil || busy {
			s.Fatalf("region %d is still being scattered: %v", id, err)
		}
	}
	if got := s.drain(s.begin().Iter([]byte(s.prefix), s.end())); len(got) != 30 {
		s.Fatalf("%d keys", len(got))
	}
	// The same keys again: the regions are there.
	_, err = s.cl.SplitRegions(s.ctx, [][]byte{keys[10], keys[20]}, false, nil)
	s.must(err)
}

func (s *session) deleteRange() {
	s.fill(40, 4)
	keys := s.keys(40)
	n, err := s.cl.DeleteRange(s.ctx, keys[5], keys[35], 2)
	s.must(err)
	if n < 1 {
		s.Errorf("%d regions were completed", n)
	}
	if got := s.drain(s.begin().Iter([]byte(s.prefix), s.end())); len(got) != 10 {
		s.Fatalf("%q", got)
	}
	if _, err := s.cl.DeleteRange(s.ctx, keys[5], keys[5], 1); err != nil {
		s.Fatal(err)
	}
	s.put("00006", "again")
	s.want("00004", "v4", "00005", "-", "00006", "again", "00034", "-", "00035", "v35")
}

func (s *session) unsafeDestroyRange() {
	s.fill(40, 4)
	keys := s.keys(40)
	for range 2 {
		s.must(s.cl.UnsafeDestroyRange(s.ctx, keys[5], keys[35]))
	}
	if got := s.drain(s.begin().Iter([]byte(s.prefix), s.end())); len(got) != 10 {
		s.Fatalf("%q", got)
	}
	s.must(s.cl.UnsafeDestroyRange(s.ctx, keys[5], keys[5]))
	s.want("00004", "v4", "00005", "-", "00034", "-", "00035", "v35")
}

func (s *session) scanLocks() {
	s.split(s.key("b"))
	txn := s.leave(left{ttl: 60_000}, "a", "1", "b", "2", "c", "3")
	s.put("d", "4")
	locks := s.locks([]byte(s.prefix), s.end())
	if len(locks) != 3 {
		s.Fatalf("%d locks: %v", len(locks), locks)
	}
	for i, l := range locks {
		if string(l.Key) != string(s.key("%c", 'a'+i)) || string(l.Primary) != string(s.key("a")) || l.TxnID != txn.StartTS() || l.TTL != 60_000 {
			s.Errorf("lock %d: %v", i, l)
		}
	}
	s.must(txn.Rollback())
}

// gcMethods move the safe point of the whole cluster, so they run alone.
func (s *session) gc() {
	old := s.put("k", "1")
	gone := s.leave(left{ttl: 60_000}, "left", "x", "left too", "x")
	s.put("k", "2")
	safe := s.now()
	s.put("k", "3")
	got, err := s.cl.GC(s.ctx, safe)
	s.must(err)
	if got != safe {
		s.Fatalf("safe point %d, asked for %d", got, safe)
	}
	if locks := s.locks([]byte(s.prefix), s.end()); len(locks) != 0 {
		s.Errorf("GC left locks: %v", locks)
	}
	if err := gone.Commit(s.ctx); err == nil {
		s.Error("a transaction was committed after GC had resolved its locks")
	}
	s.want("k", "3", "left", "-")
	s.wantIn(s.cl.GetSnapshot(safe), "k", "2")
	s.cl.UpdateTxnSafePointCache(safe, physicalTime(s.now()))
	if _, err := s.cl.GetSnapshot(old).Get(s.ctx, s.key("k")); err == nil || !isTooEarly(err) {
		s.Errorf("a read below the safe point: %v", err)
	}
	if err := s.cl.CheckVisibility(old); err == nil {
		s.Error("a timestamp below the safe point is visible")
	}
	s.must(s.cl.CheckVisibility(s.now()))
}

func isTooEarly(err error) bool {
	var early *tikverr.ErrTxnAbortedByGC
	var older *tikverr.ErrGCTooEarly
	return fmt.Sprint(err) != "" && (asErr(err, &early) || asErr(err, &older))
}
