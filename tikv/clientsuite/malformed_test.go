package clientsuite

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/tikvpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// requests makes one empty request of each method that the store has.
func requests() (out []reflect.Type) {
	skip := map[string]bool{"Raft": true, "BatchRaft": true, "Snapshot": true, "TabletSnapshot": true, "BatchCommands": true}
	for _, m := range refused {
		skip[m] = true
	}
	cl := reflect.TypeFor[tikvpb.TikvClient]()
	for i := range cl.NumMethod() {
		if m := cl.Method(i); !skip[m.Name] && m.Type.NumIn() == 3 {
			out = append(out, m.Type.In(1).Elem())
		}
	}
	return out
}

// errorOf is what an answer says of itself: its error fields, or nothing.
func errorOf(resp message) string {
	v := reflect.ValueOf(resp).Elem()
	for _, name := range []string{"RegionError", "Error", "Errors"} {
		if f := v.FieldByName(name); f.IsValid() && !f.IsZero() {
			return fmt.Sprint(f.Interface())
		}
	}
	return ""
}

// notEmpty makes a request that has something to do.
func notEmpty(typ reflect.Type) message {
	req := reflect.New(typ)
	for name, value := range map[string]any{"Keys": [][]byte{[]byte("k")}, "Pairs": []*kvrpcpb.KvPair{{Key: []byte("k")}}, "Limit": uint32(1)} {
		if f := req.Elem().FieldByName(name); f.IsValid() {
			f.Set(reflect.ValueOf(value))
		}
	}
	return req.Interface().(message)
}

// TestMalformed sends what no client sends to a store of its own.
func TestMalformed(t *testing.T) {
	t.Parallel()
	c := ownCluster(t, 1, nil)
	malformed(t, c)
	t.Run("random", func(t *testing.T) { randomRequests(t, c) })
	t.Run("mutated", func(t *testing.T) { mutatedRequests(t, c) })
}

// malformed sends each method a request that cannot be, both ways. The answer is
// an error, and the store lives on.
func malformed(t *testing.T, c *cluster) {
	for _, batch := range []bool{false, true} {
		w := newWire(t, c, "malformed/", batch)
		w.must(w.raw().Put(w.ctx, w.key("k"), []byte("v")))
		addr := c.running()[0].Addr()
		region := func() *kvrpcpb.Context { return w.contextOf(w.mustFind(t, w.key("k"))) }
		for _, typ := range requests() {
			t.Run(typ.Name(), func(t *testing.T) {
				for what, rc := range map[string]*kvrpcpb.Context{
					"no context": nil, "an empty context": {}, "a wrong cluster": {ClusterId: 1},
					"an empty peer": {RegionId: region().RegionId, Peer: &metapb.Peer{}},
				} {
					req := notEmpty(typ)
					if !setContext(req, rc) {
						continue
					}
					resp, err := w.send(addr, req)
					global := typ.Name() == "UnsafeDestroyRangeRequest" || typ.Name() == "GetHealthFeedbackRequest" || typ.Name() == "BroadcastTxnStatusRequest" ||
						typ.Name() == "GetLockWaitInfoRequest" || typ.Name() == "GetLockWaitHistoryRequest"
					switch {
					case what == "a wrong cluster" && !(w.batch && armOf(req) != nil) && !global && status.Code(err) != codes.InvalidArgument:
						t.Errorf("%s: %v (%v)", what, resp, err)
					case err == nil && errorOf(resp) == "" && !global:
						t.Errorf("%s: no error, but %v", what, resp)
					}
				}
			})
		}
		w.alive()
	}
}

// randomRequests fills requests with anything. There is no right answer; but the
// store must live, and serve others.
func randomRequests(t *testing.T, c *cluster) {
	seed := uint64(1)
	if s := os.Getenv("COPRA_SIM_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	rounds := 12
	if long() {
		rounds = 400
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d (COPRA_SIM_SEED)", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	for round := range rounds {
		w := newWire(t, c, "random/", round%2 == 1)
		addr := c.running()[0].Addr()
		for _, typ := range requests() {
			if typ.Name() == "UnsafeDestroyRangeRequest" {
				continue // it does what it says
			}
			req := reflect.New(typ)
			fillRandom(rng, req.Elem(), 0)
			m := req.Interface().(message)
			rc := w.contextOf(w.mustFind(t, w.key("k")))
			rc.IsolationLevel, rc.Priority = kvrpcpb.IsolationLevel(rng.IntN(4)), kvrpcpb.CommandPri(rng.IntN(4))
			rc.StaleRead, rc.ReplicaRead = rng.IntN(8) == 0, rng.IntN(8) == 0
			setContext(m, rc)
			ctx, cancel := context.WithTimeout(w.ctx, 20*time.Second)
			w.at(addr).ctx = ctx
			w.at(addr).stream = nil
			if _, err := w.send(addr, m); err != nil && (status.Code(err) == codes.Unavailable || status.Code(err) == codes.DeadlineExceeded) {
				t.Fatalf("round %d: %T: %v\n%v", round, m, err, m)
			}
			cancel()
		}
	}
	w := newWire(t, c, "after/", false)
	w.alive()
}

// alive writes and reads in both ways.
func (w *wire) alive() {
	w.Helper()
	w.must(w.raw().Put(w.ctx, w.key("alive"), []byte("v")))
	if v, err := w.raw().Get(w.ctx, w.key("alive")); err != nil || string(v) != "v" {
		w.Fatalf("%q (%v)", v, err)
	}
	w.session.put("alive", "v")
	w.want("alive", "v")
}

const fillDepthMax = 4

// fillRandom sets what is exported. Keys begin with "random/", so that they are
// in the reach of each other.
func fillRandom(rng *rand.Rand, v reflect.Value, depth int) {
	if rng.IntN(4) == 0 {
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(rng.IntN(2) == 0)
	case reflect.Int32, reflect.Int64:
		v.SetInt([]int64{0, 1, -1, 2, 7, math.MaxInt32, math.MinInt32}[rng.IntN(7)])
	case reflect.Uint32:
		v.SetUint([]uint64{0, 1, 2, 100, math.MaxUint32}[rng.IntN(5)])
	case reflect.Uint64:
		now := uint64(time.Now().UnixMilli()) << 18
		v.SetUint([]uint64{0, 1, now, now - 1000<<18, now + 1, math.MaxUint64, math.MaxUint64 - 1, rng.Uint64()}[rng.IntN(8)])
	case reflect.String:
		v.SetString([]string{"", "default", "write", "\xff"}[rng.IntN(4)])
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			key := []byte("random/")
			for range rng.IntN(12) {
				key = append(key, byte(rng.IntN(256)))
			}
			v.SetBytes([][]byte{nil, {}, key, key, key, {0xff}, make([]byte, 9<<10)}[rng.IntN(7)])
			return
		}
		n := rng.IntN(4)
		s := reflect.MakeSlice(v.Type(), n, n)
		for i := range n {
			if e := s.Index(i); e.Kind() == reflect.Pointer {
				e.Set(reflect.New(e.Type().Elem()))
			}
			fillRandom(rng, s.Index(i), depth+1)
		}
		v.Set(s)
	case reflect.Pointer:
		if depth < fillDepthMax && v.Type().Elem().Kind() == reflect.Struct {
			if v.IsNil() {
				v.Set(reflect.New(v.Type().Elem()))
			}
			fillRandom(rng, v.Elem(), depth+1)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && f.Name != "Context" && f.Name[:min(4, len(f.Name))] != "XXX_" {
				fillRandom(rng, v.Field(i), depth+1)
			}
		}
	}
}

// bytesCodec sends and receives messages as they are.
type bytesCodec struct{}

func (bytesCodec) Marshal(v any) ([]byte, error)      { return v.([]byte), nil }
func (bytesCodec) Unmarshal(data []byte, v any) error { *v.(*[]byte) = bytes.Clone(data); return nil }
func (bytesCodec) Name() string                       { return "proto" }

// mutatedRequests sends each method encoded requests of which bytes were changed,
// cut off, or said twice: alone, and as the whole message of a batch stream. The
// store must live, and serve others.
func mutatedRequests(t *testing.T, c *cluster) {
	rounds, seed := 6, uint64(1)
	if long() {
		rounds, seed = 400, uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 2))
	w := newWire(t, c, "random/", false)
	w.must(w.raw().Put(w.ctx, w.key("k"), []byte("v")))
	place := w.mustFind(t, w.key("k"))
	cc, codec := w.at(place.node.Addr()).cc, grpc.ForceCodec(bytesCodec{})
	batch := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	for range rounds {
		for method, typ := range methodsOf() {
			if method == "UnsafeDestroyRange" {
				continue // it does what it says
			}
			req := reflect.New(typ)
			fillRandom(rng, req.Elem(), 0)
			m := req.Interface().(message)
			setContext(m, w.contextOf(place))
			ctx, cancel := context.WithTimeout(w.ctx, 20*time.Second)
			plain, err := m.(interface{ Marshal() ([]byte, error) }).Marshal()
			w.must(err)
			var answer []byte
			err = cc.Invoke(ctx, "/tikvpb.Tikv/"+method, mutated(rng, plain), &answer, codec)
			if code := status.Code(err); code == codes.Unavailable || code == codes.DeadlineExceeded {
				t.Fatalf("%s: %v\n%v", method, err, m)
			}
			if arm := armOf(m); arm != nil {
				cmd := reflect.New(arm)
				cmd.Elem().Field(0).Set(req)
				one := &tikvpb.BatchCommandsRequest_Request{}
				reflect.ValueOf(one).Elem().FieldByName("Cmd").Set(cmd)
				plain, err := (&tikvpb.BatchCommandsRequest{RequestIds: []uint64{7, 7, 7}, Requests: []*tikvpb.BatchCommandsRequest_Request{one, {}, one}}).Marshal()
				w.must(err)
				stream, err := cc.NewStream(ctx, batch, "/tikvpb.Tikv/BatchCommands", codec)
				w.must(err)
				w.must(stream.SendMsg(mutated(rng, plain)))
				w.must(stream.CloseSend())
				for err = nil; err == nil; {
					err = stream.RecvMsg(&answer)
				}
				if code := status.Code(err); code == codes.Unavailable || code == codes.DeadlineExceeded {
					t.Fatalf("batched %s: %v\n%v", method, err, m)
				}
			}
			cancel()
		}
	}
	newWire(t, c, "after/", false).alive()
}

// methodsOf are the unary methods that the store has, with their requests.
func methodsOf() iter.Seq2[string, reflect.Type] {
	return func(yield func(string, reflect.Type) bool) {
		cl, have := reflect.TypeFor[tikvpb.TikvClient](), requests()
		for i := range cl.NumMethod() {
			m := cl.Method(i)
			if m.Type.NumIn() == 3 && m.Type.In(1).Kind() == reflect.Pointer && slices.Contains(have, m.Type.In(1).Elem()) && !yield(m.Name, m.Type.In(1).Elem()) {
				return
			}
		}
	}
}

// mutated is data with a few changes; sometimes none.
func mutated(rng *rand.Rand, data []byte) []byte {
	out := bytes.Clone(data)
	for range rng.IntN(4) {
		if len(out) == 0 {
			return out
		}
		at := rng.IntN(len(out))
		switch rng.IntN(5) {
		case 0:
			out[at] ^= 1 << rng.IntN(8)
		case 1:
			out[at] = byte(rng.IntN(256))
		case 2:
			out = out[:at]
		case 3:
			out = slices.Insert(out, at, out[at:min(at+rng.IntN(20), len(out))]...)
		case 4:
			out = slices.Delete(out, at, min(at+rng.IntN(8), len(out)))
		}
	}
	return out
}
