package gossip

import (
	"context"
	"net"
	"sync"

	"github.com/copradb/copra/proto/gossippb"
)

// chunkBytes is how much a message of a stream carries.
const chunkBytes = 32 << 10

// chunkStream is either end of the Stream call.
type chunkStream interface {
	Send(*gossippb.Chunk) error
	Recv() (*gossippb.Chunk, error)
}

// conn is a call as a net.Conn: one end of a pipe (which has deadlines and
// closes like a connection) whose other end is pumped into and out of the call.
type conn struct {
	net.Conn
	local, remote netAddr
}

// LocalAddr implements net.Conn.
func (c *conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements net.Conn.
func (c *conn) RemoteAddr() net.Addr { return c.remote }

// pump moves bytes between a pipe and a call.
type pump struct {
	pipe   net.Conn
	stream chunkStream
	ctx    context.Context // of the call
}

func newConn(ctx context.Context, stream chunkStream, local, remote netAddr) (*conn, *pump) {
	ours, theirs := net.Pipe()
	return &conn{Conn: ours, local: local, remote: remote}, &pump{pipe: theirs, stream: stream, ctx: ctx}
}

// run returns when the local side has closed its end and everything it wrote is
// sent, when the call ends, or with ctx. first was received already.
func (p *pump) run(ctx context.Context, first []byte) {
	var wg sync.WaitGroup
	sent := make(chan struct{})
	go p.receive(first) // ends with the call, which ends after run returns
	wg.Go(func() {
		defer close(sent)
		p.send()
	})
	select {
	case <-sent:
	case <-ctx.Done():
	case <-p.ctx.Done():
	}
	_ = p.pipe.Close()
	wg.Wait()
}

// send moves what the local side writes into the call.
func (p *pump) send() {
	buf := make([]byte, chunkBytes)
	for {
		n, err := p.pipe.Read(buf)
		if n > 0 {
			if p.stream.Send(&gossippb.Chunk{Data: append([]byte(nil), buf[:n]...)}) != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// receive moves what the other side sent to the local reader. At the end of the
// call the reader finds the end of what came.
func (p *pump) receive(first []byte) {
	data := first
	for {
		if len(data) > 0 {
			if _, err := p.pipe.Write(data); err != nil {
				return
			}
		}
		c, err := p.stream.Recv()
		if err != nil {
			break
		}
		data = c.GetData()
	}
	_ = p.pipe.Close() // the reader has got everything, and now finds the end
}
