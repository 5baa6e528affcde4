package tikv

import (
	"bytes"
	"testing"

	"github.com/pingcap/kvproto/pkg/coprocessor"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// TestCodecOwnsItsBytes: messages stay as they were when gRPC uses its receive
// buffer again. coprocessor.Response aliases what it is decoded from.
func TestCodecOwnsItsBytes(t *testing.T) {
	c := serverCodec{}
	for _, in := range []any{
		&coprocessor.Response{Data: []byte("some data"), OtherError: "text"},
		&kvrpcpb.RawPutRequest{Key: []byte("key"), Value: bytes.Repeat([]byte("v"), 10_000)},
		wrapperspb.Bytes([]byte("frame")),
	} {
		wire, err := c.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		want := wire.Materialize()
		buf := bytes.Clone(want)
		half := len(buf) / 2
		var out any
		switch in.(type) {
		case *coprocessor.Response:
			out = &coprocessor.Response{}
		case *kvrpcpb.RawPutRequest:
			out = &kvrpcpb.RawPutRequest{Cf: "left over"}
		default:
			out = &wrapperspb.BytesValue{}
		}
		for _, parts := range []mem.BufferSlice{{mem.SliceBuffer(buf)}, {mem.SliceBuffer(buf[:half]), mem.SliceBuffer(buf[half:])}} {
			copy(buf, want)
			if err := c.Unmarshal(parts, out); err != nil {
				t.Fatal(err)
			}
			clear(buf)
			again, err := c.Marshal(out)
			if err != nil || !bytes.Equal(again.Materialize(), want) {
				t.Errorf("%T changed when its buffer was used again: %v", in, err)
			}
		}
	}
	if _, err := c.Marshal("no message"); err == nil {
		t.Error("a string was encoded")
	}
	if err := c.Unmarshal(nil, "no message"); err == nil {
		t.Error("a string was decoded")
	}
	if err := c.Unmarshal(mem.BufferSlice{mem.SliceBuffer([]byte{0xFF, 0xFF})}, &kvrpcpb.GetRequest{}); err == nil {
		t.Error("garbage was decoded")
	}
}
