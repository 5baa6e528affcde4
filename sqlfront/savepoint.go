package sqlfront

import (
	"maps"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/sqlfront/ast"
	"github.com/copradb/copra/sqlfront/catalog"
	"github.com/copradb/copra/sqlfront/mutate"
	"github.com/copradb/copra/sqlfront/settings"
)

// savepointsMax is how many savepoints a transaction may have.
const savepointsMax = 1024

// savepoint is what ROLLBACK TO goes back to. Each has a stage of the buffer;
// stages nest as savepoints do. Locks taken since are kept.
type savepoint struct {
	name     string
	stage    int // 0 = the store's transaction has not begun
	settings settings.State
	change   *catalog.ChangeState
	// written are the tables written by then: those written only since, which may
	// be gone with it, need not be as they were at COMMIT.
	written  map[int64]*mutate.Table
	onCommit int
}

// stageSavepoints opens the stages of savepoints that were set before the
// store's transaction began.
func (t *txn) stageSavepoints() {
	for i := range t.savepoints {
		t.savepoints[i].stage = t.kv.GetMemBuffer().Staging()
	}
}

// releaseSavepoints forgets savepoints from the i-th on and keeps their changes.
func (t *txn) releaseSavepoints(i int) {
	for j := len(t.savepoints) - 1; j >= i; j-- {
		if sp := t.savepoints[j]; sp.stage != 0 {
			t.kv.GetMemBuffer().Release(sp.stage)
		}
	}
	t.savepoints = t.savepoints[:i]
}

func (s *session) needTxn(what string) (*txn, error) {
	if s.txn == nil || !s.txn.explicit {
		return nil, pgerror.New(pgerror.NoActiveSQLTransaction, "%s can only be used in transaction blocks", what)
	}
	return s.txn, nil
}

func (t *txn) findSavepoint(name string) (int, error) {
	for i := len(t.savepoints) - 1; i >= 0; i-- {
		if t.savepoints[i].name == name {
			return i, nil
		}
	}
	return 0, pgerror.New(pgerror.SavepointInvalid, "savepoint \"%s\" does not exist", name)
}

func (s *session) savepoint(st *ast.Savepoint) error {
	if st.Release {
		t, err := s.needTxn("RELEASE SAVEPOINT")
		if err != nil {
			return err
		}
		i, err := t.findSavepoint(st.Name)
		if err == nil {
			t.releaseSavepoints(i)
		}
		return err
	}
	t, err := s.needTxn("SAVEPOINT")
	if err != nil {
		return err
	}
	if len(t.savepoints) >= savepointsMax {
		return pgerror.New(pgerror.ConfigurationLimitExceeded, "a transaction cannot have more than %d savepoints", savepointsMax)
	}
	t.pushSavepoint(st.Name)
	return nil
}

func (t *txn) pushSavepoint(name string) {
	sp := savepoint{name: name, settings: t.s.settings.Save(), written: maps.Clone(t.written), onCommit: len(t.onCommit)}
	if t.change != nil {
		state := t.change.Save()
		sp.change = &state
	}
	if t.kv != nil {
		sp.stage = t.kv.GetMemBuffer().Staging()
	}
	t.savepoints = append(t.savepoints, sp)
}

// rollbackTo undoes everything since the savepoint, which stays.
func (s *session) rollbackTo(name string) error {
	t, err := s.needTxn("ROLLBACK TO SAVEPOINT")
	if err != nil {
		return err
	}
	i, err := t.findSavepoint(name)
	if err != nil {
		return err
	}
	sp := t.savepoints[i]
	for j := len(t.savepoints) - 1; j >= i; j-- {
		if stage := t.savepoints[j].stage; stage != 0 {
			t.kv.GetMemBuffer().Cleanup(stage)
		}
	}
	t.savepoints = t.savepoints[:i]
	s.settings.Restore(sp.settings)
	t.onCommit, t.written = t.onCommit[:sp.onCommit], sp.written
	if sp.change != nil {
		t.change.Restore(*sp.change)
	} else {
		t.change = nil
	}
	t.failed = false
	s.closeCursors()
	t.pushSavepoint(name)
	return nil
}
