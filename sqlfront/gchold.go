package sqlfront

import (
	"context"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/tikv/client-go/v2/oracle"
	"github.com/tikv/client-go/v2/tikv"
	"github.com/tikv/pd/client/clients/gc"
	"github.com/tikv/pd/client/constants"
)

// Garbage collection must not take away what a transaction, a cursor or a long
// statement still reads. Each of them holds its timestamp here, and the node
// keeps a GC barrier at PD at the oldest one that is not quite new:
//
//	statements, transactions ──► holds ──every holdInterval──► barrier at PD
const (
	// holdInterval is how often the barrier is looked after. What is younger needs
	// none: versions are kept for gcworker.LifeTimeMin at least.
	holdInterval = 3 * time.Second
	// holdTTL is how long the barrier of a node that died holds.
	holdTTL = time.Minute
	// holdAgeMax: what is older is not held any longer, or a forgotten session
	// would keep all versions for ever.
	holdAgeMax = 24 * time.Hour
)

// holds are the timestamps that sessions of this node read at.
type holds struct {
	mu   sync.Mutex
	open map[*hold]struct{}
}

// hold is one of them. The zero value holds nothing.
type hold struct {
	all *holds
	ts  uint64
}

// note holds ts, unless an older one is held.
func (h *hold) note(ts uint64) {
	if h == nil || ts == 0 || ts == math.MaxUint64 {
		return
	}
	h.all.mu.Lock()
	defer h.all.mu.Unlock()
	if h.ts == 0 {
		if h.all.open == nil {
			h.all.open = make(map[*hold]struct{})
		}
		h.all.open[h] = struct{}{}
	}
	if h.ts == 0 || ts < h.ts {
		h.ts = ts
	}
}

// release holds nothing from here on. It may be called more than once.
func (h *hold) release() {
	if h == nil {
		return
	}
	h.all.mu.Lock()
	defer h.all.mu.Unlock()
	delete(h.all.open, h)
	h.ts = 0
}

// oldest is the oldest timestamp that is held and not below least; 0: none.
func (a *holds) oldest(least uint64) (ts uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for h := range a.open {
		if h.ts >= least && (ts == 0 || h.ts < ts) {
			ts = h.ts
		}
	}
	return ts
}

type statementHoldKey struct{}

// withHold gives a statement's context a hold for what it reads outside of a
// transaction.
func (db *DB) withHold(ctx context.Context) (context.Context, *hold) {
	h := &hold{all: &db.holds}
	return context.WithValue(ctx, statementHoldKey{}, h), h
}

// holdStatement holds ts until the statement ends.
func holdStatement(ctx context.Context, ts uint64) {
	h, _ := ctx.Value(statementHoldKey{}).(*hold)
	h.note(ts)
}

// barrier keeps one GC barrier of a node.
type barrier struct {
	pd  gc.GCStatesClient
	id  string
	log *slog.Logger

	set   uint64 // at which it is; 0: it is not there
	until time.Time
}

// watchHolds keeps the barrier until the node stops.
func (db *DB) watchHolds() {
	defer db.work.Done()
	b := &barrier{pd: db.gc, id: "copra-sql-" + uuid.NewString(), log: db.log}
	tick := time.NewTicker(holdInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			b.move(db.ctx, db.holds.oldest(oracle.GoTimeToTS(time.Now().Add(-holdAgeMax))), time.Now())
		case <-db.ctx.Done():
			ctx, cancel := context.WithTimeout(context.WithoutCancel(db.ctx), holdInterval)
			defer cancel()
			b.move(ctx, 0, time.Now())
			return
		}
	}
}

// move puts the barrier to the oldest timestamp, or takes it away.
func (b *barrier) move(ctx context.Context, oldest uint64, now time.Time) {
	ctx, cancel := context.WithTimeout(ctx, holdInterval)
	defer cancel()
	if oldest != 0 && now.Sub(tsTime(oldest)) < holdInterval {
		oldest = 0
	}
	switch {
	case oldest == 0 && b.set == 0, oldest != 0 && oldest == b.set && b.until.Sub(now) > holdTTL/2:
		return
	case oldest == 0:
		if _, err := b.pd.DeleteGCBarrier(ctx, b.id); err != nil {
			b.log.Debug("the GC barrier was not deleted; it ends by itself", "error", err)
			return
		}
		b.set = 0
		return
	}
	if _, err := b.pd.SetGCBarrier(ctx, b.id, oldest, holdTTL); err != nil {
		if ctx.Err() == nil {
			b.log.Warn("garbage collection is not held back: old transactions may fail", "oldest", tsTime(oldest), "error", err)
		}
		return
	}
	b.set, b.until = oldest, now.Add(holdTTL)
}

// gcStates is PD's GC API for the keyspace of kv.
func gcStates(kv *tikv.KVStore) gc.GCStatesClient {
	pd := kv.GetPDClient()
	keyspace := uint32(constants.NullKeyspaceID)
	if c, ok := pd.(*tikv.CodecPDClient); ok {
		keyspace = uint32(c.GetCodec().GetKeyspaceID())
	}
	return pd.GetGCStatesClient(keyspace)
}
