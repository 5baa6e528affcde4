package transport

import (
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"

	"github.com/copradb/copra/internal/grpcbuf"
)

// outFrame is a batch frame on its way out: a google.protobuf.BytesValue in its
// encoded form, in memory of grpcbuf.Pool. Encoding a BytesValue that holds the
// frame would copy it once more.
type outFrame struct{ buf *[]byte }

// A BytesValue is one field with number 1 and the wire type of bytes. Its length
// isn't known before the frame is encoded, so it is a uvarint of fixed width.
const (
	bytesValueTag    = 1<<3 | 2
	frameLengthBytes = 5
	frameHeaderBytes = 1 + frameLengthBytes
)

// newFrame returns a frame with room for about bytes of messages.
func newFrame(bytes int) outFrame {
	buf := grpcbuf.Pool.Get(frameHeaderBytes + bytes)
	*buf = append((*buf)[:0], bytesValueTag, 0, 0, 0, 0, 0)
	return outFrame{buf}
}

func (f outFrame) empty() bool { return len(*f.buf) == frameHeaderBytes }
func (f outFrame) bytes() int  { return len(*f.buf) - frameHeaderBytes }

// seal writes the length.
func (f outFrame) seal() { putFixedUvarint((*f.buf)[1:frameHeaderBytes], f.bytes()) }

// free gives up a frame that is not sent.
func (f outFrame) free() { grpcbuf.Pool.Put(f.buf) }

// putFixedUvarint fills b, five bytes, with a uvarint.
func putFixedUvarint(b []byte, n int) {
	for i := range frameLengthBytes - 1 {
		b[i] = byte(n>>(7*i)) | 0x80
	}
	b[frameLengthBytes-1] = byte(n >> (7 * (frameLengthBytes - 1)))
}

// frameCodec is the protobuf codec, and sends frames without a copy.
type frameCodec struct{ encoding.CodecV2 }

// Marshal implements encoding.CodecV2. A frame's memory goes back to its pool
// when it is on the wire.
func (c frameCodec) Marshal(v any) (mem.BufferSlice, error) {
	f, ok := v.(outFrame)
	if !ok {
		return nil, fmt.Errorf("raft transport: a batch stream has frames only, not %T", v)
	}
	return mem.BufferSlice{mem.NewBuffer(f.buf, grpcbuf.Pool)}, nil
}

// frameCodecOption is for batch streams.
func frameCodecOption() grpc.CallOption {
	return grpc.ForceCodecV2(frameCodec{encoding.GetCodecV2(proto.Name)})
}
