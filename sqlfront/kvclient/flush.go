package kvclient

import (
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/tikv/client-go/v2/tikv"
	"github.com/tikv/client-go/v2/tikvrpc"
)

// flushCodec adds the commands of pipelined transactions to client-go's codec,
// which leaves their keys without the keyspace's prefix. Their keys and errors
// are those of prewrite and batch get, so these lend their encoding.
type flushCodec struct{ tikv.Codec }

// EncodeRequest implements tikv.Codec.
func (c flushCodec) EncodeRequest(req *tikvrpc.Request) (*tikvrpc.Request, error) {
	switch req.Type {
	case tikvrpc.CmdFlush:
		in := req.Flush()
		like := *req
		like.Type = tikvrpc.CmdPrewrite
		like.Req = &kvrpcpb.PrewriteRequest{Mutations: in.Mutations, PrimaryLock: in.PrimaryKey}
		out, err := c.Codec.EncodeRequest(&like)
		if err != nil {
			return nil, err
		}
		encoded := *in
		encoded.Mutations, encoded.PrimaryKey = out.Prewrite().Mutations, out.Prewrite().PrimaryLock
		out.Type, out.Req = tikvrpc.CmdFlush, &encoded
		return out, nil
	case tikvrpc.CmdBufferBatchGet:
		in := req.BufferBatchGet()
		like := *req
		like.Type = tikvrpc.CmdBatchGet
		like.Req = &kvrpcpb.BatchGetRequest{Keys: in.Keys}
		out, err := c.Codec.EncodeRequest(&like)
		if err != nil {
			return nil, err
		}
		encoded := *in
		encoded.Keys = out.BatchGet().Keys
		out.Type, out.Req = tikvrpc.CmdBufferBatchGet, &encoded
		return out, nil
	}
	return c.Codec.EncodeRequest(req)
}

// DecodeResponse implements tikv.Codec.
func (c flushCodec) DecodeResponse(req *tikvrpc.Request, resp *tikvrpc.Response) (*tikvrpc.Response, error) {
	switch r := resp.Resp.(type) {
	case *kvrpcpb.FlushResponse:
		like := &kvrpcpb.PrewriteResponse{RegionError: r.RegionError, Errors: r.Errors}
		req.Type = tikvrpc.CmdPrewrite
		if _, err := c.Codec.DecodeResponse(req, &tikvrpc.Response{Resp: like}); err != nil {
			return nil, err
		}
		r.RegionError, r.Errors = like.RegionError, like.Errors
		return resp, nil
	case *kvrpcpb.BufferBatchGetResponse:
		like := &kvrpcpb.BatchGetResponse{RegionError: r.RegionError, Error: r.Error, Pairs: r.Pairs}
		req.Type = tikvrpc.CmdBatchGet
		if _, err := c.Codec.DecodeResponse(req, &tikvrpc.Response{Resp: like}); err != nil {
			return nil, err
		}
		r.RegionError, r.Error, r.Pairs = like.RegionError, like.Error, like.Pairs
		return resp, nil
	}
	return c.Codec.DecodeResponse(req, resp)
}
