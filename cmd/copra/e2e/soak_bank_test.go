package e2e

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	tikverr "github.com/tikv/client-go/v2/error"
	"github.com/tikv/client-go/v2/kv"
	"github.com/tikv/client-go/v2/oracle"
	"github.com/tikv/client-go/v2/txnkv/transaction"
)

// bankPrefix begins the keys of accounts, and of receipts, that client-go's
// transactions write.
const (
	bankPrefix    = "bank-"
	bankReceipts  = bankPrefix + "receipt-"
	keyAccounts   = 24
	keyBalance    = 1000
	bankPadBytes  = 4 << 10 // the accounts are more than one region
	bankKindCount = 5
)

// bankKV is what clients know of their transfers by key.
type bankKV struct {
	mu    sync.Mutex
	moves map[string]outcome // by receipt
}

func (b *bankKV) note(receipt string, o outcome) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.moves[receipt] = o
}

func bankKey(i int) []byte { return fmt.Appendf(nil, "%saccount-%02d", bankPrefix, i) }

func bankValue(balance int64) []byte {
	return []byte(strconv.FormatInt(balance, 10) + " " + strings.Repeat("b", bankPadBytes))
}

func parseBalance(raw []byte) (int64, error) {
	n, rest, ok := strings.Cut(string(raw), " ")
	v, err := strconv.ParseInt(n, 10, 64)
	if !ok || err != nil || len(rest) != bankPadBytes {
		return 0, fmt.Errorf("%.40q is no balance", raw)
	}
	return v, nil
}

func (l *load) createBank() {
	ctx, cancel := within(time.Minute)
	defer cancel()
	tx, err := l.txn.Begin()
	if err != nil {
		l.t.Fatal(err)
	}
	for i := range keyAccounts {
		if err := tx.Set(bankKey(i), bankValue(keyBalance)); err != nil {
			l.t.Fatal(err)
		}
	}
	if err := tx.Commit(ctx); err != nil {
		l.t.Fatal(err)
	}
}

// bankStep moves money between two accounts and leaves a receipt, in a
// transaction of changing kind, or adds all accounts up.
func (w *worker) bankStep() error {
	ctx, cancel := within(soakOpTimeout)
	defer cancel()
	if w.rng.Intn(4) == 0 {
		return w.bankSum(ctx)
	}
	tx, err := w.l.txn.Begin()
	if err != nil {
		return err
	}
	kind := w.rng.Intn(bankKindCount)
	switch kind {
	case 1:
		tx.SetEnableAsyncCommit(true)
	case 2:
		tx.SetEnable1PC(true)
	case 3, 4:
		tx.SetPessimistic(true)
		tx.SetEnableAsyncCommit(kind == 4)
		tx.SetEnable1PC(kind == 4)
	}
	from := w.rng.Intn(keyAccounts)
	to := (from + 1 + w.rng.Intn(keyAccounts-1)) % keyAccounts
	amount := int64(1 + w.rng.Intn(9))
	receipt := fmt.Sprintf("%s%012d", bankReceipts, w.next())
	if err := w.bankMove(ctx, tx, from, to, amount, receipt); err != nil {
		w.l.bank.note(receipt, failed) // its commit is never sent
		_ = tx.Rollback()
		return err
	}
	w.l.bank.note(receipt, unknown)
	err = tx.Commit(ctx)
	switch {
	case err == nil:
		w.l.bank.note(receipt, done)
	case tikverr.IsErrWriteConflict(err):
		w.l.bank.note(receipt, failed)
	}
	return err
}

func (w *worker) bankMove(ctx context.Context, tx *transaction.KVTxn, from, to int, amount int64, receipt string) error {
	values, err := w.bankRead(ctx, tx, bankKey(from), bankKey(to))
	if err != nil {
		return err
	}
	for i, change := range map[int]int64{from: -amount, to: amount} {
		balance, err := parseBalance(values[string(bankKey(i))].Value)
		if err != nil {
			w.l.t.Errorf("account %d: %v", i, err)
			return err
		}
		if err := tx.Set(bankKey(i), bankValue(balance+change)); err != nil {
			return err
		}
	}
	return tx.Set([]byte(receipt), fmt.Appendf(nil, "%d %d %d", from, to, amount))
}

// bankRead reads in the transaction's snapshot, or what its locks return.
func (w *worker) bankRead(ctx context.Context, tx *transaction.KVTxn, keys ...[]byte) (map[string]kv.ValueEntry, error) {
	if !tx.IsPessimistic() {
		return tx.BatchGet(ctx, keys)
	}
	for {
		ts, err := w.l.txn.CurrentTimestamp(oracle.GlobalTxnScope)
		if err != nil {
			return nil, err
		}
		lock := kv.NewLockCtx(ts, int64(soakOpTimeout/time.Millisecond), time.Now())
		lock.InitReturnValues(len(keys))
		if err = tx.LockKeys(ctx, lock, keys...); err == nil {
			out := make(map[string]kv.ValueEntry, len(keys))
			for k, v := range lock.Values {
				out[k] = kv.ValueEntry{Value: v.Value}
			}
			return out, nil
		}
		if !tikverr.IsErrWriteConflict(err) || ctx.Err() != nil {
			return nil, err
		}
	}
}

// bankSum wants all the money in a snapshot, from leaders or followers.
func (w *worker) bankSum(ctx context.Context) error {
	ts, err := w.l.txn.CurrentTimestamp(oracle.GlobalTxnScope)
	if err != nil {
		return err
	}
	snap := w.l.txn.GetSnapshot(ts)
	if w.rng.Intn(3) == 0 {
		snap.SetReplicaRead(kv.ReplicaReadMixed)
	}
	var keys [][]byte
	for i := range keyAccounts {
		keys = append(keys, bankKey(i))
	}
	entries, err := snap.BatchGet(ctx, keys)
	if err != nil {
		return err
	}
	var sum int64
	for _, e := range entries {
		balance, err := parseBalance(e.Value)
		if err != nil {
			w.l.t.Error(err)
		}
		sum += balance
	}
	if len(entries) != keyAccounts || sum != keyAccounts*keyBalance {
		w.l.t.Errorf("at %d, %d accounts by key hold %d, want %d with %d", ts, len(entries), sum, keyAccounts, keyAccounts*keyBalance)
	}
	return nil
}

// verifyBank: each acknowledged transfer has left its receipt, none that failed
// has, and the receipts explain every balance.
func (l *load) verifyBank() {
	l.t.Helper()
	balances := map[int]int64{}
	for i := range keyAccounts {
		balances[i] = keyBalance
	}
	found := map[string]int{}
	stored := map[int]int64{}
	tx, err := l.txn.Begin()
	if err != nil {
		l.t.Errorf("begin: %v", err)
		return
	}
	defer func() { _ = tx.Rollback() }()
	it, err := tx.Iter([]byte(bankPrefix), []byte(bankPrefix+"\xff"))
	for ; err == nil && it.Valid(); err = it.Next() {
		key := string(it.Key())
		if strings.HasPrefix(key, bankReceipts) {
			found[key]++
			var from, to int
			var amount int64
			if _, err := fmt.Sscan(string(it.Value()), &from, &to, &amount); err != nil {
				l.t.Errorf("receipt %s is %q", key, it.Value())
			}
			balances[from] -= amount
			balances[to] += amount
			continue
		}
		i, notNumber := strconv.Atoi(strings.TrimPrefix(key, bankPrefix+"account-"))
		balance, notBalance := parseBalance(it.Value())
		if err := errors.Join(notNumber, notBalance); err != nil {
			l.t.Errorf("key %s: %v", key, err)
		}
		stored[i] = balance
	}
	if err != nil {
		l.t.Errorf("scan of the bank: %v", err)
		return
	}
	for i, want := range balances {
		if got, ok := stored[i]; !ok || got != want {
			l.t.Errorf("account %d by key holds %d (there: %v), by the receipts it is %d", i, got, ok, want)
		}
	}
	l.bank.mu.Lock()
	defer l.bank.mu.Unlock()
	compare(l.t, "receipt", l.bank.moves, found)
}
