package tikv

import (
	"fmt"

	"github.com/copradb/copra/internal/grpcbuf"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// serverCodec is the protobuf codec of the store's gRPC server. kvproto's
// messages may alias the bytes they were decoded from, while gRPC's default
// codec gives its receive buffer back to a pool right after decoding; this one
// hands every message bytes of its own. It also calls kvproto's generated code
// directly.
type serverCodec struct {
	answers *answerBudget // counts large messages until they have gone out; nil: nobody does
}

var _ encoding.CodecV2 = serverCodec{}

// gogoMessage is what kvproto generates.
type gogoMessage interface {
	Size() int
	MarshalToSizedBuffer([]byte) (int, error)
	Unmarshal([]byte) error
	Reset()
}

// Marshal implements encoding.CodecV2.
func (c serverCodec) Marshal(v any) (mem.BufferSlice, error) {
	if m, ok := v.(*frame); ok {
		if c.answers == nil || len(m.data) < answerBufferBytesMin {
			return mem.BufferSlice{mem.SliceBuffer(m.data)}, nil
		}
		return mem.BufferSlice{mem.NewBuffer(&m.data, c.answers.counted(mem.NopBufferPool{}, int64(len(m.data))))}, nil
	}
	if m, ok := v.(gogoMessage); ok {
		buf := grpcbuf.Pool.Get(m.Size())
		if _, err := m.MarshalToSizedBuffer(*buf); err != nil {
			return nil, fmt.Errorf("encode %T: %w", v, err)
		}
		return mem.BufferSlice{c.answers.buffer(buf)}, nil
	}
	m := messageV2(v)
	if m == nil {
		return nil, fmt.Errorf("encode %T: it is no protobuf message", v)
	}
	buf, err := proto.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	return mem.BufferSlice{mem.SliceBuffer(buf)}, nil
}

// Unmarshal implements encoding.CodecV2.
func (serverCodec) Unmarshal(data mem.BufferSlice, v any) error {
	buf := data.Materialize()
	if m, ok := v.(*frame); ok {
		m.data = buf
		return nil
	}
	if m, ok := v.(gogoMessage); ok {
		m.Reset()
		if err := m.Unmarshal(buf); err != nil {
			return fmt.Errorf("decode %T: %w", v, err)
		}
		return nil
	}
	if m, ok := v.(*wrapperspb.BytesValue); ok && onlyBytes(buf, m) {
		return nil
	}
	m := messageV2(v)
	if m == nil {
		return fmt.Errorf("decode %T: it is no protobuf message", v)
	}
	if err := proto.Unmarshal(buf, m); err != nil {
		return fmt.Errorf("decode %T: %w", v, err)
	}
	return nil
}

// onlyBytes decodes a message that is one field of bytes, the frames of Raft's
// transport, without copying them. ok is false for any other form.
func onlyBytes(buf []byte, m *wrapperspb.BytesValue) (ok bool) {
	num, typ, n := protowire.ConsumeTag(buf)
	if n < 0 || num != 1 || typ != protowire.BytesType {
		return false
	}
	value, k := protowire.ConsumeBytes(buf[n:])
	if k < 0 || n+k != len(buf) {
		return false
	}
	m.Reset()
	m.Value = value
	return true
}

func messageV2(v any) proto.Message {
	switch m := v.(type) {
	case protoadapt.MessageV2:
		return m
	case protoadapt.MessageV1:
		return protoadapt.MessageV2Of(m)
	}
	return nil
}

// Name implements encoding.CodecV2.
func (serverCodec) Name() string { return "proto" }
