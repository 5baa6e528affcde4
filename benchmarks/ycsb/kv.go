package ycsb

import (
	"bytes"
	"context"
	"errors"

	"github.com/tikv/client-go/v2/config"
	tikverr "github.com/tikv/client-go/v2/error"
	"github.com/tikv/client-go/v2/rawkv"
	"github.com/tikv/client-go/v2/txnkv"
)

// keyPrefix keeps the records apart from other data of the cluster.
const keyPrefix = "usertable:"

func recordKey(key string) []byte { return append([]byte(keyPrefix), key...) }

// rawDB runs on the raw KV API: a record is one value.
type rawDB struct{ client *rawkv.Client }

// OpenRaw connects to PD for raw KV.
func OpenRaw(ctx context.Context, pd []string) (DB, error) {
	client, err := rawkv.NewClient(ctx, pd, config.DefaultConfig().Security)
	if err != nil {
		return nil, err
	}
	return rawDB{client}, nil
}

func (d rawDB) Prepare(context.Context) error { return nil }
func (d rawDB) Close() error                  { return d.client.Close() }

func (d rawDB) Read(ctx context.Context, _ int, key string) error {
	v, err := d.client.Get(ctx, recordKey(key))
	if err == nil && v == nil {
		return errors.New("record " + key + " not found")
	}
	return err
}

func (d rawDB) Scan(ctx context.Context, _ int, key string, count int) error {
	_, _, err := d.client.Scan(ctx, recordKey(key), nil, count)
	return err
}

func (d rawDB) Update(ctx context.Context, _ int, key string, _ int, fields [][]byte) error {
	return d.client.Put(ctx, recordKey(key), bytes.Join(fields, nil))
}

func (d rawDB) Insert(ctx context.Context, _ int, key string, fields [][]byte) error {
	return d.client.Put(ctx, recordKey(key), bytes.Join(fields, nil))
}

// txnDB runs each operation as a transaction, with async commit and 1PC on.
type txnDB struct{ client *txnkv.Client }

// OpenTxn connects to PD for transactions.
func OpenTxn(pd []string) (DB, error) {
	client, err := txnkv.NewClient(pd)
	if err != nil {
		return nil, err
	}
	return txnDB{client}, nil
}

func (d txnDB) Prepare(context.Context) error { return nil }
func (d txnDB) Close() error                  { return d.client.Close() }

func (d txnDB) Read(ctx context.Context, _ int, key string) error {
	txn, err := d.client.Begin()
	if err != nil {
		return err
	}
	_, err = txn.Get(ctx, recordKey(key))
	if tikverr.IsErrNotFound(err) {
		return errors.New("record " + key + " not found")
	}
	return errors.Join(err, txn.Rollback())
}

func (d txnDB) Scan(_ context.Context, _ int, key string, count int) error {
	txn, err := d.client.Begin()
	if err != nil {
		return err
	}
	it, err := txn.Iter(recordKey(key), nil)
	if err != nil {
		return errors.Join(err, txn.Rollback())
	}
	for ; count > 0 && it.Valid() && err == nil; count-- {
		err = it.Next()
	}
	it.Close()
	return errors.Join(err, txn.Rollback())
}

func (d txnDB) Update(ctx context.Context, _ int, key string, _ int, fields [][]byte) error {
	return d.put(ctx, key, bytes.Join(fields, nil))
}

func (d txnDB) Insert(ctx context.Context, _ int, key string, fields [][]byte) error {
	return d.put(ctx, key, bytes.Join(fields, nil))
}

// put writes a record. A transaction that meets another one on the record is
// begun again, as an application would; its latency includes that.
func (d txnDB) put(ctx context.Context, key string, value []byte) error {
	for {
		err := d.putOnce(ctx, key, value)
		if !tikverr.IsErrWriteConflict(err) || ctx.Err() != nil {
			return err
		}
	}
}

func (d txnDB) putOnce(ctx context.Context, key string, value []byte) error {
	txn, err := d.client.Begin()
	if err != nil {
		return err
	}
	txn.SetEnableAsyncCommit(true)
	txn.SetEnable1PC(true)
	if err := txn.Set(recordKey(key), value); err != nil {
		return errors.Join(err, txn.Rollback())
	}
	return txn.Commit(ctx)
}
