package raftstore

import (
	"encoding/binary"
	"fmt"

	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/raft_cmdpb"
)

// What an entry of the Raft log holds:
//
//	version(1) kind(1) uvarint{peer, seq, conf_ver, version} rest
//
// rest is a kv.Batch's bytes, a raft_cmdpb.AdminRequest, or the tables of an
// ingestion (ingest.go). A membership
// change's entry is Raft's own; its context is an entry of kind admin. Raft
// itself appends empty entries.
const (
	entryVersion   = 1
	entryKindWrite = 1
	entryKindAdmin = 2
	// entryKindIngest names tables that every peer has (ingest.go).
	entryKindIngest = 3
)

// proposalID names a proposal: the peer that made it, and a number that it
// never uses twice in one term. After a restart the numbers begin again, in a
// later term.
type proposalID struct{ peer, seq uint64 }

// entryHeader is the decoded start of an entry's data.
type entryHeader struct {
	kind  byte
	id    proposalID
	epoch metapb.RegionEpoch // at propose; checked at apply (hazard 12)
}

const entryHeaderBytesMax = 2 + 4*binary.MaxVarintLen64

func (h *entryHeader) appendTo(buf []byte) []byte {
	buf = append(buf, entryVersion, h.kind)
	buf = binary.AppendUvarint(buf, h.id.peer)
	buf = binary.AppendUvarint(buf, h.id.seq)
	buf = binary.AppendUvarint(buf, h.epoch.ConfVer)
	return binary.AppendUvarint(buf, h.epoch.Version)
}

func decodeEntry(data []byte) (h entryHeader, rest []byte, err error) {
	if len(data) < 2 || data[0] != entryVersion || data[1] < entryKindWrite || data[1] > entryKindIngest {
		return h, nil, fmt.Errorf("raftstore: log entry of %d bytes has an unknown format; was it written by a newer release?", len(data))
	}
	d := decoder{rest: data[2:]}
	h.kind = data[1]
	h.id = proposalID{peer: d.uvarint(), seq: d.uvarint()}
	h.epoch = metapb.RegionEpoch{ConfVer: d.uvarint(), Version: d.uvarint()}
	if d.failed {
		return h, nil, fmt.Errorf("raftstore: log entry of %d bytes is cut off", len(data))
	}
	return h, d.rest, nil
}

func encodeAdmin(h *entryHeader, req *raft_cmdpb.AdminRequest) []byte {
	data, err := req.Marshal()
	if err != nil {
		panic(fmt.Sprintf("raftstore: encode %s: %v", req.GetCmdType(), err))
	}
	return append(h.appendTo(make([]byte, 0, entryHeaderBytesMax+len(data))), data...)
}

func decodeAdmin(rest []byte) (*raft_cmdpb.AdminRequest, error) {
	req := new(raft_cmdpb.AdminRequest)
	if err := req.Unmarshal(rest); err != nil {
		return nil, fmt.Errorf("raftstore: decode admin command: %w", err)
	}
	return req, nil
}
