package pd

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/pingcap/kvproto/pkg/metapb"

	"github.com/copradb/copra/pd/schedule"
)

func (c *cluster) optionsKey() string { return c.s.root + "/config" }

// loadOptions lays the settings that were changed at run time over the
// configured ones.
func (c *cluster) loadOptions(ctx context.Context) error {
	raw, ok, err := c.t.fence.Get(ctx, c.optionsKey())
	if err != nil || !ok {
		return err
	}
	changed := map[string]any{}
	if err := json.Unmarshal(raw, &changed); err != nil {
		return fmt.Errorf("pd: %s in etcd is damaged: %w", c.optionsKey(), err)
	}
	c.options, err = applyOptions(c.options, changed)
	return err
}

// setOptions changes settings by PD's names and saves them.
func (c *cluster) setOptions(ctx context.Context, changes map[string]any) error {
	c.metaMu.Lock()
	defer c.metaMu.Unlock()
	next, err := applyOptions(c.Options(), changes)
	if err != nil {
		return err
	}
	all := map[string]any{}
	raw, ok, err := c.t.fence.Get(ctx, c.optionsKey())
	if err != nil {
		return err
	}
	if ok {
		if err := json.Unmarshal(raw, &all); err != nil {
			return fmt.Errorf("pd: %s in etcd is damaged: %w", c.optionsKey(), err)
		}
	}
	for k, v := range changes {
		all[k] = v
	}
	if raw, err = json.Marshal(all); err != nil {
		return err
	}
	if err := c.t.put(ctx, c.optionsKey(), raw); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.options = next
	if c.meta != nil {
		c.meta = &metapb.Cluster{Id: c.meta.Id, MaxPeerCount: uint32(next.Replicas)}
	}
	return nil
}

// applyOptions returns o with the changes, or says which one is not possible.
func applyOptions(o schedule.Options, changes map[string]any) (schedule.Options, error) {
	ints := map[string]*int{
		"max-replicas": &o.Replicas, "leader-schedule-limit": &o.LeaderLimit,
		"region-schedule-limit": &o.RegionLimit, "replica-schedule-limit": &o.ReplicaLimit,
		"store-limit": &o.StoreLimit, "hot-region-schedule-limit": &o.HotRegionLimit,
		"max-pending-peer-count": &o.MaxPendingPeers, "max-snapshot-count": &o.MaxSnapshots,
		"hot-region-cache-hits-threshold": &o.HotCacheHits,
	}
	for name, v := range changes {
		switch name {
		case "max-store-down-time":
			d, err := time.ParseDuration(fmt.Sprint(v))
			if err != nil || d <= 0 {
				return o, fmt.Errorf("pd: %s: %v is not a duration such as 30m", name, v)
			}
			o.MaxStoreDownTime = d
		case "leader-schedule-policy":
			if v != schedule.PolicyCount && v != schedule.PolicySize {
				return o, fmt.Errorf("pd: %s: %v is neither %s nor %s", name, v, schedule.PolicyCount, schedule.PolicySize)
			}
			o.LeaderPolicy = v.(string)
		case "tolerant-size-ratio":
			f, ok := v.(float64)
			if !ok || f < 0 {
				return o, fmt.Errorf("pd: %s: %v is no number from 0 on", name, v)
			}
			o.TolerantSizeRatio = f
		case "disable-balance":
			b, ok := v.(bool)
			if !ok {
				return o, fmt.Errorf("pd: %s: %v is not true or false", name, v)
			}
			o.DisableBalance = b
		default:
			p, known := ints[name]
			f, number := v.(float64)
			switch {
			case !known:
				return o, fmt.Errorf("pd: there is no setting %q that can be changed at run time", name)
			case !number || f < 0 || f != float64(int(f)):
				return o, fmt.Errorf("pd: %s: %v is not a whole number", name, v)
			}
			*p = int(f)
		}
	}
	if o.Replicas < 1 || o.Replicas > schedule.ReplicasMax {
		return o, fmt.Errorf("pd: %d replicas are outside of 1 to %d", o.Replicas, schedule.ReplicasMax)
	}
	return o, nil
}
