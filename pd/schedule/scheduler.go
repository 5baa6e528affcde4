package schedule

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/copradb/copra/pd/core"
)

// The schedulers' names, as in PD. That of scatter-range goes on with the name
// of its range.
const (
	BalanceLeaderName  = "balance-leader-scheduler"
	BalanceRegionName  = "balance-region-scheduler"
	HotRegionName      = "balance-hot-region-scheduler"
	EvictLeaderName    = "evict-leader-scheduler"
	EvictSlowStoreName = "evict-slow-store-scheduler"
	GrantLeaderName    = "grant-leader-scheduler"
	ShuffleLeaderName  = "shuffle-leader-scheduler"
	ShuffleRegionName  = "shuffle-region-scheduler"
	ScatterRangeName   = "scatter-range"
)

// Scheduler starts operators that make the cluster better, whatever that is for
// it. Its settings do not change; with others there is another scheduler.
type Scheduler interface {
	// Name is unique among the schedulers that run.
	Name() string
	// Kind is what its operators count against.
	Kind() Kind
	// Config is the settings, as JSON takes them.
	Config() any
	// Schedule starts operators, at most room, and returns how many. Schedulers
	// take turns: no two run at the same time.
	Schedule(ctx context.Context, c *Controller, room int) int
}

// holder is a scheduler that keeps hold of stores for as long as it runs.
type holder interface {
	start(c *Controller) error
	stop(c *Controller)
}

// schedulerType makes schedulers of one name.
type schedulerType struct {
	name string
	// runs says that it runs unless somebody removed it; balances, that the
	// option disable-balance stops it.
	runs, balances bool
	// args lays the arguments that it is added with over the settings that it
	// has already, which are empty where it does not run.
	args func(have json.RawMessage, args []string) (json.RawMessage, error)
	make func(config json.RawMessage) (Scheduler, error)
}

// schedulerTypes is filled in by init: the makers refer to it.
var schedulerTypes []schedulerType

func init() {
	schedulerTypes = []schedulerType{
		{name: BalanceLeaderName, runs: true, balances: true, args: rangeArgs, make: newBalanceLeader},
		{name: BalanceRegionName, runs: true, balances: true, args: rangeArgs, make: newBalanceRegion},
		{name: HotRegionName, runs: true, balances: true, args: noArgs, make: newHotRegion},
		{name: EvictSlowStoreName, runs: true, args: noArgs, make: newEvictSlowStore},
		{name: EvictLeaderName, args: storeArgs, make: newEvictLeader},
		{name: GrantLeaderName, args: storeArgs, make: newGrantLeader},
		{name: ShuffleLeaderName, args: rangeArgs, make: newShuffleLeader},
		{name: ShuffleRegionName, args: noArgs, make: newShuffleRegion},
		{name: ScatterRangeName, args: scatterRangeArgs, make: newScatterRange},
	}
}

// typeOf returns the type of the scheduler with the name.
func typeOf(name string) (schedulerType, error) {
	for _, t := range schedulerTypes {
		if t.name == name || t.name == ScatterRangeName && strings.HasPrefix(name, ScatterRangeName+"-") {
			return t, nil
		}
	}
	names := make([]string, len(schedulerTypes))
	for i, t := range schedulerTypes {
		names[i] = t.name
	}
	return schedulerType{}, fmt.Errorf("pd: there is no scheduler %q; there are %s", name, strings.Join(names, ", "))
}

// hexKey is a key, in hexadecimal in JSON.
type hexKey []byte

// MarshalText implements encoding.TextMarshaler.
func (k hexKey) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(k)), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (k *hexKey) UnmarshalText(text []byte) error {
	raw, err := hex.DecodeString(string(text))
	if err != nil {
		return fmt.Errorf("the key %q is not hexadecimal: %w", text, err)
	}
	*k = raw
	return nil
}

// keyRange is [Start, End); an empty End is unbounded.
type keyRange struct {
	Start hexKey `json:"start-key"`
	End   hexKey `json:"end-key"`
}

// holds reports whether the whole region lies in the range.
func (k keyRange) holds(r *core.Region) bool {
	if bytes.Compare(r.Meta.StartKey, k.Start) < 0 {
		return false
	}
	return len(k.End) == 0 || len(r.Meta.EndKey) > 0 && bytes.Compare(r.Meta.EndKey, k.End) <= 0
}

// keyRanges holds everything where it is empty.
type keyRanges []keyRange

func (ks keyRanges) holds(r *core.Region) bool {
	for _, k := range ks {
		if k.holds(r) {
			return true
		}
	}
	return len(ks) == 0
}

func (ks keyRanges) check() error {
	for _, k := range ks {
		if len(k.End) > 0 && bytes.Compare(k.Start, k.End) >= 0 {
			return fmt.Errorf("the key range from %x to %x is empty", []byte(k.Start), []byte(k.End))
		}
	}
	return nil
}

// decodeConfig reads settings over what v has, and refuses unknown ones.
func decodeConfig(name string, raw json.RawMessage, v any) error {
	if len(raw) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("pd: %s: %w", name, err)
	}
	return nil
}

var errArguments = errors.New("pd: wrong arguments")

func noArgs(have json.RawMessage, args []string) (json.RawMessage, error) {
	if len(args) > 0 {
		return nil, fmt.Errorf("%w: it takes none, not %q", errArguments, args)
	}
	return have, nil
}

// rangeArgs takes start and end keys in pairs, in hexadecimal; none is all keys.
func rangeArgs(have json.RawMessage, args []string) (json.RawMessage, error) {
	if len(args)%2 != 0 {
		return nil, fmt.Errorf("%w: a start key has no end key in %q", errArguments, args)
	}
	if len(args) == 0 {
		return have, nil
	}
	var ranges keyRanges
	for i := 0; i < len(args); i += 2 {
		var k keyRange
		if err := errors.Join(k.Start.UnmarshalText([]byte(args[i])), k.End.UnmarshalText([]byte(args[i+1]))); err != nil {
			return nil, fmt.Errorf("%w: %w", errArguments, err)
		}
		ranges = append(ranges, k)
	}
	return mergeJSON(have, map[string]any{"ranges": ranges})
}

// storeArgs takes a store's id, then optional key ranges; the store joins those
// that the scheduler has already.
func storeArgs(have json.RawMessage, args []string) (json.RawMessage, error) {
	if len(args) == 0 {
		return nil, fmt.Errorf("%w: it needs a store's id", errArguments)
	}
	id, err := strconv.ParseUint(args[0], 10, 64)
	if err != nil || id == 0 {
		return nil, fmt.Errorf("%w: %q is no store's id", errArguments, args[0])
	}
	raw, err := rangeArgs(nil, args[1:])
	if err != nil {
		return nil, err
	}
	var ranged struct{ Ranges keyRanges }
	var cfg storesConfig
	if err := errors.Join(decodeConfig("ranges", raw, &ranged), decodeConfig("settings", have, &cfg)); err != nil {
		return nil, err
	}
	if cfg.Stores == nil {
		cfg.Stores = make(map[uint64]keyRanges)
	}
	cfg.Stores[id] = ranged.Ranges
	return json.Marshal(cfg)
}

// mergeJSON lays top-level members over those of an object.
func mergeJSON(have json.RawMessage, over map[string]any) (json.RawMessage, error) {
	all := map[string]any{}
	if len(have) > 0 {
		if err := json.Unmarshal(have, &all); err != nil {
			return nil, err
		}
	}
	for k, v := range over {
		all[k] = v
	}
	return json.Marshal(all)
}
