package pd

import (
	"bytes"
	"context"
	"net"
	"sync/atomic"

	"github.com/pingcap/kvproto/pkg/metapb"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/pd/core"
)

// Between raw keys that share their first eight bytes regions may begin at any
// raw key (a pocket, internal/codec). Transactional clients, who decode the
// boundaries of every region that they hear of, cannot decode those, though they
// have no key there. They come to a pocket by scanning over it: behind the region
// on its left they ask for the one that holds the pocket's first byte.
//
//	          pocket
//	[a ─── P)[P ── k1)[k1 ── k2)[k2 ── Q)[Q ─── z)     as it is, for raw clients
//	[a ─── P)[P ─────────────────────── Q)[Q ─── z)     for transactional ones
//
// So they are shown the first region of a pocket as if it were all of it: a
// store reads nothing outside of a region, and there is nothing for them to read.
//
// Who is who? Raw and transactional clients ask for the same boundaries by the
// same calls. But a transactional client takes timestamps and asks for the state
// of GC, which no raw client does, on the connection on which it asks for
// regions; and it asks only for keys that are encodings. A connection that has
// taken a timestamp and never asked for anything else is a transactional client's.
// Stores, who ask for regions that they have lost touch with, see all of them.
// Calls that another member has passed on come from many clients and get regions
// as they are.

// connState is what PD remembers of a client's connection.
type connState struct {
	credentials.CommonAuthInfo
	transactional atomic.Bool // timestamps or the GC state were asked for
	raw           atomic.Bool // regions of keys that are no encodings were asked for
	store         atomic.Bool // regions are reported: a store, which takes timestamps, too
}

// AuthType implements credentials.AuthInfo.
func (*connState) AuthType() string { return "insecure" }

// connCredentials give every connection of the client port a connState.
type connCredentials struct {
	credentials.TransportCredentials
}

func newConnCredentials() credentials.TransportCredentials {
	return connCredentials{insecure.NewCredentials()}
}

// ServerHandshake implements credentials.TransportCredentials.
func (connCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return conn, &connState{CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.NoSecurity}}, nil
}

// Clone implements credentials.TransportCredentials.
func (c connCredentials) Clone() credentials.TransportCredentials {
	return connCredentials{c.TransportCredentials.Clone()}
}

// passedOnKey marks calls that another member passes on.
const passedOnKey = "copra-passed-on"

// connOf is the state of a call's connection, or nil where it is not one client's.
func connOf(ctx context.Context) *connState {
	if md, ok := metadata.FromIncomingContext(ctx); ok && len(md.Get(passedOnKey)) > 0 {
		return nil
	}
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	c, _ := p.AuthInfo.(*connState)
	return c
}

// markTransactional remembers that only a transactional client makes this call.
func markTransactional(ctx context.Context) {
	if c := connOf(ctx); c != nil && !c.transactional.Load() {
		c.transactional.Store(true)
	}
}

// markStore remembers that a store makes this call: its regions are what they are.
func markStore(ctx context.Context) {
	if c := connOf(ctx); c != nil {
		c.store.Store(true)
	}
}

// regionView is the regions as one client sees them.
type regionView struct {
	rs   *core.Regions
	conn *connState // nil: as they are
}

func viewOf(ctx context.Context, rs *core.Regions) regionView { return regionView{rs, connOf(ctx)} }

// encoded reports whether the client is transactional, as far as is known with
// these keys of its.
func (v regionView) encoded(keys ...[]byte) bool {
	if v.conn == nil {
		return false
	}
	for _, key := range keys {
		if len(key) > 0 && !codec.IsEncoding(key) && !v.conn.raw.Load() {
			v.conn.raw.Store(true)
		}
	}
	return v.conn.transactional.Load() && !v.conn.raw.Load() && !v.conn.store.Load()
}

func (v regionView) byKey(key []byte) *core.Region {
	r := v.rs.ByKey(key)
	if v.encoded(key) {
		return shown(r)
	}
	return r
}

func (v regionView) prev(key []byte) *core.Region {
	r := v.rs.Prev(key)
	if !v.encoded(key) || r == nil {
		return r
	}
	if p, ok := codec.PocketOf(r.Meta.StartKey); ok {
		r = v.rs.ByKey(p.Start)
	}
	return shown(r)
}

// byID hides what lies inside a pocket.
func (v regionView) byID(id uint64) *core.Region {
	r := v.rs.ByID(id)
	if !v.encoded() || r == nil {
		return r
	}
	if codec.InPocket(r.Meta.StartKey) {
		return nil
	}
	return shown(r)
}

func (v regionView) scan(start, end []byte, limit int) []*core.Region {
	out := v.rs.Scan(start, end, limit)
	if !v.encoded(start, end) || !anyInPocket(out) {
		return out
	}
	out = nil
	v.rs.Each(start, end, func(r *core.Region) bool {
		if !codec.InPocket(r.Meta.StartKey) {
			out = append(out, shown(r))
		}
		return limit <= 0 || len(out) < limit
	})
	return out
}

func anyInPocket(rs []*core.Region) bool {
	for _, r := range rs {
		if codec.InPocket(r.Meta.StartKey) || codec.InPocket(r.Meta.EndKey) {
			return true
		}
	}
	return false
}

// shown is a region as transactional clients see it: its boundaries inside of
// pockets are moved up to the pockets' ends.
func shown(r *core.Region) *core.Region {
	if r == nil {
		return nil
	}
	start, okStart := codec.PocketOf(r.Meta.StartKey)
	end, okEnd := codec.PocketOf(r.Meta.EndKey)
	if !okStart && !okEnd {
		return r
	}
	out, meta := *r, &metapb.Region{
		Id: r.Meta.Id, StartKey: r.Meta.StartKey, EndKey: r.Meta.EndKey, RegionEpoch: r.Meta.RegionEpoch, Peers: r.Meta.Peers}
	if okStart {
		meta.StartKey = bytes.Clone(start.End)
	}
	if okEnd {
		meta.EndKey = bytes.Clone(end.End)
	}
	out.Meta, out.Buckets = meta, nil
	return &out
}
