package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"

	"github.com/copradb/copra/raftstore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

const (
	serviceName    = "copra.raft.Transport"
	batchMethod    = "/" + serviceName + "/Batch"
	snapshotMethod = "/" + serviceName + "/Snapshot"

	clusterKey = "copra-cluster-id"
	fromKey    = "copra-from-store"
	toKey      = "copra-to-store"
)

var (
	batchStream    = &grpc.StreamDesc{StreamName: "Batch", ServerStreams: true, ClientStreams: true}
	snapshotStream = &grpc.StreamDesc{StreamName: "Snapshot", ClientStreams: true}
)

// Limits.
const (
	frameBytesTarget = 1 << 20   // a batch frame takes no further message beyond this
	frameBytesMax    = 128 << 20 // what a receiver accepts
	queueBytesMax    = 64 << 20  // per store and class
	queueCountMax    = 16 << 10
	// All queues together, and what is being sent of them; the rest above it is
	// for messages without entries, on which elections and leases depend.
	queuesBytesMax        = 256 << 20
	queuesControlBytesMax = 32 << 20
	snapshotChunkBytes    = 1 << 20
	snapshotFileCountMax  = 4096
	snapshotSendCountMax  = 4
	snapshotRecvCountMax  = 8
	snapshotHeaderVersion = 1
)

// A batch frame is a list of uvarint length + encoded RaftMessage.

func appendMessage(frame []byte, m *raftstore.RaftMessage) ([]byte, error) {
	// The length is not known before encoding, so leave room for a uvarint of
	// fixed width.
	at := len(frame)
	out, err := m.AppendTo(append(frame, 0, 0, 0, 0, 0))
	if err != nil {
		return frame, err
	}
	putFixedUvarint(out[at:at+frameLengthBytes], len(out)-at-frameLengthBytes)
	return out, nil
}

// readMessages calls fn for every message of a frame.
func readMessages(frame []byte, fn func(*raftstore.RaftMessage)) error {
	for len(frame) > 0 {
		n, w := binary.Uvarint(frame)
		if w <= 0 || n > uint64(len(frame)-w) {
			return errors.New("raft transport: batch frame is cut off")
		}
		m, err := raftstore.DecodeRaftMessage(frame[w : w+int(n) : w+int(n)])
		if err != nil {
			return err
		}
		fn(m)
		frame = frame[w+int(n):]
	}
	return nil
}

// A snapshot is one header frame, chunk frames file by file, and the end of
// the stream:
//
//	header := version(1) uvarint(files) { uvarint(len) name uvarint(size) } message
//	chunk  := uvarint(file) uvarint(offset) crc32c(4, BE, of data) data

type fileHeader struct {
	name string
	size int64
}

func encodeHeader(m *raftstore.RaftMessage, files []raftstore.SnapshotFile) ([]byte, error) {
	if len(files) > snapshotFileCountMax {
		return nil, fmt.Errorf("raft transport: snapshot of region %d has %d files, at most %d are possible", m.RegionID, len(files), snapshotFileCountMax)
	}
	out := binary.AppendUvarint([]byte{snapshotHeaderVersion}, uint64(len(files)))
	for _, f := range files {
		out = binary.AppendUvarint(out, uint64(len(f.Name)))
		out = append(out, f.Name...)
		out = binary.AppendUvarint(out, uint64(f.Size))
	}
	return m.AppendTo(out)
}

func decodeHeader(frame []byte) (*raftstore.RaftMessage, []fileHeader, error) {
	if len(frame) == 0 || frame[0] != snapshotHeaderVersion {
		return nil, nil, errors.New("raft transport: snapshot header has no known version; are all stores of the same release?")
	}
	malformed := errors.New("raft transport: snapshot header is malformed")
	rest := frame[1:]
	number := func() (uint64, bool) {
		v, n := binary.Uvarint(rest)
		if n <= 0 {
			return 0, false
		}
		rest = rest[n:]
		return v, true
	}
	count, ok := number()
	if !ok || count > snapshotFileCountMax {
		return nil, nil, malformed
	}
	files := make([]fileHeader, count)
	for i := range files {
		n, ok := number()
		if !ok || n > uint64(len(rest)) {
			return nil, nil, malformed
		}
		files[i].name = string(rest[:n])
		rest = rest[n:]
		size, ok := number()
		if !ok || size > 1<<62 {
			return nil, nil, malformed
		}
		files[i].size = int64(size)
	}
	m, err := raftstore.DecodeRaftMessage(rest)
	return m, files, err
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func appendChunk(dst []byte, file int, offset int64, data []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(file))
	dst = binary.AppendUvarint(dst, uint64(offset))
	dst = binary.BigEndian.AppendUint32(dst, crc32.Checksum(data, castagnoli))
	return append(dst, data...)
}

func decodeChunk(frame []byte) (file, offset uint64, data []byte, err error) {
	file, n := binary.Uvarint(frame)
	if n > 0 {
		frame = frame[n:]
		if offset, n = binary.Uvarint(frame); n > 0 && len(frame) >= n+4 {
			sum, data := binary.BigEndian.Uint32(frame[n:]), frame[n+4:]
			if crc32.Checksum(data, castagnoli) != sum {
				return 0, 0, nil, fmt.Errorf("raft transport: snapshot chunk at offset %d of file %d has a wrong checksum", offset, file)
			}
			return file, offset, data, nil
		}
	}
	return 0, 0, nil, errors.New("raft transport: snapshot chunk is cut off")
}

// WithTarget says in a call's metadata which cluster and store it means.
func WithTarget(ctx context.Context, clusterID, from, to uint64) context.Context {
	return metadata.NewOutgoingContext(ctx, target(clusterID, from, to))
}

// target describes a stream in its metadata.
func target(clusterID, from, to uint64) metadata.MD {
	return metadata.Pairs(
		clusterKey, strconv.FormatUint(clusterID, 10),
		fromKey, strconv.FormatUint(from, 10),
		toKey, strconv.FormatUint(to, 10))
}
