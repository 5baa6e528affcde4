package raftstore

import (
	"encoding/binary"
	"fmt"

	"github.com/copradb/copra/raftstore/engine/disk"
	"github.com/pingcap/kvproto/pkg/metapb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// RaftMessage is what stores send one another: one Raft message of one region,
// with what the receiver needs to judge whether the two peers mean the same
// region at about the same time.
type RaftMessage struct {
	RegionID uint64
	From, To metapb.Peer
	// Epoch is the sender's region epoch. A receiver that has destroyed its
	// peer compares it with its tombstone.
	Epoch metapb.RegionEpoch
	// StartKey and EndKey are the sender's range. A receiver without the
	// region creates a peer only where the range is free (hazard 9).
	StartKey, EndKey []byte
	// Tombstone tells To that it was removed from the region as of Epoch.
	// Msg is nil then.
	Tombstone bool
	// Query asks To whether From is still a member. A peer that has not heard
	// of a leader for long asks; Msg is nil then.
	Query bool
	// Merge is about a merge of regions, see MergeMessage; Msg is nil then.
	Merge *MergeMessage
	// Signal is a message of the store's own; Msg is nil then.
	Signal Signal
	// DiskLevel is how full the sender's disk is.
	DiskLevel disk.Level
	// Msg is immutable once sent: transports in one process share it.
	Msg *raftpb.Message
	// Size is Msg's encoded size in bytes as the receiver accounts it. A
	// transport that decodes sets it; zero means "compute".
	Size int
}

// raftMessageVersion opens every encoded message. An unknown version is refused.
const raftMessageVersion = 1

const (
	raftMessageFlagTombstone = 1 << iota
	raftMessageFlagQuery
	raftMessageFlagMerge
	raftMessageFlagSignal
)

// The two highest flag bits hold the DiskLevel.
const (
	raftMessageDiskShift = 6
	raftMessageDiskMask  = 3 << raftMessageDiskShift
)

// AppendTo appends the encoded message to buf:
//
//	version(1) flags(1) uvarint{region, from id/store/role, to id/store/role,
//	conf_ver, version} bytes{start, end} rest = raftpb.Message
//
// Here bytes is a uvarint length and the bytes. A message about a merge has a
// MergeMessage as its rest, a signal has kind(1) uvarint{term, index}. It also
// has the flag of a query: a release that knows no signals sees only that.
func (m *RaftMessage) AppendTo(buf []byte) ([]byte, error) {
	flags := byte(m.DiskLevel) << raftMessageDiskShift & raftMessageDiskMask
	if m.Tombstone {
		flags |= raftMessageFlagTombstone
	}
	if m.Query {
		flags |= raftMessageFlagQuery
	}
	if m.Merge != nil {
		flags |= raftMessageFlagMerge
	}
	if m.Signal.Kind != 0 {
		flags |= raftMessageFlagQuery | raftMessageFlagSignal
	}
	buf = append(buf, raftMessageVersion, flags)
	for _, v := range [...]uint64{
		m.RegionID,
		m.From.Id, m.From.StoreId, uint64(m.From.Role),
		m.To.Id, m.To.StoreId, uint64(m.To.Role),
		m.Epoch.ConfVer, m.Epoch.Version,
	} {
		buf = binary.AppendUvarint(buf, v)
	}
	buf = appendBytes(buf, m.StartKey)
	buf = appendBytes(buf, m.EndKey)
	if m.Merge != nil {
		return m.Merge.appendTo(buf)
	}
	if m.Signal.Kind != 0 {
		return m.Signal.appendTo(buf), nil
	}
	if m.Msg == nil {
		return buf, nil
	}
	out, err := proto.MarshalOptions{}.MarshalAppend(buf, m.Msg)
	if err != nil {
		return nil, fmt.Errorf("raftstore: encode raft message of region %d: %w", m.RegionID, err)
	}
	return out, nil
}

// DecodeRaftMessage decodes one message. The result may alias data.
func DecodeRaftMessage(data []byte) (*RaftMessage, error) {
	if len(data) < 2 || data[0] != raftMessageVersion {
		return nil, fmt.Errorf("raftstore: raft message of %d bytes has no known version; are all stores of the same release?", len(data))
	}
	m := &RaftMessage{
		Tombstone: data[1]&raftMessageFlagTombstone != 0,
		Query:     data[1]&raftMessageFlagQuery != 0,
		DiskLevel: disk.Level(data[1] & raftMessageDiskMask >> raftMessageDiskShift),
	}
	d := decoder{rest: data[2:]}
	m.RegionID = d.uvarint()
	m.From.Id, m.From.StoreId, m.From.Role = d.uvarint(), d.uvarint(), metapb.PeerRole(d.uvarint())
	m.To.Id, m.To.StoreId, m.To.Role = d.uvarint(), d.uvarint(), metapb.PeerRole(d.uvarint())
	m.Epoch.ConfVer, m.Epoch.Version = d.uvarint(), d.uvarint()
	m.StartKey, m.EndKey = d.bytes(), d.bytes()
	if data[1]&raftMessageFlagSignal != 0 {
		m.Signal, m.Query = d.signal(), false
	}
	if d.failed {
		return nil, fmt.Errorf("raftstore: raft message of %d bytes is cut off", len(data))
	}
	if data[1]&raftMessageFlagMerge != 0 {
		var err error
		m.Merge, err = decodeMergeMessage(d.rest)
		return m, err
	}
	if m.Tombstone || m.Query || m.Signal.Kind != 0 {
		return m, nil
	}
	m.Size = len(d.rest)
	m.Msg = new(raftpb.Message)
	if err := proto.Unmarshal(d.rest, m.Msg); err != nil {
		return nil, fmt.Errorf("raftstore: decode raft message of region %d: %w", m.RegionID, err)
	}
	return m, nil
}

// bytesSize is what the message costs the receiver's byte budget.
func (m *RaftMessage) bytesSize() int {
	if m.Size == 0 && m.Msg != nil {
		n := 64
		for _, e := range m.Msg.Entries {
			n += len(e.GetData()) + 16
		}
		return n
	}
	return m.Size
}

// decoder reads the fields of our own small formats; failed is sticky.
type decoder struct {
	rest   []byte
	failed bool
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.failed, d.rest = true, nil
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) bytes() []byte {
	n := d.uvarint()
	if d.failed || n > uint64(len(d.rest)) {
		d.failed, d.rest = true, nil
		return nil
	}
	if n == 0 {
		return nil
	}
	out := d.rest[:n:n]
	d.rest = d.rest[n:]
	return out
}

func appendBytes(buf, b []byte) []byte {
	buf = binary.AppendUvarint(buf, uint64(len(b)))
	return append(buf, b...)
}
