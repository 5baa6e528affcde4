package clientsuite

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	tikverr "github.com/tikv/client-go/v2/error"
	"github.com/tikv/client-go/v2/kv"
	"github.com/tikv/client-go/v2/txnkv/transaction"
)

// nemesis does to a cluster what operators, PD and power cuts do.
type nemesis struct {
	t   *testing.T
	c   *cluster
	rng *rand.Rand
	// How often each was done.
	splits, transfers, stops atomic.Int64
}

// run acts until ctx ends, and leaves all stores running. Merges are PD's: it
// undoes the splits.
func (n *nemesis) run(ctx context.Context) {
	for ctx.Err() == nil {
		switch p := n.rng.IntN(10); {
		case p < 4:
			n.split(ctx)
		case p < 9:
			n.transfer()
		default:
			n.restart(ctx)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(20+n.rng.IntN(100)) * time.Millisecond):
		}
	}
}

// split cuts where the workload and the methods have their keys.
func (n *nemesis) split(ctx context.Context) {
	key := fmt.Sprintf("%s/%c", []string{"m", "bank/account", "log"}[n.rng.IntN(3)], '0'+byte(n.rng.IntN(70)))
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if _, err := n.c.txn.SplitRegions(ctx, [][]byte{[]byte(key)}, n.rng.IntN(2) == 0, nil); err == nil {
		n.splits.Add(1)
	}
}

func (n *nemesis) transfer() {
	nodes := n.c.running()
	from := nodes[n.rng.IntN(len(nodes))]
	for _, r := range from.Raftstore().Regions() {
		if r.Leader && n.rng.IntN(3) == 0 {
			place{from, r}.transfer(nodes[n.rng.IntN(len(nodes))].StoreID())
			n.transfers.Add(1)
		}
	}
}

// restart stops one of the stores for a while.
func (n *nemesis) restart(ctx context.Context) {
	i := n.rng.IntN(len(n.c.nodes))
	n.c.stopNode(i)
	select {
	case <-ctx.Done():
	case <-time.After(time.Duration(n.rng.IntN(400)) * time.Millisecond):
	}
	start, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	if err := n.c.startNode(start, i); err != nil {
		n.t.Errorf("store %d does not start again: %v", i, err)
		return
	}
	n.stops.Add(1)
}

// TestNemesis runs a checked workload, and each method, while regions are split
// and merged, leaders move, and stores stop and come back.
func TestNemesis(t *testing.T) {
	t.Parallel()
	c := ownCluster(t, 3, nil)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.url+"/pd/api/v1/config", strings.NewReader(`{"split-merge-interval": "1s", "merge-schedule-limit": 8}`))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp, err)
	}
	_ = resp.Body.Close()
	stopsMin, rounds := int64(2), 1
	if long() {
		stopsMin, rounds = 40, 8
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	n := &nemesis{t: t, c: c, rng: rand.New(rand.NewPCG(seed, 0))}
	b := newBank(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	var wg, workers sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { n.run(ctx) })
	work, endWork := context.WithCancel(t.Context())
	defer endWork()
	b.start(work, &workers)
	for range rounds {
		t.Run("methods", func(t *testing.T) {
			for _, group := range methods {
				for _, m := range group {
					if !m.calm {
						t.Run(m.name, func(t *testing.T) {
							t.Parallel()
							m.run(newSession(t, c, fresh("m/"+m.name)))
						})
					}
				}
			}
		})
	}
	eventually(t, "enough of everything", func() bool {
		return t.Failed() || n.stops.Load() >= stopsMin && n.splits.Load() >= 5 && n.transfers.Load() >= 10 && b.committed.Load() >= 100
	})
	endWork()
	workers.Wait()
	cancel()
	wg.Wait()
	b.check()
	t.Logf("%d splits, %d transfers, %d restarts; %d transactions, %d unknown, %d reads, %d raw writes",
		n.splits.Load(), n.transfers.Load(), n.stops.Load(), b.committed.Load(), b.unknown.Load(), b.reads.Load(), b.raws.Load())
}

const accountCount, accountMoney = 16, 1000

// bank moves money, keeps a log of what was acknowledged, and looks whether all
// of it is there.
type bank struct {
	t *testing.T
	s *session

	mu   sync.Mutex
	logs map[string]outcome // of transactions, by the key that each one wrote
	raw  map[string]string  // acknowledged

	committed, unknown, reads, raws atomic.Int64
}

type outcome byte

const (
	failed outcome = iota
	committed
	unknown
)

func newBank(t *testing.T, c *cluster) *bank {
	b := &bank{t: t, s: newSession(t, c, "bank/"), logs: map[string]outcome{}, raw: map[string]string{}}
	txn := b.s.begin()
	for i := range accountCount {
		b.s.must(txn.Set(b.account(i), strconv.AppendInt(nil, accountMoney, 10)))
	}
	b.s.must(txn.Commit(b.s.ctx))
	return b
}

func (b *bank) account(i int) []byte { return b.s.key("account/%02d", i) }

// start runs the workers until ctx ends.
func (b *bank) start(ctx context.Context, wg *sync.WaitGroup) {
	loop := func(n int, f func(rng *rand.Rand, w, i int)) {
		for w := range n {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(w), 9))
				for i := 0; ctx.Err() == nil; i++ {
					f(rng, w, i)
				}
			})
		}
	}
	loop(4, b.transfer)
	loop(1, func(rng *rand.Rand, _, _ int) { b.read(rng) })
	loop(2, b.put)
}

// transfer moves money and writes a line into the log, in one transaction.
func (b *bank) transfer(rng *rand.Rand, w, i int) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	txn, err := b.s.cl.Begin()
	if err != nil {
		return
	}
	mode := rng.IntN(5)
	txn.SetEnableAsyncCommit(mode&1 != 0)
	txn.SetEnable1PC(mode == 2)
	txn.SetPessimistic(mode >= 3)
	line := fmt.Sprintf("log/%d-%06d", w, i)
	err = b.fill(ctx, txn, rng, line)
	if err != nil {
		_ = txn.Rollback()
		return // nothing of it was prewritten
	}
	err = txn.Commit(ctx)
	out := committed
	switch {
	case err == nil:
		b.committed.Add(1)
	case errors.Is(err, tikverr.ErrResultUndetermined) || ctx.Err() != nil:
		out = unknown
		b.unknown.Add(1)
	default:
		out = failed
	}
	b.mu.Lock()
	b.logs[line] = out
	b.mu.Unlock()
}

func (b *bank) fill(ctx context.Context, txn *transaction.KVTxn, rng *rand.Rand, line string) error {
	from, to := rng.IntN(accountCount), rng.IntN(accountCount)
	if from == to {
		to = (to + 1) % accountCount
	}
	var forUpdate getter = txn
	if txn.IsPessimistic() {
		lc := kv.NewLockCtx(txn.StartTS(), 500, time.Now())
		if err := txn.LockKeys(ctx, lc, b.account(from), b.account(to)); err != nil {
			return err
		}
	}
	for acc, by := range map[int]int{from: -1, to: 1} {
		v, err := forUpdate.Get(ctx, b.account(acc))
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(string(v.Value))
		if err != nil {
			return err
		}
		if err := txn.Set(b.account(acc), strconv.AppendInt(nil, int64(n+by), 10)); err != nil {
			return err
		}
	}
	return txn.Set([]byte(line), []byte(line))
}

// read wants the sum to be what it always is, from leaders and followers.
func (b *bank) read(rng *rand.Rand) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	ts, err := b.s.cl.CurrentTimestamp("global")
	if err != nil {
		return
	}
	snap := b.s.cl.GetSnapshot(ts)
	snap.SetReplicaRead([]kv.ReplicaReadType{kv.ReplicaReadLeader, kv.ReplicaReadFollower, kv.ReplicaReadMixed}[rng.IntN(3)])
	sum, n := 0, 0
	if rng.IntN(2) == 0 {
		it, err := snap.Iter(b.account(0), b.account(accountCount))
		for ; err == nil && it.Valid(); err = it.Next() {
			v, _ := strconv.Atoi(string(it.Value()))
			sum, n = sum+v, n+1
		}
		if err != nil {
			b.t.Logf("a scan failed: %v", err)
			return
		}
	} else {
		var keys [][]byte
		for i := range accountCount {
			keys = append(keys, b.account(i))
		}
		got, err := snap.BatchGet(ctx, keys)
		if err != nil {
			b.t.Logf("a batch get failed: %v", err)
			return
		}
		for _, e := range got {
			v, _ := strconv.Atoi(string(e.Value))
			sum, n = sum+v, n+1
		}
	}
	if n != accountCount || sum != accountCount*accountMoney {
		b.t.Errorf("at %d: %d accounts with %d", ts, n, sum)
	}
	b.reads.Add(1)
}

// put writes a raw key of its own and reads it back.
func (b *bank) put(_ *rand.Rand, w, i int) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	key := fmt.Sprintf("log/raw-%d-%06d", w, i%500)
	value := strconv.Itoa(i)
	if err := b.s.raw().Put(ctx, []byte(key), []byte(value)); err != nil {
		b.mu.Lock()
		delete(b.raw, key) // either of two values
		b.mu.Unlock()
		return
	}
	b.raws.Add(1)
	b.mu.Lock()
	b.raw[key] = value
	b.mu.Unlock()
	if v, err := b.s.raw().Get(ctx, []byte(key)); err == nil && string(v) != value {
		b.t.Errorf("raw key %s is %q, and %q was acknowledged", key, v, value)
	}
}

// check looks for all that was acknowledged, and for what failed.
func (b *bank) check() {
	s := newSession(b.t, b.s.cluster, "bank/")
	b.read(rand.New(rand.NewPCG(1, 1)))
	found := map[string]bool{}
	snap := s.snapshot()
	it, err := snap.Iter([]byte("log/"), []byte("log0"))
	for ; err == nil && it.Valid(); err = it.Next() {
		found[string(it.Key())] = true
	}
	s.must(err)
	for line, out := range b.logs {
		switch {
		case out == committed && !found[line]:
			b.t.Errorf("%s was committed and is not there", line)
		case out == failed && found[line]:
			b.t.Errorf("%s failed and is there", line)
		}
		delete(found, line)
	}
	for line := range found {
		b.t.Errorf("%s is there, and nobody committed it", line)
	}
	for key, want := range b.raw {
		if v, err := s.raw().Get(s.ctx, []byte(key)); err != nil || string(v) != want {
			b.t.Errorf("raw key %s is %q (%v), want %q", key, v, err, want)
		}
	}
}
