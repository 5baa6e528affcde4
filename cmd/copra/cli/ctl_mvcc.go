package cli

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/pingcap/kvproto/pkg/errorpb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/tikvpb"
	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/pdclient"
)

const (
	// mvccTriesMax is how often a region is looked up again that has moved.
	mvccTriesMax = 5
	mvccTryPause = 200 * time.Millisecond
	// mvccScanTimeout bounds the search for a transaction, which reads everything.
	mvccScanTimeout = 10 * time.Minute
	// mvccValueBytesMax is how much of a value the table shows.
	mvccValueBytesMax = 48
	sqlPrefix         = "x\x00\x00\x01"
)

// mvccCommand shows what stores hold of a key.
type mvccCommand struct {
	*ctl
	key, format string
	startTS     uint64
	raw         bool
}

func newCtlMvcc(c *ctl) *cobra.Command {
	m := &mvccCommand{ctl: c}
	cmd := c.command(nil, "mvcc", "Show what is stored of a key: its lock, its versions, its values",
		`  copra ctl mvcc --key user1                             as a transaction's client writes it
  copra ctl mvcc --key 'a\x00\xff'                       with bytes escaped
  copra ctl mvcc --key 7573657231 --format hex           as the slow log shows it
  copra ctl mvcc --start-ts 434343434343434343           a key of each region that the transaction wrote to; reads all of them
  copra ctl mvcc --start-ts 434343434343434343 --key k   in the region of the key k only
  copra ctl mvcc --key k --raw                           a key of a raw client`, cobra.NoArgs,
		func(cmd *cobra.Command, _ []string) error { return m.run(cmd) })
	f := cmd.Flags()
	f.StringVar(&m.key, "key", "", "the key")
	f.StringVar(&m.format, "format", "escaped", "of the key. escaped: text, other bytes as \\xff; hex: hexadecimal; encoded: as ctl region shows keys")
	f.Uint64Var(&m.startTS, "start-ts", 0, "look for the locks and versions of the transaction that started then")
	f.BoolVar(&m.raw, "raw", false, "the key of a raw client")
	return cmd
}

// plainKey reads a key as a user writes it.
func plainKey(text, format string) ([]byte, error) {
	switch format {
	case "escaped":
		key, err := strconv.Unquote(`"` + strings.ReplaceAll(text, `"`, `\"`) + `"`)
		if err != nil {
			return nil, fmt.Errorf("--key %q is not escaped well: write \\\\ for a backslash, \\xff for a byte", text)
		}
		return []byte(key), nil
	case "hex", "encoded":
		key, err := hex.DecodeString(text)
		if err != nil {
			return nil, fmt.Errorf("--key %q is not hexadecimal", text)
		}
		if format == "hex" {
			return key, nil
		}
		plain, _, err := codec.DecodeBytes(nil, key)
		if err != nil {
			return nil, fmt.Errorf("--key %q is not an encoded key", text)
		}
		return plain, nil
	}
	return nil, fmt.Errorf("--format %q: want escaped, hex or encoded", format)
}

func (m *mvccCommand) run(cmd *cobra.Command) error {
	if m.key == "" && m.startTS == 0 {
		return errors.New("what is to be shown? --key or --start-ts says it")
	}
	if m.raw && (m.key == "" || m.startTS != 0) {
		return errors.New("--raw goes with --key, and not with --start-ts: raw keys have no transactions")
	}
	key, err := plainKey(m.key, m.format)
	if err != nil {
		return err
	}
	pds, err := endpoints(m.pdList)
	if err != nil {
		return err
	}
	limit := ctlTimeout
	if m.startTS != 0 {
		limit = mvccScanTimeout
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), limit)
	defer cancel()
	start, stop := context.WithTimeout(ctx, ctlTimeout)
	defer stop()
	pd, err := pdclient.New(start, pds, pdclient.Options{DialOptions: []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}})
	if err != nil {
		return err
	}
	defer pd.Close()
	s := &mvccSource{pd: pd, conns: map[uint64]*grpc.ClientConn{}}
	defer s.close()
	reply, err := m.ask(ctx, s, key)
	if err != nil {
		return err
	}
	body, err := json.MarshalIndent(reply, "", "  ")
	if err != nil {
		return err
	}
	return m.print(cmd, body, printMvcc)
}

func (m *mvccCommand) ask(ctx context.Context, s *mvccSource, key []byte) ([]mvccReply, error) {
	switch {
	case m.raw:
		r, err := s.rawKey(ctx, key)
		return []mvccReply{r}, err
	case m.startTS == 0:
		r, err := s.byKey(ctx, key)
		return []mvccReply{r}, err
	case m.key != "":
		r, _, err := s.byStartTS(ctx, codec.EncodeBytes(nil, key), m.startTS)
		if err != nil || r.Key == "" {
			return []mvccReply{}, err
		}
		return []mvccReply{r}, nil
	}
	out := []mvccReply{}
	var at []byte
	for {
		r, end, err := s.byStartTS(ctx, at, m.startTS)
		if err != nil {
			return nil, err
		}
		if r.Key != "" {
			out = append(out, r)
		}
		if len(end) == 0 {
			return out, nil
		}
		at = end
	}
}

// mvccSource asks the leaders of regions.
type mvccSource struct {
	pd    *pdclient.Client
	conns map[uint64]*grpc.ClientConn
}

func (s *mvccSource) close() {
	for _, c := range s.conns {
		_ = c.Close()
	}
}

func (s *mvccSource) client(ctx context.Context, store uint64) (tikvpb.TikvClient, error) {
	if s.conns[store] == nil {
		meta, err := s.pd.GetStore(ctx, store)
		if err != nil {
			return nil, err
		}
		conn, err := grpc.NewClient(meta.GetAddress(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return nil, err
		}
		s.conns[store] = conn
	}
	return tikvpb.NewTikvClient(s.conns[store]), nil
}

// atLeader calls fn at the leader of the region that holds the encoded key,
// until it gives no region error.
func (s *mvccSource) atLeader(ctx context.Context, enc []byte, r *mvccReply, fn func(c tikvpb.TikvClient, rc *kvrpcpb.Context) (*errorpb.Error, error)) (end []byte, err error) {
	var last error
	for range mvccTriesMax {
		region, err := s.pd.GetRegion(ctx, enc)
		if err != nil {
			return nil, fmt.Errorf("region of key %x: %w", enc, err)
		}
		r.Region, r.Store = region.Meta.GetId(), region.Leader.GetStoreId()
		if r.Store == 0 {
			last = fmt.Errorf("region %d has no leader", r.Region)
		} else {
			c, err := s.client(ctx, r.Store)
			if err != nil {
				return nil, err
			}
			refused, err := fn(c, &kvrpcpb.Context{RegionId: r.Region, RegionEpoch: region.Meta.GetRegionEpoch(), Peer: region.Leader, ApiVersion: kvrpcpb.APIVersion_V2})
			if err == nil && refused == nil {
				return region.Meta.GetEndKey(), nil
			}
			if last = err; err == nil {
				last = fmt.Errorf("region %d, store %d: %s", r.Region, r.Store, refused.GetMessage())
			}
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w; at last: %w", ctx.Err(), last)
		case <-time.After(mvccTryPause):
		}
	}
	return nil, last
}

func (s *mvccSource) byKey(ctx context.Context, key []byte) (r mvccReply, err error) {
	_, err = s.atLeader(ctx, codec.EncodeBytes(nil, key), &r, func(c tikvpb.TikvClient, rc *kvrpcpb.Context) (*errorpb.Error, error) {
		resp, err := c.MvccGetByKey(ctx, &kvrpcpb.MvccGetByKeyRequest{Context: rc, Key: key})
		if err == nil && resp.GetError() != "" {
			err = errors.New(resp.GetError())
		}
		r.set(key, resp.GetInfo())
		if err != nil || resp.GetRegionError() != nil || r.Shown == nil {
			return resp.GetRegionError(), err
		}
		return s.lockOf(ctx, c, rc, key, r.Shown)
	})
	return r, err
}

// lockOf adds what only a search for locks says: min_commit_ts, and all holders
// of a shared lock.
func (s *mvccSource) lockOf(ctx context.Context, c tikvpb.TikvClient, rc *kvrpcpb.Context, key []byte, l *mvccLock) (*errorpb.Error, error) {
	resp, err := c.KvScanLock(ctx, &kvrpcpb.ScanLockRequest{
		Context: rc, StartKey: key, EndKey: append(bytes.Clone(key), 0), MaxVersion: math.MaxUint64, Limit: 1})
	if err != nil || resp.GetRegionError() != nil {
		return resp.GetRegionError(), err
	}
	for _, info := range resp.GetLocks() { // none: it was released meanwhile
		l.MinCommitTS = info.GetMinCommitTs()
		for _, h := range info.GetSharedLockInfos() {
			l.Holders = append(l.Holders, mvccHolder{h.GetLockType().String(), h.GetLockVersion(), hex.EncodeToString(h.GetPrimaryLock()), h.GetLockTtl(), h.GetMinCommitTs()})
		}
	}
	return nil, nil
}

func (s *mvccSource) byStartTS(ctx context.Context, at []byte, ts uint64) (r mvccReply, end []byte, err error) {
	end, err = s.atLeader(ctx, at, &r, func(c tikvpb.TikvClient, rc *kvrpcpb.Context) (*errorpb.Error, error) {
		resp, err := c.MvccGetByStartTs(ctx, &kvrpcpb.MvccGetByStartTsRequest{Context: rc, StartTs: ts})
		if err == nil && resp.GetError() != "" {
			err = errors.New(resp.GetError())
		}
		if len(resp.GetKey()) > 0 {
			r.set(resp.GetKey(), resp.GetInfo())
		}
		return resp.GetRegionError(), err
	})
	return r, end, err
}

// rawKey shows a raw key. Raw clients of API V1 find regions by the key itself.
func (s *mvccSource) rawKey(ctx context.Context, key []byte) (r mvccReply, err error) {
	_, err = s.atLeader(ctx, key, &r, func(c tikvpb.TikvClient, rc *kvrpcpb.Context) (*errorpb.Error, error) {
		rc.ApiVersion = kvrpcpb.APIVersion_V1
		resp, err := c.RawGet(ctx, &kvrpcpb.RawGetRequest{Context: rc, Key: key})
		if err != nil || resp.GetRegionError() != nil {
			return resp.GetRegionError(), err
		}
		if resp.GetError() != "" {
			return nil, errors.New(resp.GetError())
		}
		r.set(key, nil)
		if resp.GetNotFound() {
			return nil, nil
		}
		ttl, err := c.RawGetKeyTTL(ctx, &kvrpcpb.RawGetKeyTTLRequest{Context: rc, Key: key})
		if err != nil {
			return nil, err
		}
		r.Raw = &mvccRaw{Value: hex.EncodeToString(resp.GetValue()), TTL: ttl.GetTtl()}
		return ttl.GetRegionError(), nil
	})
	return r, err
}
