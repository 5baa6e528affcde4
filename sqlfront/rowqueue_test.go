package sqlfront

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/copradb/copra/internal/pgerror"
)

func TestRowQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q rowQueues
		leave, err := q.enter(t.Context(), "a", 0)
		if err != nil || !q.busy([]byte("a")) || q.busy([]byte("b")) {
			t.Fatalf("first: %v, busy: %v", err, q.busy([]byte("a")))
		}
		// Turns come in order; those who give up lose theirs.
		cancelled, cancel := context.WithCancel(t.Context())
		var order []string
		var all sync.WaitGroup
		for i := range 5 {
			all.Go(func() {
				ctx, wait := t.Context(), time.Duration(0)
				switch i {
				case 1:
					ctx = cancelled
				case 3:
					wait = time.Second
				}
				leave, err := q.enter(ctx, "a", wait)
				if err != nil {
					order = append(order, fmt.Sprint(i, " ", pgerror.Code(err)))
					return
				}
				order = append(order, fmt.Sprint(i))
				leave()
			})
			synctest.Wait()
		}
		cancel()
		synctest.Wait()
		time.Sleep(2 * time.Second)
		leave()
		all.Wait()
		if got := strings.Join(order, ","); got != "1 57014,3 55P03,0,2,4" {
			t.Errorf("order %s", got)
		}
		if q.busy([]byte("a")) || q.waiters != 0 || len(q.queues) != 0 {
			t.Errorf("left over: %d waiters, %d queues", q.waiters, len(q.queues))
		}
	})
}

// TestRowQueueTurnAtTheLastMoment: a turn that is given to a statement which is
// cancelled at the same instant goes on to the next.
func TestRowQueueTurnAtTheLastMoment(t *testing.T) {
	var q rowQueues
	first, err := q.enter(t.Context(), "a", 0)
	if err != nil {
		t.Fatal(err)
	}
	turn := make(chan struct{})
	q.queues["a"].waiting = append(q.queues["a"].waiting, turn)
	q.waiters++
	first()
	<-turn
	q.withdraw("a", turn)
	if q.busy([]byte("a")) || q.waiters != 0 {
		t.Error("the turn is lost")
	}
}

func TestRowQueueIsBounded(t *testing.T) {
	q := rowQueues{waiters: rowWaitersMax}
	first, err := q.enter(t.Context(), "a", 0)
	if err != nil {
		t.Fatal(err)
	}
	second, err := q.enter(t.Context(), "a", 0) // does not wait
	if err != nil {
		t.Fatal(err)
	}
	second()
	if !q.busy([]byte("a")) {
		t.Error("one who had no turn gave it away")
	}
	first()
}
