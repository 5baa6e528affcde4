package pd

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

const (
	// storeConfigEvery is how often stores are looked for whose settings are not
	// known; storeConfigTimeout bounds one question, storeConfigBytesMax one
	// answer.
	storeConfigEvery    = time.Second
	storeConfigTimeout  = 2 * time.Second
	storeConfigBytesMax = 1 << 20
	// storeConfigAgain is after how long a store that did not answer is asked
	// again.
	storeConfigAgain = time.Minute
)

// storeConfig is what matters to PD of a store's settings.
type storeConfig struct {
	address string // of its status page
	started int64  // a restarted store may have others
	// regionMaxBytes is the size at which the store splits a region.
	regionMaxBytes uint64
	askedAt        time.Time
}

// watchStoreConfigs asks each store, after each of its starts, at which size it
// splits regions, as PD asks TiKV, and keeps merges below the smallest.
func (c *cluster) watchStoreConfigs(ctx context.Context) {
	tick := time.NewTicker(storeConfigEvery)
	defer tick.Stop()
	known := make(map[uint64]storeConfig)
	client := &http.Client{Timeout: storeConfigTimeout}
	defer client.CloseIdleConnections()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.sched.LimitRegionBytes(c.learnStoreConfigs(ctx, client, known))
		}
	}
}

// learnStoreConfigs asks the stores that are not in known, or have restarted,
// and returns the smallest regionMaxBytes of all, 0 where none is known.
func (c *cluster) learnStoreConfigs(ctx context.Context, client *http.Client, known map[uint64]storeConfig) uint64 {
	least := uint64(0)
	for _, s := range c.stores.All() {
		if s.IsTombstone() {
			delete(known, s.ID())
			continue
		}
		now, k := time.Now(), known[s.ID()]
		fresh := k.address == s.Meta.StatusAddress && k.started == s.Meta.StartTimestamp
		if s.Meta.StatusAddress != "" && s.IsConnected(now) &&
			(!fresh || k.regionMaxBytes == 0 && now.Sub(k.askedAt) >= storeConfigAgain) {
			n, err := askRegionMaxBytes(ctx, client, s.Meta.StatusAddress)
			if err != nil {
				c.log.Info("pd: a store's settings are not known; region-max-size is taken for its limit of regions", "store", s.ID(), "err", err)
				n = k.regionMaxBytes
			}
			k = storeConfig{s.Meta.StatusAddress, s.Meta.StartTimestamp, n, now}
			known[s.ID()] = k
		}
		if n := k.regionMaxBytes; n > 0 && (least == 0 || n < least) {
			least = n
		}
	}
	return least
}

// askRegionMaxBytes asks a store's status page.
func askRegionMaxBytes(ctx context.Context, client *http.Client, address string) (uint64, error) {
	url := address
	if !strings.Contains(url, "://") {
		url = "http://" + url
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/config", nil)
	if err != nil {
		return 0, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%s/config answers %s", url, resp.Status)
	}
	var cfg struct {
		Raftstore struct {
			RegionMaxBytes uint64 `json:"region-max-bytes"`
		} `json:"raftstore"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, storeConfigBytesMax)).Decode(&cfg); err != nil {
		return 0, fmt.Errorf("%s/config: %w", url, err)
	}
	if cfg.Raftstore.RegionMaxBytes == 0 {
		return 0, fmt.Errorf("%s/config has no raftstore.region-max-bytes", url)
	}
	return cfg.Raftstore.RegionMaxBytes, nil
}
