package sqlfront

import (
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/tikv/client-go/v2/txnkv/transaction"

	"github.com/copradb/copra/sqlfront/ast"
)

// freesRoom reports whether a statement writes little but what lets data go.
// Stores whose disks are almost full take it: how else would they get room?
func freesRoom(st ast.Stmt) bool {
	switch st.(type) {
	case *ast.Delete, *ast.Truncate, *ast.Drop, *ast.Select: // SELECT FOR UPDATE writes locks only
		return true
	}
	return false
}

// markDiskUse tells the stores whether the transaction may be written to disks
// that are almost full: as long as all of its statements free room.
func (t *txn) markDiskUse(tx *transaction.KVTxn) {
	t.takesRoom = t.takesRoom || !t.s.frees
	opt := kvrpcpb.DiskFullOpt_AllowedOnAlmostFull
	if t.takesRoom {
		opt = kvrpcpb.DiskFullOpt_NotAllowedOnFull
	}
	tx.SetDiskFullOpt(opt)
}
