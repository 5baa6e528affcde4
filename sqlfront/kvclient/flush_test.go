package kvclient

import (
	"bytes"
	"testing"

	"github.com/pingcap/kvproto/pkg/errorpb"
	"github.com/pingcap/kvproto/pkg/keyspacepb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/tikv/client-go/v2/tikv"
	"github.com/tikv/client-go/v2/tikvrpc"
)

// TestPipelinedKeysHaveThePrefix: requests of pipelined transactions are in the
// keyspace like all others, and the caller's request is left as it is.
func TestPipelinedKeysHaveThePrefix(t *testing.T) {
	v2, err := tikv.NewCodecV2(tikv.ModeTxn, &keyspacepb.KeyspaceMeta{Id: 7, Name: Keyspace})
	if err != nil {
		t.Fatal(err)
	}
	c := flushCodec{v2}
	flush := tikvrpc.NewRequest(tikvrpc.CmdFlush, &kvrpcpb.FlushRequest{
		Mutations: []*kvrpcpb.Mutation{{Op: kvrpcpb.Op_Insert, Key: []byte("k"), Value: []byte("v")}}, PrimaryKey: []byte("p"), StartTs: 5, Generation: 3,
	})
	out, err := c.EncodeRequest(flush)
	if err != nil {
		t.Fatal(err)
	}
	got := out.Flush()
	if out.Type != tikvrpc.CmdFlush || got.StartTs != 5 || got.Generation != 3 || out.KeyspaceId != 7 ||
		!bytes.Equal(got.Mutations[0].Key, v2.EncodeKey([]byte("k"))) || !bytes.Equal(got.PrimaryKey, v2.EncodeKey([]byte("p"))) {
		t.Errorf("flush became %v", got)
	}
	if string(flush.Flush().Mutations[0].Key) != "k" {
		t.Error("the caller's request was changed")
	}
	resp := &kvrpcpb.FlushResponse{Errors: []*kvrpcpb.KeyError{{AlreadyExist: &kvrpcpb.AlreadyExist{Key: v2.EncodeKey([]byte("k"))}}}}
	if _, err := c.DecodeResponse(out, &tikvrpc.Response{Resp: resp}); err != nil || string(resp.Errors[0].AlreadyExist.Key) != "k" {
		t.Errorf("the error names %q (%v)", resp.Errors[0].AlreadyExist.Key, err)
	}
	get := tikvrpc.NewRequest(tikvrpc.CmdBufferBatchGet, &kvrpcpb.BufferBatchGetRequest{Keys: [][]byte{[]byte("k")}, Version: 9})
	if out, err = c.EncodeRequest(get); err != nil {
		t.Fatal(err)
	}
	if r := out.BufferBatchGet(); r.Version != 9 || !bytes.Equal(r.Keys[0], v2.EncodeKey([]byte("k"))) {
		t.Errorf("buffer batch get became %v", r)
	}
	pairs := &kvrpcpb.BufferBatchGetResponse{RegionError: &errorpb.Error{Message: "m"}, Pairs: []*kvrpcpb.KvPair{{Key: v2.EncodeKey([]byte("k")), Value: []byte("v")}}}
	if _, err := c.DecodeResponse(out, &tikvrpc.Response{Resp: pairs}); err != nil || string(pairs.Pairs[0].Key) != "k" || pairs.RegionError.Message != "m" {
		t.Errorf("the answer is %v (%v)", pairs, err)
	}
}
