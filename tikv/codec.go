package tikv

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
)

// serverCodec is the protobuf codec of the store's gRPC server. kvproto's
// messages may alias the bytes they were decoded from, while gRPC's default
// codec gives its receive buffer back to a pool right after decoding; this one
// hands every message bytes of its own. It also calls kvproto's generated code
// directly.
type serverCodec struct{}

var _ encoding.CodecV2 = serverCodec{}

// gogoMessage is what kvproto generates.
type gogoMessage interface {
	Size() int
	MarshalToSizedBuffer([]byte) (int, error)
	Unmarshal([]byte) error
	Reset()
}

// Marshal implements encoding.CodecV2.
func (serverCodec) Marshal(v any) (mem.BufferSlice, error) {
	if m, ok := v.(*frame); ok {
		return mem.BufferSlice{mem.SliceBuffer(m.data)}, nil
	}
	if m, ok := v.(gogoMessage); ok {
		buf := make([]byte, m.Size())
		n, err := m.MarshalToSizedBuffer(buf)
		if err != nil {
			return nil, fmt.Errorf("encode %T: %w", v, err)
		}
		return mem.BufferSlice{mem.SliceBuffer(buf[len(buf)-n:])}, nil
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
	m := messageV2(v)
	if m == nil {
		return fmt.Errorf("decode %T: it is no protobuf message", v)
	}
	if err := proto.Unmarshal(buf, m); err != nil {
		return fmt.Errorf("decode %T: %w", v, err)
	}
	return nil
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
