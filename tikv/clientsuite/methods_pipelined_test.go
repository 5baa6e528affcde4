package clientsuite

import (
	"bytes"
	"fmt"

	ctikv "github.com/tikv/client-go/v2/tikv"
)

var pipelinedMethods = []method{
	{name: "pipelined-commit", run: (*session).pipelinedCommit},
	{name: "pipelined-rollback", run: (*session).pipelinedRollback},
	{name: "pipelined-conflict", run: (*session).pipelinedConflict},
}

// pipelinedCommit streams writes out, over several regions, reads them back
// while they are flushed, changes some, and commits.
func (s *session) pipelinedCommit() {
	const n = 1200
	keys := s.keys(n)
	s.split(keys[n/3], keys[2*n/3])
	s.put("00000", "before", "01199", "before")
	txn := s.begin(ctikv.WithDefaultPipelinedTxn())
	flush := func() {
		s.Helper()
		_, err := txn.GetMemBuffer().Flush(true)
		s.must(err)
	}
	for i, k := range keys {
		s.must(txn.Set(k, fmt.Appendf(nil, "v%d", i)))
		if i%300 == 299 {
			flush()
		}
	}
	s.must(txn.Delete(keys[7])) // flushed before
	s.must(txn.Set(keys[8], []byte("again")))
	flush()
	s.must(txn.GetMemBuffer().FlushWait())
	s.wantIn(txn, "00005", "v5")
	s.wantIn(txn, "00008", "again")
	s.wantIn(txn, "00007", "-")
	got, err := txn.BatchGet(s.ctx, append(keys[:20:20], keys[n-1], s.key("nobody")))
	s.must(err)
	if len(got) != 20 || !bytes.Equal(got[string(keys[n-1])].Value, fmt.Appendf(nil, "v%d", n-1)) {
		s.Fatalf("the buffer has %d keys, %q", len(got), got[string(keys[n-1])].Value)
	}
	s.must(txn.Commit(s.ctx))
	read := s.begin()
	s.wantIn(read, "00007", "-")
	s.wantIn(read, "00008", "again")
	if got := s.drain(read.Iter([]byte(s.prefix), s.end())); len(got) != n-1 {
		s.Fatalf("%d keys", len(got))
	}
	eventually(s, "the end of all locks", func() bool { return len(s.locks([]byte(s.prefix), s.end())) == 0 })
}

func (s *session) pipelinedRollback() {
	s.put("00003", "before")
	txn := s.begin(ctikv.WithPipelinedTxn(2, 2, 0))
	keys := s.keys(100)
	for _, k := range keys {
		s.must(txn.Set(k, []byte("x")))
	}
	_, err := txn.GetMemBuffer().Flush(true)
	s.must(err)
	s.must(txn.GetMemBuffer().FlushWait())
	s.must(txn.Rollback())
	s.want("00003", "before", "00004", "-")
	eventually(s, "the end of all locks", func() bool { return len(s.locks([]byte(s.prefix), s.end())) == 0 })
	s.put("00003", "after")
}

// pipelinedConflict: a flush that meets a newer version fails.
func (s *session) pipelinedConflict() {
	txn := s.begin(ctikv.WithDefaultPipelinedTxn())
	s.put("k", "newer")
	s.must(txn.Set(s.key("k"), []byte("older")))
	_, err := txn.GetMemBuffer().Flush(true)
	if err == nil {
		err = txn.GetMemBuffer().FlushWait()
	}
	if err == nil {
		err = txn.Commit(s.ctx)
	}
	if err == nil {
		s.Fatal("an older transaction overwrote a newer one")
	}
	_ = txn.Rollback()
	s.want("k", "newer")
}
