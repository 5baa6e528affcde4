package schedule

import (
	"math"
	"time"
)

// ReplicasMax is the largest number of peers a region can be asked to have.
const ReplicasMax = 9

// Options are the settings of scheduling, with PD's names in JSON. The zero
// value of a field means its default.
type Options struct {
	// Replicas is how many voters a region should have.
	Replicas int `json:"max-replicas"`
	// MaxStoreDownTime is after how long a silent store's peers are replaced.
	MaxStoreDownTime time.Duration `json:"max-store-down-time"`
	// The limits are how many operators of a kind run at a time.
	LeaderLimit    int `json:"leader-schedule-limit"`
	RegionLimit    int `json:"region-schedule-limit"`
	ReplicaLimit   int `json:"replica-schedule-limit"`
	HotRegionLimit int `json:"hot-region-schedule-limit"`
	// StoreLimit is how many peers at a time are added to one store.
	StoreLimit int `json:"store-adding-peers-limit"`
	// MaxPendingPeers and MaxSnapshots are how many peers of a store may be
	// behind, and how many snapshots it may be sending or receiving, for it to
	// get more peers for balance.
	MaxPendingPeers int `json:"max-pending-peer-count"`
	MaxSnapshots    int `json:"max-snapshot-count"`
	// LeaderPolicy says what balance-leader counts: "count" or "size".
	LeaderPolicy string `json:"leader-schedule-policy"`
	// TolerantSizeRatio is how many average regions two stores may each be off
	// before balance moves something; 0 is the 200th part of a store's regions.
	TolerantSizeRatio float64 `json:"tolerant-size-ratio"`
	// HotCacheHits is how many reports in a row must show a region hot before it
	// is moved for it.
	HotCacheHits int `json:"hot-region-cache-hits-threshold"`
	// StoreRate is how many peers a minute are added to and removed from a
	// store; StoreRates are the exceptions, by store.
	StoreRate  StoreRate            `json:"default-store-limit"`
	StoreRates map[uint64]StoreRate `json:"store-limit"`

	// DisablePlacementRules leaves only what Replicas and the two settings
	// behind it ask for.
	DisablePlacementRules bool `json:"-"`
	// LocationLabels are the labels of stores that tell where they are, from the
	// widest place to the narrowest; peers go to different places.
	LocationLabels []string `json:"location-labels"`
	// IsolationLevel is the location label in which a region's peers must
	// differ; empty where they only should.
	IsolationLevel string `json:"isolation-level"`

	// MergeLimit is how many regions take part in merges at a time; negative is
	// none.
	MergeLimit int `json:"merge-schedule-limit"`
	// MaxMergeRegionMiB and MaxMergeRegionKeys are up to where a region counts
	// as small; no keys are 10,000 for each MiB.
	MaxMergeRegionMiB  int `json:"max-merge-region-size"`
	MaxMergeRegionKeys int `json:"max-merge-region-keys"`
	// RegionMaxMiB is the size that a merge must not reach: regions split there.
	RegionMaxMiB int `json:"region-max-size"`
	// SplitMergeInterval is for how long a region that was split, and the whole
	// cluster after a change of PD's leader, is not merged.
	SplitMergeInterval time.Duration `json:"split-merge-interval"`
	// DisableCrossTableMerge keeps tables in regions of their own; OneWayMerge
	// merges only towards larger keys.
	DisableCrossTableMerge bool `json:"-"`
	OneWayMerge            bool `json:"enable-one-way-merge"`

	// LowSpaceRatio is the used part of a disk from which on it gets no peers.
	LowSpaceRatio float64 `json:"low-space-ratio"`

	// PatrolInterval is how often a batch of regions is checked.
	PatrolInterval time.Duration `json:"patrol-region-interval"`
	// BalanceInterval is how often the balance schedulers look for work.
	BalanceInterval time.Duration `json:"balance-interval"`
	// DisableBalance turns off the balance of leaders, regions and hot regions
	// (checkers go on, and so do schedulers that somebody added).
	DisableBalance bool `json:"disable-balance"`
}

// What balance-leader counts.
const (
	PolicyCount = "count"
	PolicySize  = "size"
)

// limit is how many operators of the kind may run.
func (o Options) limit(k Kind) int {
	switch k {
	case KindLeader:
		return o.LeaderLimit
	case KindRegion:
		return o.RegionLimit
	case KindReplica:
		return o.ReplicaLimit
	case KindHot:
		return o.HotRegionLimit
	case KindMerge:
		return o.MergeLimit
	}
	return math.MaxInt // what was asked for
}

// Defaults of Options.
const (
	defaultReplicas         = 3
	defaultMaxStoreDownTime = 30 * time.Minute
	defaultLeaderLimit      = 4
	defaultRegionLimit      = 2048
	defaultHotRegionLimit   = 4
	defaultMaxPendingPeers  = 64
	defaultMaxSnapshots     = 64
	defaultHotCacheHits     = 3
	defaultReplicaLimit     = 64
	defaultStoreLimit       = 8
	defaultBalanceInterval  = 50 * time.Millisecond
	defaultPatrolInterval   = 10 * time.Millisecond

	defaultMergeLimit         = 8
	defaultMaxMergeRegionMiB  = 54
	defaultRegionMaxMiB       = 144
	mergeKeysPerMiB           = 10_000
	defaultSplitMergeInterval = time.Hour
	defaultLowSpaceRatio      = 0.8
	defaultStoreRate          = 15 // peers a minute
)

// WithDefaults fills in what is zero.
func (o Options) WithDefaults() Options {
	setInt(&o.Replicas, defaultReplicas)
	setInt(&o.LeaderLimit, defaultLeaderLimit)
	setInt(&o.RegionLimit, defaultRegionLimit)
	setInt(&o.HotRegionLimit, defaultHotRegionLimit)
	setInt(&o.MaxPendingPeers, defaultMaxPendingPeers)
	setInt(&o.MaxSnapshots, defaultMaxSnapshots)
	setInt(&o.HotCacheHits, defaultHotCacheHits)
	if o.LeaderPolicy == "" {
		o.LeaderPolicy = PolicyCount
	}
	setInt(&o.ReplicaLimit, defaultReplicaLimit)
	setInt(&o.StoreLimit, defaultStoreLimit)
	setDuration(&o.MaxStoreDownTime, defaultMaxStoreDownTime)
	setDuration(&o.PatrolInterval, defaultPatrolInterval)
	setDuration(&o.BalanceInterval, defaultBalanceInterval)
	setInt(&o.MergeLimit, defaultMergeLimit)
	setInt(&o.MaxMergeRegionMiB, defaultMaxMergeRegionMiB)
	setInt(&o.RegionMaxMiB, defaultRegionMaxMiB)
	setDuration(&o.SplitMergeInterval, defaultSplitMergeInterval)
	if o.LowSpaceRatio == 0 {
		o.LowSpaceRatio = defaultLowSpaceRatio
	}
	if o.StoreRate == (StoreRate{}) {
		o.StoreRate = StoreRate{AddPeer: defaultStoreRate, RemovePeer: defaultStoreRate}
	}
	return o
}

// mergeKeys is up to how many keys a region counts as small.
func (o Options) mergeKeys() uint64 {
	if o.MaxMergeRegionKeys > 0 {
		return uint64(o.MaxMergeRegionKeys)
	}
	return uint64(o.MaxMergeRegionMiB) * mergeKeysPerMiB
}

func setInt(v *int, def int) {
	if *v == 0 {
		*v = def
	}
}

func setDuration(v *time.Duration, def time.Duration) {
	if *v == 0 {
		*v = def
	}
}
