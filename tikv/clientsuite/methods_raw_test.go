package clientsuite

import (
	"bytes"
	"fmt"
	"hash/crc64"
	"slices"
	"strings"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/tikv/client-go/v2/rawkv"
)

var rawMethods = []method{
	{name: "raw-v1", run: func(s *session) { s.rawAll(s.raws[kvrpcpb.APIVersion_V1]) }},
	{name: "raw-v2", run: func(s *session) { s.rawAll(s.raws[kvrpcpb.APIVersion_V2]) }},
	{name: "raw-scan", run: (*session).rawScan},
	{name: "raw-ttl", run: (*session).rawTTL},
	{name: "raw-checksum", run: (*session).rawChecksum},
	{name: "raw-cas", run: (*session).rawCAS, calm: true},
	{name: "raw-keyspaces", run: (*session).rawKeyspaces},
	{name: "raw-beside-transactions", run: (*session).rawBesideTransactions},
	{name: "raw-limits", run: (*session).rawLimits},
}

// rawAll runs each operation once.
func (s *session) rawAll(cl *rawkv.Client) {
	keys := s.keys(50)
	s.split(keys[20], keys[40])
	var values [][]byte
	for i := range keys {
		values = append(values, fmt.Appendf(nil, "v%d", i))
	}
	s.must(cl.Put(s.ctx, keys[0], []byte("first")))
	v, err := cl.Get(s.ctx, keys[0])
	if err != nil || string(v) != "first" {
		s.Fatalf("get %q (%v)", v, err)
	}
	if v, err := cl.Get(s.ctx, keys[1]); err != nil || v != nil {
		s.Fatalf("an absent key is %q (%v)", v, err)
	}
	s.must(cl.BatchPut(s.ctx, keys, values))
	got, err := cl.BatchGet(s.ctx, append(keys[:50:50], s.key("nobody")))
	s.must(err)
	if len(got) != 51 || got[50] != nil || !slices.EqualFunc(got[:50], values, bytes.Equal) {
		s.Fatalf("batch get %q", got)
	}
	ks, vs, err := cl.Scan(s.ctx, keys[10], keys[45], 100)
	s.must(err)
	if !slices.EqualFunc(ks, keys[10:45], bytes.Equal) || !slices.EqualFunc(vs, values[10:45], bytes.Equal) {
		s.Fatalf("scan %q", ks)
	}
	s.must(cl.Delete(s.ctx, keys[30]))
	s.must(cl.Delete(s.ctx, keys[30])) // again
	s.must(cl.BatchDelete(s.ctx, keys[31:33]))
	s.must(cl.DeleteRange(s.ctx, keys[35], keys[48]))
	ks, _, err = cl.Scan(s.ctx, []byte(s.prefix), s.end(), 100)
	s.must(err)
	if want := slices.Concat(keys[:30], keys[33:35], keys[48:]); !slices.EqualFunc(ks, want, bytes.Equal) {
		s.Fatalf("after the deletes: %q", ks)
	}
	if err := cl.Put(s.ctx, keys[0], nil); err == nil {
		v, err := cl.Get(s.ctx, keys[0])
		if err != nil || v == nil || len(v) != 0 {
			s.Fatalf("an empty value is %v (%v)", v, err)
		}
	}
}

// rawScan goes over regions in both directions.
func (s *session) rawScan() {
	cl := s.raw()
	const n = 60
	keys := s.keys(n)
	s.split(keys[15], keys[30], keys[45])
	s.must(cl.BatchPut(s.ctx, keys, keys))
	backward := slices.Clone(keys)
	slices.Reverse(backward)
	for _, limit := range []int{1, 14, 15, 16, 31, 100} {
		ks, vs, err := cl.Scan(s.ctx, []byte(s.prefix), s.end(), limit)
		s.must(err)
		if want := keys[:min(limit, n)]; !slices.EqualFunc(ks, want, bytes.Equal) || !slices.EqualFunc(vs, want, bytes.Equal) {
			s.Fatalf("limit %d: %q", limit, ks)
		}
		ks, vs, err = cl.ReverseScan(s.ctx, s.end(), []byte(s.prefix), limit)
		s.must(err)
		if want := backward[:min(limit, n)]; !slices.EqualFunc(ks, want, bytes.Equal) || !slices.EqualFunc(vs, want, bytes.Equal) {
			s.Fatalf("limit %d backward: %q", limit, ks)
		}
		ks, vs, err = cl.Scan(s.ctx, []byte(s.prefix), s.end(), limit, rawkv.ScanKeyOnly())
		s.must(err)
		if !slices.EqualFunc(ks, keys[:min(limit, n)], bytes.Equal) || slices.ContainsFunc(vs, func(v []byte) bool { return len(v) > 0 }) {
			s.Fatalf("limit %d, keys only: %q", limit, ks)
		}
	}
	if _, _, err := cl.Scan(s.ctx, nil, nil, rawkv.MaxRawKVScanLimit+1); err == nil {
		s.Fatal("a scan of too many keys")
	}
}

func (s *session) rawTTL() {
	cl := s.raw()
	s.must(cl.PutWithTTL(s.ctx, s.key("long"), []byte("x"), 1000))
	s.must(cl.PutWithTTL(s.ctx, s.key("short"), []byte("x"), 1))
	s.must(cl.Put(s.ctx, s.key("ever"), []byte("x")))
	s.must(cl.BatchPutWithTTL(s.ctx, [][]byte{s.key("b1"), s.key("b2")}, [][]byte{{1}, {2}}, []uint64{500, 0}))
	for key, want := range map[string]uint64{"long": 1000, "ever": 0, "b1": 500, "b2": 0} {
		ttl, err := cl.GetKeyTTL(s.ctx, s.key("%s", key))
		if err != nil || ttl == nil || *ttl > want || want > 0 && *ttl < want-200 {
			s.Fatalf("%s lives for %v (%v), want %d", key, ttl, err, want)
		}
	}
	if ttl, err := cl.GetKeyTTL(s.ctx, s.key("nobody")); err != nil || ttl != nil {
		s.Fatalf("an absent key lives for %v (%v)", ttl, err)
	}
	eventually(s, "the end of a key", func() bool {
		v, err := cl.Get(s.ctx, s.key("short"))
		s.must(err)
		return v == nil
	})
	ks, _, err := cl.Scan(s.ctx, []byte(s.prefix), s.end(), 10)
	if err != nil || len(ks) != 4 {
		s.Fatalf("%q (%v)", ks, err)
	}
	s.must(cl.Put(s.ctx, s.key("long"), []byte("y"))) // without
	if ttl, err := cl.GetKeyTTL(s.ctx, s.key("long")); err != nil || *ttl != 0 {
		s.Fatalf("%v (%v)", ttl, err)
	}
}

func (s *session) rawChecksum() {
	cl := s.raw()
	keys := s.keys(30)
	s.split(keys[10], keys[20])
	s.must(cl.BatchPut(s.ctx, keys, keys))
	var want rawkv.RawChecksum
	table := crc64.MakeTable(crc64.ECMA)
	for _, k := range keys[5:25] {
		want.Crc64Xor ^= crc64.Checksum(append(slices.Clone(k), k...), table)
		want.TotalKvs++
		want.TotalBytes += uint64(2 * len(k))
	}
	got, err := cl.Checksum(s.ctx, keys[5], keys[25])
	if err != nil || got != want {
		s.Fatalf("checksum %+v (%v), want %+v", got, err, want)
	}
}

// rawCAS: of many who swap, each success saw the one before.
func (s *session) rawCAS() {
	cl, err := rawkv.NewClientWithOpts(s.ctx, []string{s.url}, rawkv.WithAPIVersion(kvrpcpb.APIVersion_V1))
	s.must(err)
	defer cl.Close()
	if _, _, err := cl.CompareAndSwap(s.ctx, s.key("k"), nil, []byte("x")); err == nil {
		s.Fatal("a swap by a client that is not atomic")
	}
	cl.SetAtomicForCAS(true)
	old, ok, err := cl.CompareAndSwap(s.ctx, s.key("k"), nil, []byte("0"))
	if err != nil || !ok || old != nil {
		s.Fatalf("first: %q %v %v", old, ok, err)
	}
	if old, ok, err = cl.CompareAndSwap(s.ctx, s.key("k"), nil, []byte("0")); err != nil || ok || string(old) != "0" {
		s.Fatalf("expected to be absent: %q %v %v", old, ok, err)
	}
	s.must(cl.Put(s.ctx, s.key("k"), []byte("1")))
	s.must(cl.BatchPut(s.ctx, s.keys(3), s.keys(3)))
	s.must(cl.Delete(s.ctx, s.keys(3)[0]))
	const workers, each = 4, 15
	done := make(chan int, workers)
	for w := range workers {
		go func() {
			swapped := 0
			defer func() { done <- swapped }()
			for swapped < each {
				cur, err := cl.Get(s.ctx, s.key("k"))
				if err != nil {
					s.Errorf("worker %d: %v", w, err)
					return
				}
				_, ok, err := cl.CompareAndSwap(s.ctx, s.key("k"), cur, append(cur, 'x'))
				if err != nil {
					s.Errorf("worker %d: %v", w, err)
					return
				}
				if ok {
					swapped++
				}
			}
		}()
	}
	sum := 0
	for range workers {
		sum += <-done
	}
	v, err := cl.Get(s.ctx, s.key("k"))
	if err != nil || string(v) != "1"+strings.Repeat("x", sum) {
		s.Fatalf("after %d swaps: %q (%v)", sum, v, err)
	}
}

// rawKeyspaces: V2's clients have spaces of their own.
func (s *session) rawKeyspaces() {
	one, two := s.raws[kvrpcpb.APIVersion_V1], s.raws[kvrpcpb.APIVersion_V2]
	s.must(one.Put(s.ctx, s.key("k"), []byte("one")))
	if v, err := two.Get(s.ctx, s.key("k")); err != nil || v != nil {
		s.Fatalf("V2 sees V1's key: %q (%v)", v, err)
	}
	s.must(two.Put(s.ctx, s.key("k"), []byte("two")))
	s.must(two.PutWithTTL(s.ctx, s.key("t"), []byte("two"), 100))
	s.must(one.DeleteRange(s.ctx, []byte(s.prefix), s.end()))
	if v, err := two.Get(s.ctx, s.key("k")); err != nil || string(v) != "two" {
		s.Fatalf("V1 deleted V2's key: %q (%v)", v, err)
	}
	ks, _, err := two.ReverseScan(s.ctx, s.end(), []byte(s.prefix), 10)
	if err != nil || len(ks) != 2 || !bytes.Equal(ks[0], s.key("t")) {
		s.Fatalf("%q (%v)", ks, err)
	}
}

func (s *session) rawBesideTransactions() {
	s.must(s.raw().Put(s.ctx, s.key("k"), []byte("raw")))
	s.put("k", "txn")
	if v, err := s.raw().Get(s.ctx, s.key("k")); err != nil || string(v) != "raw" {
		s.Fatalf("%q (%v)", v, err)
	}
	s.must(s.raw().DeleteRange(s.ctx, []byte(s.prefix), s.end()))
	s.want("k", "txn")
}

// rawLimits are refused with a reason, and nothing is written.
func (s *session) rawLimits() {
	cl := s.raw()
	if err := cl.Put(s.ctx, append(s.key("k"), make([]byte, 64<<10)...), []byte("x")); err == nil {
		s.Error("a key of 64 KiB")
	}
	if err := cl.Put(s.ctx, s.key("v"), make([]byte, 9<<20)); err == nil {
		s.Error("a value of 9 MiB")
	}
	if err := cl.PutWithTTL(s.ctx, s.key("t"), []byte("x"), 1<<62); err == nil {
		s.Error("a TTL of 2^62 s")
	}
	s.must(cl.Put(s.ctx, s.key("ok"), make([]byte, 1<<20)))
	if ks, _, err := cl.Scan(s.ctx, []byte(s.prefix), s.end(), 10, rawkv.ScanKeyOnly()); err != nil || len(ks) != 1 {
		s.Errorf("%q (%v)", ks, err)
	}
}
