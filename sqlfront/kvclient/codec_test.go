package kvclient

import (
	"testing"

	"github.com/pingcap/kvproto/pkg/errorpb"
	"github.com/pingcap/kvproto/pkg/keyspacepb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/tikv/client-go/v2/tikv"
	"github.com/tikv/client-go/v2/tikvrpc"
)

// Without the prefix a COPY's rows would land among V1 clients' keys, and fail
// as soon as the keyspace has regions of its own.
func TestPipelinedCommandsCarryTheKeyspace(t *testing.T) {
	base, err := tikv.NewCodecV2(tikv.ModeTxn, &keyspacepb.KeyspaceMeta{Id: 1, Name: Keyspace})
	if err != nil {
		t.Fatal(err)
	}
	c := keyspaceCodec{base}
	const prefix = "x\x00\x00\x01"

	flush := &kvrpcpb.FlushRequest{PrimaryKey: []byte("p"), Mutations: []*kvrpcpb.Mutation{{Key: []byte("a")}, {Key: []byte("b")}}}
	req, err := c.EncodeRequest(tikvrpc.NewRequest(tikvrpc.CmdFlush, flush))
	if err != nil {
		t.Fatal(err)
	}
	sent := req.Flush()
	if string(sent.PrimaryKey) != prefix+"p" || string(sent.Mutations[0].Key) != prefix+"a" || string(sent.Mutations[1].Key) != prefix+"b" {
		t.Errorf("sent %v", sent)
	}
	if string(flush.PrimaryKey) != "p" || string(flush.Mutations[0].Key) != "a" {
		t.Errorf("the caller's request was changed, a retry would carry the prefix twice: %v", flush)
	}
	answer := &kvrpcpb.FlushResponse{Errors: []*kvrpcpb.KeyError{{Locked: &kvrpcpb.LockInfo{Key: []byte(prefix + "a"), PrimaryLock: []byte(prefix + "q")}}}}
	if _, err := c.DecodeResponse(req, &tikvrpc.Response{Resp: answer}); err != nil {
		t.Fatal(err)
	}
	if l := answer.Errors[0].Locked; string(l.Key) != "a" || string(l.PrimaryLock) != "q" {
		t.Errorf("lock %v", l)
	}

	req, err = c.EncodeRequest(tikvrpc.NewRequest(tikvrpc.CmdBufferBatchGet, &kvrpcpb.BufferBatchGetRequest{Keys: [][]byte{[]byte("k")}}))
	if err != nil || string(req.BufferBatchGet().Keys[0]) != prefix+"k" {
		t.Errorf("sent %v, %v", req, err)
	}
	got := &kvrpcpb.BufferBatchGetResponse{Pairs: []*kvrpcpb.KvPair{{Key: []byte(prefix + "k"), Value: []byte("v")}},
		RegionError: &errorpb.Error{KeyNotInRegion: &errorpb.KeyNotInRegion{Key: []byte(prefix + "k")}}}
	if _, err := c.DecodeResponse(req, &tikvrpc.Response{Resp: got}); err != nil {
		t.Fatal(err)
	}
	if string(got.Pairs[0].Key) != "k" {
		t.Errorf("pair %v", got.Pairs[0])
	}
}
