package txn

import (
	"bytes"
	"context"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/kv"
)

// KvDeleteRange deletes every version, lock and value of the keys in [start,
// end) that are in the region. It is no transaction: it is meant for data that
// nobody reads any more, such as a dropped table's. notify_only writes nothing.
func (s *Store) KvDeleteRange(ctx context.Context, req *kvrpcpb.DeleteRangeRequest) (*kvrpcpb.DeleteRangeResponse, error) {
	if len(req.EndKey) > 0 && bytes.Compare(req.StartKey, req.EndKey) >= 0 {
		return nil, invalid("delete range with start_key %x not below end_key %x", req.StartKey, req.EndKey)
	}
	err := s.exec(ctx, cmdDeleteRange, req.Context, 0, nil, func(c *command) error {
		if req.NotifyOnly {
			return nil
		}
		lower, upper := encodeBounds(req.StartKey, req.EndKey)
		region := c.snap.Region()
		if bytes.Compare(lower, region.StartKey) < 0 {
			lower = region.StartKey
		}
		if len(upper) == 0 || len(region.EndKey) > 0 && bytes.Compare(upper, region.EndKey) > 0 {
			upper = region.EndKey
		}
		if len(upper) == 0 {
			upper = s.keysEnd()
		}
		if bytes.Compare(lower, upper) >= 0 {
			return keyNotInRegion(c.snap, req.StartKey, codec.EncodeBytes(nil, req.StartKey))
		}
		for _, cf := range [...]kv.CF{kv.CFDefault, kv.CFLock, kv.CFWrite} {
			c.batch.DeleteRange(cf, lower, upper)
		}
		return nil
	})
	re, ke, err := split(err)
	if err != nil {
		return nil, err
	}
	resp := &kvrpcpb.DeleteRangeResponse{RegionError: re}
	if ke != nil {
		resp.Error = ke.String()
	}
	return resp, nil
}

// keysEnd is above every encoded key that can be written.
func (s *Store) keysEnd() []byte {
	return bytes.Repeat([]byte{0xFF}, codec.EncodedBytesLen(s.limits.KeyBytesMax)+codec.TSLen)
}
