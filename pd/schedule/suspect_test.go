package schedule

import (
	"strings"
	"testing"
	"time"

	"github.com/pingcap/kvproto/pkg/pdpb"
)

// TestTransferToSuspect: a transfer to a store that the others take for dead
// ends at once, not with its timeout, and none is begun; a heartbeat of the
// store ends the suspicion.
func TestTransferToSuspect(t *testing.T) {
	s := schedulerSim(t, 3, 1)
	died := time.Time{}
	s.stores.UseDetector(func(id uint64) time.Time {
		if id == 2 {
			return died
		}
		return time.Time{}
	})
	s.round()
	s.dead[2], s.dead[3] = true, true // nothing is committed from here on
	r := s.regions.ByID(1)
	if !s.ctl.Add(NewOperator("test", KindLeader, r, TransferLeader{To: 2})) {
		t.Fatal("refused")
	}
	s.now = s.now.Add(time.Second)
	s.ctl.Sweep()
	if rec, _ := s.ctl.Status(1); rec.Status != pdpb.OperatorStatus_RUNNING {
		t.Fatalf("%v before anybody knew", rec.Status)
	}
	died = s.now
	s.now = s.now.Add(time.Second)
	s.ctl.Sweep()
	if rec, _ := s.ctl.Status(1); rec.Status != pdpb.OperatorStatus_CANCEL || !strings.Contains(rec.Reason, "dead") {
		t.Fatalf("%v %s", rec.Status, rec.Reason)
	}
	if why := s.ctl.LeaderRefusal(s.stores.Get(2)); why == nil || !why.Temporary {
		t.Fatalf("store 2 gets leaders: %v", why)
	}
	if why := s.ctl.LeaderRefusal(s.stores.Get(3)); why != nil {
		t.Fatalf("store 3 gets none: %v", why)
	}
	delete(s.dead, 2)
	s.round()
	if why := s.ctl.LeaderRefusal(s.stores.Get(2)); why != nil {
		t.Fatalf("store 2 reports again, and gets no leaders: %v", why)
	}
}
