package clientsuite

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/tikv/client-go/v2/config"
	tikverr "github.com/tikv/client-go/v2/error"
	"github.com/tikv/client-go/v2/kv"
	"github.com/tikv/client-go/v2/oracle"
	"github.com/tikv/client-go/v2/rawkv"
	ctikv "github.com/tikv/client-go/v2/tikv"
	"github.com/tikv/client-go/v2/txnkv"
)

// examples do, in its order, what each program in client-go's examples folder
// does, with the keys that it has and clients of its own. They run one after the
// other, as the programs share keys.
var examples = []struct {
	name string
	run  func(s *session)
}{
	{"rawkv", exampleRaw}, {"txnkv", exampleTxn}, {"1pc_txn", exampleOnePhase}, {"async_commit", exampleAsync},
	{"pessimistic_txn", examplePessimistic}, {"delete_range", exampleDeleteRange}, {"unsafedestoryrange", exampleDestroyRange},
	{"gcworker", exampleGC}, {"keyspace", exampleKeyspace},
}

func runExamples(t *testing.T, c *cluster) {
	for _, e := range examples {
		t.Run(e.name, func(t *testing.T) {
			s := newSession(t, c, "")
			cl, err := txnkv.NewClient([]string{c.url})
			s.must(err)
			defer cl.Close()
			s.cl = cl
			e.run(s)
		})
	}
}

func exampleRaw(s *session) {
	cl, err := rawkv.NewClient(s.ctx, []string{s.url}, config.DefaultConfig().Security)
	s.must(err)
	defer cl.Close()
	if cl.ClusterID() != s.pd.ClusterID() {
		s.Fatalf("cluster %d", cl.ClusterID())
	}
	key, value := []byte("Company"), []byte("PingCAP")
	s.must(cl.Put(s.ctx, key, value))
	if v, err := cl.Get(s.ctx, key); err != nil || !bytes.Equal(v, value) {
		s.Fatalf("%q (%v)", v, err)
	}
	s.must(cl.Delete(s.ctx, key))
	if v, err := cl.Get(s.ctx, key); err != nil || v != nil {
		s.Fatalf("%q (%v)", v, err)
	}
}

func exampleTxn(s *session) {
	s.put("key1", "value1", "key2", "value2")
	s.want("key1", "value1")
	if got := s.drain(s.begin().Iter([]byte("key"), nil)); len(got) != 2 || got[0] != "key1" || got[1] != "key2" {
		s.Fatal(got)
	}
	txn := s.begin()
	s.must(txn.Delete([]byte("key1")))
	s.must(txn.Delete([]byte("key2")))
	s.must(txn.Commit(s.ctx))
	s.want("key1", "-", "key2", "-")
}

func exampleOnePhase(s *session) {
	txn := s.begin()
	txn.SetEnable1PC(true)
	s.must(txn.Set([]byte("k1"), []byte("k1")))
	s.must(txn.Set([]byte("k2"), []byte("k2")))
	s.must(txn.Commit(s.ctx))
	s.want("k1", "k1", "k2", "k2")
}

func exampleAsync(s *session) {
	txn := s.begin()
	txn.SetEnableAsyncCommit(true)
	s.must(txn.Set([]byte("k1"), []byte("k1")))
	s.must(txn.Set([]byte("k2"), []byte("k2")))
	s.must(txn.Commit(s.ctx))
	s.want("k1", "k1", "k2", "k2")
}

func examplePessimistic(s *session) {
	k1, k2 := []byte("k1"), []byte("k2")
	one, two := s.pessimistic(), s.pessimistic()
	s.must(one.LockKeysWithWaitTime(s.ctx, kv.LockAlwaysWait, k1))
	s.must(one.LockKeysWithWaitTime(s.ctx, kv.LockAlwaysWait, k2))
	if err := two.LockKeysWithWaitTime(s.ctx, kv.LockNoWait, k2); !errors.Is(err, tikverr.ErrLockAcquireFailAndNoWaitSet) {
		s.Fatal(err)
	}
	if err := two.LockKeysWithWaitTime(s.ctx, 200, k2); !errors.Is(err, tikverr.ErrLockWaitTimeout) {
		s.Fatal(err)
	}
	s.must(one.Set(k1, k1))
	s.must(one.Commit(s.ctx))
	eventually(s, "the lock of a key that was not written", func() bool {
		return two.LockKeysWithWaitTime(s.ctx, kv.LockNoWait, k2) == nil
	})
	for _, k := range [][]byte{k1, k2} {
		s.must(two.Set(k, k))
		s.must(two.Delete(k))
	}
	s.must(two.Commit(s.ctx))
	s.want("k1", "-", "k2", "-")
}

// alphabet commits 40 keys, ten of each letter.
func alphabet(s *session) {
	for _, letter := range "abcd" {
		txn := s.begin()
		for digit := range 10 {
			s.must(txn.Set(fmt.Appendf(nil, "%c%d", letter, digit), []byte{byte(letter), byte(digit)}))
		}
		s.must(txn.Commit(s.ctx))
	}
	if got := s.drain(s.begin().Iter([]byte("a"), []byte("e"))); len(got) != 40 {
		s.Fatalf("%d keys", len(got))
	}
}

func exampleDeleteRange(s *session) {
	alphabet(s)
	for _, r := range []struct {
		start, end string
		left       int
	}{{"b", "c0", 30}, {"d0", "d0", 30}, {"a", "e", 0}} {
		_, err := s.cl.DeleteRange(s.ctx, []byte(r.start), []byte(r.end), 1)
		s.must(err)
		if got := s.drain(s.begin().Iter([]byte("a"), []byte("e"))); len(got) != r.left {
			s.Fatalf("after [%s, %s): %q", r.start, r.end, got)
		}
	}
}

func exampleDestroyRange(s *session) {
	alphabet(s)
	for _, r := range []struct {
		start, end string
		left       int
	}{{"b", "c0", 30}, {"b", "c0", 30}, {"d0", "d0", 30}, {"a", "e", 0}} {
		s.must(s.cl.UnsafeDestroyRange(s.ctx, []byte(r.start), []byte(r.end)))
		if got := s.drain(s.begin().Iter([]byte("a"), []byte("e"))); len(got) != r.left {
			s.Fatalf("after [%s, %s): %q", r.start, r.end, got)
		}
	}
}

func exampleGC(s *session) {
	safe := oracle.GoTimeToTS(physicalTime(s.now()).AddDate(0, 0, -7))
	got, err := s.cl.GC(s.ctx, safe, ctikv.WithConcurrency(10))
	if err != nil || got != safe {
		s.Fatalf("%d (%v), want %d", got, err, safe)
	}
}

func exampleKeyspace(s *session) {
	cl, err := txnkv.NewClient([]string{s.url}, txnkv.WithAPIVersion(kvrpcpb.APIVersion_V2), txnkv.WithKeyspace("DEFAULT"))
	s.must(err)
	defer cl.Close()
	s.cl = cl
	s.put("shared-logical-key", "value")
	s.want("shared-logical-key", "value")
}
