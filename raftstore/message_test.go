package raftstore

import (
	"testing"

	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

func testMessage() *RaftMessage {
	return &RaftMessage{
		RegionID: 7,
		From:     metapb.Peer{Id: 1, StoreId: 10, Role: metapb.PeerRole_Voter},
		To:       metapb.Peer{Id: 2, StoreId: 20, Role: metapb.PeerRole_Learner},
		Epoch:    metapb.RegionEpoch{ConfVer: 3, Version: 9},
		StartKey: []byte("a"), EndKey: []byte("z"),
		Msg: &raftpb.Message{
			Type: raftpb.MsgApp.Enum(), To: new(uint64(2)), From: new(uint64(1)), Term: new(uint64(6)),
			Entries: []*raftpb.Entry{{Term: new(uint64(6)), Index: new(uint64(8)), Data: []byte("data")}},
		},
	}
}

func TestRaftMessageRoundTrip(t *testing.T) {
	in := testMessage()
	data, err := in.AppendTo(nil)
	require.NoError(t, err)
	out, err := DecodeRaftMessage(data)
	require.NoError(t, err)
	require.True(t, proto.Equal(in.Msg, out.Msg))
	require.Equal(t, proto.Size(in.Msg), out.Size)
	in.Msg, out.Msg, out.Size = nil, nil, 0
	require.Equal(t, in, out)

	stone := testMessage()
	stone.Msg, stone.Tombstone = nil, true
	data, err = stone.AppendTo(nil)
	require.NoError(t, err)
	out, err = DecodeRaftMessage(data)
	require.NoError(t, err)
	require.Equal(t, stone, out)
}

func TestSignalRoundTrip(t *testing.T) {
	in := testMessage()
	in.Msg, in.Signal = nil, Signal{Kind: SignalSleep, Term: 7, Index: 1 << 40}
	data, err := in.AppendTo(nil)
	require.NoError(t, err)
	require.NotZero(t, data[1]&raftMessageFlagQuery, "a release without signals takes it for a query")
	out, err := DecodeRaftMessage(data)
	require.NoError(t, err)
	require.Equal(t, in, out)
	for n := range data {
		_, err := DecodeRaftMessage(data[:n])
		require.Error(t, err)
	}
}

func FuzzDecodeRaftMessage(f *testing.F) {
	data, err := testMessage().AppendTo(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(data[:len(data)/2])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := DecodeRaftMessage(data)
		if err != nil {
			return
		}
		again, err := m.AppendTo(nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeRaftMessage(again); err != nil {
			t.Fatalf("re-encoded message does not decode: %v", err)
		}
	})
}
