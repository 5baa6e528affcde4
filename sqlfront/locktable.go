package sqlfront

import (
	"context"
	"strings"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/sqlfront/ast"
)

// weakLocks are the table locks that only changes of the schema conflict with.
// Those never wait for a transaction here, and a transaction that wrote a table
// which was altered meanwhile does not commit: there is nothing to lock.
var weakLocks = map[string]bool{"ACCESS SHARE": true, "ROW SHARE": true, "ROW EXCLUSIVE": true}

// lockTable runs LOCK TABLE.
func (s *session) lockTable(ctx context.Context, st *ast.LockTable) error {
	if s.txn == nil || !s.txn.explicit {
		return pgerror.New(pgerror.NoActiveSQLTransaction, "LOCK TABLE can only be used in transaction blocks")
	}
	snap, err := s.bindSnapshot(ctx)
	if err != nil {
		return err
	}
	view := snap.View(s.env())
	for _, n := range st.Tables {
		if _, err := view.Resolve(n.Schema, n.Name); err != nil {
			return positioned(err, n.Position())
		}
	}
	if !weakLocks[strings.ToUpper(st.Mode)] {
		return pgerror.Unsupported("LOCK TABLE IN " + strings.ToUpper(st.Mode) + " MODE").WithHint("Lock the rows instead, with SELECT … FOR UPDATE.")
	}
	return nil
}
