package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/tikv/client-go/v2/txnkv"
)

// pdConfig changes PD's settings at run time.
func (c *cluster) pdConfig(settings string) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.ctx, http.MethodPost, c.pdURL+"/pd/api/v1/config", strings.NewReader(settings))
	c.must(err)
	resp, err := http.DefaultClient.Do(req)
	c.must(err)
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		c.t.Fatalf("PD refused %s: %s", settings, resp.Status)
	}
}

// pdRegions is how many regions PD knows.
func (c *cluster) pdRegions() int {
	req, err := http.NewRequestWithContext(c.ctx, http.MethodGet, c.pdURL+"/pd/api/v1/regions", nil)
	c.must(err)
	resp, err := http.DefaultClient.Do(req)
	c.must(err)
	defer func() { _ = resp.Body.Close() }()
	var list struct {
		Count int `json:"count"`
	}
	c.must(json.NewDecoder(resp.Body).Decode(&list))
	return list.Count
}

// TestPDMergesSmallRegions lets PD merge what was split, while somebody writes
// and the peers of the regions are on different stores.
func TestPDMergesSmallRegions(t *testing.T) {
	c := start(t, 4, nil)
	cl := c.txnClient()
	put := func(round int) {
		t.Helper()
		tx, err := cl.Begin()
		c.must(err)
		for i := range 8 {
			c.must(tx.Set(fmt.Appendf(nil, "key-%d-%03d", i, round), fmt.Appendf(nil, "%d", round)))
		}
		c.must(tx.Commit(c.ctx))
	}
	put(0)
	var keys [][]byte
	for i := 1; i < 8; i++ {
		keys = append(keys, fmt.Appendf(nil, "key-%d", i))
	}
	_, err := cl.SplitRegions(c.ctx, keys, true, nil)
	c.must(err)
	c.eventually("eight regions", func() bool { return c.pdRegions() == 8 })
	c.pdConfig(`{"split-merge-interval": "1s", "merge-schedule-limit": 8}`)
	rounds := 1
	c.eventually("one region again", func() bool {
		put(rounds)
		rounds++
		return c.pdRegions() == 1
	})
	c.check(cl, rounds)
}

// check wants all that put wrote.
func (c *cluster) check(cl *txnkv.Client, rounds int) {
	c.t.Helper()
	tx, err := cl.Begin()
	c.must(err)
	it, err := tx.Iter([]byte("key-"), []byte("key."))
	c.must(err)
	defer it.Close()
	n := 0
	for ; it.Valid(); n++ {
		if want := fmt.Appendf(nil, "key-%d-%03d", n/rounds, n%rounds); !bytes.Equal(it.Key(), want) {
			c.t.Fatalf("key %d is %q, want %q", n, it.Key(), want)
		}
		c.must(it.Next())
	}
	if n != 8*rounds {
		c.t.Fatalf("%d keys, want %d", n, 8*rounds)
	}
}
