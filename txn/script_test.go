package txn_test

import (
	"context"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/datadriven"
	"github.com/pingcap/kvproto/pkg/errorpb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"

	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/txn"
	"github.com/copradb/copra/txn/txntest"
)

// TestScripts runs the golden scripts. Every command is one request; see
// script.run for the list. Timestamps are numbers, or "100ms" and "100ms+3"
// where the physical part matters, or "max". Commands with bg=name run in the
// background, join waits for them on the fake clock.
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		synctest.Test(t, func(t *testing.T) {
			s := newScript(t)
			defer s.close()
			datadriven.RunTest(t, path, s.run)
		})
	})
}

type script struct {
	t    *testing.T
	e    *txntest.Engine
	s    *txn.Store
	next []txntest.Outcome // of the next writes
	bg   map[string]chan string
}

func newScript(t *testing.T) *script {
	e, err := txntest.New()
	if err != nil {
		t.Fatal(err)
	}
	s := &script{t: t, e: e, bg: map[string]chan string{}}
	e.OnWrite = func(uint64, *kv.Batch) txntest.Outcome {
		if len(s.next) == 0 {
			return txntest.Apply
		}
		o := s.next[0]
		s.next = s.next[1:]
		return o
	}
	s.s = txn.NewStore(e, txn.Options{Limits: txn.Limits{ValueBytesMax: 4096}, LatchSlots: 64})
	return s
}

func (s *script) close() {
	s.s.Close()
	if err := s.e.Close(); err != nil {
		s.t.Error(err)
	}
}

func (s *script) run(t *testing.T, d *datadriven.TestData) string {
	synctest.Wait() // what the last command set going in the background has settled
	var name string
	if d.HasArg("bg") {
		d.ScanArgs(t, "bg", &name)
	}
	if name == "" {
		return s.command(d) + "\n"
	}
	done := make(chan string, 1)
	s.bg[name] = done
	go func() { done <- s.command(d) }()
	synctest.Wait()
	select {
	case out := <-done:
		delete(s.bg, name)
		return out + "\n"
	default:
		return "waiting\n"
	}
}

// arg helpers

func (s *script) ts(d *datadriven.TestData, name string) uint64 {
	if !d.HasArg(name) {
		return 0
	}
	var v string
	d.ScanArgs(s.t, name, &v)
	return parseTS(s.t, v)
}

func parseTS(t *testing.T, v string) uint64 {
	if v == "max" {
		return math.MaxUint64
	}
	ms, logical, ok := strings.Cut(v, "ms")
	if !ok {
		ms, logical = "0", v
	}
	if logical == "" {
		logical = "0"
	}
	p, err1 := strconv.ParseUint(ms, 10, 64)
	l, err2 := strconv.ParseUint(strings.TrimPrefix(logical, "+"), 10, 64)
	if err1 != nil || err2 != nil {
		t.Fatalf("bad timestamp %q", v)
	}
	return p<<18 + l
}

func showTS(ts uint64) string {
	switch {
	case ts == math.MaxUint64:
		return "max"
	case ts>>18 == 0:
		return strconv.FormatUint(ts, 10)
	case ts&(1<<18-1) == 0:
		return fmt.Sprintf("%dms", ts>>18)
	}
	return fmt.Sprintf("%dms+%d", ts>>18, ts&(1<<18-1))
}

func (s *script) str(d *datadriven.TestData, name string) string {
	if !d.HasArg(name) {
		return ""
	}
	var v string
	d.ScanArgs(s.t, name, &v)
	return v
}

func (s *script) keys(d *datadriven.TestData) [][]byte {
	var out [][]byte
	for _, f := range strings.Fields(d.Input) {
		out = append(out, []byte(f))
	}
	return out
}

func (s *script) ctx(d *datadriven.TestData, key []byte) *kvrpcpb.Context {
	rc := s.e.Context(key)
	rc.IsRetryRequest = d.HasArg("retry")
	if d.HasArg("rc") {
		rc.IsolationLevel = kvrpcpb.IsolationLevel_RC
	}
	if d.HasArg("check-ts") {
		rc.IsolationLevel = kvrpcpb.IsolationLevel_RCCheckTS
	}
	if ts := s.ts(d, "resolved"); ts != 0 {
		rc.ResolvedLocks = []uint64{ts}
	}
	if ts := s.ts(d, "committed"); ts != 0 {
		rc.CommittedLocks = []uint64{ts}
	}
	return rc
}

// value turns "long" into a value that does not fit into a record.
func value(v string) []byte {
	if v == "long" || strings.HasPrefix(v, "long-") {
		return []byte(strings.Repeat(v, 80))
	}
	return []byte(v)
}

func showValue(v []byte) string {
	if len(v) > 255 {
		return fmt.Sprintf("%s…(%d bytes)", v[:len(v)/80], len(v))
	}
	return strconv.Quote(string(v))
}

func (s *script) mutations(d *datadriven.TestData, req *kvrpcpb.PrewriteRequest) {
	for i, line := range strings.Split(strings.TrimSpace(d.Input), "\n") {
		f := strings.Fields(line)
		m := &kvrpcpb.Mutation{Key: []byte(f[1])}
		rest := f[2:]
		switch f[0] {
		case "put", "insert":
			m.Op = kvrpcpb.Op_Put
			if f[0] == "insert" {
				m.Op = kvrpcpb.Op_Insert
			}
			m.Value, rest = value(f[2]), f[3:]
		case "del":
			m.Op = kvrpcpb.Op_Del
		case "lock":
			m.Op = kvrpcpb.Op_Lock
		case "check-not-exists":
			m.Op = kvrpcpb.Op_CheckNotExists
		case "shared":
			m.Op = kvrpcpb.Op_SharedLock
		default:
			s.t.Fatalf("unknown mutation %q", line)
		}
		action := kvrpcpb.PrewriteRequest_SKIP_PESSIMISTIC_CHECK
		for _, opt := range rest {
			switch k, v, _ := strings.Cut(opt, "="); k {
			case "assert":
				m.Assertion = map[string]kvrpcpb.Assertion{"exist": kvrpcpb.Assertion_Exist, "not-exist": kvrpcpb.Assertion_NotExist}[v]
			case "held":
				action = kvrpcpb.PrewriteRequest_DO_PESSIMISTIC_CHECK
			case "constraint":
				action = kvrpcpb.PrewriteRequest_DO_CONSTRAINT_CHECK
			case "expect":
				req.ForUpdateTsConstraints = append(req.ForUpdateTsConstraints,
					&kvrpcpb.PrewriteRequest_ForUpdateTSConstraint{Index: uint32(i), ExpectedForUpdateTs: parseTS(s.t, v)})
			default:
				s.t.Fatalf("unknown option %q", opt)
			}
		}
		req.Mutations = append(req.Mutations, m)
		if req.ForUpdateTs != 0 {
			req.PessimisticActions = append(req.PessimisticActions, action)
		}
	}
}

func showRegionError(e *errorpb.Error) string {
	v := reflect.ValueOf(e).Elem()
	for i := range v.NumField() {
		if f := v.Field(i); f.Kind() == reflect.Pointer && !f.IsNil() {
			return "region error: " + v.Type().Field(i).Name
		}
	}
	return "region error: " + e.Message
}

func showLock(l *kvrpcpb.LockInfo) string {
	if l.LockType == kvrpcpb.Op_SharedLock {
		out := fmt.Sprintf("%s %s by:", l.LockType, l.Key)
		for _, h := range l.SharedLockInfos {
			out += "\n    " + showLock(h)
		}
		return out
	}
	out := fmt.Sprintf("%s %s@%s primary=%s ttl=%d", l.LockType, l.Key, showTS(l.LockVersion), l.PrimaryLock, l.LockTtl)
	if l.LockForUpdateTs != 0 {
		out += " for_update=" + showTS(l.LockForUpdateTs)
	}
	if l.MinCommitTs != 0 {
		out += " min_commit=" + showTS(l.MinCommitTs)
	}
	if l.UseAsyncCommit {
		out += fmt.Sprintf(" async secondaries=%s", l.Secondaries)
	}
	return out
}

func showKeyError(e *kvrpcpb.KeyError) string {
	switch {
	case e.Locked != nil:
		return "locked: " + showLock(e.Locked)
	case e.Conflict != nil:
		c := e.Conflict
		return fmt.Sprintf("conflict: %s key=%s start=%s with start=%s commit=%s", c.Reason, c.Key,
			showTS(c.StartTs), showTS(c.ConflictTs), showTS(c.ConflictCommitTs))
	case e.AlreadyExist != nil:
		return fmt.Sprintf("already exists: %s", e.AlreadyExist.Key)
	case e.Deadlock != nil:
		out := fmt.Sprintf("deadlock: lock=%s key=%s deadlock_key=%s chain:", showTS(e.Deadlock.LockTs), e.Deadlock.LockKey, e.Deadlock.DeadlockKey)
		for _, w := range e.Deadlock.WaitChain {
			out += fmt.Sprintf(" %s->%s(%s)", showTS(w.Txn), showTS(w.WaitForTxn), w.Key)
		}
		return out
	case e.CommitTsExpired != nil:
		c := e.CommitTsExpired
		return fmt.Sprintf("commit ts expired: key=%s commit=%s min_commit=%s", c.Key, showTS(c.AttemptedCommitTs), showTS(c.MinCommitTs))
	case e.TxnNotFound != nil:
		return fmt.Sprintf("txn not found: start=%s primary=%s", showTS(e.TxnNotFound.StartTs), e.TxnNotFound.PrimaryKey)
	case e.AssertionFailed != nil:
		a := e.AssertionFailed
		return fmt.Sprintf("assertion failed: key=%s %s existing start=%s commit=%s", a.Key, a.Assertion, showTS(a.ExistingStartTs), showTS(a.ExistingCommitTs))
	case e.PrimaryMismatch != nil:
		return "primary mismatch: " + showLock(e.PrimaryMismatch.LockInfo)
	case e.TxnLockNotFound != nil:
		return fmt.Sprintf("lock not found: %s", e.TxnLockNotFound.Key)
	}
	return "abort: " + e.Abort
}

// failure shows what went wrong, or "".
func failure(err error, re *errorpb.Error, kes ...*kvrpcpb.KeyError) string {
	if err != nil {
		return "error: " + err.Error()
	}
	if re != nil {
		return showRegionError(re)
	}
	var out []string
	for _, ke := range kes {
		if ke != nil {
			out = append(out, showKeyError(ke))
		}
	}
	return strings.Join(out, "\n")
}

// orOK returns the failure if there is one.
func orOK(fail, ok string) string {
	if fail != "" {
		return fail
	}
	return ok
}

// records shows everything that is stored of a key.
func (s *script) records(key string) string {
	r, err := s.s.MvccGetByKey(context.Background(), &kvrpcpb.MvccGetByKeyRequest{Context: s.e.Context([]byte(key)), Key: []byte(key)})
	if err != nil || r.RegionError != nil {
		return failure(err, r.GetRegionError())
	}
	var out []string
	if l := r.Info.Lock; l != nil {
		locks, err := s.s.KvScanLock(context.Background(), &kvrpcpb.ScanLockRequest{
			Context: s.e.Context([]byte(key)), MaxVersion: math.MaxUint64, StartKey: []byte(key), EndKey: append([]byte(key), 0),
		})
		line := "  lock " + orOK(failure(err, locks.GetRegionError(), locks.GetError()), showLock(locks.GetLocks()[0]))
		if l.ShortValue != nil {
			line += " " + showValue(l.ShortValue)
		}
		for _, ts := range l.RollbackTs {
			line += " rolled-back=" + showTS(ts)
		}
		out = append(out, line)
	}
	for _, w := range r.Info.Writes {
		line := fmt.Sprintf("  write %s@%s start=%s", w.Type, showTS(w.CommitTs), showTS(w.StartTs))
		if w.Type == kvrpcpb.Op_Put && w.ShortValue != nil {
			line += " " + showValue(w.ShortValue)
		}
		if w.HasOverlappedRollback {
			line += " overlapped-rollback"
		}
		switch {
		case w.VersionsToLastChange > 0 && w.LastChangeTs == 0:
			line += " change=none"
		case w.VersionsToLastChange > 0:
			line += fmt.Sprintf(" change=%s(%d)", showTS(w.LastChangeTs), w.VersionsToLastChange)
		}
		out = append(out, line)
	}
	for _, v := range r.Info.Values {
		out = append(out, fmt.Sprintf("  value @%s %s", showTS(v.StartTs), showValue(v.Value)))
	}
	if len(out) == 0 {
		return key + ": nothing"
	}
	return key + ":\n" + strings.Join(out, "\n")
}
