package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
)

// TestDrainStore empties a store that leads, while somebody writes: its peers
// and leaders go elsewhere, and it becomes a tombstone by itself.
func TestDrainStore(t *testing.T) {
	c := start(t, 4, mayBeRemoved)
	cl := c.txnClient()
	var leader uint64
	c.eventually("a region with three peers", func() bool {
		for _, n := range c.nodes {
			for _, r := range n.Raftstore().Regions() {
				if r.Leader && len(r.Region.GetPeers()) == 3 {
					leader = n.StoreID()
					return true
				}
			}
		}
		return false
	})
	url := fmt.Sprintf("%s/pd/api/v1/store/%d", c.pdURL, leader)
	req, err := http.NewRequestWithContext(c.ctx, http.MethodDelete, url, nil)
	c.must(err)
	resp, err := http.DefaultClient.Do(req)
	c.must(err)
	c.must(resp.Body.Close())
	if resp.StatusCode != http.StatusOK {
		t.Fatal("PD refused to drain the store:", resp.Status)
	}
	writes := 0
	c.eventually("a tombstone", func() bool {
		tx, err := cl.Begin()
		c.must(err)
		c.must(tx.Set(fmt.Appendf(nil, "key-%05d", writes), []byte("v")))
		c.must(tx.Commit(c.ctx))
		writes++
		req, err := http.NewRequestWithContext(c.ctx, http.MethodGet, url, nil)
		c.must(err)
		resp, err := http.DefaultClient.Do(req)
		c.must(err)
		defer func() { _ = resp.Body.Close() }()
		var info struct {
			Store struct {
				State string `json:"state_name"`
			} `json:"store"`
		}
		c.must(json.NewDecoder(resp.Body).Decode(&info))
		return info.Store.State == "Tombstone"
	})
	tx, err := cl.Begin()
	c.must(err)
	for i := range writes {
		if v, err := tx.Get(c.ctx, fmt.Appendf(nil, "key-%05d", i)); err != nil || len(v.Value) == 0 {
			t.Fatalf("key %d after the drain: %q, %v", i, v.Value, err)
		}
	}
}
