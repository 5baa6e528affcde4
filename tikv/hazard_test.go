package tikv

import (
	"testing"

	"github.com/copradb/copra/raftstore"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
)

// The lock that a leader found in its memory for a follower's read reaches the
// client as a lock, by every way to read.
func TestHazard20_LeadersLockReachesTheClient(t *testing.T) {
	f := newFixture(t)
	f.eng.Fail(&raftstore.LockedError{Lock: &kvrpcpb.LockInfo{Key: []byte("k"), LockVersion: 9}})
	rc := v2()
	rc.ReplicaRead = true
	key := []byte("x\x00\x00\x01k")
	get, err := f.client.KvGet(bg, &kvrpcpb.GetRequest{Context: rc, Key: key, Version: 20})
	if err != nil || get.GetError().GetLocked().GetLockVersion() != 9 {
		t.Errorf("get: %v, %v", get, err)
	}
	batch, err := f.client.KvBatchGet(bg, &kvrpcpb.BatchGetRequest{Context: rc, Keys: [][]byte{key}, Version: 20})
	if err != nil || batch.GetError().GetLocked().GetLockVersion() != 9 {
		t.Errorf("batch get: %v, %v", batch, err)
	}
	scan, err := f.client.KvScan(bg, &kvrpcpb.ScanRequest{Context: rc, StartKey: key, Limit: 1, Version: 20})
	if err != nil || scan.GetError().GetLocked().GetLockVersion() != 9 {
		t.Errorf("scan: %v, %v", scan, err)
	}
	index, err := f.client.ReadIndex(bg, &kvrpcpb.ReadIndexRequest{Context: rc, StartTs: 20})
	if err != nil || index.GetLocked().GetLockVersion() != 9 {
		t.Errorf("read index: %v, %v", index, err)
	}
}
