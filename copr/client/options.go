package client

import "github.com/copradb/copra/proto/coprpb"

// ReplicaRead says which replicas a stream may read.
type ReplicaRead = coprpb.ReplicaRead

// The kinds of reads. A stale read that finds a replica behind its timestamp
// goes on at the leader.
const (
	ReadLeader   = coprpb.ReplicaRead_REPLICA_READ_LEADER
	ReadFollower = coprpb.ReplicaRead_REPLICA_READ_FOLLOWER
	ReadStale    = coprpb.ReplicaRead_REPLICA_READ_STALE
)

// Compression is that of the record batches on the wire.
type Compression = coprpb.Compression

// The compressions.
const (
	CompressionNone = coprpb.Compression_COMPRESSION_NONE
	CompressionLZ4  = coprpb.Compression_COMPRESSION_LZ4
	CompressionZSTD = coprpb.Compression_COMPRESSION_ZSTD
)
