package etcdkv

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
)

// Limits of one request. etcd is started with the same numbers (pd/etcd.go).
const (
	// TxnOpsMax is the number of operations in one transaction.
	TxnOpsMax = 1024
	// RequestBytesMax is the size of one transaction.
	RequestBytesMax = 10 << 20
	// scanPageKeysMax is the number of keys that one page of Scan reads.
	scanPageKeysMax = 4096
	// requestTimeout bounds every request, also where the caller's context has
	// no deadline. It is shorter than it could be: a leader that cannot write
	// for so long is of no use.
	requestTimeout = 10 * time.Second
)

// ErrNotLeader says that the leader key is no longer the writer's. The text is
// what PD clients look for.
var ErrNotLeader = errors.New("pd: not leader")

// Fence writes to etcd for as long as the leader key has the create revision
// that the leader's election gave it. Safe for concurrent use.
type Fence struct {
	kv        clientv3.KV
	leaderKey string
	rev       int64
	term      context.Context
	unknown   func(error)
}

// NewFence returns the fence of the leader whose election created leaderKey at
// revision rev. Writes are given up when term ends. unknown is called when the
// outcome of a write is unknown: it must end the term. The write may still
// arrive, and would replace what this leader writes after it; the next one's
// fence keeps it out.
func NewFence(term context.Context, kv clientv3.KV, leaderKey string, rev int64, unknown func(error)) *Fence {
	return &Fence{kv: kv, leaderKey: leaderKey, rev: rev, term: term, unknown: unknown}
}

// Rev is the revision at which the leader key was created.
func (f *Fence) Rev() int64 { return f.rev }

// Txn applies the operations atomically, or none of them and returns
// ErrNotLeader. Once it has begun it ends with the term or after
// requestTimeout, not with the caller: who gave up would leave an unknown
// outcome behind.
func (f *Fence) Txn(ctx context.Context, ops ...clientv3.Op) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("pd: write to etcd: %w", err)
	}
	if f.term.Err() != nil {
		return ErrNotLeader // nothing was sent
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(f.term, cancel)()
	return f.TxnUntil(ctx, ops...)
}

// TxnUntil is Txn for the leader's own writes, which end with ctx. Where that
// leaves the outcome unknown, the term ends.
func (f *Fence) TxnUntil(ctx context.Context, ops ...clientv3.Op) error {
	if len(ops) == 0 {
		return nil
	}
	if len(ops) > TxnOpsMax {
		return fmt.Errorf("pd: a transaction of %d operations is above the limit of %d", len(ops), TxnOpsMax)
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := f.kv.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(f.leaderKey), "=", f.rev)).
		Then(ops...).
		Commit()
	if err != nil {
		err = fmt.Errorf("pd: write to etcd: %w", err)
		if !refused(err) {
			f.unknown(err)
		}
		return err
	}
	if !resp.Succeeded {
		return ErrNotLeader
	}
	return nil
}

// refused reports whether etcd looked at a request and did not take it.
func refused(err error) bool {
	var e rpctypes.EtcdError
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code() {
	case codes.InvalidArgument, codes.ResourceExhausted:
		return true
	}
	return false
}

// Put writes one key.
func (f *Fence) Put(ctx context.Context, key string, value []byte) error {
	return f.Txn(ctx, clientv3.OpPut(key, string(value)))
}

// PutLarger writes one key, unless its value is larger already (by bytes: give
// numbers a fixed width). It is for what may only grow, whatever else goes wrong.
func (f *Fence) PutLarger(ctx context.Context, key string, value []byte) error {
	larger := clientv3.Compare(clientv3.Value(key), ">", string(value)) // false where there is no key
	return f.Txn(ctx, clientv3.OpTxn([]clientv3.Cmp{larger}, nil, []clientv3.Op{clientv3.OpPut(key, string(value))}))
}

// Delete removes one key.
func (f *Fence) Delete(ctx context.Context, key string) error {
	return f.Txn(ctx, clientv3.OpDelete(key))
}

// Get reads one key; ok is false where it does not exist.
func (f *Fence) Get(ctx context.Context, key string) (value []byte, ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := f.kv.Get(ctx, key)
	if err != nil {
		return nil, false, fmt.Errorf("pd: read %s from etcd: %w", key, err)
	}
	if len(resp.Kvs) == 0 {
		return nil, false, nil
	}
	return resp.Kvs[0].Value, true, nil
}

// Scan calls fn for every key that starts with prefix, in key order, and stops
// at fn's first error. Long ranges are read page by page, all pages at the
// revision of the first.
func (f *Fence) Scan(ctx context.Context, prefix string, fn func(key string, value []byte) error) error {
	from, end, rev := prefix, clientv3.GetPrefixRangeEnd(prefix), int64(0)
	for {
		resp, err := f.page(ctx, from, end, rev)
		if err != nil {
			return fmt.Errorf("pd: scan %s in etcd: %w", prefix, err)
		}
		for _, kv := range resp.Kvs {
			if err := fn(string(kv.Key), kv.Value); err != nil {
				return err
			}
		}
		if !resp.More {
			return nil
		}
		rev = resp.Header.Revision
		from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
}

func (f *Fence) page(ctx context.Context, from, end string, rev int64) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return f.kv.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(scanPageKeysMax),
		clientv3.WithRev(rev))
}
