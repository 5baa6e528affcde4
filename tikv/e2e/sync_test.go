package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/copradb/copra/tikv"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
)

// logSyncs counts the syncs of log files, those of the Raft log and others.
type logSyncs struct {
	vfs.FS
	raft, other atomic.Int64
}

func (f *logSyncs) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	out, err := f.FS.Create(name, c)
	return f.count(name, out, err)
}

func (f *logSyncs) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	out, err := f.FS.ReuseForWrite(oldname, newname, c)
	return f.count(newname, out, err)
}

func (f *logSyncs) Unwrap() vfs.FS { return f.FS }

func (f *logSyncs) count(name string, file vfs.File, err error) (vfs.File, error) {
	if err != nil || !strings.HasSuffix(name, ".log") {
		return file, err
	}
	counter := &f.other
	if filepath.Base(filepath.Dir(name)) == "raft" {
		counter = &f.raft
	}
	return &countedFile{file, counter}, nil
}

type countedFile struct {
	vfs.File
	syncs *atomic.Int64
}

func (f *countedFile) Sync() error {
	f.syncs.Add(1)
	return f.File.Sync()
}

func (f *countedFile) SyncData() error {
	f.syncs.Add(1)
	return f.File.SyncData()
}

// One sync of the Raft log is all that a write waits for, and all that there is:
// the data engine has no log.
func TestOneSyncACommit(t *testing.T) {
	fs := &logSyncs{FS: vfs.Default}
	c := start(t, 1, func(cfg *tikv.Config) { cfg.FS = fs })
	raw, txns := c.rawClient(kvrpcpb.APIVersion_V1), c.txnClient()
	put := func(i int) error { return raw.Put(c.ctx, fmt.Appendf(nil, "key%d", i), []byte("value")) }
	commit := func(i int) error {
		txn, err := txns.Begin()
		c.must(err)
		txn.SetEnable1PC(true)
		c.must(txn.Set(fmt.Appendf(nil, "txn%d", i), []byte("value")))
		return txn.Commit(c.ctx)
	}
	const writes = 40
	for name, write := range map[string]func(int) error{"raw puts": put, "one-phase commits": commit} {
		c.must(write(0))
		before := fs.raft.Load()
		for i := range writes {
			c.must(write(i))
		}
		if n := fs.raft.Load() - before; n != writes {
			t.Errorf("%d %s made %d syncs of the Raft log", writes, name, n)
		}
	}
	if n := fs.other.Load(); n != 0 {
		t.Errorf("another log than Raft's was synced %d times", n)
	}
}
