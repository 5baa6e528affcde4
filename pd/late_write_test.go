package pd

import (
	"context"
	"errors"
	"testing"

	"github.com/copradb/copra/pd/etcdkv"
)

// TestHazard17_LateSaveDoesNotGoBack: a save that was given up and arrives after
// a later one changes nothing, and after the term it fails.
func TestHazard17_LateSaveDoesNotGoBack(t *testing.T) {
	s := startPD(t, nil)
	ctx := testContext(t)
	term, err := s.leading()
	if err != nil {
		t.Fatal(err)
	}
	key := s.root + "/test-window"
	for _, c := range []struct{ put, want string }{{"0005", "0005"}, {"0003", "0005"}, {"0005", "0005"}, {"0010", "0010"}} {
		if err := term.fence.PutLarger(ctx, key, []byte(c.put)); err != nil {
			t.Fatal(err)
		}
		if got, ok, err := term.fence.Get(ctx, key); err != nil || !ok || string(got) != c.want {
			t.Fatalf("after %s: %s, %v, %v; want %s", c.put, got, ok, err, c.want)
		}
	}
	if _, err := s.cli.Delete(ctx, s.leaderKey); err != nil {
		t.Fatal(err)
	}
	// It hears that from etcd, knows it already, or learns of it meanwhile.
	if err := term.fence.PutLarger(ctx, key, []byte("0020")); !errors.Is(err, etcdkv.ErrNotLeader) && !errors.Is(err, context.Canceled) {
		t.Fatalf("the deposed leader wrote: %v", err)
	}
	if got, err := s.cli.Get(ctx, key); err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "0010" {
		t.Fatalf("after the deposed leader's write: %v, %v", got, err)
	}
	<-term.ctx.Done()
	if err := term.fence.PutLarger(ctx, key, []byte("0030")); !errors.Is(err, etcdkv.ErrNotLeader) {
		t.Fatalf("a write after the term: %v", err)
	}
}
