package plan

import (
	"bytes"
	"slices"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/pingcap/kvproto/pkg/errorpb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"google.golang.org/protobuf/proto"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/proto/coprpb"
)

// Limits of a request.
const (
	TicketVersion      = 1
	TicketBytesMax     = 16 << 20
	RequestRegionsMax  = 4096
	RegionRangesMax    = 1 << 16
	RequestLocksMax    = 1 << 16 // of resolved and of committed locks
	KeyspacePrefixSize = 4       // bytes in front of a key under API V2
)

// Request asks one store to run a plan over regions.
type Request struct {
	Plan       *Plan
	ClusterID  uint64
	ReadTS     uint64
	Isolation  kvrpcpb.IsolationLevel
	APIVersion kvrpcpb.APIVersion
	KeyspaceID uint32
	Regions    []RegionTask
	// ResolvedLocks are start timestamps of transactions whose locks are to be
	// ignored, CommittedLocks of those to be read through.
	ResolvedLocks, CommittedLocks []uint64
	BatchRowsMax, BatchBytesMax   int           // 0 = the store's own
	Timeout                       time.Duration // 0 = none of its own
	MemBytesMax                   int64         // 0 = the store's own
	Compression                   coprpb.Compression
	ReplicaRead                   coprpb.ReplicaRead
	Priority                      kvrpcpb.CommandPri
	NotFillCache                  bool
	Columnar                      bool // the columnar cache may be read
	ResultCache                   bool // answers of earlier requests may be given again, and this one kept
	// Principal is whom the request is for: answers that are kept are for the same
	// one only. Today there is one, "".
	Principal string
}

// RegionTask is one region to be read and the keys in it: ascending ranges
// with the keyspace's prefix, not memcomparable encoded.
type RegionTask struct {
	ID     uint64
	Epoch  *metapb.RegionEpoch
	Peer   *metapb.Peer
	Term   uint64 // 0 = any
	Ranges []kv.KeyRange
}

// Event is a piece of the answer to a Request: a batch of a region's rows, or
// the end of a region.
type Event struct {
	Task  int // index into Request.Regions
	Batch *expr.Batch
	// ResumeKey, beside a batch of a resumable plan: the rows so far are those
	// of keys up to this one, in the order of the scan. Empty: the batch counts
	// only when the task ends well.
	ResumeKey []byte
	// Also are further tasks that end well together with this one, at its Done:
	// their rows are in its batches, and the statistics are of all of them.
	Also []int
	// Done ends the task; at most one of the following says why it failed.
	Done        bool
	RegionError *errorpb.Error
	Locks       []*kvrpcpb.LockInfo
	Err         error // of the statement, whatever the region
	Stats       RegionStats
}

// RegionStats is what one run over a region took.
type RegionStats struct {
	RowsScanned, BytesScanned, RowsReturned, Batches uint64
	Time                                             time.Duration
	Wait                                             time.Duration // for a worker
	ColumnRows                                       uint64        // of RowsScanned, those from columns
	ColumnRegions                                    uint64        // regions that were read from columns, in part at least
	CachedRegions                                    uint64        // regions whose answer was kept from an earlier request
}

// Add adds what another run took.
func (s *RegionStats) Add(o *RegionStats) {
	s.RowsScanned += o.RowsScanned
	s.BytesScanned += o.BytesScanned
	s.RowsReturned += o.RowsReturned
	s.Batches += o.Batches
	s.Time += o.Time
	s.Wait += o.Wait
	s.ColumnRows += o.ColumnRows
	s.ColumnRegions += o.ColumnRegions
	s.CachedRegions += o.CachedRegions
}

// KeyPrefix is what all keys of the request start with.
func (r *Request) KeyPrefix() []byte {
	if r.APIVersion != kvrpcpb.APIVersion_V2 {
		return nil
	}
	id := r.KeyspaceID
	return []byte{'x', byte(id >> 16), byte(id >> 8), byte(id)}
}

// Context is the kvproto context of one of its regions.
func (r *Request) Context(task int) *kvrpcpb.Context {
	t := &r.Regions[task]
	return &kvrpcpb.Context{
		ClusterId: r.ClusterID, RegionId: t.ID, RegionEpoch: t.Epoch, Peer: t.Peer, Term: t.Term,
		IsolationLevel: r.Isolation, Priority: r.Priority, NotFillCache: r.NotFillCache,
		ResolvedLocks: r.ResolvedLocks, CommittedLocks: r.CommittedLocks,
		ReplicaRead: r.ReplicaRead == coprpb.ReplicaRead_REPLICA_READ_FOLLOWER,
		StaleRead:   r.ReplicaRead == coprpb.ReplicaRead_REPLICA_READ_STALE,
		ApiVersion:  r.APIVersion, KeyspaceId: r.KeyspaceID,
	}
}

// Merges returns the aggregation whose partial results of several regions a
// store may make one of, nil if there is none.
func (p *Plan) Merges() *Aggregation {
	a, ok := p.Nodes[len(p.Nodes)-1].(*Aggregation)
	if !ok || !p.Unordered() {
		return nil
	}
	return a
}

// Schema is the Arrow schema of columns of these types; the columns have no
// names, a plan knows them by position.
func Schema(types []sqltypes.Type) *arrow.Schema {
	fields := make([]arrow.Field, len(types))
	for i, t := range types {
		fields[i] = arrow.Field{Type: t.Arrow(), Nullable: true}
	}
	return arrow.NewSchema(fields, nil)
}

// EncodeTicket is the request as a Flight ticket. p is its plan, encoded
// (Plan.Encode), so that many requests share it.
func (r *Request) EncodeTicket(p *coprpb.Plan) ([]byte, error) {
	t := &coprpb.Ticket{
		Version: TicketVersion, ClusterId: r.ClusterID, Plan: p, ReadTs: r.ReadTS, Isolation: uint32(r.Isolation),
		ApiVersion: uint32(r.APIVersion), KeyspaceId: r.KeyspaceID, ResolvedLocks: r.ResolvedLocks, CommittedLocks: r.CommittedLocks,
		BatchRowsMax: uint32(r.BatchRowsMax), BatchBytesMax: uint32(r.BatchBytesMax), TimeoutMs: uint64(r.Timeout.Milliseconds()),
		MemBytesMax: uint64(r.MemBytesMax), Compression: r.Compression, ReplicaRead: r.ReplicaRead, Priority: uint32(r.Priority),
		NotFillCache: r.NotFillCache, Columnar: r.Columnar, ResultCache: r.ResultCache, Principal: r.Principal,
	}
	for i := range r.Regions {
		g := &r.Regions[i]
		rt := &coprpb.RegionTask{
			RegionId: g.ID, ConfVer: g.Epoch.GetConfVer(), Version: g.Epoch.GetVersion(),
			PeerId: g.Peer.GetId(), StoreId: g.Peer.GetStoreId(), PeerRole: uint32(g.Peer.GetRole()), Term: g.Term,
		}
		for _, k := range g.Ranges {
			rt.Ranges = append(rt.Ranges, &coprpb.KeyRange{Start: k.Start, End: k.End})
		}
		t.Regions = append(t.Regions, rt)
	}
	return proto.Marshal(t)
}

// DecodeTicket undoes EncodeTicket, trusting nothing: the error is ErrInvalid.
func DecodeTicket(data []byte) (*Request, error) {
	if len(data) > TicketBytesMax {
		return nil, invalid("its ticket has %d bytes, the maximum is %d", len(data), TicketBytesMax)
	}
	t := &coprpb.Ticket{}
	if err := proto.Unmarshal(data, t); err != nil {
		return nil, invalid("its ticket: %v", err)
	}
	if t.Version != TicketVersion {
		return nil, invalid("its ticket has version %d, this store understands %d", t.Version, TicketVersion)
	}
	p, err := Decode(t.Plan)
	if err != nil {
		return nil, err
	}
	r := &Request{
		Plan: p, ClusterID: t.ClusterId, ReadTS: t.ReadTs, Isolation: kvrpcpb.IsolationLevel(t.Isolation),
		APIVersion: kvrpcpb.APIVersion(t.ApiVersion), KeyspaceID: t.KeyspaceId,
		ResolvedLocks: t.ResolvedLocks, CommittedLocks: t.CommittedLocks,
		BatchRowsMax: int(min(t.BatchRowsMax, 1<<20)), BatchBytesMax: int(min(t.BatchBytesMax, 1<<30)),
		Timeout:     time.Duration(min(t.TimeoutMs, 1<<40)) * time.Millisecond,
		MemBytesMax: int64(min(t.MemBytesMax, 1<<40)), Compression: t.Compression, ReplicaRead: t.ReplicaRead,
		Priority: kvrpcpb.CommandPri(t.Priority), NotFillCache: t.NotFillCache, Columnar: t.Columnar, ResultCache: t.ResultCache, Principal: t.Principal,
	}
	for _, g := range t.Regions {
		rt := RegionTask{
			ID: g.RegionId, Epoch: &metapb.RegionEpoch{ConfVer: g.ConfVer, Version: g.Version},
			Peer: &metapb.Peer{Id: g.PeerId, StoreId: g.StoreId, Role: metapb.PeerRole(g.PeerRole)}, Term: g.Term,
		}
		for _, k := range g.Ranges {
			rt.Ranges = append(rt.Ranges, kv.KeyRange{Start: k.Start, End: k.End})
		}
		r.Regions = append(r.Regions, rt)
	}
	return r, r.Check()
}

// Check reports whether the request can be run, as ErrInvalid. It does not
// look at the plan.
func (r *Request) Check() error {
	if len(r.Regions) == 0 || len(r.Regions) > RequestRegionsMax {
		return invalid("it asks for %d regions", len(r.Regions))
	}
	if len(r.ResolvedLocks) > RequestLocksMax || len(r.CommittedLocks) > RequestLocksMax {
		return invalid("it names %d resolved and %d committed locks", len(r.ResolvedLocks), len(r.CommittedLocks))
	}
	if r.APIVersion != kvrpcpb.APIVersion_V1 && r.APIVersion != kvrpcpb.APIVersion_V2 {
		return invalid("API version %s is not supported", r.APIVersion)
	}
	if r.APIVersion == kvrpcpb.APIVersion_V2 && r.KeyspaceID >= 1<<24 {
		return invalid("keyspace id %d has more than 24 bits", r.KeyspaceID)
	}
	prefix := r.KeyPrefix()
	for i := range r.Regions {
		if err := checkRanges(&r.Regions[i], prefix); err != nil {
			return err
		}
	}
	return nil
}

func checkRanges(t *RegionTask, prefix []byte) error {
	if len(t.Ranges) == 0 || len(t.Ranges) > RegionRangesMax {
		return invalid("region %d has %d key ranges", t.ID, len(t.Ranges))
	}
	for i, k := range t.Ranges {
		last := i == len(t.Ranges)-1
		if len(k.End) == 0 && !last || len(k.End) > 0 && bytes.Compare(k.Start, k.End) > 0 ||
			!last && bytes.Compare(k.End, t.Ranges[i+1].Start) > 0 {
			return invalid("the key ranges of region %d do not ascend", t.ID)
		}
		if !bytes.HasPrefix(k.Start, prefix) {
			return invalid("a key range of region %d is outside its keyspace", t.ID)
		}
	}
	return nil
}

// Behind returns what of ascending ranges comes after key in the order of the
// scan.
func Behind(ranges []kv.KeyRange, key []byte, desc bool) []kv.KeyRange {
	var out []kv.KeyRange
	next := append(slices.Clone(key), 0)
	for _, k := range ranges {
		if desc {
			if bytes.Compare(k.Start, key) >= 0 {
				break
			}
			if len(k.End) == 0 || bytes.Compare(k.End, key) > 0 {
				k.End = key
			}
		} else {
			if len(k.End) > 0 && bytes.Compare(k.End, next) <= 0 {
				continue
			}
			if bytes.Compare(k.Start, next) < 0 {
				k.Start = next
			}
		}
		out = append(out, k)
	}
	return out
}
