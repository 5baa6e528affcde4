package kvclient

import (
	"context"
	"sync"

	pd "github.com/tikv/pd/client"
	"github.com/tikv/pd/client/clients/tso"
)

// TimestampFunc takes a timestamp from a placement driver in this process; ok is
// false where none here leads, or it cannot be sure to.
type TimestampFunc func(ctx context.Context) (physical, logical int64, ok bool)

// localTSO is a client of PD that takes timestamps from a placement driver in
// this process, if one leads. Over gRPC a timestamp takes a dozen changes of the
// goroutine there and back: microseconds each when processors are idle, but many
// milliseconds together when they are not. The source is the same, and so
// timestamps of both ways may be mixed.
type localTSO struct {
	pd.Client
	now TimestampFunc
}

// GetTS implements pd.Client.
func (c *localTSO) GetTS(ctx context.Context) (physical, logical int64, err error) {
	if physical, logical, ok := c.now(ctx); ok {
		return physical, logical, nil
	}
	return c.Client.GetTS(ctx)
}

// GetTSAsync implements pd.Client. The timestamp is taken by the first Wait.
func (c *localTSO) GetTSAsync(ctx context.Context) tso.TSFuture { return &tsFuture{c: c, ctx: ctx} }

type tsFuture struct {
	c                 *localTSO
	ctx               context.Context
	once              sync.Once
	physical, logical int64
	err               error
}

// Wait implements tso.TSFuture.
func (f *tsFuture) Wait() (physical, logical int64, err error) {
	f.once.Do(func() { f.physical, f.logical, f.err = f.c.GetTS(f.ctx) })
	return f.physical, f.logical, f.err
}
