package transport

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/copradb/copra/raftstore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// SendSnapshot implements raftstore.Transport. It waits for one of a few
// slots, and uses a connection of its own, so that a snapshot does not hold up
// messages.
func (t *Transport) SendSnapshot(ctx context.Context, m *raftstore.RaftMessage, files []raftstore.SnapshotFile) error {
	select {
	case t.sendSem <- struct{}{}:
		defer func() { <-t.sendSem }()
	case <-ctx.Done():
		return ctx.Err()
	case <-t.ctx.Done():
		return errors.New("raft transport is closed")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(t.ctx, cancel)()
	if err := t.sendSnapshot(ctx, m, files); err != nil {
		return fmt.Errorf("send snapshot of region %d to store %d: %w", m.RegionID, m.To.StoreId, err)
	}
	t.metrics.snapshotsSent.Inc()
	return nil
}

func (t *Transport) sendSnapshot(ctx context.Context, m *raftstore.RaftMessage, files []raftstore.SnapshotFile) error {
	header, err := encodeHeader(m, files)
	if err != nil {
		return err
	}
	cc, err := t.dial(ctx, m.To.StoreId)
	if err != nil {
		return err
	}
	defer cc.Close()
	ctx = WithTarget(ctx, t.o.ClusterID, t.o.StoreID, m.To.StoreId)
	stream, err := cc.NewStream(ctx, snapshotStream, snapshotMethod, grpc.MaxCallSendMsgSize(frameBytesMax))
	if err != nil {
		return err
	}
	// io.EOF from SendMsg means that the receiver has ended the stream: the
	// reason comes from RecvMsg below.
	err = stream.SendMsg(wrapperspb.Bytes(header))
	for i := 0; i < len(files) && err == nil; i++ {
		err = t.sendFile(ctx, stream, i, files[i])
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	return stream.RecvMsg(new(emptypb.Empty))
}

func (t *Transport) sendFile(ctx context.Context, stream grpc.ClientStream, index int, f raftstore.SnapshotFile) (err error) {
	r, err := f.Open()
	if err != nil {
		return fmt.Errorf("open %s: %w", f.Name, err)
	}
	defer func() {
		if closeErr := r.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("close %s: %w", f.Name, closeErr)
		}
	}()
	data := make([]byte, min(f.Size, snapshotChunkBytes))
	var frame []byte
	for offset := int64(0); offset < f.Size; {
		part := data[:min(f.Size-offset, snapshotChunkBytes)]
		if _, err := io.ReadFull(r, part); err != nil {
			return fmt.Errorf("read %s at %d of %d bytes: %w", f.Name, offset, f.Size, unexpected(err))
		}
		if err := t.sendRate.WaitN(ctx, len(part)); err != nil {
			return err
		}
		frame = appendChunk(frame[:0], index, offset, part)
		if err := stream.SendMsg(wrapperspb.Bytes(frame)); err != nil {
			return err
		}
		offset += int64(len(part))
	}
	return nil
}

// unexpected keeps the end of a local file from being taken for the end of the
// stream.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (t *Transport) serveSnapshot(stream grpc.ServerStream) error {
	h, err := t.accept(stream)
	if err != nil {
		return err
	}
	select {
	case t.recvSem <- struct{}{}:
		defer func() { <-t.recvSem }()
	default:
		return status.Errorf(codes.ResourceExhausted, "store %d receives %d snapshots already", t.o.StoreID, snapshotRecvCountMax)
	}
	var frame wrapperspb.BytesValue
	if err := stream.RecvMsg(&frame); err != nil {
		return err
	}
	m, files, err := decodeHeader(frame.GetValue())
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	r, err := h.BeginSnapshot(m)
	if errors.Is(err, raftstore.ErrBusy) {
		return status.Error(codes.ResourceExhausted, err.Error())
	}
	if err != nil {
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	if err := t.receiveFiles(stream, files, r); err != nil {
		r.Abort()
		return err
	}
	if err := r.Finish(); err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	t.metrics.snapshotsReceived.Inc()
	return stream.SendMsg(new(emptypb.Empty))
}

// receiveFiles hands the chunks on and checks that every file comes whole and
// in order.
func (t *Transport) receiveFiles(stream grpc.ServerStream, files []fileHeader, r raftstore.SnapshotReceiver) error {
	for i, f := range files {
		if f.size == 0 {
			if err := r.Write(f.name, nil); err != nil {
				return status.Error(codes.Internal, err.Error())
			}
		}
		for offset := int64(0); offset < f.size; {
			var frame wrapperspb.BytesValue
			if err := t.recv(stream, &frame); err != nil {
				return err // io.EOF too: the snapshot is not whole
			}
			file, at, data, err := decodeChunk(frame.GetValue())
			if err != nil {
				return status.Error(codes.DataLoss, err.Error())
			}
			if file != uint64(i) || at != uint64(offset) || len(data) == 0 || int64(len(data)) > f.size-offset {
				return status.Errorf(codes.InvalidArgument, "snapshot chunk of file %d at %d does not follow file %d at %d", file, at, i, offset)
			}
			if err := r.Write(f.name, data); err != nil {
				return status.Error(codes.Internal, err.Error())
			}
			offset += int64(len(data))
		}
	}
	if err := stream.RecvMsg(new(wrapperspb.BytesValue)); !errors.Is(err, io.EOF) {
		return status.Error(codes.InvalidArgument, "snapshot goes on behind its last file")
	}
	return nil
}
