package txn

import "github.com/pingcap/kvproto/pkg/kvrpcpb"

// diskFullOpts say to how full a disk a command's writes are let through. What
// ends a transaction frees what it has written, and until then its locks keep
// readers out: that goes on as long as there is anything left of the reserve. A
// lock alone is small and goes soon.
var diskFullOpts = [cmdCount]kvrpcpb.DiskFullOpt{
	cmdCommit: onFull, cmdPessimisticRollback: onFull, cmdRollback: onFull, cmdCleanup: onFull, cmdCheckTxnStatus: onFull, cmdResolveLock: onFull,
	cmdCheckSecondaryLocks: onFull,
	cmdPessimisticLock:     onAlmostFull, cmdHeartBeat: onAlmostFull, cmdDeleteRange: onAlmostFull, cmdGC: onAlmostFull,
}

const (
	onAlmostFull = kvrpcpb.DiskFullOpt_AllowedOnAlmostFull
	onFull       = kvrpcpb.DiskFullOpt_AllowedOnAlreadyFull
)

// allowOnDisk lets the command's writes through to a disk that is so full.
func (c *command) allowOnDisk(opt kvrpcpb.DiskFullOpt) { c.rc.DiskFullOpt = max(c.rc.DiskFullOpt, opt) }

// onlyFrees reports whether mutations write no values: to be committed, a
// delete needs a lock first.
func onlyFrees(mutations []*kvrpcpb.Mutation) bool {
	for _, m := range mutations {
		switch m.GetOp() {
		case kvrpcpb.Op_Del, kvrpcpb.Op_Lock, kvrpcpb.Op_SharedLock, kvrpcpb.Op_CheckNotExists, kvrpcpb.Op_Rollback:
		default:
			return false
		}
	}
	return true
}
