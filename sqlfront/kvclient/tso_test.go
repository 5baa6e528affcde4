package kvclient

import (
	"context"
	"errors"
	"testing"

	pd "github.com/tikv/pd/client"
)

// remotePD answers what the local way does not.
type remotePD struct {
	pd.Client
	calls int
}

func (r *remotePD) GetTS(context.Context) (int64, int64, error) {
	r.calls++
	return 0, 0, errors.New("remote")
}

func TestTimestampsOfThisProcess(t *testing.T) {
	remote := &remotePD{}
	leads, n := true, int64(0)
	c := &localTSO{Client: remote, now: func(context.Context) (int64, int64, bool) { n++; return 7, n, leads }}
	if p, l, err := c.GetTS(t.Context()); err != nil || p != 7 || l != 1 {
		t.Fatal(p, l, err)
	}
	f := c.GetTSAsync(t.Context())
	for range 2 {
		if p, l, err := f.Wait(); err != nil || p != 7 || l != 2 {
			t.Fatal(p, l, err)
		}
	}
	if remote.calls != 0 {
		t.Fatal("asked over the wire")
	}
	leads = false
	if _, _, err := c.GetTSAsync(t.Context()).Wait(); err == nil || remote.calls != 1 {
		t.Fatalf("without a leader here: %v, %d calls", err, remote.calls)
	}
}
