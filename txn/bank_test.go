package txn_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"

	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/txn"
	"github.com/copradb/copra/txn/mvcccheck"
	"github.com/copradb/copra/txn/txntest"
)

const (
	bankAccounts  = 12
	bankBalance   = 1000
	bankClients   = 6
	bankTransfers = 150
)

func account(i int) []byte { return fmt.Appendf(nil, "account-%02d", i) }

// Concurrent transfers, in every way of committing, with lost answers, refused
// writes, crashed clients and splits, never change the sum that any snapshot
// reads; and a transfer that was answered as committed is there.
func TestBank(t *testing.T) {
	e, err := txntest.New(account(4), account(8))
	if err != nil {
		t.Fatal(err)
	}
	var faults atomic.Uint64
	e.OnWrite = func(uint64, *kv.Batch) txntest.Outcome {
		switch x := faults.Add(0x9E3779B97F4A7C15) >> 33 % 100; {
		case x < 5:
			return txntest.LostApplied
		case x < 8:
			return txntest.LostDropped
		case x < 11:
			return txntest.Refuse
		}
		return txntest.Apply
	}
	s := txn.NewStore(e, txn.Options{})
	defer func() {
		s.Close()
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()
	var tso atomic.Uint64
	var shares sync.Map
	newClient := func(seed uint64) *client {
		return &client{e: e, s: s, tso: &tso, r: rand.New(rand.NewPCG(seed, 3)), shares: &shares}
	}
	setup := newClient(99)
	for i := range bankAccounts {
		for !setup.write(modeOptimistic, setup.ts(), [][]byte{account(i)}, [][]byte{balance(bankBalance)}) {
		}
	}

	var clients, readers sync.WaitGroup
	stop := make(chan struct{})
	for n := range uint64(2) {
		readers.Go(func() {
			c := newClient(1000 + n)
			for {
				checkSum(t, c)
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	var guarded atomic.Int64
	for n := range uint64(3) {
		clients.Go(func() {
			c := newClient(2000 + n)
			for range bankTransfers / 2 {
				if c.checkGuarded(t, fmt.Appendf(nil, "guard-%d", n)) {
					guarded.Add(1)
				}
			}
		})
	}
	var committed [modeCount]atomic.Int64
	for n := range uint64(bankClients) {
		clients.Go(func() {
			c := newClient(n)
			for i := range bankTransfers {
				if mode := txnMode(c.r.IntN(int(modeCount))); c.transfer(mode) {
					committed[mode].Add(1)
				}
				if n == 0 && i%40 == 39 {
					e.Split(append(account(i/20), 'x'))
				}
			}
		})
	}
	clients.Wait()
	close(stop)
	readers.Wait()
	checkSum(t, setup)
	h := mvcccheck.New()
	for i := range bankAccounts {
		info := must(s.MvccGetByKey(t.Context(), &kvrpcpb.MvccGetByKeyRequest{Context: e.Context(account(i)), Key: account(i)}))
		if err := h.AddInfo(account(i), info.Info); err != nil {
			t.Error(err)
		}
	}
	if err := h.Verify(mvcccheck.Options{Locks: true, Pessimistic: func(ts uint64) bool { _, ok := shares.Load(ts); return ok }}); err != nil {
		t.Error(err)
	}
	if guarded.Load() == 0 {
		t.Error("no transaction ever shared a lock and was committed")
	}
	for mode := range modeCount {
		if committed[mode].Load() == 0 {
			t.Errorf("no transfer of mode %d was ever committed", mode)
		}
	}
}

func balance(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func checkSum(t *testing.T, c *client) {
	ts, sum := c.ts(), uint64(0)
	for i := range bankAccounts {
		sum += binary.BigEndian.Uint64(c.get(account(i), ts))
	}
	if sum != bankAccounts*bankBalance {
		t.Errorf("the sum at %d is %d, want %d", ts, sum, bankAccounts*bankBalance)
	}
}

// checkGuarded shares the locks of two accounts and checks that, if that is
// committed, nobody has changed them from its start to its commit.
func (c *client) checkGuarded(t *testing.T, own []byte) bool {
	a := c.r.IntN(bankAccounts)
	keys := [][]byte{account(a), account((a + 1 + c.r.IntN(bankAccounts-1)) % bankAccounts)}
	startTS, commitTS, ok := c.guard(own, keys)
	if !ok {
		return false
	}
	for _, k := range keys {
		if was, is := c.get(k, startTS), c.get(k, commitTS); !bytes.Equal(was, is) {
			t.Errorf("%s, shared from %d to %d, changed from %x to %x", k, startTS, commitTS, was, is)
		}
	}
	return true
}

// transfer moves one unit between two accounts. A 1PC needs both in a region.
func (c *client) transfer(mode txnMode) bool {
	from := c.r.IntN(bankAccounts)
	to := (from + 1 + c.r.IntN(bankAccounts-1)) % bankAccounts
	keys := [][]byte{account(from), account(to)}
	if mode == modeOnePC && c.e.Context(keys[0]).RegionId != c.e.Context(keys[1]).RegionId {
		mode = modeAsync
	}
	startTS := c.ts()
	a, b := binary.BigEndian.Uint64(c.get(keys[0], startTS)), binary.BigEndian.Uint64(c.get(keys[1], startTS))
	if a == 0 {
		return false
	}
	return c.write(mode, startTS, keys, [][]byte{balance(a - 1), balance(b + 1)})
}
