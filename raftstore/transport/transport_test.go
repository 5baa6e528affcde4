package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/copradb/copra/raftstore"
	"github.com/pingcap/kvproto/pkg/metapb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// fakeStore records what a transport delivers.
type fakeStore struct {
	mu          sync.Mutex
	changed     *sync.Cond
	messages    []*raftstore.RaftMessage
	unreachable map[uint64]int // by peer
	files       map[string][]byte
	finished    int
	aborted     int
	stepErr     error
	beginErr    error
	writeErr    error
}

func newFakeStore() *fakeStore {
	s := &fakeStore{unreachable: map[uint64]int{}, files: map[string][]byte{}}
	s.changed = sync.NewCond(&s.mu)
	return s
}

// wait blocks until cond holds; cond runs under the lock.
func (s *fakeStore) wait(cond func() bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !cond() {
		s.changed.Wait()
	}
}

func (s *fakeStore) update(fn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn()
	s.changed.Broadcast()
}

func (s *fakeStore) Step(m *raftstore.RaftMessage) error {
	s.update(func() { s.messages = append(s.messages, m) })
	return s.stepErr
}

func (s *fakeStore) ReportUnreachable(_, peerID uint64) {
	s.update(func() { s.unreachable[peerID]++ })
}

func (s *fakeStore) BeginSnapshot(m *raftstore.RaftMessage) (raftstore.SnapshotReceiver, error) {
	if s.beginErr != nil {
		return nil, s.beginErr
	}
	return s, s.Step(m)
}

func (s *fakeStore) Write(name string, chunk []byte) error {
	s.update(func() { s.files[name] = append(s.files[name], chunk...) })
	return s.writeErr
}

func (s *fakeStore) Finish() error {
	s.update(func() { s.finished++ })
	return nil
}

func (s *fakeStore) Abort() { s.update(func() { s.aborted++ }) }

// network is some stores on 127.0.0.1 and the addresses that PD would know.
type network struct {
	t     *testing.T
	mu    sync.Mutex
	addrs map[uint64]string
}

type node struct {
	*Transport
	store  *fakeStore
	server *grpc.Server
	addr   string
}

func newNetwork(t *testing.T) *network { return &network{t: t, addrs: map[uint64]string{}} }

func (n *network) set(id uint64, addr string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addrs[id] = addr
}

func (n *network) resolve(_ context.Context, id uint64) (string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if a := n.addrs[id]; a != "" {
		return a, nil
	}
	return "", fmt.Errorf("store %d is unknown", id)
}

func (n *network) start(cluster, id uint64) *node {
	n.t.Helper()
	tr, err := New(Options{ClusterID: cluster, StoreID: id, Resolve: n.resolve,
		DialOptions: []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials()), KeepaliveOption()}})
	if err != nil {
		n.t.Fatal(err)
	}
	nd := &node{Transport: tr, store: newFakeStore()}
	tr.SetHandler(nd.store)
	nd.serve(n.t)
	n.set(id, nd.addr)
	n.t.Cleanup(func() {
		tr.Close()
		nd.server.Stop()
	})
	return nd
}

func (nd *node) serve(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nd.server, nd.addr = grpc.NewServer(grpc.MaxRecvMsgSize(MaxRecvBytes)), l.Addr().String()
	nd.Register(nd.server)
	server := nd.server
	go func() { _ = server.Serve(l) }()
}

func message(region, toPeer, toStore, index uint64, data string) *raftstore.RaftMessage {
	typ := raftpb.MessageType_MsgHeartbeat
	m := &raftpb.Message{To: &toPeer, Commit: &index}
	if data != "" {
		typ = raftpb.MessageType_MsgApp
		m.Entries = []*raftpb.Entry{{Index: &index, Term: &index, Data: []byte(data)}}
	}
	m.Type = &typ
	return &raftstore.RaftMessage{
		RegionID: region, From: metapb.Peer{Id: 1, StoreId: 1}, To: metapb.Peer{Id: toPeer, StoreId: toStore},
		Epoch: metapb.RegionEpoch{ConfVer: 3, Version: 4}, StartKey: []byte("a"), EndKey: []byte("z"), Msg: m,
	}
}

func TestMessagesArriveInOrder(t *testing.T) {
	n := newNetwork(t)
	a, b := n.start(1, 1), n.start(1, 2)
	const count = 500
	for i := range uint64(count) {
		data := ""
		if i%2 == 0 {
			data = strings.Repeat("x", int(i))
			if i == 0 {
				data = strings.Repeat("big", 1<<20)
			}
		}
		a.Send(message(7, 20, 2, i+1, data))
	}
	b.store.wait(func() bool { return len(b.store.messages) == count })
	var last [2]uint64 // by class
	for _, m := range b.store.messages {
		c := classOf(m)
		if m.Msg.GetCommit() <= last[c] {
			t.Fatalf("message %d of class %d came after %d", m.Msg.GetCommit(), c, last[c])
		}
		last[c] = m.Msg.GetCommit()
		if m.RegionID != 7 || m.To.Id != 20 || m.Epoch.Version != 4 || string(m.EndKey) != "z" || m.Size == 0 {
			t.Fatalf("message changed: %+v", m)
		}
		if i := m.Msg.GetCommit() - 1; i > 0 && i%2 == 0 && len(m.Msg.Entries[0].Data) != int(i) {
			t.Fatalf("message %d has %d bytes", i, len(m.Msg.Entries[0].Data))
		}
	}
}

// TestUnreachableIsReported: no address, nobody at the address, and the wrong
// store at the address.
func TestUnreachableIsReported(t *testing.T) {
	n := newNetwork(t)
	a, b := n.start(1, 1), n.start(1, 2)
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n.set(4, dead.Addr().String())
	dead.Close()
	n.set(5, b.addr)
	for store := uint64(3); store <= 5; store++ {
		a.Send(message(1, store*10, store, 1, ""))
		a.store.wait(func() bool { return a.store.unreachable[store*10] > 0 })
	}
	if len(b.store.messages) > 0 {
		t.Fatal("store 2 took a message for store 5")
	}
	other := n.start(99, 6)
	a.Send(message(1, 60, 6, 1, ""))
	a.store.wait(func() bool { return a.store.unreachable[60] > 0 })
	if len(other.store.messages) > 0 {
		t.Fatal("a store of another cluster took a message")
	}
}

// TestReconnect: the store comes back at another address.
func TestReconnect(t *testing.T) {
	n := newNetwork(t)
	a, b := n.start(1, 1), n.start(1, 2)
	a.Send(message(1, 20, 2, 1, ""))
	b.store.wait(func() bool { return len(b.store.messages) == 1 })
	b.server.Stop()
	b.serve(t)
	n.set(2, b.addr)
	// Messages are lost until the sender has noticed; Raft sends again.
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := uint64(2); ; i++ {
			select {
			case <-stop:
				return
			default:
				a.Send(message(1, 20, 2, i, ""))
			}
		}
	}()
	b.store.wait(func() bool { return len(b.store.messages) > 1 })
	close(stop)
	<-done
}

// TestHazard16_QueueIsBounded: a store that cannot be reached costs no memory,
// and one sender's queue has a limit.
func TestHazard16_QueueIsBounded(t *testing.T) {
	tr, err := New(Options{Resolve: func(ctx context.Context, _ uint64) (string, error) {
		<-ctx.Done() // PD hangs
		return "", ctx.Err()
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	s := newFakeStore()
	tr.SetHandler(s)
	data := strings.Repeat("x", 1<<20)
	for i := range uint64(100) {
		tr.Send(message(1, 20, 2, i, data))
	}
	for i := range uint64(queueCountMax + 100) {
		tr.Send(message(1, 21, 2, i, ""))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unreachable[20] < 100-queueBytesMax>>20 || s.unreachable[21] < 100 {
		t.Fatalf("refused: %v", s.unreachable)
	}
	for key, sd := range tr.senders {
		if sd.bytes > queueBytesMax || len(sd.queue) > queueCountMax {
			t.Fatalf("queue of %v: %d messages, %d bytes", key, len(sd.queue), sd.bytes)
		}
	}
}

func files(contents map[string][]byte, order ...string) []raftstore.SnapshotFile {
	var out []raftstore.SnapshotFile
	for _, name := range order {
		out = append(out, raftstore.SnapshotFile{Name: name, Size: int64(len(contents[name])),
			Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(contents[name])), nil }})
	}
	return out
}

func snapshotContents() map[string][]byte {
	big := make([]byte, 3*snapshotChunkBytes+17)
	for i := range big {
		big[i] = byte(i * 31)
	}
	return map[string][]byte{"big.sst": big, "empty.sst": {}, "small.sst": []byte("small")}
}

func TestSnapshot(t *testing.T) {
	n := newNetwork(t)
	a, b := n.start(1, 1), n.start(1, 2)
	local := &Local{}
	local.Attach(2, b.store)
	contents := snapshotContents()
	for name, tr := range map[string]raftstore.Transport{"gRPC": a.Transport, "local": local.Node(1)} {
		t.Run(name, func(t *testing.T) {
			b.store.update(func() { clear(b.store.files); b.store.finished, b.store.messages = 0, nil })
			err := tr.SendSnapshot(context.Background(), message(9, 20, 2, 5, ""), files(contents, "big.sst", "empty.sst", "small.sst"))
			if err != nil {
				t.Fatal(err)
			}
			if b.store.finished != 1 || b.store.aborted != 0 || len(b.store.messages) != 1 || b.store.messages[0].RegionID != 9 {
				t.Fatalf("finished %d, aborted %d, %d messages", b.store.finished, b.store.aborted, len(b.store.messages))
			}
			for name, want := range contents {
				if got, ok := b.store.files[name]; !ok || !bytes.Equal(got, want) {
					t.Errorf("%s: %d bytes (%v), want %d", name, len(got), ok, len(want))
				}
			}
		})
	}
}

// TestSnapshotFailures: whatever goes wrong, the receiver is aborted (if it
// began) and the sender hears why.
func TestSnapshotFailures(t *testing.T) {
	n := newNetwork(t)
	a, b := n.start(1, 1), n.start(1, 2)
	contents := snapshotContents()
	good := func() []raftstore.SnapshotFile { return files(contents, "big.sst") }
	send := func(fs []raftstore.SnapshotFile) error {
		return a.SendSnapshot(context.Background(), message(9, 20, 2, 5, ""), fs)
	}
	b.store.beginErr = raftstore.ErrBusy
	if err := send(good()); err == nil || !strings.Contains(err.Error(), "ResourceExhausted") {
		t.Errorf("busy: %v", err)
	}
	b.store.beginErr = errors.New("the range is taken")
	if err := send(good()); err == nil || !strings.Contains(err.Error(), "the range is taken") {
		t.Errorf("refused: %v", err)
	}
	b.store.beginErr = nil
	short := good()
	short[0].Size += 10
	if err := send(short); err == nil || !strings.Contains(err.Error(), "unexpected EOF") {
		t.Errorf("short file: %v", err)
	}
	b.store.wait(func() bool { return b.store.aborted == 1 })
	b.store.writeErr = errors.New("disk full")
	if err := send(good()); err == nil || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("disk full: %v", err)
	}
	b.store.wait(func() bool { return b.store.aborted == 2 })
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := a.SendSnapshot(ctx, message(9, 20, 2, 5, ""), good()); err == nil {
		t.Error("a canceled snapshot was sent")
	}
	if b.store.finished != 0 {
		t.Errorf("%d snapshots finished", b.store.finished)
	}
}

func TestChunkIsChecked(t *testing.T) {
	frame := appendChunk(nil, 3, 4096, []byte("data"))
	if file, off, data, err := decodeChunk(frame); err != nil || file != 3 || off != 4096 || string(data) != "data" {
		t.Fatal(file, off, data, err)
	}
	for i := range frame[3:] {
		bad := bytes.Clone(frame)
		bad[3+i] ^= 1
		if _, _, _, err := decodeChunk(bad); err == nil {
			t.Errorf("a flipped bit in byte %d was not noticed", 3+i)
		}
	}
	for n := range frame {
		if _, _, _, err := decodeChunk(frame[:n]); err == nil {
			t.Errorf("a chunk of %d bytes was taken", n)
		}
	}
}

func FuzzDecode(f *testing.F) {
	m := message(1, 2, 3, 4, "x")
	batch, _ := appendMessage(nil, m)
	header, _ := encodeHeader(m, files(map[string][]byte{"a": []byte("b")}, "a"))
	f.Add(batch)
	f.Add(header)
	f.Add(appendChunk(nil, 1, 2, []byte("x")))
	f.Fuzz(func(t *testing.T, data []byte) {
		_ = readMessages(data, func(*raftstore.RaftMessage) {})
		_, _, _ = decodeHeader(data)
		_, _, _, _ = decodeChunk(data)
	})
}

// A snapshot that the rate holds up ends with its context, and is not taken for
// whole at the receiver (who may not even have heard of it yet).
func TestSnapshotRate(t *testing.T) {
	n := newNetwork(t)
	a, b := n.start(1, 1), n.start(1, 2)
	contents := snapshotContents()
	a.sendRate.SetLimit(1)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := a.SendSnapshot(ctx, message(9, 20, 2, 5, ""), files(contents, "big.sst"))
	if err == nil || !strings.Contains(err.Error(), "would exceed context deadline") {
		t.Fatalf("%d bytes at one byte a second: %v", len(contents["big.sst"]), err)
	}
	a.sendRate.SetLimit(SnapshotBytesPerSecondDefault)
	if err := a.SendSnapshot(context.Background(), message(9, 20, 2, 5, ""), files(contents, "small.sst")); err != nil {
		t.Fatal(err)
	}
	b.store.wait(func() bool { return b.store.finished == 1 })
}
