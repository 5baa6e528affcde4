package raw

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc64"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/tikv/internal/oneregion"
	"github.com/pingcap/kvproto/pkg/errorpb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

type fixture struct {
	*testing.T
	*Service
	eng   *oneregion.Engine
	clock time.Time
}

func newFixture(t *testing.T) *fixture {
	e, err := oneregion.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	f := &fixture{T: t, clock: time.Unix(1_000_000, 0), eng: e}
	f.Service = New(f.eng, func() time.Time { return f.clock })
	return f
}

var bg = context.Background()

func (f *fixture) put(rc *kvrpcpb.Context, key, value string, ttl uint64) {
	f.Helper()
	resp, err := f.RawPut(bg, &kvrpcpb.RawPutRequest{Context: rc, Key: []byte(key), Value: []byte(value), Ttl: ttl})
	if err != nil || resp.Error != "" || resp.RegionError != nil {
		f.Fatalf("put %q: %v %v", key, resp, err)
	}
}

// get returns the value, or "-" if absent.
func (f *fixture) get(rc *kvrpcpb.Context, key string) string {
	f.Helper()
	resp, err := f.RawGet(bg, &kvrpcpb.RawGetRequest{Context: rc, Key: []byte(key)})
	if err != nil || resp.Error != "" || resp.RegionError != nil {
		f.Fatalf("get %q: %v %v", key, resp, err)
	}
	if resp.NotFound {
		return "-"
	}
	return string(resp.Value)
}

func (f *fixture) scan(req *kvrpcpb.RawScanRequest) string {
	f.Helper()
	resp, err := f.RawScan(bg, req)
	if err != nil || resp.RegionError != nil {
		f.Fatalf("scan: %v %v", resp, err)
	}
	return show(resp.Kvs)
}

func show(pairs []*kvrpcpb.KvPair) string {
	var out []string
	for _, p := range pairs {
		out = append(out, fmt.Sprintf("%q=%s", p.Key, p.Value))
	}
	return strings.Join(out, " ")
}

func (f *fixture) expect(what, got, want string) {
	f.Helper()
	if got != want {
		f.Fatalf("%s: got %s, want %s", what, got, want)
	}
}

var (
	v1 = &kvrpcpb.Context{RegionId: 1}
	v2 = &kvrpcpb.Context{RegionId: 1, ApiVersion: kvrpcpb.APIVersion_V2}
)

func TestPutGetDelete(t *testing.T) {
	f := newFixture(t)
	f.expect("absent", f.get(v1, "a"), "-")
	f.put(v1, "a", "1", 0)
	f.put(v1, "", "empty key", 0)
	f.put(v1, "b", "", 0)
	f.expect("a", f.get(v1, "a"), "1")
	f.expect("empty key", f.get(v1, ""), "empty key")
	f.expect("empty value", f.get(v1, "b"), "")
	if resp, err := f.RawDelete(bg, &kvrpcpb.RawDeleteRequest{Context: v1, Key: []byte("a")}); err != nil || resp.Error != "" {
		t.Fatal(resp, err)
	}
	f.expect("deleted", f.get(v1, "a"), "-")

	resp, err := f.RawBatchPut(bg, &kvrpcpb.RawBatchPutRequest{Context: v1, Pairs: []*kvrpcpb.KvPair{
		{Key: []byte("x"), Value: []byte("1")}, {Key: []byte("y"), Value: []byte("2")}}, Ttls: []uint64{0, 5}})
	if err != nil || resp.Error != "" {
		t.Fatal(resp, err)
	}
	got, err := f.RawBatchGet(bg, &kvrpcpb.RawBatchGetRequest{Context: v1, Keys: [][]byte{[]byte("y"), []byte("nope"), []byte("x")}})
	if err != nil {
		t.Fatal(err)
	}
	f.expect("batch get", show(got.Pairs), `"y"=2 "x"=1`)
	del, err := f.RawBatchDelete(bg, &kvrpcpb.RawBatchDeleteRequest{Context: v1, Keys: [][]byte{[]byte("x"), []byte("y")}, ForCas: true})
	if err != nil || del.Error != "" {
		t.Fatal(del, err)
	}
	f.expect("x", f.get(v1, "x"), "-")
}

func TestTTL(t *testing.T) {
	f := newFixture(t)
	f.put(v1, "k", "v", 10)
	ttl := func() string {
		resp, err := f.RawGetKeyTTL(bg, &kvrpcpb.RawGetKeyTTLRequest{Context: v1, Key: []byte("k")})
		if err != nil || resp.Error != "" {
			t.Fatal(resp, err)
		}
		if resp.NotFound {
			return "-"
		}
		return strconv.FormatUint(resp.Ttl, 10)
	}
	f.expect("fresh", ttl(), "10")
	f.clock = f.clock.Add(9 * time.Second)
	f.expect("old", ttl(), "1")
	f.expect("still there", f.get(v1, "k"), "v")
	f.clock = f.clock.Add(time.Second)
	f.expect("expired", ttl(), "-")
	f.expect("expired", f.get(v1, "k"), "-")
	f.expect("expired", f.scan(&kvrpcpb.RawScanRequest{Context: v1, Limit: 10}), "")
	f.put(v1, "k", "w", 0)
	f.expect("no ttl", ttl(), "0")
}

func TestScan(t *testing.T) {
	f := newFixture(t)
	for _, k := range []string{"a", "b", "c", "d"} {
		f.put(v1, k, strings.ToUpper(k), 0)
	}
	s := func(start, end string, limit uint32) *kvrpcpb.RawScanRequest {
		return &kvrpcpb.RawScanRequest{Context: v1, StartKey: []byte(start), EndKey: []byte(end), Limit: limit}
	}
	f.expect("all", f.scan(s("", "", 10)), `"a"=A "b"=B "c"=C "d"=D`)
	f.expect("limit", f.scan(s("b", "", 2)), `"b"=B "c"=C`)
	f.expect("end", f.scan(s("a", "c", 10)), `"a"=A "b"=B`)
	f.expect("none", f.scan(s("a", "", 0)), "")
	f.expect("crossed", f.scan(s("c", "a", 9)), "")
	r := s("d", "b", 10)
	r.Reverse, r.KeyOnly = true, true
	f.expect("reverse: start is the exclusive upper bound", f.scan(r), `"c"= "b"=`)
	r = s("", "", 3)
	r.Reverse = true
	f.expect("reverse from the end", f.scan(r), `"d"=D "c"=C "b"=B`)
	f.eng.SetRange([]byte("b"), []byte("d"))
	f.expect("clamped", f.scan(s("", "", 10)), `"b"=B "c"=C`)
	resp, err := f.RawBatchScan(bg, &kvrpcpb.RawBatchScanRequest{Context: v1, EachLimit: 1,
		Ranges: []*kvrpcpb.KeyRange{{StartKey: []byte("c")}, {StartKey: []byte("b")}}})
	if err != nil {
		t.Fatal(err)
	}
	f.expect("batch scan", show(resp.Kvs), `"c"=C "b"=B`)
}

// TestVersionsDoNotMeet: V1 and V2 clients share the family but never see, nor
// touch, each other's keys.
func TestVersionsDoNotMeet(t *testing.T) {
	f := newFixture(t)
	ks1, ks2 := "r\x00\x00\x01", "r\x00\x00\x02"
	for _, k := range []string{"q", "r", "r\x01", "s", "r0"} {
		f.put(v1, k, "v1", 0)
	}
	for _, k := range []string{"", "a", "longer than eight bytes", "b"} {
		f.put(v2, ks1+k, "one", 0)
		f.put(v2, ks2+k, "two", 0)
	}
	all := &kvrpcpb.RawScanRequest{Context: v1, Limit: 100}
	f.expect("v1 scan", f.scan(all), `"q"=v1 "r"=v1 "r\x01"=v1 "r0"=v1 "s"=v1`)
	all.Reverse = true
	f.expect("v1 reverse", f.scan(all), `"s"=v1 "r0"=v1 "r\x01"=v1 "r"=v1 "q"=v1`)
	all.Limit = 3
	f.expect("v1 reverse limit", f.scan(all), `"s"=v1 "r0"=v1 "r\x01"=v1`)
	one := `"r\x00\x00\x01"=one "r\x00\x00\x01a"=one "r\x00\x00\x01b"=one "r\x00\x00\x01longer than eight bytes"=one`
	f.expect("v2 scan", f.scan(&kvrpcpb.RawScanRequest{Context: v2, Limit: 100, StartKey: []byte(ks1), EndKey: []byte(ks2)}), one)
	f.expect("v2 reverse", f.scan(&kvrpcpb.RawScanRequest{Context: v2, Limit: 2, StartKey: []byte(ks2), EndKey: []byte(ks1), Reverse: true}),
		`"r\x00\x00\x01longer than eight bytes"=one "r\x00\x00\x01b"=one`)

	put, err := f.RawPut(bg, &kvrpcpb.RawPutRequest{Context: v1, Key: []byte(ks1 + "a")})
	if err != nil || !strings.Contains(put.Error, "API V2") {
		t.Fatal(put, err)
	}
	if put, err = f.RawPut(bg, &kvrpcpb.RawPutRequest{Context: v2, Key: []byte("x")}); err != nil || !strings.Contains(put.Error, "keyspace") {
		t.Fatal(put, err)
	}
	if _, err := f.RawScan(bg, &kvrpcpb.RawScanRequest{Context: v2, Limit: 1}); status.Code(err) != codes.InvalidArgument {
		t.Fatal(err)
	}
	del, err := f.RawDeleteRange(bg, &kvrpcpb.RawDeleteRangeRequest{Context: v1, StartKey: []byte("a"), EndKey: []byte("s")})
	if err != nil || del.Error != "" {
		t.Fatal(del, err)
	}
	all = &kvrpcpb.RawScanRequest{Context: v1, Limit: 100}
	f.expect("v1 after delete", f.scan(all), `"s"=v1`)
	f.expect("v2 after delete", f.scan(&kvrpcpb.RawScanRequest{Context: v2, Limit: 100, StartKey: []byte(ks1), EndKey: []byte(ks2)}), one)
	if del, err = f.RawDeleteRange(bg, &kvrpcpb.RawDeleteRangeRequest{Context: v2, StartKey: []byte(ks1), EndKey: []byte(ks2)}); err != nil || del.Error != "" {
		t.Fatal(del, err)
	}
	f.expect("other keyspace", f.get(v2, ks2+"a"), "two")
	f.expect("own keyspace", f.get(v2, ks1+"a"), "-")
}

func TestDeleteRangeStaysInRegion(t *testing.T) {
	f := newFixture(t)
	for _, k := range []string{"a", "b", "c"} {
		f.put(v1, k, k, 0)
	}
	f.eng.SetRange([]byte("b"), []byte("c"))
	if resp, err := f.RawDeleteRange(bg, &kvrpcpb.RawDeleteRangeRequest{Context: v1}); err != nil || resp.Error != "" {
		t.Fatal(resp, err)
	}
	f.eng.SetRange(nil, nil)
	f.expect("rest", f.scan(&kvrpcpb.RawScanRequest{Context: v1, Limit: 9}), `"a"=a "c"=c`)
	if resp, err := f.RawDeleteRange(bg, &kvrpcpb.RawDeleteRangeRequest{Context: v1, StartKey: []byte("b")}); err != nil || resp.Error != "" {
		t.Fatal(resp, err)
	}
	f.expect("unbounded", f.scan(&kvrpcpb.RawScanRequest{Context: v1, Limit: 9}), `"a"=a`)
}

func TestCompareAndSwap(t *testing.T) {
	f := newFixture(t)
	cas := func(prev, value string, del bool) string {
		req := &kvrpcpb.RawCASRequest{Context: v1, Key: []byte("k"), Value: []byte(value), Delete: del}
		if prev == "-" {
			req.PreviousNotExist = true
		} else {
			req.PreviousValue = []byte(prev)
		}
		resp, err := f.RawCompareAndSwap(bg, req)
		if err != nil || resp.Error != "" || resp.RegionError != nil {
			t.Fatal(resp, err)
		}
		old := string(resp.PreviousValue)
		if resp.PreviousNotExist {
			old = "-"
		}
		return fmt.Sprintf("%v from %s", resp.Succeed, old)
	}
	f.expect("wrong value, absent key", cas("x", "1", false), "false from -")
	f.expect("absent", cas("-", "1", false), "true from -")
	f.expect("absent again", cas("-", "2", false), "false from 1")
	f.expect("swap", cas("1", "2", false), "true from 1")
	f.expect("value", f.get(v1, "k"), "2")
	f.expect("delete", cas("2", "", true), "true from 2")
	f.expect("value", f.get(v1, "k"), "-")
}

// TestCompareAndSwapIsAtomic counts with many writers: no increment is lost.
func TestCompareAndSwapIsAtomic(t *testing.T) {
	f := newFixture(t)
	f.put(v1, "n", "0", 0)
	const writers, each = 8, 50
	var wg sync.WaitGroup
	errs := make(chan error, writers)
	for range writers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for done := 0; done < each; {
				cur, err := f.RawGet(bg, &kvrpcpb.RawGetRequest{Context: v1, Key: []byte("n")})
				if err != nil {
					errs <- err
					return
				}
				n, _ := strconv.Atoi(string(cur.Value))
				resp, err := f.RawCompareAndSwap(bg, &kvrpcpb.RawCASRequest{Context: v1, Key: []byte("n"),
					PreviousValue: cur.Value, Value: []byte(strconv.Itoa(n + 1))})
				if err != nil {
					errs <- err
					return
				}
				if resp.Succeed {
					done++
				}
			}
		}()
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Fatal(err)
	}
	f.expect("count", f.get(v1, "n"), strconv.Itoa(writers*each))
}

func TestChecksum(t *testing.T) {
	f := newFixture(t)
	f.put(v1, "a", "1", 0)
	f.put(v1, "b", "22", 0)
	f.put(v1, "c", "gone", 1)
	f.clock = f.clock.Add(time.Minute)
	sum := func(ranges ...*kvrpcpb.KeyRange) *kvrpcpb.RawChecksumResponse {
		resp, err := f.RawChecksum(bg, &kvrpcpb.RawChecksumRequest{Context: v1, Ranges: ranges})
		if err != nil || resp.Error != "" {
			t.Fatal(resp, err)
		}
		return resp
	}
	tab := crc64.MakeTable(crc64.ECMA)
	want := crc64.Checksum([]byte("a1"), tab) ^ crc64.Checksum([]byte("b22"), tab)
	got := sum(&kvrpcpb.KeyRange{})
	if got.Checksum != want || got.TotalKvs != 2 || got.TotalBytes != 5 {
		t.Fatalf("%+v, want %d", got, want)
	}
	left, right := sum(&kvrpcpb.KeyRange{EndKey: []byte("b")}), sum(&kvrpcpb.KeyRange{StartKey: []byte("b")})
	if left.Checksum^right.Checksum != want || left.TotalKvs != 1 {
		t.Fatal("the parts do not combine to the whole")
	}
}

func TestErrors(t *testing.T) {
	f := newFixture(t)
	put := func(key, value []byte, cf string, ttl uint64) *kvrpcpb.RawPutResponse {
		resp, err := f.RawPut(bg, &kvrpcpb.RawPutRequest{Context: v1, Key: key, Value: value, Cf: cf, Ttl: ttl})
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	for want, resp := range map[string]*kvrpcpb.RawPutResponse{
		"key of 8193 bytes":       put(make([]byte, KeyBytesMax+1), nil, "", 0),
		"value of 6291457 bytes":  put([]byte("k"), make([]byte, ValueBytesMax+1), "", 0),
		`column family "lock"`:    put([]byte("k"), nil, "lock", 0),
		"TTL of 1000000000000000": put([]byte("k"), nil, "", 1e15),
	} {
		if !strings.Contains(resp.Error, want) {
			t.Errorf("got %q, want %q", resp.Error, want)
		}
	}
	big := []*kvrpcpb.KvPair{{Key: []byte("a"), Value: make([]byte, 5<<20)}, {Key: []byte("b"), Value: make([]byte, 5<<20)}}
	resp, err := f.RawBatchPut(bg, &kvrpcpb.RawBatchPutRequest{Context: v1, Pairs: big})
	if err != nil || resp.RegionError.GetRaftEntryTooLarge() == nil {
		t.Fatal(resp, err)
	}
	if resp, err = f.RawBatchPut(bg, &kvrpcpb.RawBatchPutRequest{Context: v1, Pairs: big[:1], Ttls: []uint64{1, 2}}); err != nil || !strings.Contains(resp.Error, "TTLs") {
		t.Fatal(resp, err)
	}
	if _, err := f.RawScan(bg, &kvrpcpb.RawScanRequest{Context: v1, Limit: ScanCountMax + 1}); status.Code(err) != codes.InvalidArgument {
		t.Fatal(err)
	}
	if _, err := f.RawChecksum(bg, &kvrpcpb.RawChecksumRequest{Context: v1, Algorithm: 9}); err != nil {
		t.Fatal(err)
	}
	stop, cancel := context.WithCancel(bg)
	cancel()
	keys := bytes.Split([]byte("a b c"), []byte(" "))
	if _, err := f.RawBatchGet(stop, &kvrpcpb.RawBatchGetRequest{Context: v1, Keys: keys}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

// TestHazard23_RawWriteOutcomes: a region error is passed on, any other failure
// of a write is "undetermined" and never "failed".
func TestHazard23_RawWriteOutcomes(t *testing.T) {
	f := newFixture(t)
	f.eng.Fail(&kv.RegionError{Err: &errorpb.Error{NotLeader: &errorpb.NotLeader{RegionId: 1}}})
	put := func() *kvrpcpb.RawPutResponse {
		resp, err := f.RawPut(bg, &kvrpcpb.RawPutRequest{Context: v1, Key: []byte("k"), ForCas: true})
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	if resp := put(); resp.RegionError.GetNotLeader() == nil {
		t.Fatal(resp)
	}
	cas, err := f.RawCompareAndSwap(bg, &kvrpcpb.RawCASRequest{Context: v1, Key: []byte("k"), PreviousNotExist: true})
	if err != nil || cas.RegionError.GetNotLeader() == nil || cas.Succeed || cas.PreviousNotExist {
		t.Fatal(cas, err)
	}
	get, err := f.RawGet(bg, &kvrpcpb.RawGetRequest{Context: v1, Key: []byte("k")})
	if err != nil || get.RegionError == nil || get.NotFound {
		t.Fatal(get, err)
	}
	f.eng.Fail(context.DeadlineExceeded)
	if resp := put(); resp.RegionError.GetUndeterminedResult() == nil {
		t.Fatal(resp)
	}
	if _, err := f.RawGet(bg, &kvrpcpb.RawGetRequest{Context: v1, Key: []byte("k")}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	f.eng.Fail(nil)
	put() // the latch was released
}

// TestManyRanges: a request of many small ranges, or keys, ends with its client,
// and at its deadline.
func TestManyRanges(t *testing.T) {
	f := newFixture(t)
	gone, cancel := context.WithCancel(bg)
	cancel()
	snap, err := f.snapshot(bg, v1)
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Close()
	none := func(_, _ []byte) (bool, error) { return true, nil }
	if err := f.each(gone, snap, scan{codec: keyCodec(v1)}, none); !errors.Is(err, context.Canceled) {
		t.Errorf("the client has gone: %v", err)
	}
	passed := deadline(time.Now().Add(-time.Second))
	if err := f.each(bg, snap, scan{codec: keyCodec(v1), until: passed}, none); kv.AsRegionError(err).GetServerIsBusy() == nil {
		t.Errorf("its deadline has passed: %v", err)
	}
}

// TestV2StaysInItsKeyspace: a range without an end ends with its keyspace.
func TestV2StaysInItsKeyspace(t *testing.T) {
	f := newFixture(t)
	one, two, last := "r\x00\x00\x01", "r\x00\x00\x02", "r\x00\xff\xff"
	for _, k := range []string{one + "a", two + "a", last + "a"} {
		f.put(v2, k, "v", 0)
	}
	f.expect("scan", f.scan(&kvrpcpb.RawScanRequest{Context: v2, StartKey: []byte(one), Limit: 10}), fmt.Sprintf("%q=v", one+"a"))
	f.expect("scan", f.scan(&kvrpcpb.RawScanRequest{Context: v2, StartKey: []byte(last), Limit: 10}), fmt.Sprintf("%q=v", last+"a"))
	resp, err := f.RawDeleteRange(bg, &kvrpcpb.RawDeleteRangeRequest{Context: v2, StartKey: []byte(one)})
	if err != nil || resp.Error != "" || resp.RegionError != nil {
		t.Fatal(resp, err)
	}
	f.expect("deleted", f.get(v2, one+"a"), "-")
	f.expect("another keyspace", f.get(v2, two+"a"), "v")
}
