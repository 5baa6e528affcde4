// Package etcdkv is how a PD leader reads and writes its state in etcd. Every
// write is a transaction that also compares the create revision of the leader
// key, so that a member that lost its lease cannot write any more, however
// late its request arrives (hazard 17). A write of unknown outcome ends the term:
// it could arrive after a later one and replace it. Reads are linearizable.
//
// It is not a cache and knows nothing of what the values mean.
//
//	writer ── Txn ──► etcd: IF create_revision(leader key) == mine THEN ops
//	                        ELSE ErrNotLeader
//
// Read next: pd/leader.go, which makes a Fence when a member wins the election.
package etcdkv
