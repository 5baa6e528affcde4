package kvclient

import (
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/tikv/client-go/v2/tikv"
	"github.com/tikv/client-go/v2/tikvrpc"
)

// keyspaceCodec adds to client-go's V2 codec the two commands of pipelined
// transactions, whose keys it leaves without the keyspace's prefix.
type keyspaceCodec struct{ tikv.Codec }

// EncodeRequest implements tikv.Codec. The request it returns is a copy.
func (c keyspaceCodec) EncodeRequest(req *tikvrpc.Request) (*tikvrpc.Request, error) {
	out, err := c.Codec.EncodeRequest(req)
	if err != nil {
		return nil, err
	}
	switch out.Type {
	case tikvrpc.CmdFlush:
		r := *out.Flush()
		r.PrimaryKey = c.EncodeKey(r.PrimaryKey)
		mutations := make([]*kvrpcpb.Mutation, len(r.Mutations))
		for i, m := range r.Mutations {
			copied := *m
			copied.Key = c.EncodeKey(m.Key)
			mutations[i] = &copied
		}
		r.Mutations = mutations
		out.Req = &r
	case tikvrpc.CmdBufferBatchGet:
		r := *out.BufferBatchGet()
		keys := make([][]byte, len(r.Keys))
		for i, k := range r.Keys {
			keys[i] = c.EncodeKey(k)
		}
		r.Keys = keys
		out.Req = &r
	}
	return out, nil
}

// DecodeResponse implements tikv.Codec. The parts that carry keys are decoded
// as those of a command that client-go's codec knows.
func (c keyspaceCodec) DecodeResponse(req *tikvrpc.Request, resp *tikvrpc.Response) (*tikvrpc.Response, error) {
	switch r := resp.Resp.(type) {
	case *kvrpcpb.FlushResponse:
		known := &kvrpcpb.PrewriteResponse{RegionError: r.RegionError, Errors: r.Errors}
		if err := c.decodeAs(tikvrpc.CmdPrewrite, known); err != nil {
			return nil, err
		}
		r.RegionError, r.Errors = known.RegionError, known.Errors
	case *kvrpcpb.BufferBatchGetResponse:
		known := &kvrpcpb.BatchGetResponse{RegionError: r.RegionError, Error: r.Error, Pairs: r.Pairs}
		if err := c.decodeAs(tikvrpc.CmdBatchGet, known); err != nil {
			return nil, err
		}
		r.RegionError, r.Error, r.Pairs = known.RegionError, known.Error, known.Pairs
	}
	return c.Codec.DecodeResponse(req, resp)
}

func (c keyspaceCodec) decodeAs(cmd tikvrpc.CmdType, resp any) error {
	_, err := c.Codec.DecodeResponse(&tikvrpc.Request{Type: cmd}, &tikvrpc.Response{Resp: resp})
	return err
}
