package tracker

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestStagesAddUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := BeginQueued(context.Background(), Now())
		defer tr.Free()
		time.Sleep(1 * time.Millisecond)
		tr.Enter(Process)
		time.Sleep(2 * time.Millisecond)
		was := tr.Enter(Latch)
		time.Sleep(3 * time.Millisecond)
		tr.Enter(was)
		time.Sleep(4 * time.Millisecond)
		if total := tr.End(); total != 10*time.Millisecond {
			t.Errorf("the request took %s", total)
		}
		for s, want := range map[Stage]time.Duration{Queue: 1, Process: 6, Latch: 3, Write: 0} {
			if got := tr.Spent(s); got != want*time.Millisecond {
				t.Errorf("stage %d took %s, want %d ms", s, got, want)
			}
		}
	})
}

type foreign struct{}

func TestTravelsInContexts(t *testing.T) {
	ctx, cancel := context.WithCancel(context.WithValue(context.Background(), foreign{}, "v"))
	if From(ctx) != nil {
		t.Fatal("a tracker out of nowhere")
	}
	tr := Begin(ctx)
	defer tr.Free()
	child, stop := context.WithTimeout(context.WithoutCancel(tr.Context()), time.Hour)
	defer stop()
	for _, c := range []context.Context{tr.Context(), child, tr.Under(context.Background())} {
		if From(c) != tr {
			t.Errorf("the tracker is not found in %v", c)
		}
	}
	if tr.Context().Value(foreign{}) != "v" {
		t.Error("the values of the request's context are hidden")
	}
	cancel()
	if tr.Context().Err() == nil || tr.Under(context.Background()).Err() != nil {
		t.Error("cancellation does not follow the contexts")
	}
}

func TestNilDoesNothing(t *testing.T) {
	var tr *Tracker
	tr.Enter(Latch)
	tr.AddWrite(WriteParts{Apply: 1})
	tr.AddReadIndex(1)
	tr.CountWrite(1)
	tr.CountRows(1, 1)
	tr.Free()
	ctx := context.Background()
	if tr.Under(ctx) != ctx || tr.End() != 0 {
		t.Error("no tracker leaves a trace")
	}
}

func TestNoAllocations(t *testing.T) {
	ctx, received := context.Background(), Now()
	n := testing.AllocsPerRun(1000, func() {
		tr := BeginQueued(ctx, received)
		tr.Enter(Snapshot)
		From(tr.Context()).AddWrite(WriteParts{Commit: 1})
		From(tr.Under(ctx)).CountRows(1, 2)
		tr.End()
		tr.Free()
	})
	if n >= 1 { // less: the pool was emptied meanwhile
		t.Errorf("a tracked request allocates %v times", n)
	}
}
