package gossip

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hashicorp/memberlist"
	"google.golang.org/protobuf/proto"

	"github.com/copradb/copra/proto/gossippb"
)

// Kind says what a node is.
type Kind int

// The kinds of nodes.
const (
	KindStore Kind = Kind(gossippb.Meta_STORE)
	KindPD    Kind = Kind(gossippb.Meta_PD)
)

// String is the kind as people write it.
func (k Kind) String() string {
	switch k {
	case KindStore:
		return "store"
	case KindPD:
		return "pd"
	}
	return fmt.Sprintf("kind %d", int(k))
}

// MarshalText implements encoding.TextMarshaler.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Disk says how full a store's disk is.
type Disk int

// The levels of Disk.
const (
	DiskNormal     Disk = Disk(gossippb.Meta_NORMAL)
	DiskAlmostFull Disk = Disk(gossippb.Meta_ALMOST_FULL)
	DiskFull       Disk = Disk(gossippb.Meta_FULL)
)

// String is the level as people write it.
func (d Disk) String() string {
	switch d {
	case DiskNormal:
		return "normal"
	case DiskAlmostFull:
		return "almost full"
	case DiskFull:
		return "full"
	}
	return fmt.Sprintf("level %d", int(d))
}

// MarshalText implements encoding.TextMarshaler.
func (d Disk) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// Limits of what a node may say about itself. Together they stay below
// memberlist's 512 bytes.
const (
	addressBytesMax = 262 // a DNS name and a port
	noteBytesMax    = 96
	nameBytesMax    = 64
	// SlowScoreMax is the slowest; SlowScoreSlow and above is slow (TiKV's
	// numbers).
	SlowScoreMax  = 100
	SlowScoreSlow = 80
)

// Status is how a node is, in its own words.
type Status struct {
	// SlowScore is 1 (healthy) to SlowScoreMax, 0 where the node has no opinion.
	SlowScore uint32 `json:"slow_score"`
	Disk      Disk   `json:"disk"`
	// Note is for people, at most 96 bytes.
	Note string `json:"note,omitempty"`
}

// Slow reports whether others had better go elsewhere.
func (s Status) Slow() bool { return s.SlowScore >= SlowScoreSlow }

func (s Status) check() error {
	switch {
	case s.SlowScore > SlowScoreMax:
		return fmt.Errorf("gossip: a slow score of %d is above %d", s.SlowScore, SlowScoreMax)
	case s.Disk < DiskNormal || s.Disk > DiskFull:
		return fmt.Errorf("gossip: there is no disk level %d", s.Disk)
	case len(s.Note) > noteBytesMax:
		return fmt.Errorf("gossip: a note of %d bytes is above the limit of %d", len(s.Note), noteBytesMax)
	case !utf8.ValidString(s.Note):
		return errors.New("gossip: the note is not UTF-8")
	}
	return nil
}

// Member is a node as this one sees it.
type Member struct {
	Name    string    `json:"name"`
	Kind    Kind      `json:"kind"`
	ID      uint64    `json:"id"` // of the store, or of the PD member
	Address string    `json:"address"`
	Started time.Time `json:"started"` // by its own clock
	Status  Status    `json:"status"`
	Alive   bool      `json:"alive"`
	Since   time.Time `json:"since"` // when this node saw Alive change
}

// nameOf is a node's name in the gossip.
func nameOf(k Kind, id uint64) string {
	if k == KindPD {
		return fmt.Sprintf("pd-%x", id)
	}
	return fmt.Sprintf("store-%d", id)
}

func encodeMeta(clusterID uint64, m Member) ([]byte, error) {
	raw, err := proto.Marshal(&gossippb.Meta{
		ClusterId: clusterID, Kind: gossippb.Meta_Kind(m.Kind), Id: m.ID, Address: m.Address,
		StartedUnixMs: m.Started.UnixMilli(), SlowScore: m.Status.SlowScore,
		Disk: gossippb.Meta_Disk(m.Status.Disk), Note: m.Status.Note,
	})
	if err != nil {
		return nil, fmt.Errorf("gossip: encode what this node says of itself: %w", err)
	}
	if len(raw) > memberlist.MetaMaxSize {
		return nil, fmt.Errorf("gossip: what this node says of itself takes %d bytes, above the limit of %d", len(raw), memberlist.MetaMaxSize)
	}
	return raw, nil
}

// decodeMeta reads what the node called name says of itself.
func decodeMeta(clusterID uint64, name string, raw []byte) (Member, error) {
	if len(raw) > memberlist.MetaMaxSize {
		return Member{}, fmt.Errorf("gossip: %q says %d bytes of itself, above the limit of %d", name, len(raw), memberlist.MetaMaxSize)
	}
	var p gossippb.Meta
	if err := proto.Unmarshal(raw, &p); err != nil {
		return Member{}, fmt.Errorf("gossip: what %q says of itself is damaged: %w", name, err)
	}
	m := Member{
		Name: name, Kind: Kind(p.Kind), ID: p.Id, Address: p.Address, Started: time.UnixMilli(p.StartedUnixMs),
		Status: Status{SlowScore: p.SlowScore, Disk: Disk(p.Disk), Note: p.Note},
	}
	switch {
	case p.ClusterId != clusterID:
		return Member{}, fmt.Errorf("gossip: %q belongs to cluster %d, this is cluster %d", name, p.ClusterId, clusterID)
	case m.Kind != KindStore && m.Kind != KindPD:
		return Member{}, fmt.Errorf("gossip: %q is of an unknown kind, %d", name, p.Kind)
	case m.ID == 0 || name != nameOf(m.Kind, m.ID):
		return Member{}, fmt.Errorf("gossip: %q says that it is %s", name, nameOf(m.Kind, m.ID))
	}
	if err := checkAddress(m.Address); err != nil {
		return Member{}, fmt.Errorf("gossip: the address of %q: %w", name, err)
	}
	return m, m.Status.check()
}

func checkAddress(addr string) error {
	if len(addr) > addressBytesMax {
		return fmt.Errorf("%d bytes are above the limit of %d", len(addr), addressBytesMax)
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	if host == "" || port == "" || strings.ContainsAny(addr, "/ ") {
		return fmt.Errorf("%q is not host:port", addr)
	}
	return nil
}
