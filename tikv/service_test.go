package tikv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"github.com/copradb/copra/raftstore"
	"io"
	"net"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore/transport"
	"github.com/copradb/copra/tikv/deadlock"
	"github.com/copradb/copra/tikv/gc"
	"github.com/copradb/copra/tikv/internal/oneregion"
	"github.com/copradb/copra/tikv/raw"
	"github.com/copradb/copra/tikv/resolvedts"
	"github.com/copradb/copra/txn"
	"github.com/pingcap/kvproto/pkg/errorpb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/tikvpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"log/slog"
)

const testCluster = 77

// splitRecorder stands in for raftstore's Split.
type splitRecorder struct{ keys [][]byte }

func (r *splitRecorder) Region(uint64) (raftstore.RegionInfo, bool) {
	return raftstore.RegionInfo{Region: &metapb.Region{Id: 1, EndKey: []byte("z")}}, true
}

func (r *splitRecorder) SplitRegion(_ context.Context, _ *kvrpcpb.Context, keys [][]byte) ([]*metapb.Region, error) {
	r.keys = keys
	bounds := append([][]byte{nil}, append(keys, nil)...)
	var out []*metapb.Region
	for i := range len(bounds) - 1 {
		out = append(out, &metapb.Region{Id: uint64(i + 1), StartKey: bounds[i], EndKey: bounds[i+1]})
	}
	return out, nil
}

type fixture struct {
	*testing.T
	*Service
	eng    *oneregion.Engine
	splits *splitRecorder
	addr   string
	client tikvpb.TikvClient
	ts     uint64
}

func newFixture(t *testing.T) *fixture {
	eng, err := oneregion.New()
	if err != nil {
		t.Fatal(err)
	}
	flight := newInFlight()
	store := txn.NewStore(eng, txn.Options{Answers: &flight.answers})
	m, err := newMetrics(nil, flight)
	if err != nil {
		t.Fatal(err)
	}
	splits := &splitRecorder{}
	collector, err := gc.New(gc.Options{
		Regions: noRegions{}, Txn: store, Data: eng.Data, Applied: &gc.Applied{SafePoints: store.SafePoints()},
		Fetch: func(context.Context) (uint64, map[uint32]uint64, error) { return 0, nil, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	s := &Service{destroyRange: collector.DestroyRange, clusterID: testCluster, storeID: 3, engine: eng, data: eng.Data, txn: store, raw: raw.New(eng, nil).WithAnswers(&flight.answers), regions: splits, slowScore: func() uint64 { return slowScoreHealthy }, safe: &fakeSafe{}, reset: func() {}, detector: deadlock.New(deadlock.Options{StoreID: 3}),
		log: slog.New(slog.DiscardHandler), metrics: m, inFlight: flight, batchSlots: make(chan struct{}, batchRequestsMax)}
	server := newGRPCServer(&flight.answers)
	tikvpb.RegisterTikvServer(server, s)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	cc, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(serverCodec{})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cc.Close()
		server.Stop()
		if err := <-done; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Error(err)
		}
		if err := eng.Close(); err != nil {
			t.Error(err)
		}
		store.Close()
	})
	return &fixture{T: t, Service: s, eng: eng, splits: splits, client: tikvpb.NewTikvClient(cc), addr: l.Addr().String(), ts: 100 << 18}
}

var bg = context.Background()

func v1() *kvrpcpb.Context { return &kvrpcpb.Context{RegionId: 1, ClusterId: testCluster} }
func v2() *kvrpcpb.Context {
	return &kvrpcpb.Context{RegionId: 1, ClusterId: testCluster, ApiVersion: kvrpcpb.APIVersion_V2}
}

// put commits one key by 2PC.
func (f *fixture) put(rc *kvrpcpb.Context, key, value string) {
	f.Helper()
	f.ts += 10
	p, err := f.client.KvPrewrite(bg, &kvrpcpb.PrewriteRequest{Context: rc, PrimaryLock: []byte(key), StartVersion: f.ts, LockTtl: 3000,
		Mutations: []*kvrpcpb.Mutation{{Op: kvrpcpb.Op_Put, Key: []byte(key), Value: []byte(value)}}})
	if err != nil || p.RegionError != nil || len(p.Errors) > 0 {
		f.Fatalf("prewrite %q: %v %v", key, p, err)
	}
	c, err := f.client.KvCommit(bg, &kvrpcpb.CommitRequest{Context: rc, Keys: [][]byte{[]byte(key)}, StartVersion: f.ts, CommitVersion: f.ts + 1})
	if err != nil || c.RegionError != nil || c.Error != nil {
		f.Fatalf("commit %q: %v %v", key, c, err)
	}
}

func (f *fixture) scanned(rc *kvrpcpb.Context, start, end string, limit uint32, reverse bool) string {
	f.Helper()
	resp, err := f.client.KvScan(bg, &kvrpcpb.ScanRequest{Context: rc, StartKey: []byte(start), EndKey: []byte(end), Limit: limit, Reverse: reverse, Version: f.ts + 5})
	if err != nil || resp.RegionError != nil || resp.Error != nil {
		f.Fatalf("scan: %v %v", resp, err)
	}
	var out []string
	for _, p := range resp.Pairs {
		out = append(out, strings.TrimPrefix(string(p.Key), sqlPrefix))
	}
	return strings.Join(out, " ")
}

const sqlPrefix, sqlPrefixEnd = "x\x00\x00\x01", "x\x00\x00\x02"

func TestV1ScanSkipsKeyspaces(t *testing.T) {
	f := newFixture(t)
	for _, k := range []string{"a", "wz", "x", "x\x01", "y"} {
		f.put(v1(), k, "v1")
	}
	for _, k := range []string{"", "s1", "s2"} {
		f.put(v2(), sqlPrefix+k, "sql")
	}
	const low, high = "wz x", "x\x01"
	f.put(v2(), "x\x00\x00\x02key", "of another keyspace")
	for _, c := range []struct {
		start, end string
		limit      uint32
		reverse    bool
		want       string
	}{
		{"", "", 100, false, "a " + low + " " + high + " y"},
		{"", "", 4, false, "a " + low + " " + high},
		{"", "", 2, false, "a wz"},
		{"", sqlPrefix + "s2", 9, false, "a " + low},
		{sqlPrefix + "s1", "", 9, false, high + " y"},
		{sqlPrefix + "s1", sqlPrefix + "s3", 9, false, ""},
		{"", "", 100, true, "y " + high + " x wz a"},
		{"", "", 3, true, "y " + high + " x"},
		{sqlPrefix + "s1", "", 100, true, "x wz a"},
		{"", sqlPrefix + "s1", 100, true, "y " + high},
	} {
		if got := f.scanned(v1(), c.start, c.end, c.limit, c.reverse); got != c.want {
			t.Errorf("scan %q to %q limit %d reverse %v: got %q, want %q", c.start, c.end, c.limit, c.reverse, got, c.want)
		}
	}
	if got := f.scanned(v2(), sqlPrefix, sqlPrefixEnd, 9, false); got != " s1 s2" {
		t.Errorf("SQL sees %q", got)
	}
	// A region that holds only the keyspace, and one behind it.
	f.eng.SetRange(codec.EncodeBytes(nil, []byte(sqlPrefix)), codec.EncodeBytes(nil, v2End))
	if got := f.scanned(v1(), "", "", 9, false); got != "" {
		t.Errorf("in the SQL region: %q", got)
	}
	f.eng.SetRange(codec.EncodeBytes(nil, v2End), nil)
	if got := f.scanned(v1(), "", "", 9, true); got != "y "+high {
		t.Errorf("behind the SQL region: %q", got)
	}
}

func TestV1ScanLockSkipsKeyspaces(t *testing.T) {
	f := newFixture(t)
	for i, k := range []string{"a", sqlPrefix + "s", "y"} {
		rc := v1()
		if i == 1 {
			rc = v2()
		}
		f.ts += 10
		if _, err := f.client.KvPrewrite(bg, &kvrpcpb.PrewriteRequest{Context: rc, PrimaryLock: []byte(k), StartVersion: f.ts, LockTtl: 3000,
			Mutations: []*kvrpcpb.Mutation{{Op: kvrpcpb.Op_Put, Key: []byte(k)}}}); err != nil {
			t.Fatal(err)
		}
	}
	locks := func(rc *kvrpcpb.Context, limit uint32) string {
		resp, err := f.client.KvScanLock(bg, &kvrpcpb.ScanLockRequest{Context: rc, MaxVersion: f.ts, Limit: limit})
		if err != nil || resp.Error != nil || resp.RegionError != nil {
			t.Fatal(resp, err)
		}
		var out []string
		for _, l := range resp.Locks {
			out = append(out, string(l.Key))
		}
		return strings.Join(out, " ")
	}
	if got := locks(v1(), 0); got != "a y" {
		t.Errorf("v1 sees %q", got)
	}
	if got := locks(v1(), 1); got != "a" {
		t.Errorf("v1 with limit sees %q", got)
	}
	if got := locks(v2(), 0); got != "a "+sqlPrefix+"s y" {
		t.Errorf("v2 sees %q", got)
	}
}

// TestV1CannotTouchSQLKeyspace sends every transactional command on a SQL key.
func TestV1CannotTouchSQLKeyspace(t *testing.T) {
	f := newFixture(t)
	k := []byte(sqlPrefix)
	k = append(k, "row"...)
	keys, ms := [][]byte{k}, []*kvrpcpb.Mutation{{Op: kvrpcpb.Op_Put, Key: k}}
	rc := v1()
	first := func(es []*kvrpcpb.KeyError) *kvrpcpb.KeyError {
		if len(es) == 0 {
			return nil
		}
		return es[0]
	}
	calls := map[string]func() (*kvrpcpb.KeyError, string, error){
		"get": func() (*kvrpcpb.KeyError, string, error) {
			r, err := f.client.KvGet(bg, &kvrpcpb.GetRequest{Context: rc, Key: k})
			return r.GetError(), "", err
		},
		"batch get": func() (*kvrpcpb.KeyError, string, error) {
			r, err := f.client.KvBatchGet(bg, &kvrpcpb.BatchGetRequest{Context: rc, Keys: keys})
			return r.GetError(), "", err
		},
		"buffer batch get": func() (*kvrpcpb.KeyError, string, error) {
			r, err := f.client.KvBufferBatchGet(bg, &kvrpcpb.BufferBatchGetRequest{Context: rc, Keys: keys})
			return r.GetError(), "", err
		},
		"prewrite": func() (*kvrpcpb.KeyError, string, error) {
			r, err := f.client.KvPrewrite(bg, &kvrpcpb.PrewriteRequest{Context: rc, Mutations: ms})
			return first(r.GetErrors()), "", err
		},
		"flush": func() (*kvrpcpb.KeyError, string, error) {
			r, err := f.client.KvFlush(bg, &kvrpcpb.FlushRequest{Context: rc, Mutations: ms})
			return first(r.GetErrors()), "", err
		},
		"commit": func() (*kvrpcpb.KeyError, string, error) {
			r, err := f.client.KvCommit(bg, &kvrpcpb.CommitRequest{Context: rc, Keys: keys})
			return r.GetError(), "", err
		},
		"pessimistic lock": func() (*kvrpcpb.KeyError, string, error) {
			r, err := f.client.KvPessimisticLock(bg, &kvrpcpb.PessimisticLockRequest{Context: rc, Mutations: ms})
			return first(r.GetErrors()), "", err
		},
		"pessimistic rollback": func() (*kvrpcpb.KeyError, string, error) {
			r, err := f.client.KVPessimisticRollback(bg, &kvrpcpb.PessimisticRollbackRequest{Context: rc, Keys: keys})
			return first(r.GetErrors()), "", err
		},
		"rollback": func() (*kvrpcpb.KeyError, string, error) {
			r, err := f.client.KvBatchRollback(bg, &kvrpcpb.BatchRollbackRequest{Context: rc, Keys: keys})
			return r.GetError(), "", err
		},
		"cleanup": func() (*kvrpcpb.KeyError, string, error) {
			r, err := f.client.KvCleanup(bg, &kvrpcpb.CleanupRequest{Context: rc, Key: k})
			return r.GetError(), "", err
		},
		"heartbeat": func() (*kvrpcpb.KeyError, string, error) {
			r, err := f.client.KvTxnHeartBeat(bg, &kvrpcpb.TxnHeartBeatRequest{Context: rc, PrimaryLock: k})
			return r.GetError(), "", err
		},
		"check status": func() (*kvrpcpb.KeyError, string, error) {
			r, err := f.client.KvCheckTxnStatus(bg, &kvrpcpb.CheckTxnStatusRequest{Context: rc, PrimaryKey: k})
			return r.GetError(), "", err
		},
		"check secondaries": func() (*kvrpcpb.KeyError, string, error) {
			r, err := f.client.KvCheckSecondaryLocks(bg, &kvrpcpb.CheckSecondaryLocksRequest{Context: rc, Keys: keys})
			return r.GetError(), "", err
		},
		"resolve": func() (*kvrpcpb.KeyError, string, error) {
			r, err := f.client.KvResolveLock(bg, &kvrpcpb.ResolveLockRequest{Context: rc, Keys: keys})
			return r.GetError(), "", err
		},
		"delete range": func() (*kvrpcpb.KeyError, string, error) {
			r, err := f.client.KvDeleteRange(bg, &kvrpcpb.DeleteRangeRequest{Context: rc, StartKey: []byte("a"), EndKey: k})
			return nil, r.GetError(), err
		},
		"delete range, unbounded": func() (*kvrpcpb.KeyError, string, error) {
			r, err := f.client.KvDeleteRange(bg, &kvrpcpb.DeleteRangeRequest{Context: rc})
			return nil, r.GetError(), err
		},
		"destroy range": func() (*kvrpcpb.KeyError, string, error) {
			r, err := f.client.UnsafeDestroyRange(bg, &kvrpcpb.UnsafeDestroyRangeRequest{Context: rc, StartKey: []byte("a")})
			return nil, r.GetError(), err
		},
		"mvcc": func() (*kvrpcpb.KeyError, string, error) {
			r, err := f.client.MvccGetByKey(bg, &kvrpcpb.MvccGetByKeyRequest{Context: rc, Key: k})
			return nil, r.GetError(), err
		},
	}
	f.put(v2(), string(k), "row")
	for name, call := range calls {
		ke, text, err := call()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !strings.Contains(ke.GetAbort()+text, "SQL keyspace") {
			t.Errorf("%s was not refused: %v %q", name, ke, text)
		}
	}
	got, err := f.client.KvGet(bg, &kvrpcpb.GetRequest{Context: v2(), Key: k, Version: f.ts + 5})
	if err != nil || string(got.Value) != "row" {
		t.Fatalf("the row: %v %v", got, err)
	}
	if r, err := f.client.KvDeleteRange(bg, &kvrpcpb.DeleteRangeRequest{Context: rc, StartKey: []byte("a"), EndKey: []byte("b")}); err != nil || r.Error != "" {
		t.Fatalf("a range elsewhere: %v %v", r, err)
	}
}

func TestWrongCluster(t *testing.T) {
	f := newFixture(t)
	rc := v1()
	rc.ClusterId = 5
	_, err := f.client.KvGet(bg, &kvrpcpb.GetRequest{Context: rc, Key: []byte("k")})
	if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "cluster 5") || !strings.Contains(err.Error(), "cluster 77") {
		t.Fatal(err)
	}
	_, err = f.client.RawPut(bg, &kvrpcpb.RawPutRequest{Context: rc, Key: []byte("k")})
	if status.Code(err) != codes.InvalidArgument {
		t.Fatal(err)
	}
}

// fakeSafe knows one region.
type fakeSafe struct{ start, end []byte }

func (f *fakeSafe) CheckLeaders(infos []*kvrpcpb.LeaderInfo) (out []uint64) {
	for _, i := range infos {
		out = append(out, i.RegionId)
	}
	return out
}

func (f *fakeSafe) MinSafeTS(start, end []byte) uint64 {
	f.start, f.end = start, end
	return 42
}

// TestCheckLeaderIsForStores: who doesn't say that it means this very store of
// this cluster is refused, and so is a request without bounds.
func TestCheckLeaderIsForStores(t *testing.T) {
	f := newFixture(t)
	call := func(cluster, store uint64, regions int) error {
		req := &kvrpcpb.CheckLeaderRequest{}
		for i := range regions {
			req.Regions = append(req.Regions, &kvrpcpb.LeaderInfo{RegionId: uint64(i + 1)})
		}
		resp, err := f.client.CheckLeader(transport.WithTarget(bg, cluster, 9, store), req)
		if err == nil && len(resp.Regions) != regions {
			t.Errorf("%d of %d regions agreed", len(resp.Regions), regions)
		}
		return err
	}
	for name, c := range map[string]struct {
		err  error
		want codes.Code
	}{
		"no metadata":   {func() error { _, err := f.client.CheckLeader(bg, &kvrpcpb.CheckLeaderRequest{}); return err }(), codes.InvalidArgument},
		"other cluster": {call(testCluster+1, 3, 1), codes.InvalidArgument},
		"other store":   {call(testCluster, 4, 1), codes.FailedPrecondition},
		"too many":      {call(testCluster, 3, resolvedts.CheckRegionsMax+1), codes.InvalidArgument},
		"a store":       {call(testCluster, 3, 2), codes.OK},
	} {
		if status.Code(c.err) != c.want {
			t.Errorf("%s: %v, want %v", name, c.err, c.want)
		}
	}
	resp, err := f.client.GetStoreSafeTS(bg, &kvrpcpb.StoreSafeTSRequest{KeyRange: &kvrpcpb.KeyRange{StartKey: []byte("a")}})
	if err != nil || resp.SafeTs != 42 {
		t.Fatal(resp, err)
	}
}

// served are the unary methods that protocol.md wants; all others must say
// Unimplemented.
var served = strings.Fields(`KvGet KvBatchGet KvScan KvPrewrite KvCommit KvPessimisticLock KVPessimisticRollback KvBatchRollback
	KvTxnHeartBeat KvCheckTxnStatus KvCheckSecondaryLocks KvResolveLock KvScanLock KvDeleteRange SplitRegion GetStoreSafeTS CheckLeader
	GetHealthFeedback KvFlush KvBufferBatchGet UnsafeDestroyRange RawGet RawPut RawDelete RawScan RawBatchGet RawBatchPut
	RawBatchDelete RawBatchScan RawDeleteRange RawCompareAndSwap RawGetKeyTTL RawChecksum BroadcastTxnStatus MvccGetByKey
	MvccGetByStartTs KvCleanup ReadIndex GetLockWaitInfo GetLockWaitHistory`)

func TestEveryMethodIsServedOrRefusedByName(t *testing.T) {
	f := newFixture(t)
	want := map[string]bool{}
	for _, m := range served {
		want[m] = true
	}
	client := reflect.ValueOf(f.client)
	for i := range client.NumMethod() {
		name, method := client.Type().Method(i).Name, client.Method(i)
		if mt := method.Type(); mt.NumIn() != 3 || mt.In(1).Kind() != reflect.Pointer || mt.Out(0).Kind() != reflect.Pointer {
			continue // a stream
		}
		req := reflect.New(method.Type().In(1).Elem())
		if rc := req.Elem().FieldByName("Context"); rc.IsValid() && rc.Type() == reflect.TypeFor[*kvrpcpb.Context]() {
			rc.Set(reflect.ValueOf(v2()))
		}
		out := method.Call([]reflect.Value{reflect.ValueOf(bg), req})
		err, _ := out[1].Interface().(error)
		if refused := status.Code(err) == codes.Unimplemented; refused == want[name] {
			t.Errorf("%s: %v", name, err)
		} else if refused && !strings.Contains(err.Error(), name) {
			t.Errorf("%s is refused without its name: %v", name, err)
		}
		delete(want, name)
	}
	if len(want) > 0 {
		t.Errorf("not in the service: %v", want)
	}
}

// TestBatchAnswersEveryArm sends one empty request of every kind there is and
// checks that each gets an answer of its own kind.
func TestBatchAnswersEveryArm(t *testing.T) {
	f := newFixture(t)
	stream, err := f.client.BatchCommands(bg)
	if err != nil {
		t.Fatal(err)
	}
	arms := (*tikvpb.BatchCommandsRequest_Request)(nil).XXX_OneofWrappers()
	batch := &tikvpb.BatchCommandsRequest{}
	for i, a := range arms {
		arm := reflect.New(reflect.TypeOf(a).Elem())
		field := arm.Elem().Field(0)
		field.Set(reflect.New(field.Type().Elem()))
		req := &tikvpb.BatchCommandsRequest_Request{}
		reflect.ValueOf(req).Elem().FieldByName("Cmd").Set(arm)
		batch.Requests = append(batch.Requests, req)
		batch.RequestIds = append(batch.RequestIds, uint64(1000+i))
	}
	if err := stream.Send(batch); err != nil {
		t.Fatal(err)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	got, health := map[uint64]*tikvpb.BatchCommandsResponse_Response{}, 0
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		for i, id := range resp.RequestIds {
			got[id] = resp.Responses[i]
		}
		if resp.HealthFeedback != nil {
			health++
			if resp.HealthFeedback.StoreId != 3 {
				t.Errorf("health of store %d", resp.HealthFeedback.StoreId)
			}
		}
	}
	if health < 1 || health > 2 { // with the first message, and with the one that has it as an answer
		t.Errorf("health came %d times", health)
	}
	for i, a := range arms {
		kind := strings.TrimPrefix(fmt.Sprintf("%T", a), "*tikvpb.BatchCommandsRequest_Request_")
		resp := got[uint64(1000+i)]
		if want := "*tikvpb.BatchCommandsResponse_Response_" + kind; fmt.Sprintf("%T", resp.GetCmd()) != want {
			t.Errorf("%s was answered with %T", kind, resp.GetCmd())
		}
	}
}

// TestBatchErrorsStayWithTheirRequest: what fails a unary call must not end the
// stream of all others.
func TestBatchErrorsStayWithTheirRequest(t *testing.T) {
	f := newFixture(t)
	stream, err := f.client.BatchCommands(bg)
	if err != nil {
		t.Fatal(err)
	}
	wrong := v1()
	wrong.ClusterId = 5
	send := func(id uint64, req *tikvpb.BatchCommandsRequest_Request) *tikvpb.BatchCommandsResponse_Response {
		t.Helper()
		if err := stream.Send(&tikvpb.BatchCommandsRequest{RequestIds: []uint64{id}, Requests: []*tikvpb.BatchCommandsRequest_Request{req}}); err != nil {
			t.Fatal(err)
		}
		resp, err := stream.Recv()
		if err != nil || len(resp.RequestIds) != 1 || resp.RequestIds[0] != id {
			t.Fatal(resp, err)
		}
		return resp.Responses[0]
	}
	get := &tikvpb.BatchCommandsRequest_Request{Cmd: &tikvpb.BatchCommandsRequest_Request_Get{Get: &kvrpcpb.GetRequest{Context: wrong, Key: []byte("k")}}}
	if r := send(1, get); !strings.Contains(r.GetGet().GetError().GetAbort(), "cluster 77") {
		t.Error(r)
	}
	scan := &tikvpb.BatchCommandsRequest_Request{Cmd: &tikvpb.BatchCommandsRequest_Request_RawScan{RawScan: &kvrpcpb.RawScanRequest{Context: v1(), Cf: "odd", Limit: 1}}}
	if r := send(2, scan); !strings.Contains(r.GetRawScan().GetRegionError().GetMessage(), "odd") {
		t.Error(r)
	}
	f.eng.Fail(&kv.RegionError{Err: &errorpb.Error{NotLeader: &errorpb.NotLeader{RegionId: 1}}})
	get.GetGet().Context = v1()
	if r := send(3, get); r.GetGet().GetRegionError().GetNotLeader() == nil {
		t.Error(r)
	}
	f.eng.Fail(errors.New("disk on fire"))
	if r := send(4, get); !strings.Contains(r.GetGet().GetRegionError().GetMessage(), "disk on fire") {
		t.Error(r)
	}
	if err := stream.Send(&tikvpb.BatchCommandsRequest{RequestIds: []uint64{1, 2}}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.InvalidArgument {
		t.Error(err)
	}
}

func TestSplitRegion(t *testing.T) {
	f := newFixture(t)
	resp, err := f.client.SplitRegion(bg, &kvrpcpb.SplitRegionRequest{Context: v1(), SplitKeys: [][]byte{[]byte("b"), []byte("longer than eight")}})
	if err != nil || len(resp.Regions) != 3 {
		t.Fatal(resp, err)
	}
	for i, want := range []string{"b", "longer than eight"} {
		plain, rest, err := codec.DecodeBytes(nil, resp.Regions[i].EndKey)
		if err != nil || len(rest) > 0 || string(plain) != want {
			t.Errorf("boundary %d is %q: %v", i, plain, err)
		}
	}
	if resp, err = f.client.SplitRegion(bg, &kvrpcpb.SplitRegionRequest{Context: v1(), SplitKey: []byte("m")}); err != nil || resp.Left == nil || resp.Right == nil {
		t.Fatal(resp, err)
	}
	// Raw keys: at the key and around its pocket, just below a short one, and one
	// outside is passed on to be refused.
	raw := &kvrpcpb.SplitRegionRequest{Context: v1(), IsRawKv: true, SplitKeys: [][]byte{[]byte("usertable:5"), []byte("b"), []byte("zz")}}
	if resp, err = f.client.SplitRegion(bg, raw); err != nil || len(resp.Regions) != 6 {
		t.Fatal(resp, err)
	}
	p, _ := codec.PocketOf([]byte("usertable:5"))
	want := [][]byte{codec.EncodingBelow([]byte("b")), p.Start, []byte("usertable:5"), p.End, []byte("zz")}
	if !slices.EqualFunc(f.splits.keys, want, bytes.Equal) {
		t.Errorf("raw boundaries %q, want %q", f.splits.keys, want)
	}
	two := &kvrpcpb.SplitRegionRequest{Context: &kvrpcpb.Context{RegionId: 1, ApiVersion: kvrpcpb.APIVersion_V2}, IsRawKv: true, SplitKey: []byte("r\x00\x00\x01key")}
	if resp, err = f.client.SplitRegion(bg, two); err != nil || !bytes.Equal(resp.Regions[0].EndKey, codec.EncodeBytes(nil, two.SplitKey)) {
		t.Fatal(resp, err)
	}
	long := make([]byte, splitKeyBytesMax+1)
	for _, isRaw := range []bool{false, true} {
		if _, err = f.client.SplitRegion(bg, &kvrpcpb.SplitRegionRequest{Context: v1(), IsRawKv: isRaw, SplitKey: long}); status.Code(err) != codes.InvalidArgument {
			t.Fatal("a boundary that no key has:", err)
		}
	}
	if _, err = f.client.SplitRegion(bg, &kvrpcpb.SplitRegionRequest{Context: v1(), SplitKeys: [][]byte{nil}}); status.Code(err) != codes.InvalidArgument {
		t.Fatal(err)
	}
}

// noRegions is a store's regions for the collector, which collects nothing here.
type noRegions struct{}

func (noRegions) Leaders() []raftstore.LeaderState           { return nil }
func (noRegions) Region(uint64) (raftstore.RegionInfo, bool) { return raftstore.RegionInfo{}, false }
func (noRegions) RangeDestroyed(start, end []byte)           {}

func TestUnsafeDestroyRange(t *testing.T) {
	f := newFixture(t)
	f.put(v1(), "a", "1")
	f.put(v1(), "b", "2")
	if _, err := f.client.RawPut(bg, &kvrpcpb.RawPutRequest{Context: v1(), Key: []byte("a"), Value: []byte("raw")}); err != nil {
		t.Fatal(err)
	}
	r, err := f.client.UnsafeDestroyRange(bg, &kvrpcpb.UnsafeDestroyRangeRequest{Context: v1(), StartKey: []byte("a"), EndKey: []byte("b")})
	if err != nil || r.Error != "" {
		t.Fatal(r, err)
	}
	if got := f.scanned(v1(), "", "x", 9, false); got != "b" {
		t.Errorf("left: %q", got)
	}
	raw, err := f.client.RawGet(bg, &kvrpcpb.RawGetRequest{Context: v1(), Key: []byte("a")})
	if err != nil || string(raw.Value) != "raw" {
		t.Errorf("raw data went, too: %v %v", raw, err)
	}
}

// A write that may have committed its transaction and whose outcome is unknown
// is a call that failed, also in a batch (hazard 23): client-go then repeats it,
// and does not roll back.
func TestHazard23_NoAnswerInABatch(t *testing.T) {
	f := newFixture(t)
	f.ts += 10 << 18
	prewrite := &kvrpcpb.PrewriteRequest{Context: v1(), PrimaryLock: []byte("k"), StartVersion: f.ts, LockTtl: 3000, UseAsyncCommit: true,
		Mutations: []*kvrpcpb.Mutation{{Op: kvrpcpb.Op_Put, Key: []byte("k"), Value: []byte("v")}}}
	commit := &kvrpcpb.CommitRequest{Context: v1(), Keys: [][]byte{[]byte("k")}, StartVersion: f.ts, CommitVersion: f.ts + 1}
	stream, err := f.client.BatchCommands(bg)
	if err != nil {
		t.Fatal(err)
	}
	send := func(req *batchRequest) *batchResponse {
		if err := stream.Send(&tikvpb.BatchCommandsRequest{RequestIds: []uint64{7}, Requests: []*batchRequest{req}}); err != nil {
			t.Fatal(err)
		}
		msg, err := stream.Recv()
		if err != nil || len(msg.Responses) != 1 || msg.RequestIds[0] != 7 {
			t.Fatalf("%v, %v", msg, err)
		}
		return msg.Responses[0]
	}
	for _, step := range []struct {
		req   *batchRequest
		unary func() error
	}{
		{&batchRequest{Cmd: &tikvpb.BatchCommandsRequest_Request_Prewrite{Prewrite: prewrite}}, func() error {
			_, err := f.client.KvPrewrite(bg, prewrite)
			return err
		}},
		{&batchRequest{Cmd: &tikvpb.BatchCommandsRequest_Request_Commit{Commit: commit}}, func() error {
			_, err := f.client.KvCommit(bg, commit)
			return err
		}},
	} {
		f.eng.FailWrites(errors.New("lost"))
		if resp := send(step.req); resp.GetCmd() != nil {
			t.Errorf("answered: %v", resp)
		}
		if err := step.unary(); status.Code(err) != codes.Unknown {
			t.Errorf("unary: %v", err)
		}
		f.eng.FailWrites(nil)
		if resp := send(step.req); resp.GetCmd() == nil {
			t.Error("not answered when it was repeated")
		}
	}
}
