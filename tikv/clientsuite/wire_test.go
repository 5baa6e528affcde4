package clientsuite

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pingcap/kvproto/pkg/coprocessor"
	"github.com/pingcap/kvproto/pkg/errorpb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/tikvpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

var update = flag.Bool("update", false, "write the golden answers anew")

// message is a request or an answer of kvproto.
type message interface {
	String() string
	ProtoMessage()
}

type regional interface{ GetRegionError() *errorpb.Error }

// The methods and the arms of BatchCommands that some test has used.
var used struct {
	sync.Mutex
	methods map[string]bool
	arms    map[reflect.Type]bool
}

func init() { used.methods, used.arms = map[string]bool{}, map[reflect.Type]bool{} }

// store is a connection to one store, for requests of our own making.
type store struct {
	cl  tikvpb.TikvClient
	cc  *grpc.ClientConn
	ctx context.Context

	mu     sync.Mutex
	stream tikvpb.Tikv_BatchCommandsClient
	lastID uint64
}

func dial(t testing.TB, addr string) *store {
	t.Helper()
	note := func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		used.Lock()
		used.methods[method[strings.LastIndexByte(method, '/')+1:]] = true
		used.Unlock()
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	cc, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithUnaryInterceptor(note),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	t.Cleanup(func() { cancel(); _ = cc.Close() })
	return &store{cl: tikvpb.NewTikvClient(cc), cc: cc, ctx: ctx}
}

// unary calls the method that takes a request of req's type.
func (s *store) unary(req message) (message, error) {
	cl := reflect.ValueOf(s.cl)
	for i := range cl.NumMethod() {
		m := cl.Method(i)
		if m.Type().NumIn() != 3 || m.Type().In(1) != reflect.TypeOf(req) {
			continue
		}
		if !m.Type().Out(0).Implements(reflect.TypeFor[message]()) { // a stream
			continue
		}
		out := m.Call([]reflect.Value{reflect.ValueOf(s.ctx), reflect.ValueOf(req)})
		if err, _ := out[1].Interface().(error); err != nil {
			return nil, err
		}
		return out[0].Interface().(message), nil
	}
	return nil, fmt.Errorf("no method takes a %T", req)
}

// armOf is the arm of a batch that takes a request of req's type, nil if none.
func armOf(req message) reflect.Type {
	for _, w := range (*tikvpb.BatchCommandsRequest_Request)(nil).XXX_OneofWrappers() {
		if t := reflect.TypeOf(w).Elem(); t.Field(0).Type == reflect.TypeOf(req) {
			return t
		}
	}
	return nil
}

// batched sends a request as the command of a batch.
func (s *store) batched(req message) (message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stream == nil {
		stream, err := s.cl.BatchCommands(s.ctx)
		if err != nil {
			return nil, err
		}
		s.stream = stream
	}
	arm := armOf(req)
	used.Lock()
	used.methods["BatchCommands"], used.arms[arm] = true, true
	used.Unlock()
	cmd := reflect.New(arm)
	cmd.Elem().Field(0).Set(reflect.ValueOf(req))
	one := &tikvpb.BatchCommandsRequest_Request{}
	reflect.ValueOf(one).Elem().FieldByName("Cmd").Set(cmd)
	s.lastID++
	if err := s.stream.Send(&tikvpb.BatchCommandsRequest{Requests: []*tikvpb.BatchCommandsRequest_Request{one}, RequestIds: []uint64{s.lastID}}); err != nil {
		return nil, err
	}
	got, err := s.stream.Recv()
	if err != nil {
		s.stream = nil
		return nil, err
	}
	if len(got.RequestIds) != 1 || got.RequestIds[0] != s.lastID || len(got.Responses) != 1 {
		return nil, fmt.Errorf("answer to %d, asked %d", got.RequestIds, s.lastID)
	}
	c := reflect.ValueOf(got.Responses[0]).Elem().FieldByName("Cmd")
	if c.IsNil() {
		return nil, errors.New("an empty answer")
	}
	if name := c.Elem().Elem().Type().Field(0).Name; name != arm.Field(0).Name {
		return nil, fmt.Errorf("arm %s of the answer, asked %s", name, arm.Field(0).Name)
	}
	return c.Elem().Elem().Field(0).Interface().(message), nil
}

// wire runs a script of requests in one of the two ways.
type wire struct {
	*session
	batch  bool
	stores map[string]*store
	names  map[string]string // timestamps
	log    strings.Builder
	retry  bool // requests say that they are sent again
}

func newWire(t *testing.T, c *cluster, prefix string, batch bool) *wire {
	return &wire{session: newSession(t, c, prefix), batch: batch, stores: map[string]*store{}, names: map[string]string{}}
}

func (w *wire) at(addr string) *store {
	if w.stores[addr] == nil {
		w.stores[addr] = dial(w, addr)
	}
	return w.stores[addr]
}

// ts is a new timestamp, by its name in the script.
func (w *wire) ts(name string) uint64 {
	w.Helper()
	ts := w.now()
	w.names[fmt.Sprint(ts)] = name
	return ts
}

// contextOf addresses the leader of the region of key.
func (w *wire) contextOf(p place) *kvrpcpb.Context {
	return &kvrpcpb.Context{RegionId: p.info.Region.GetId(), RegionEpoch: p.info.Region.GetRegionEpoch(),
		Peer: p.peerOn(p.node.StoreID()), ClusterId: w.pd.ClusterID(), IsRetryRequest: w.retry}
}

func setContext(req message, rc *kvrpcpb.Context) bool {
	f := reflect.ValueOf(req).Elem().FieldByName("Context")
	if f.IsValid() {
		f.Set(reflect.ValueOf(rc))
	}
	return f.IsValid()
}

// send sends to one store, batched if that was asked for and there is an arm.
func (w *wire) send(addr string, req message) (message, error) {
	if w.batch && armOf(req) != nil {
		return w.at(addr).batched(req)
	}
	return w.at(addr).unary(req)
}

// ask sends to the leader of key's region and writes the answer down. Region
// errors are no part of these scripts: regions and leaders may move.
func (w *wire) ask(key []byte, req message) message {
	w.Helper()
	resp := w.quiet(key, req)
	fmt.Fprintf(&w.log, "%s: %s\n", strings.TrimPrefix(fmt.Sprintf("%T", req), "*kvrpcpb."), w.show(resp))
	return resp
}

// quiet is ask for answers that differ from run to run.
func (w *wire) quiet(key []byte, req message) message {
	w.Helper()
	for {
		p := w.mustFind(w, key)
		setContext(req, w.contextOf(p))
		resp, err := w.send(p.node.Addr(), req)
		if err != nil {
			w.Fatalf("%T: %v", req, err)
		}
		if r, ok := resp.(regional); ok && r.GetRegionError() != nil {
			re := r.GetRegionError()
			if re.NotLeader == nil && re.EpochNotMatch == nil && re.StaleCommand == nil && re.RegionNotFound == nil && re.ServerIsBusy == nil {
				return resp
			}
			if w.ctx.Err() != nil {
				w.Fatalf("%T: %v", req, re)
			}
			continue
		}
		return resp
	}
}

var (
	timestamp = regexp.MustCompile(`\b4[0-9]{17}\b`)
	prose     = regexp.MustCompile(`(abort|retryable|error|message):"(?:[^"\\]|\\.)*"`)
	sinceLast = regexp.MustCompile(`duration_to_last_update_ms:[0-9]+ `)
)

// show prints an answer without what differs from run to run, and without the
// words of its messages.
func (w *wire) show(resp message) string {
	for _, name := range []string{"ExecDetailsV2", "ExecDetails"} {
		if f := reflect.ValueOf(resp).Elem().FieldByName(name); f.IsValid() {
			f.SetZero()
		}
	}
	text := prose.ReplaceAllString(sinceLast.ReplaceAllString(resp.String(), ""), `$1:"…"`)
	text = timestamp.ReplaceAllStringFunc(text, func(ts string) string {
		if name := w.names[ts]; name != "" {
			return name
		}
		return "?"
	})
	return strings.TrimSpace(strings.ReplaceAll(text, w.prefix, "/"))
}

func (w *wire) say(format string, args ...any) { fmt.Fprintf(&w.log, "# "+format+"\n", args...) }

func (w *wire) mutation(op kvrpcpb.Op, key, value string) *kvrpcpb.Mutation {
	return &kvrpcpb.Mutation{Op: op, Key: w.key("%s", key), Value: []byte(value)}
}

func (w *wire) put(key, value string) *kvrpcpb.Mutation {
	return w.mutation(kvrpcpb.Op_Put, key, value)
}

// TestWire runs the scripts in both ways against the golden answers.
func TestWire(t *testing.T) {
	c := sharedCluster(t)
	for _, s := range scripts {
		for _, batch := range []bool{false, true} {
			way := map[bool]string{false: "unary", true: "batched"}[batch]
			t.Run(s.name+"/"+way, func(t *testing.T) {
				t.Parallel()
				w := newWire(t, c, fresh("w/"+s.name+"/"+way), batch)
				if s.name != "raw" { // whose keys are routed as they are
					w.split([]byte(w.prefix), w.end()) // what asks for a whole region sees no other script
				}
				s.run(w)
				golden(t, filepath.Join("testdata", "wire", s.name), w.log.String())
			})
		}
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(got), 0o644)); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	g, x := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range max(len(g), len(x)) {
		if i >= len(g) || i >= len(x) || g[i] != x[i] {
			at := func(l []string) string {
				if i < len(l) {
					return l[i]
				}
				return "(nothing)"
			}
			t.Fatalf("%s:%d: got\n  %s\nwant\n  %s", file, i+1, at(g), at(x))
		}
	}
}

// refused are the methods that this store does not have, as TiKV (KvGC,
// KvImport, the lock observers of old GC) or as part of another product (TiFlash,
// TiDB's coprocessor).
var refused = []string{
	"BatchCoprocessor", "CancelDisaggTask", "CancelMPPTask", "CheckLockObserver", "Compact", "Coprocessor", "CoprocessorStream",
	"DelegateCoprocessor", "DispatchMPPTask", "EstablishDisaggTask", "EstablishMPPConnection", "FetchDisaggPages",
	"GetDisaggConfig", "GetEstimateTiCICount", "GetTiFlashSystemTable", "IsAlive", "KvFlashbackToVersion", "KvGC", "KvImport",
	"KvPrepareFlashbackToVersion", "PhysicalScanLock", "RawCoprocessor", "RegisterLockObserver", "RemoveLockObserver",
	"ReportMPPTaskStatus", "tryAddLock", "tryMarkDelete",
	// Between stores: copra's have a service of their own.
	"BatchRaft", "Raft", "Snapshot", "TabletSnapshot",
}

// refusedArms are answered with an error that names them.
var refusedArms = []message{&kvrpcpb.ImportRequest{}, &kvrpcpb.GCRequest{}, &coprocessor.Request{}, &kvrpcpb.RawCoprocessorRequest{},
	&kvrpcpb.FlashbackToVersionRequest{}, &kvrpcpb.PrepareFlashbackToVersionRequest{}}

// TestNothingIsForgotten: each method of the service, and each arm of a batch, is
// used by TestWire or refused by name.
func TestNothingIsForgotten(t *testing.T) {
	c := sharedCluster(t)
	srv := grpc.NewServer()
	tikvpb.RegisterTikvServer(srv, &tikvpb.UnimplementedTikvServer{})
	s := dial(t, c.running()[0].Addr())
	// Without the scripts, as by -run, there is nothing to compare with.
	used.Lock()
	scripted := len(used.methods) > 0
	used.Unlock()
	for _, m := range srv.GetServiceInfo()["tikvpb.Tikv"].Methods {
		if slices.Contains(refused, m.Name) {
			stream, err := s.cc.NewStream(s.ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: m.IsClientStream}, "/tikvpb.Tikv/"+m.Name)
			if err == nil {
				err = errors.Join(stream.SendMsg(&kvrpcpb.GetRequest{}), stream.CloseSend())
			}
			if err == nil {
				err = stream.RecvMsg(&kvrpcpb.GetResponse{})
			}
			if st := status.Convert(err); st.Code() != codes.Unimplemented || !strings.Contains(strings.ToLower(st.Message()), strings.ToLower(m.Name)) {
				t.Errorf("%s is answered with %v, want Unimplemented with its name", m.Name, err)
			}
			continue
		}
		used.Lock()
		if scripted && !used.methods[m.Name] {
			t.Errorf("no script uses %s", m.Name)
		}
		used.Unlock()
	}
	w := newWire(t, c, "w/", true)
	p := c.mustFind(t, []byte("w"))
	var arms []reflect.Type
	for _, req := range refusedArms {
		arms = append(arms, armOf(req))
		setContext(req, w.contextOf(p))
		resp, err := s.batched(req)
		if err != nil || !strings.Contains(resp.String(), "not supported") {
			t.Errorf("%T in a batch is answered with %v (%v)", req, resp, err)
		}
	}
	for _, x := range (*tikvpb.BatchCommandsRequest_Request)(nil).XXX_OneofWrappers() {
		arm := reflect.TypeOf(x).Elem()
		used.Lock()
		if scripted && !used.arms[arm] && !slices.Contains(arms, arm) {
			t.Errorf("no script uses the arm %s", arm.Field(0).Name)
		}
		used.Unlock()
	}
}
