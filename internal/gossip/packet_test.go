package gossip

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/copradb/copra/proto/gossippb"
)

func TestCheckPacket(t *testing.T) {
	for name, c := range map[string]struct {
		packet []byte
		ok     bool
	}{
		"ping":                  {[]byte{msgPing, 0x80}, true},
		"checksummed":           {[]byte{msgCRC, 0, 0, 0, 0, msgAck}, true},
		"compound":              {[]byte{msgCompound, 2, 0, 1, 0, 2, msgPing, msgAlive, 1}, true},
		"empty":                 {nil, false},
		"only a checksum":       {[]byte{msgCRC, 0, 0, 0, 0}, false},
		"half a checksum":       {[]byte{msgCRC, 0}, false},
		"compressed":            {[]byte{msgCompress, 1}, false},
		"encrypted":             {[]byte{msgEncrypt, 1}, false},
		"a user's":              {[]byte{msgUser, 1}, false},
		"labelled":              {[]byte{244, 1, 'x', msgPing}, false},
		"compound without":      {[]byte{msgCompound}, false},
		"compound cut":          {[]byte{msgCompound, 200, 0}, false},
		"message cut":           {[]byte{msgCompound, 1, 0, 9, msgPing}, false},
		"empty message":         {[]byte{msgCompound, 1, 0, 0}, false},
		"compound in compound":  {[]byte{msgCompound, 1, 0, 2, msgCompound, 0}, false},
		"compressed in it":      {[]byte{msgCompound, 1, 0, 1, msgCompress}, false},
		"checksum in checksum":  {[]byte{msgCRC, 0, 0, 0, 0, msgCRC, 0, 0, 0, 0, msgPing}, false},
		"large":                 {bytes.Repeat([]byte{msgPing}, packetBytesMax+1), false},
		"as large as it may be": {bytes.Repeat([]byte{msgPing}, packetBytesMax), true},
	} {
		if err := checkPacket(c.packet); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMetaLimits(t *testing.T) {
	m := Member{Name: "store-1", Kind: KindStore, ID: 1, Address: "h:1", Started: time.UnixMilli(5)}
	raw, err := encodeMeta(3, m)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := decodeMeta(3, "store-1", raw); err != nil || got != m {
		t.Fatal(got, err)
	}
	if _, err := decodeMeta(4, "store-1", raw); err == nil {
		t.Error("another cluster's node was taken")
	}
	if _, err := decodeMeta(3, "store-2", raw); err == nil {
		t.Error("a node with another's name was taken")
	}
	m.Address = string(bytes.Repeat([]byte("x"), addressBytesMax-2)) + ":1"
	m.Status = Status{SlowScore: SlowScoreMax, Disk: DiskFull, Note: string(bytes.Repeat([]byte("n"), noteBytesMax))}
	m.ID, m.Started = 1<<64-1, time.UnixMilli(1<<50)
	m.Name = nameOf(m.Kind, m.ID)
	if raw, err = encodeMeta(1<<64-1, m); err != nil {
		t.Fatalf("the largest that is allowed does not fit: %v", err)
	}
	if got, err := decodeMeta(1<<64-1, m.Name, raw); err != nil || got != m {
		t.Fatal(got, err)
	}
}

func FuzzDecodeMeta(f *testing.F) {
	raw, _ := encodeMeta(3, Member{Kind: KindPD, ID: 0xab, Address: "h:1", Started: time.UnixMilli(5)})
	f.Add("pd-ab", raw)
	f.Fuzz(func(t *testing.T, name string, raw []byte) {
		m, err := decodeMeta(3, name, raw)
		if err != nil {
			return
		}
		again, err := encodeMeta(3, m)
		if err != nil {
			return // unknown fields made it larger than it is allowed to be
		}
		if back, err := decodeMeta(3, name, again); err != nil || back != m {
			t.Fatalf("%+v came back as %+v, %v", m, back, err)
		}
	})
}

// FuzzIngest throws packets and streams at a running node: it must neither
// panic nor stop answering.
func FuzzIngest(f *testing.F) {
	f.Add([]byte{msgPing, 0x82, 0xa5, 'S', 'e', 'q', 'N', 'o', 1})
	f.Add([]byte{msgCompound, 2, 0, 1, 0, 2, msgPing, msgAlive, 1})
	f.Add([]byte{msgCRC, 0, 0, 0, 0, msgAck})
	f.Add([]byte{msgPushPull, 0x83, 0xa5, 'N', 'o', 'd', 'e', 's', 0xce, 0x7f, 0xff, 0xff, 0xff})
	f.Add([]byte{msgSuspect, 0x81, 0xa4, 'N', 'o', 'd', 'e', 0xa7, 's', 't', 'o', 'r', 'e', '-', '1'})
	o := Options{ClusterID: testCluster, Kind: KindStore, ID: 1, Address: "h:1", Service: &Service{}, Logger: slog.New(slog.DiscardHandler), Seeds: func() []string { return nil }}
	m, err := newMetrics(nil)
	if err != nil {
		f.Fatal(err)
	}
	tr := newTransport(&o, "store-1", m)
	n, err := start(o, m, tr, tr.routes)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(n.shutdown)
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = tr.ingest(b, "h:2", time.Now())
		if checkStreamStart(b) == nil {
			s := &fakeStream{}
			c, p := newConn(t.Context(), s, "h:1", "h:2")
			tr.streams <- c
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			p.run(ctx, b)
			cancel()
		}
		for _, x := range n.Members() {
			if x.Name == "store-1" && !x.Alive {
				t.Fatal("a packet made the node believe that it is dead itself")
			}
		}
	})
}

// fakeStream is a call of which nothing more comes.
type fakeStream struct{}

func (*fakeStream) Send(*gossippb.Chunk) error     { return nil }
func (*fakeStream) Recv() (*gossippb.Chunk, error) { return nil, io.EOF }
