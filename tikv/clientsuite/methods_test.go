package clientsuite

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	tikverr "github.com/tikv/client-go/v2/error"
	"github.com/tikv/client-go/v2/kv"
	"github.com/tikv/client-go/v2/rawkv"
	ctikv "github.com/tikv/client-go/v2/tikv"
	"github.com/tikv/client-go/v2/txnkv"
	"github.com/tikv/client-go/v2/txnkv/transaction"
)

// method is one thing that client-go offers, and what must hold of it.
type method struct {
	name string
	run  func(s *session)
	// calm: the answer is only certain while nothing happens underneath, as a
	// request that is sent again after a lost answer shows its own effect.
	calm bool
}

// methods are those of all files.
var methods = [][]method{commitMethods, readMethods, lockMethods, sharedMethods, resolveMethods, pipelinedMethods, adminMethods, rawMethods, pdMethods}

// session is one run of one method, with keys of its own.
type session struct {
	*testing.T
	*cluster
	ctx    context.Context
	prefix string
	cl     *txnkv.Client
}

var runs atomic.Int64

// fresh is a prefix that no other run has, and that ends with a slash.
func fresh(name string) string { return fmt.Sprintf("%s/%04d/", name, runs.Add(1)) }

func newSession(t *testing.T, c *cluster, prefix string) *session {
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	t.Cleanup(cancel)
	return &session{T: t, cluster: c, ctx: ctx, prefix: prefix, cl: c.txn}
}

// TestMethods runs each method on the calm cluster.
func TestMethods(t *testing.T) {
	t.Parallel()
	c := sharedCluster(t)
	for _, group := range methods {
		for _, m := range group {
			t.Run(m.name, func(t *testing.T) {
				t.Parallel()
				m.run(newSession(t, c, fresh("m/"+m.name)))
			})
		}
	}
}

func (s *session) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatalf("%+v", err)
	}
}

// key is a key of this run.
func (s *session) key(format string, args ...any) []byte {
	return fmt.Appendf([]byte(s.prefix), format, args...)
}

// end is behind all keys of this run.
func (s *session) end() []byte { return []byte(strings.TrimSuffix(s.prefix, "/") + "0") }

// keys are n keys in ascending order.
func (s *session) keys(n int) (out [][]byte) {
	for i := range n {
		out = append(out, s.key("%05d", i))
	}
	return out
}

func (s *session) begin(opts ...ctikv.TxnOption) *transaction.KVTxn {
	s.Helper()
	txn, err := s.cl.Begin(opts...)
	s.must(err)
	return txn
}

func (s *session) pessimistic() *transaction.KVTxn {
	s.Helper()
	txn := s.begin()
	txn.SetPessimistic(true)
	return txn
}

// now is a new timestamp.
func (s *session) now() uint64 {
	s.Helper()
	ts, err := s.cl.CurrentTimestamp("global")
	s.must(err)
	return ts
}

// put commits keys and values, in pairs.
func (s *session) put(kvs ...string) uint64 {
	s.Helper()
	txn := s.begin()
	for i := 0; i < len(kvs); i += 2 {
		s.must(txn.Set(s.key("%s", kvs[i]), []byte(kvs[i+1])))
	}
	s.must(txn.Commit(s.ctx))
	return txn.CommitTS()
}

// fill commits n keys, of s.keys, and cuts the regions so that they lie in as
// many as pieces says.
func (s *session) fill(n, pieces int) {
	s.Helper()
	txn := s.begin()
	keys := s.keys(n)
	for i, k := range keys {
		s.must(txn.Set(k, fmt.Appendf(nil, "v%d", i)))
	}
	s.must(txn.Commit(s.ctx))
	var at [][]byte
	for i := 1; i < pieces; i++ {
		at = append(at, keys[i*n/pieces])
	}
	s.split(at...)
}

func (s *session) split(at ...[]byte) {
	s.Helper()
	if len(at) > 0 {
		_, err := s.cl.SplitRegions(s.ctx, at, false, nil)
		s.must(err)
	}
}

// want reads keys and values, in pairs, with a new transaction; the value "-" is
// an absent key.
func (s *session) want(kvs ...string) {
	s.Helper()
	txn := s.begin()
	for i := 0; i < len(kvs); i += 2 {
		s.wantIn(txn, kvs[i], kvs[i+1])
	}
}

type getter interface {
	Get(context.Context, []byte, ...kv.GetOption) (kv.ValueEntry, error)
}

func (s *session) wantIn(from getter, key, value string) {
	s.Helper()
	v, err := from.Get(s.ctx, s.key("%s", key))
	switch {
	case value == "-":
		if !tikverr.IsErrNotFound(err) {
			s.Fatalf("key %s is %q (%v), want none", key, v.Value, err)
		}
	case err != nil || string(v.Value) != value:
		s.Fatalf("key %s is %q (%v), want %q", key, v.Value, err, value)
	}
}

// iterator is what Iter and IterReverse return.
type iterator interface {
	Valid() bool
	Key() []byte
	Value() []byte
	Next() error
	Close()
}

// drain returns the keys of an iterator, without the prefix.
func (s *session) drain(it iterator, err error) (out []string) {
	s.Helper()
	s.must(err)
	defer it.Close()
	for it.Valid() {
		out = append(out, strings.TrimPrefix(string(it.Key()), s.prefix))
		s.must(it.Next())
	}
	return out
}

func (s *session) raw() *rawkv.Client { return s.raws[kvrpcpb.APIVersion_V1] }

// wantErr fails unless err is of type E, which it returns.
func wantErr[E error](s *session, err error) (e E) {
	s.Helper()
	if !errors.As(err, &e) {
		s.Fatalf("error %v (%T), want %T", err, err, e)
	}
	return e
}
