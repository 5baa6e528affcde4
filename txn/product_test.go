package txn_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/datadriven"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"

	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/txn/txntest"
)

// The product of what key k can look like to transaction 100 and what can be
// asked of it. testdata/product shows every answer; the tests here check what
// must hold whatever the answer is. A new state or action is a line here, and
// no combination can be forgotten.

// productTxn is the start timestamp of the transaction that acts.
const productTxn = 100

// scripted is a name and the script that goes with it; requests are parted by
// a line of "--".
type scripted struct{ name, script string }

// productStates bring k into a state. 50, 100 and 150 are start timestamps;
// "own" means 100. Locks of 100 have a ttl of 5 ms.
var productStates = []scripted{
	{"nothing", ""},
	{"own lock, primary", "prewrite start=100 primary=k ttl=5 min_commit=101\nput k own"},
	{"own lock, secondary", "prewrite start=100 primary=p ttl=5\nput k own"},
	{"own lock, long value", "prewrite start=100 primary=k ttl=5\nput k long"},
	{"own async lock, primary", "prewrite start=100 primary=k ttl=5 async secondaries=s\nput k own"},
	{"own async lock, secondary", "prewrite start=100 primary=p ttl=5 async\nput k own"},
	{"own lock, pessimistic transaction", own("pessimistic-lock", "primary=k") + "\n--\nprewrite start=100 for_update=105 primary=k ttl=5\nput k own held"},
	{"own pessimistic lock, primary", own("pessimistic-lock", "primary=k")},
	{"own pessimistic lock, secondary", own("pessimistic-lock", "primary=p")},
	{"own pessimistic lock, forced", write(150, 160) + "\n--\n" + own("pessimistic-lock", "primary=k force")},
	{"own flushed lock", "flush start=100 primary=k ttl=5 generation=1\nput k own"},
	{"own share", own("pessimistic-lock", "primary=p shared")},
	{"own share, prewritten", own("pessimistic-lock", "primary=p shared") + "\n--\n" + "prewrite start=100 for_update=105 primary=p ttl=5\nshared k held"},
	{"own share and another's", own("pessimistic-lock", "primary=p shared") + "\n--\n" + share(150)},
	{"own prewritten share and another's", share(150) + "\n--\n" + own("pessimistic-lock", "primary=p shared") + "\n--\n" + "prewrite start=100 for_update=105 primary=p ttl=5\nshared k held"},
	{"others' shares", share(50) + "\n--\n" + share(150)},
	{"others' shares, shrinking", share(50) + "\n--\n" + share(150) + "\n--\npessimistic-lock start=170 for_update=170 primary=k ttl=5 no-wait\nk"},
	{"another's lock, older", "prewrite start=50 primary=k ttl=1000\nput k other"},
	{"another's lock, younger", "prewrite start=150 primary=k ttl=1000\nput k other"},
	{"another's async lock, older", "prewrite start=50 primary=k ttl=1000 async\nput k other"},
	{"another's async lock, younger", "prewrite start=150 primary=k ttl=1000 async\nput k other"},
	{"another's pessimistic lock", "pessimistic-lock start=150 for_update=150 primary=k ttl=1000\nk"},
	{"another's flushed lock", "flush start=150 primary=k ttl=1000 generation=1\nput k other"},
	{"a write before", write(50, 60)},
	{"a delete before", write(50, 60) + "\n--\nprewrite start=70 primary=k\ndel k\n--\ncommit start=70 commit=80\nk"},
	{"a write over start_ts", write(50, 130)},
	{"a write after", write(150, 160)},
	{"a lock record after", write(50, 60) + "\n--\nprewrite start=150 primary=k\nlock k\n--\ncommit start=150 commit=160\nk"},
	{"a rollback after", write(50, 60) + "\n--\ncleanup start=160\nk"},
	{"a commit at start_ts", write(50, 100)},
	{"own commit", ownCommit},
	{"own commit, a write after", ownCommit + "\n--\n" + write(150, 160)},
	{"own commit, another's lock", ownCommit + "\n--\nprewrite start=150 primary=k ttl=1000\nput k other"},
	{"own commit, and a late forced lock", ownCommit + "\n--\npessimistic-lock start=100 for_update=105 primary=k ttl=5 force\nk"},
	{"own 1PC commit", "prewrite start=100 primary=k ttl=5 1pc\nput k own"},
	{"own rollback", "rollback start=100\nk"},
	{"own rollback, protected", "cleanup start=100\nk"},
	{"own rollback, a write after", "rollback start=100\nk\n--\n" + write(150, 160)},
	{"own rollback, another's lock", "cleanup start=100\nk\n--\nprewrite start=150 primary=k ttl=1000\nput k other"},
	{"own rollback under a commit at start_ts", write(50, 100) + "\n--\ncleanup start=100\nk"},
}

const ownCommit = "prewrite start=100 primary=k ttl=5\nput k own\n--\ncommit start=100 commit=110\nk"

func own(cmd, args string) string {
	return cmd + " start=100 for_update=105 ttl=5 no-wait " + args + "\nk"
}

func share(ts int) string {
	return fmt.Sprintf("pessimistic-lock start=%d for_update=%d primary=p ttl=1000 shared no-wait\nk", ts, ts)
}

func write(start, commit int) string {
	return fmt.Sprintf("prewrite start=%d primary=k\nput k other\n--\ncommit start=%d commit=%d\nk", start, start, commit)
}

// productActions are what transaction 100, and those who meet it, ask for.
var productActions = []scripted{
	{"prewrite", "prewrite start=100 primary=k ttl=5\nput k own"},
	{"prewrite-secondary", "prewrite start=100 primary=p ttl=5\nput k own"},
	{"prewrite-retry", "prewrite start=100 primary=k ttl=5 retry\nput k own"},
	{"prewrite-insert", "prewrite start=100 primary=k ttl=5\ninsert k own"},
	{"prewrite-delete", "prewrite start=100 primary=k ttl=5\ndel k"},
	{"prewrite-lock", "prewrite start=100 primary=k ttl=5\nlock k"},
	{"prewrite-check-not-exists", "prewrite start=100 primary=k ttl=5\ncheck-not-exists k"},
	{"prewrite-skip-checks", "prewrite start=100 primary=k ttl=5 skip-checks\nput k own"},
	{"prewrite-assert-exist", "prewrite start=100 primary=k ttl=5 strict\nput k own assert=exist"},
	{"prewrite-assert-not-exist", "prewrite start=100 primary=k ttl=5 strict\nput k own assert=not-exist"},
	{"prewrite-async", "prewrite start=100 primary=k ttl=5 async secondaries=s\nput k own"},
	{"prewrite-async-bounded", "prewrite start=100 primary=k ttl=5 async secondaries=s max_commit=101\nput k own"},
	{"prewrite-1pc", "prewrite start=100 primary=k ttl=5 1pc\nput k own"},
	{"prewrite-held", "prewrite start=100 for_update=105 primary=k ttl=5\nput k own held"},
	{"prewrite-held-expect", "prewrite start=100 for_update=105 primary=k ttl=5\nput k own held expect=105"},
	{"prewrite-held-assert", "prewrite start=100 for_update=105 primary=k ttl=5 strict\nput k own held assert=not-exist"},
	{"prewrite-held-async", "prewrite start=100 for_update=105 primary=k ttl=5 async\nput k own held"},
	{"prewrite-held-1pc", "prewrite start=100 for_update=105 primary=k ttl=5 1pc\nput k own held"},
	{"prewrite-not-held", "prewrite start=100 for_update=105 primary=k ttl=5\nput k own"},
	{"prewrite-not-held-retry", "prewrite start=100 for_update=105 primary=k ttl=5 retry\nput k own"},
	{"prewrite-constraint", "prewrite start=100 for_update=105 primary=k ttl=5\ninsert k own constraint"},
	{"prewrite-share", "prewrite start=100 for_update=105 primary=p ttl=5\nshared k held"},
	{"flush", "flush start=100 primary=k ttl=5 generation=1\nput k own"},
	{"flush-second", "flush start=100 primary=k ttl=5 generation=2\nput k own2"},
	{"pessimistic-lock", own("pessimistic-lock", "primary=k")},
	{"pessimistic-lock-values", own("pessimistic-lock", "primary=k values")},
	{"pessimistic-lock-not-exist", own("pessimistic-lock", "primary=k not-exist")},
	{"pessimistic-lock-if-exists", own("pessimistic-lock", "primary=k values only-if-exists")},
	{"pessimistic-lock-force", own("pessimistic-lock", "primary=k force values")},
	{"pessimistic-lock-shared", own("pessimistic-lock", "primary=p shared values")},
	{"pessimistic-rollback", "pessimistic-rollback start=100 for_update=200\nk"},
	{"pessimistic-rollback-region", "pessimistic-rollback start=100 for_update=200"},
	{"heartbeat", "heartbeat start=100 ttl=7 min_commit=300\nk"},
	{"commit", "commit start=100 commit=110\nk"},
	{"commit-low", "commit start=100 commit=101\nk"},
	{"rollback", "rollback start=100\nk"},
	{"cleanup", "cleanup start=100\nk"},
	{"cleanup-alive", "cleanup start=100 current=1ms\nk"},
	{"status", "check-txn-status start=100 caller=200 current=1ms\nk"},
	{"status-or-rollback", "check-txn-status start=100 caller=200 current=1ms rollback-if-not-exist\nk"},
	{"status-expired", "check-txn-status start=100 caller=200 current=10ms rollback-if-not-exist\nk"},
	{"status-expired-pessimistic", "check-txn-status start=100 caller=200 current=10ms rollback-if-not-exist resolving-pessimistic\nk"},
	{"status-forced-sync", "check-txn-status start=100 caller=200 current=10ms rollback-if-not-exist force-sync\nk"},
	{"status-unverified", "check-txn-status start=100 caller=200 current=max rollback-if-not-exist no-verify\nk"},
	{"check-secondary-locks", "check-secondary-locks start=100\nk"},
	{"resolve-commit", "resolve start=100 commit=110"},
	{"resolve-rollback", "resolve start=100"},
	{"resolve-commit-lite", "resolve start=100 commit=110\nk"},
	{"resolve-rollback-lite", "resolve start=100\nk"},
	{"get", "get ts=200\nk"},
	{"get-newest", "get ts=max\nk"},
	{"get-committed", "get ts=200 committed=100\nk"},
	{"get-resolved", "get ts=200 resolved=100\nk"},
	{"get-rc", "get ts=200 rc\nk"},
	{"get-check-ts", "get ts=105 check-ts\nk"},
	{"scan", "scan ts=200"},
	{"scan-reverse", "scan ts=200 reverse"},
	{"scan-check-ts", "scan ts=105 check-ts"},
	{"buffer-get", "buffer-get start=100\nk"},
	{"scan-lock", "scan-lock max=120"},
}

// requests runs a script and returns the last answer.
func (s *script) requests(text string) (answer string) {
	s.t.Helper()
	if text == "" {
		return ""
	}
	for _, one := range strings.Split(text, "\n--\n") {
		line, input, _ := strings.Cut(one, "\n")
		name, args, err := datadriven.ParseLine(line)
		if err != nil {
			s.t.Fatalf("%s: %v", line, err)
		}
		answer = s.command(&datadriven.TestData{Pos: line, Cmd: name, CmdArgs: args, Input: input})
	}
	return answer
}

// inState calls f with a script that is in a state, and its count of writes.
func inState(t *testing.T, st scripted, f func(s *script, writes *int)) {
	t.Helper()
	s, writes := newScript(t), new(int)
	defer s.close()
	s.e.OnWrite = func(uint64, *kv.Batch) txntest.Outcome { *writes++; return txntest.Apply }
	s.requests(st.script)
	f(s, writes)
}

// oneLine makes answers of several lines one.
func oneLine(answer string) string {
	return strings.Join(strings.Fields(strings.TrimSuffix(strings.TrimPrefix(answer, "k:"), "\nend")), " ")
}

// TestProductAnswers shows every answer and what is stored then.
func TestProductAnswers(t *testing.T) {
	actions := map[string]scripted{}
	for _, a := range productActions {
		actions[a.name] = a
	}
	datadriven.RunTest(t, "testdata_product", func(t *testing.T, d *datadriven.TestData) string {
		if d.Cmd == "in-flight" {
			var out strings.Builder
			for _, a := range productActions {
				fmt.Fprintf(&out, "%s\n    %s\n", a.name, inFlight(t, a))
			}
			return out.String()
		}
		a, ok := actions[d.Cmd]
		if !ok {
			t.Fatalf("%s: no such action", d.Pos)
		}
		delete(actions, d.Cmd)
		var out strings.Builder
		for _, st := range productStates {
			inState(t, st, func(s *script, _ *int) {
				before := s.records("k")
				fmt.Fprintf(&out, "%s\n    %s\n", st.name, oneLine(s.requests(a.script)))
				if after := s.records("k"); after != before {
					fmt.Fprintf(&out, "    => %s\n", oneLine(after))
				}
			})
		}
		return out.String()
	})
	for name := range actions {
		t.Errorf("action %s has no table in testdata_product", name)
	}
}

// inFlight asks while another transaction's async-commit prewrite of k is on its
// way into the log: its lock is in memory only. The answer is one of now, or
// waits for the write and is then the one in that state.
func inFlight(t *testing.T, a scripted) (answer string) {
	t.Helper()
	st := productStates[slices.IndexFunc(productStates, func(st scripted) bool { return st.name == "another's async lock, older" })]
	var later string
	inState(t, st, func(s *script, _ *int) { later = s.requests(a.script) })
	synctest.Test(t, func(t *testing.T) {
		s := newScript(t)
		defer s.close()
		gate, once := make(chan struct{}), sync.Once{}
		s.e.OnWrite = func(uint64, *kv.Batch) txntest.Outcome {
			once.Do(func() { <-gate })
			return txntest.Apply
		}
		prewritten, answered := make(chan string, 1), make(chan string, 1)
		go func() { prewritten <- s.requests(st.script) }()
		synctest.Wait()
		go func() { answered <- s.requests(a.script) }()
		synctest.Wait()
		select {
		case now := <-answered:
			answer = "now: " + oneLine(now)
			close(gate)
		default:
			close(gate)
			if got := <-answered; got != later {
				t.Errorf("%s in flight: %s; afterwards: %s", a.name, got, later)
			}
			answer = "waits"
		}
		if got := <-prewritten; !strings.HasPrefix(got, "ok") {
			t.Errorf("%s in flight: the prewrite itself: %s", a.name, got)
		}
	})
	return answer
}

// fate is how transaction 100 ended on k, by the records.
type fate struct {
	committed  uint64
	rolledBack bool
}

func (s *script) fate() (f fate, lock *kvrpcpb.MvccLock) {
	s.t.Helper()
	r, err := s.s.MvccGetByKey(context.Background(), &kvrpcpb.MvccGetByKeyRequest{Context: s.e.Context([]byte("k")), Key: []byte("k")})
	if err != nil || r.RegionError != nil {
		s.t.Fatal(r, err)
	}
	for _, w := range r.Info.Writes {
		switch {
		case w.StartTs == productTxn && w.Type != kvrpcpb.Op_Rollback:
			if f.committed != 0 {
				s.t.Errorf("committed twice, at %d and %d", w.CommitTs, f.committed)
			}
			f.committed = w.CommitTs
		case w.StartTs == productTxn, w.CommitTs == productTxn && w.HasOverlappedRollback:
			f.rolledBack = true
		}
	}
	if l := r.Info.Lock; l != nil && l.StartTs == productTxn {
		lock = l
	}
	return f, lock
}

// check checks what must hold in every state; was is the fate before.
func (s *script) check(was fate) fate {
	s.t.Helper()
	f, lock := s.fate()
	if f.committed != 0 && f.rolledBack {
		s.t.Errorf("two fates: %+v", f)
	}
	if was.committed != 0 && f.committed != was.committed || was.rolledBack && !f.rolledBack {
		s.t.Errorf("the fate changed from %+v to %+v", was, f)
	}
	if lock != nil && lock.Type != kvrpcpb.Op_PessimisticLock && f.committed != 0 {
		s.t.Errorf("a prewritten lock beside the commit record: %v", lock)
	}
	if lock != nil && f.rolledBack {
		s.t.Errorf("a lock beside the rollback: %v", lock)
	}
	return f
}

// TestProductIsIdempotent: the same request twice gives the same answer, and
// the second one writes nothing (hazard 23).
func TestProductIsIdempotent(t *testing.T) {
	for _, st := range productStates {
		for _, a := range productActions {
			if a.name == vouched {
				continue
			}
			inState(t, st, func(s *script, writes *int) {
				f := s.check(fate{})
				first := s.requests(a.script)
				f = s.check(f)
				n := *writes
				second := s.requests(a.script)
				s.check(f)
				if a.name == "resolve-commit-lite" && first == "ok" && strings.HasPrefix(second, "lock not found") {
					return // it has dropped a lock that was never prewritten, whose transaction is said to be committed
				}
				if settled(first) != settled(second) || *writes != n {
					t.Errorf("%d more writes\nfirst: %s\nagain: %s", *writes-n, first, second)
				}
				if t.Failed() {
					t.Fatalf("state %q, action %q\n%s", st.name, a.name, s.records("k"))
				}
			})
		}
	}
}

// settled is what an answer says of the transaction's fate.
func settled(answer string) string {
	switch answer {
	case "LockNotExistRollback", "TTLExpireRollback":
		return "NoAction" // rolled back, first by this request and then before it
	case "TTLExpirePessimisticRollback":
		return "LockNotExistDoNothing" // the lock is gone
	}
	return answer
}

// vouched is the prewrite whose client vouches that the keys are new: it is not
// checked against their records.
const vouched = "prewrite-skip-checks"

// TestProductNeverTwoFates: after any request in any state, whatever is asked in
// any order, a fate that is settled stays, and the answers agree with it.
func TestProductNeverTwoFates(t *testing.T) {
	for i, st := range productStates {
		for j, a := range productActions {
			if a.name == vouched {
				continue
			}
			inState(t, st, func(s *script, _ *int) {
				s.requests(a.script)
				f := s.check(fate{})
				asked := []string{a.name}
				r := rand.New(rand.NewPCG(uint64(i), uint64(j)))
				for _, n := range r.Perm(len(productActions))[:12] {
					b := productActions[n]
					if b.name == vouched {
						continue
					}
					asked = append(asked, b.name)
					answer := s.requests(b.script)
					was := f
					f = s.check(f)
					s.agrees(b, answer, was, f)
					if t.Failed() {
						t.Fatalf("in state %q, after %q: %s\n%s", st.name, asked, answer, s.records("k"))
					}
				}
			})
		}
	}
}

// agrees checks the answer to action against the fates before and after it.
func (s *script) agrees(action scripted, answer string, was, f fate) {
	s.t.Helper()
	kind, _, _ := strings.Cut(action.script, " ")
	ok := strings.HasPrefix(answer, "ok")
	switch kind {
	case "prewrite", "flush":
		if ok && was.rolledBack && !strings.Contains(action.name, "check-not-exists") {
			s.t.Error("prewritten after a rollback")
		}
	case "pessimistic-lock":
		if ok && was.rolledBack {
			s.t.Error("locked after a rollback")
		}
	case "commit":
		if ok && f.committed == 0 || f.committed != 0 && was.committed != 0 && !ok {
			s.t.Errorf("commit and the records disagree: %+v", f)
		}
	case "rollback":
		if ok != f.rolledBack {
			s.t.Errorf("rollback and the records disagree: %+v", f)
		}
	case "cleanup", "check-txn-status", "check-secondary-locks":
		if was.committed != 0 && !strings.Contains(answer, "commit="+showTS(was.committed)) {
			s.t.Errorf("committed at %d, and the answer does not say so", was.committed)
		}
		if was.rolledBack && strings.Contains(answer, "commit=1") {
			s.t.Error("rolled back, and the answer says committed")
		}
	}
}
