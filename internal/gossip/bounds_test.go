package gossip

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"
)

// TestMembersAreBounded: a node that invents others, living or dead, does not
// fill the memory of those that hear of them.
func TestMembersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := newMetrics(nil)
		if err != nil {
			t.Fatal(err)
		}
		n := &Node{o: Options{ClusterID: 7}, log: slog.New(slog.DiscardHandler), metrics: m, self: Member{Name: "store-1"}}
		tb := newTable(n, newRoutes())
		go tb.deliver(t.Context(), nil)
		say := func(id uint64, alive bool) error {
			t.Helper()
			member := Member{Name: nameOf(KindStore, id), Kind: KindStore, ID: id, Address: "host:1", Started: time.Now()}
			meta, err := encodeMeta(7, member)
			if err != nil {
				t.Fatal(err)
			}
			node := &memberlist.Node{Name: member.Name, Meta: meta}
			if err := tb.NotifyAlive(node); err != nil {
				return err
			}
			tb.NotifyJoin(node)
			synctest.Wait()
			if !alive {
				tb.NotifyLeave(node)
				synctest.Wait()
			}
			return nil
		}
		for id := uint64(2); id < 2+membersMax; id++ {
			if err := say(id, true); err != nil {
				t.Fatal(err)
			}
		}
		if err := say(1<<40, true); err == nil {
			t.Error("one more than there may be was taken in")
		}
		if err := say(9, true); err != nil { // it is known
			t.Error(err)
		}
		if err := say(9, false); err != nil {
			t.Error(err)
		}
		for id := uint64(1 << 41); id < 1<<41+500; id++ { // each takes the place of the last
			if err := say(id, false); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		for what, got := range map[string]int{"members": len(tb.members), "routes": len(tb.routes.byName), "told": len(tb.told)} {
			if got > membersMax {
				t.Errorf("%d %s, more than %d", got, what, membersMax)
			}
		}
	})
}
