package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/raftstore/engine"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/tikv/client-go/v2/rawkv"
	"github.com/tikv/client-go/v2/txnkv"
)

// scanRaw reads all of a raw client's keys, in both directions.
func (c *cluster) scanRaw(cl *rawkv.Client) (keys []string) {
	c.t.Helper()
	ks, _, err := cl.Scan(c.ctx, nil, nil, 5000)
	c.must(err)
	for _, k := range ks {
		keys = append(keys, string(k))
	}
	back, _, err := cl.ReverseScan(c.ctx, bytes.Repeat([]byte{0xFF}, 9), nil, 5000)
	c.must(err)
	var reversed []string
	for _, k := range back {
		reversed = append(reversed, string(k))
	}
	slices.Reverse(reversed)
	if !slices.Equal(keys, reversed) {
		c.t.Fatalf("raw scans: forwards %d keys, backwards %d", len(keys), len(reversed))
	}
	return keys
}

// scanTxn reads all of a transactional client's keys, in both directions.
func (c *cluster) scanTxn(cl *txnkv.Client) (keys []string) {
	c.t.Helper()
	tx, err := cl.Begin()
	c.must(err)
	it, err := tx.Iter(nil, nil)
	c.must(err)
	for ; it.Valid(); c.must(it.Next()) {
		keys = append(keys, string(it.Key()))
	}
	back, err := tx.IterReverse(bytes.Repeat([]byte{0xFF}, 9), nil)
	c.must(err)
	var reversed []string
	for ; back.Valid(); c.must(back.Next()) {
		reversed = append(reversed, string(back.Key()))
	}
	slices.Reverse(reversed)
	if !slices.Equal(keys, reversed) {
		c.t.Fatalf("transactional scans: forwards %q, backwards %q", keys, reversed)
	}
	return keys
}

// boundaries are where the regions of the store begin, but the first.
func (c *cluster) boundaries() (out []string) {
	for _, r := range c.nodes[0].Raftstore().Regions() {
		if len(r.Region.StartKey) > 0 {
			out = append(out, string(r.Region.StartKey))
		}
	}
	slices.Sort(out)
	return out
}

// TestRawAndTransactionalAcrossPockets: raw keys are split where their client
// wants it, and both kinds of clients still read everything, in both directions.
func TestRawAndTransactionalAcrossPockets(t *testing.T) {
	c := start(t, 1, nil)
	raw, txn := c.rawClient(kvrpcpb.APIVersion_V1), c.txnClient()
	var rawKeys []string
	for i := range 60 {
		rawKeys = append(rawKeys, fmt.Sprintf("usertable:%03d", i), fmt.Sprintf("k%d", i), fmt.Sprintf("another longer key %d", i))
	}
	rawKeys = append(rawKeys, "usertabl", "usertable", "usertabk", "usertabl\xff", "\xff\xff")
	slices.Sort(rawKeys)
	var ks, vs [][]byte
	for _, k := range rawKeys {
		ks, vs = append(ks, []byte(k)), append(vs, []byte("raw "+k))
	}
	c.must(raw.BatchPut(c.ctx, ks, vs))
	txnKeys := []string{"", "another longer key 7", "k3", "usertabk\xff\xff\xff\xff\xff\xff\xff\xff", "usertabl", "usertabl\x00", "usertable:020", "usertable:040", "zz"}[1:]
	slices.Sort(txnKeys)
	put := func(cl *txnkv.Client) {
		t.Helper()
		tx, err := cl.Begin()
		c.must(err)
		for _, k := range txnKeys {
			c.must(tx.Set([]byte(k), []byte("txn "+k)))
		}
		c.must(tx.Commit(c.ctx))
	}
	put(txn)
	read := func(what string, raw *rawkv.Client, txn *txnkv.Client) {
		t.Helper()
		if got := c.scanRaw(raw); !slices.Equal(got, rawKeys) {
			t.Fatalf("%s: the raw client sees %d of %d keys: %q", what, len(got), len(rawKeys), got)
		}
		if got := c.scanTxn(txn); !slices.Equal(got, txnKeys) {
			t.Fatalf("%s: the transactional client sees %q", what, got)
		}
	}
	read("before", raw, txn)

	split := [][]byte{[]byte("usertable:020"), []byte("usertable:040"), []byte("another longer key 3"), []byte("k5"), []byte("k59"), []byte("usertable:041")}
	resp, err := raw.GetPDClient().SplitRegions(c.ctx, split)
	c.must(err)
	if resp.GetFinishedPercentage() != 100 || len(resp.GetRegionsId()) != len(split) {
		t.Fatalf("split: %v", resp)
	}
	want := engine.RawBoundaries(nil, nil, split)
	c.eventually("all regions", func() bool { return len(c.boundaries()) == len(want) })
	if got := c.boundaries(); len(got) != len(want) || got[0] != string(want[0]) || !slices.Contains(got, "usertable:040") {
		t.Fatalf("boundaries %q, want %q", got, want)
	}
	read("clients with what they knew", raw, txn)
	read("new clients", c.rawClient(kvrpcpb.APIVersion_V1), c.txnClient())
	// More splits of a pocket, under clients that know the pieces.
	for _, k := range []string{"usertable:010", "usertable:030", "usertable:055"} {
		_, err = raw.GetPDClient().SplitRegions(c.ctx, [][]byte{[]byte(k)})
		c.must(err)
		read("split at "+k, raw, txn)
	}
	put(txn)
	sum, err := raw.Checksum(c.ctx, nil, nil)
	c.must(err)
	if sum.TotalKvs != uint64(len(rawKeys)) {
		t.Fatalf("checksum over %d keys", sum.TotalKvs)
	}
	// What goes over ranges of regions: GC's search for locks, DeleteRange.
	ts, err := txn.CurrentTimestamp("global")
	c.must(err)
	if _, err := txn.GC(c.ctx, ts); err != nil {
		t.Fatalf("GC over the pocket: %v", err)
	}
	if _, err := txn.DeleteRange(c.ctx, []byte("k"), []byte("usertablz"), 1); err != nil {
		t.Fatalf("delete of a range over the pocket: %v", err)
	}
	txnKeys = []string{"another longer key 7", "zz"}
	read("after the transactional range was deleted", raw, txn)
	c.must(raw.DeleteRange(c.ctx, []byte("usertable:"), []byte("usertable:050")))
	rawKeys = slices.DeleteFunc(rawKeys, func(k string) bool { return k >= "usertable:" && k < "usertable:050" })
	read("after the raw range was deleted", raw, txn)
}

// TestManyRawSplits: a request with more keys than one split takes.
func TestManyRawSplits(t *testing.T) {
	c := start(t, 1, nil)
	raw := c.rawClient(kvrpcpb.APIVersion_V1)
	c.must(raw.Put(c.ctx, []byte("sensor:00042"), []byte("v")))
	r := c.nodes[0].Raftstore().Regions()[0].Region
	req := &kvrpcpb.SplitRegionRequest{IsRawKv: true, Context: &kvrpcpb.Context{RegionId: r.Id, RegionEpoch: r.RegionEpoch, Peer: r.Peers[0]}}
	for i := range 100 {
		req.SplitKeys = append(req.SplitKeys, fmt.Appendf(nil, "sensor:%05d", 99-i), fmt.Appendf(nil, "s%d", i))
	}
	resp, err := c.nodes[0].Service().SplitRegion(c.ctx, req)
	c.must(err)
	if resp.RegionError != nil || len(resp.Regions) != 203 {
		t.Fatalf("%d regions, %v", len(resp.Regions), resp.RegionError)
	}
	c.eventually("all regions", func() bool { return len(c.boundaries()) == 202 })
	for i, region := range resp.Regions[1:] {
		if !bytes.Equal(resp.Regions[i].EndKey, region.StartKey) {
			t.Fatalf("a hole at %q", region.StartKey)
		}
		if !codec.InPocket(region.StartKey) && !codec.IsEncoding(region.StartKey) {
			t.Fatalf("boundary %q", region.StartKey)
		}
	}
	if got := c.scanRaw(raw); len(got) != 1 {
		t.Fatalf("the key is lost: %q", got)
	}
	out, err := c.nodes[0].Service().SplitRegion(c.ctx, &kvrpcpb.SplitRegionRequest{IsRawKv: true, SplitKey: []byte("elsewhere"),
		Context: &kvrpcpb.Context{RegionId: resp.Regions[5].Id, RegionEpoch: resp.Regions[5].RegionEpoch, Peer: resp.Regions[5].Peers[0]}})
	c.must(err)
	if k := out.GetRegionError().GetKeyNotInRegion(); k == nil {
		t.Fatal(out)
	}
}

// keyspace makes a keyspace of API V2.
func (c *cluster) keyspace(name string) {
	c.t.Helper()
	resp, err := http.Post(c.pdURL+"/pd/api/v2/keyspaces", "application/json", strings.NewReader(fmt.Sprintf(`{"name": %q}`, name)))
	c.must(err)
	body, err := io.ReadAll(resp.Body)
	c.must(errors.Join(err, resp.Body.Close()))
	if resp.StatusCode != http.StatusOK {
		c.t.Fatalf("keyspace %s: %d %s", name, resp.StatusCode, body)
	}
}

// TestKeyspacesApart: raw and transactional clients of two keyspaces and of V1
// use the same keys, and everybody sees their own.
func TestKeyspacesApart(t *testing.T) {
	c := start(t, 1, nil)
	c.keyspace("red")
	c.keyspace("blue")
	raws := map[string]*rawkv.Client{"v1": c.rawClient(kvrpcpb.APIVersion_V1)}
	txns := map[string]*txnkv.Client{"v1": c.txnClient()}
	for _, ks := range []string{"red", "blue"} {
		raw, err := rawkv.NewClientWithOpts(c.ctx, []string{c.pdURL}, rawkv.WithAPIVersion(kvrpcpb.APIVersion_V2), rawkv.WithKeyspace(ks))
		c.must(err)
		t.Cleanup(func() { _ = raw.Close() })
		txn, err := txnkv.NewClient([]string{c.pdURL}, txnkv.WithAPIVersion(kvrpcpb.APIVersion_V2), txnkv.WithKeyspace(ks))
		c.must(err)
		t.Cleanup(func() { _ = txn.Close() })
		raws[ks], txns[ks] = raw, txn
	}
	var want []string
	for i := range 30 {
		want = append(want, fmt.Sprintf("a shared key %02d", i))
	}
	for name, raw := range raws {
		raw.SetAtomicForCAS(true)
		for _, k := range want {
			c.must(raw.PutWithTTL(c.ctx, []byte(k), []byte(name), 1000))
		}
	}
	for name, cl := range txns {
		tx, err := cl.Begin()
		c.must(err)
		for _, k := range want {
			c.must(tx.Set([]byte(k), []byte(name)))
		}
		c.must(tx.Commit(c.ctx))
	}
	check := func(what string) {
		t.Helper()
		for name, raw := range raws {
			keys, values, err := raw.Scan(c.ctx, nil, nil, 1000)
			c.must(err)
			var got []string
			for i, k := range keys {
				if got = append(got, string(k)); string(values[i]) != name {
					t.Fatalf("%s: raw %s reads %q=%q", what, name, k, values[i])
				}
			}
			if !slices.Equal(got, want) {
				t.Fatalf("%s: raw %s sees %q", what, name, got)
			}
			ttl, err := raw.GetKeyTTL(c.ctx, []byte(want[3]))
			c.must(err)
			if ttl == nil || *ttl < 900 || *ttl > 1000 {
				t.Fatalf("%s: raw %s has TTL %v", what, name, ttl)
			}
			sum, err := raw.Checksum(c.ctx, nil, nil)
			c.must(err)
			prefix := uint64(0) // V2 counts the keyspace's
			if name != "v1" {
				prefix = 4
			}
			if n := uint64(len(want)); sum.TotalKvs != n || sum.TotalBytes != n*(uint64(len(want[0])+len(name))+prefix) {
				t.Fatalf("%s: raw %s: checksum %+v", what, name, sum)
			}
		}
		for name, cl := range txns {
			if got := c.scanTxn(cl); !slices.Equal(got, want) {
				t.Fatalf("%s: transactional %s sees %q", what, name, got)
			}
			tx, err := cl.Begin()
			c.must(err)
			if v, err := tx.Get(c.ctx, []byte(want[7])); err != nil || string(v.Value) != name {
				t.Fatalf("%s: transactional %s reads %q, %v", what, name, v.Value, err)
			}
		}
	}
	check("as written")
	if _, err := raws["v1"].GetPDClient().SplitRegions(c.ctx, [][]byte{[]byte("a shared key 15")}); err != nil {
		t.Fatal(err)
	}
	if _, err := raws["red"].GetPDClient().SplitRegions(c.ctx, [][]byte{[]byte("a shared key 11")}); err != nil {
		t.Fatal(err)
	}
	_, err := txns["blue"].SplitRegions(c.ctx, [][]byte{[]byte("a shared key 20")}, false, nil)
	c.must(err)
	c.eventually("the splits", func() bool { return len(c.boundaries()) == 5 })
	check("split")
	for name, raw := range raws {
		old, ok, err := raw.CompareAndSwap(c.ctx, []byte(want[0]), []byte(name), []byte("swapped"))
		if err != nil || !ok || string(old) != name {
			t.Fatalf("raw %s swaps %q, %v, %v", name, old, ok, err)
		}
		if _, ok, err = raw.CompareAndSwap(c.ctx, []byte(want[0]), nil, []byte(name)); err != nil || ok {
			t.Fatalf("raw %s swaps what is not there: %v, %v", name, ok, err)
		}
		c.must(raw.PutWithTTL(c.ctx, []byte(want[0]), []byte(name), 1000))
	}
	check("swapped")
	c.must(raws["red"].DeleteRange(c.ctx, nil, nil))
	if keys, _, err := raws["red"].Scan(c.ctx, nil, nil, 10); err != nil || len(keys) != 0 {
		t.Fatalf("red still has %q, %v", keys, err)
	}
	delete(raws, "red")
	check("red was deleted")
	// What belongs to others is refused, by name.
	if err := raws["v1"].Put(c.ctx, []byte("r\x00\x00\x02a"), []byte("v")); err == nil || !strings.Contains(err.Error(), "API V2") {
		t.Errorf("raw V1 in a keyspace: %v", err)
	}
	tx, err := txns["v1"].Begin()
	c.must(err)
	c.must(tx.Set([]byte("x\x00\x00\x02a"), []byte("v")))
	if err := tx.Commit(c.ctx); err == nil || !strings.Contains(err.Error(), "API V2") {
		t.Errorf("transactional V1 in a keyspace: %v", err)
	}
	resp, err := c.nodes[0].Service().RawPut(c.ctx, &kvrpcpb.RawPutRequest{Context: &kvrpcpb.Context{ApiVersion: kvrpcpb.APIVersion_V2}, Key: []byte("plain")})
	if err != nil || !strings.Contains(resp.Error, "must begin with 'r'") {
		t.Errorf("raw V2 without a keyspace: %v, %v", resp, err)
	}
}
