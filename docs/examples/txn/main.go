// Command txn shows transactions with TiKV's client: an optimistic one, repeated
// after a conflict, and a pessimistic one. Its argument is a PD's address.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"strconv"

	plog "github.com/pingcap/log"
	tikverr "github.com/tikv/client-go/v2/error"
	"github.com/tikv/client-go/v2/txnkv"
	"github.com/tikv/client-go/v2/txnkv/transaction"
	"go.uber.org/zap/zapcore"
)

func main() {
	pd := "127.0.0.1:2379"
	if len(os.Args) > 1 {
		pd = os.Args[1]
	}
	plog.SetLevel(zapcore.ErrorLevel) // client-go tells standard output much
	if err := run(context.Background(), pd); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, pd string) error {
	client, err := txnkv.NewClient([]string{pd})
	if err != nil {
		return err
	}
	defer client.Close()
	alice, bob := []byte("account/alice"), []byte("account/bob")
	if err := optimistic(ctx, client, func(txn *transaction.KVTxn) error {
		return set(txn, map[string]int{string(alice): 100, string(bob): 100})
	}); err != nil {
		return err
	}
	if err := conflict(ctx, client, alice); err != nil {
		return err
	}
	if err := transfer(ctx, client, alice, bob, 30); err != nil {
		return err
	}
	return optimistic(ctx, client, func(txn *transaction.KVTxn) error {
		it, err := txn.Iter([]byte("account/"), []byte("account0"))
		if err != nil {
			return err
		}
		defer it.Close()
		for it.Valid() {
			fmt.Printf("%s has %s\n", it.Key(), it.Value())
			if err := it.Next(); err != nil {
				return err
			}
		}
		return nil
	})
}

// optimistic runs work in a transaction, again if another one was faster. Its
// locks are taken at the commit.
func optimistic(ctx context.Context, client *txnkv.Client, work func(*transaction.KVTxn) error) error {
	for range 10 {
		txn, err := client.Begin()
		if err != nil {
			return err
		}
		txn.SetEnableAsyncCommit(true) // answers when the writes are replicated: one round, not two
		txn.SetEnable1PC(true)         // and one write where all keys are in one region
		if err := work(txn); err != nil {
			_ = txn.Rollback()
			return err
		}
		if err = txn.Commit(ctx); err == nil || !tikverr.IsErrWriteConflict(err) {
			return err
		}
	}
	return fmt.Errorf("the keys are too busy")
}

// conflict has two transactions write one key; the second to commit loses.
func conflict(ctx context.Context, client *txnkv.Client, key []byte) error {
	first, err := client.Begin()
	if err != nil {
		return err
	}
	second, err := client.Begin()
	if err != nil {
		return err
	}
	for _, txn := range []*transaction.KVTxn{first, second} {
		if err := txn.Set(key, []byte("100")); err != nil {
			return err
		}
	}
	if err := first.Commit(ctx); err != nil {
		return err
	}
	fmt.Printf("write conflict: %t\n", tikverr.IsErrWriteConflict(second.Commit(ctx)))
	return nil
}

// transfer locks what it reads, so that nobody changes it before the commit.
func transfer(ctx context.Context, client *txnkv.Client, from, to []byte, amount int) error {
	txn, err := client.Begin()
	if err != nil {
		return err
	}
	txn.SetPessimistic(true)
	move := func() error {
		// Waits for at most 3 s; ErrLockWaitTimeout or ErrDeadlock: roll back, try again.
		if err := txn.LockKeysWithWaitTime(ctx, 3000, from, to); err != nil {
			return err
		}
		// At the time of the lock, not of the transaction's start.
		ts, err := client.CurrentTimestamp("global")
		if err != nil {
			return err
		}
		entries, err := client.GetSnapshot(ts).BatchGet(ctx, [][]byte{from, to})
		if err != nil {
			return err
		}
		balances := map[string]int{}
		for key, entry := range entries {
			if balances[key], err = strconv.Atoi(string(entry.Value)); err != nil {
				return err
			}
		}
		if balances[string(from)] < amount {
			return fmt.Errorf("%s has only %d", from, balances[string(from)])
		}
		balances[string(from)] -= amount
		balances[string(to)] += amount
		return set(txn, balances)
	}
	if err := move(); err != nil {
		_ = txn.Rollback()
		return err
	}
	return txn.Commit(ctx)
}

func set(txn *transaction.KVTxn, balances map[string]int) error {
	for key, balance := range balances {
		if err := txn.Set([]byte(key), []byte(strconv.Itoa(balance))); err != nil {
			return err
		}
	}
	return nil
}
