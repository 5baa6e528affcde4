package pd

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pingcap/kvproto/pkg/metapb"

	"github.com/copradb/copra/pd/placement"
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

// setOptions changes settings by PD's names and saves them. What the default
// placement rule says, too, is changed there first.
func (c *cluster) setOptions(ctx context.Context, changes map[string]any) error {
	c.metaMu.Lock()
	defer c.metaMu.Unlock()
	old := c.Options()
	next, err := applyOptions(old, changes)
	if err != nil {
		return err
	}
	if err := c.followOptions(ctx, old, next); err != nil {
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
		if k == "store-limit" {
			v = next.StoreRates // whole: a change may name one store
		}
		all[k] = v
	}
	if raw, err = json.Marshal(all); err != nil {
		return err
	}
	if err := c.t.put(ctx, c.optionsKey(), raw); err != nil {
		return err
	}
	c.useOptions(next)
	return nil
}

func (c *cluster) useOptions(o schedule.Options) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.options = o
	if c.meta != nil {
		c.meta = &metapb.Cluster{Id: c.meta.Id, MaxPeerCount: uint32(o.Replicas)}
	}
}

// followOptions makes the default rule say what the settings say.
func (c *cluster) followOptions(ctx context.Context, old, next schedule.Options) error {
	if old.Replicas == next.Replicas && old.IsolationLevel == next.IsolationLevel && slices.Equal(old.LocationLabels, next.LocationLabels) {
		return nil
	}
	if next.DisablePlacementRules && c.rules.Default() == nil {
		return nil
	}
	return c.rules.SetDefault(ctx, next.Replicas, next.LocationLabels, next.IsolationLevel)
}

// followDefaultRule makes the settings say what the default rule says.
func (c *cluster) followDefaultRule() {
	def := c.rules.Default()
	if def == nil || def.Count > schedule.ReplicasMax {
		return
	}
	o := c.Options()
	o.Replicas, o.LocationLabels, o.IsolationLevel = def.Count, def.LocationLabels, def.IsolationLevel
	c.useOptions(o)
}

// applyOptions returns o with the changes, or says which one is not possible.
func applyOptions(o schedule.Options, changes map[string]any) (schedule.Options, error) {
	for name, v := range changes {
		if err := applyOption(&o, name, v); err != nil {
			return o, err
		}
	}
	if o.Replicas < 1 || o.Replicas > schedule.ReplicasMax {
		return o, fmt.Errorf("pd: %d replicas are outside of 1 to %d", o.Replicas, schedule.ReplicasMax)
	}
	return o, placement.CheckLocation(o.LocationLabels, o.IsolationLevel)
}

func applyOption(o *schedule.Options, name string, v any) error {
	ints := map[string]*int{
		"max-replicas": &o.Replicas, "leader-schedule-limit": &o.LeaderLimit,
		"region-schedule-limit": &o.RegionLimit, "replica-schedule-limit": &o.ReplicaLimit,
		"merge-schedule-limit": &o.MergeLimit, "hot-region-schedule-limit": &o.HotRegionLimit,
		"max-merge-region-size": &o.MaxMergeRegionMiB, "max-merge-region-keys": &o.MaxMergeRegionKeys,
		"region-max-size": &o.RegionMaxMiB, "max-snapshot-count": &o.MaxSnapshots,
		"hot-region-cache-hits-threshold": &o.HotCacheHits,
		"max-pending-peer-count":          &o.MaxPendingPeers, "store-adding-peers-limit": &o.StoreLimit,
	}
	durations := map[string]*time.Duration{"max-store-down-time": &o.MaxStoreDownTime, "split-merge-interval": &o.SplitMergeInterval}
	bools := map[string]struct {
		p   *bool
		not bool
	}{
		"disable-balance": {&o.DisableBalance, false}, "enable-placement-rules": {&o.DisablePlacementRules, true},
		"enable-cross-table-merge": {&o.DisableCrossTableMerge, true}, "enable-one-way-merge": {&o.OneWayMerge, false},
	}
	switch {
	case ints[name] != nil:
		return setIntOption(ints[name], name, v)
	case durations[name] != nil:
		d, err := time.ParseDuration(fmt.Sprint(v))
		if err != nil || d <= 0 {
			return fmt.Errorf("pd: %s: %v is not a duration such as 30m", name, v)
		}
		*durations[name] = d
		return nil
	case bools[name].p != nil:
		b, err := boolOption(v)
		if err != nil {
			return fmt.Errorf("pd: %s: %w", name, err)
		}
		*bools[name].p = b != bools[name].not
		return nil
	}
	switch name {
	case "location-labels":
		return setLabels(&o.LocationLabels, v)
	case "isolation-level":
		level, ok := v.(string)
		if !ok {
			return fmt.Errorf("pd: %s: %v is not a label", name, v)
		}
		o.IsolationLevel = level
		return nil
	case "leader-schedule-policy":
		policy, _ := v.(string)
		if policy != schedule.PolicyCount && policy != schedule.PolicySize {
			return fmt.Errorf("pd: %s: %v is neither %s nor %s", name, v, schedule.PolicyCount, schedule.PolicySize)
		}
		o.LeaderPolicy = policy
		return nil
	case "tolerant-size-ratio":
		f, err := strconv.ParseFloat(fmt.Sprint(v), 64)
		if err != nil || !(f >= 0) || math.IsInf(f, 0) { // NaN is neither
			return fmt.Errorf("pd: %s: %v is no number from 0 on", name, v)
		}
		o.TolerantSizeRatio = f
		return nil
	case "low-space-ratio":
		f, err := strconv.ParseFloat(fmt.Sprint(v), 64)
		if err != nil || !(f > 0 && f <= 1) {
			return fmt.Errorf("pd: %s: %v is not a number between 0 and 1", name, v)
		}
		o.LowSpaceRatio = f
		return nil
	case "default-store-limit":
		return decodeOption(name, v, func(r schedule.StoreRate) error { o.StoreRate = r; return checkRate(r) })
	case "store-limit":
		return decodeOption(name, v, func(changed map[uint64]schedule.StoreRate) error {
			next := make(map[uint64]schedule.StoreRate, len(o.StoreRates)+len(changed))
			for id, r := range o.StoreRates {
				next[id] = r
			}
			for id, r := range changed {
				if err := checkRate(r); err != nil {
					return err
				}
				next[id] = r
			}
			o.StoreRates = next
			return nil
		})
	}
	return fmt.Errorf("pd: there is no setting %q that can be changed at run time", name)
}

// setIntOption takes a number, or text of one: pd-ctl sends both.
func setIntOption(p *int, name string, v any) error {
	f, err := strconv.ParseFloat(fmt.Sprint(v), 64)
	if err != nil || f < 0 || f != float64(int(f)) {
		return fmt.Errorf("pd: %s: %v is not a whole number", name, v)
	}
	*p = int(f)
	return nil
}

func boolOption(v any) (bool, error) {
	switch b := v.(type) {
	case bool:
		return b, nil
	case string:
		if b == "true" || b == "false" {
			return b == "true", nil
		}
	}
	return false, fmt.Errorf("%v is not true or false", v)
}

// setLabels takes a list, or text separated by commas.
func setLabels(p *[]string, v any) error {
	var out []string
	switch l := v.(type) {
	case string:
		for _, s := range strings.Split(l, ",") {
			if s = strings.TrimSpace(s); s != "" {
				out = append(out, s)
			}
		}
	case []any:
		for _, s := range l {
			out = append(out, fmt.Sprint(s))
		}
	case nil:
	default:
		return fmt.Errorf("pd: location-labels: %v is not a list of labels", v)
	}
	*p = out
	return nil
}

func checkRate(r schedule.StoreRate) error {
	if r.AddPeer < 0 || r.RemovePeer < 0 {
		return fmt.Errorf("pd: a store limit of %v peers a minute in and %v out is negative", r.AddPeer, r.RemovePeer)
	}
	return nil
}

// decodeOption decodes a value that has a shape of its own.
func decodeOption[T any](name string, v any, use func(T) error) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("pd: %s: %w", name, err)
	}
	var t T
	if err := json.Unmarshal(raw, &t); err != nil {
		return fmt.Errorf("pd: %s: %s is not of the right shape: %w", name, raw, err)
	}
	return use(t)
}
