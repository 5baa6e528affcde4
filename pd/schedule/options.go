package schedule

import "time"

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
	LeaderLimit  int `json:"leader-schedule-limit"`
	RegionLimit  int `json:"region-schedule-limit"`
	ReplicaLimit int `json:"replica-schedule-limit"`
	// StoreLimit is how many peers at a time are added to one store.
	StoreLimit int `json:"store-limit"`
	// PatrolInterval is how often a batch of regions is checked.
	PatrolInterval time.Duration `json:"patrol-region-interval"`
	// BalanceInterval is how often the balance schedulers look for work.
	BalanceInterval time.Duration `json:"balance-interval"`
	// DisableBalance turns off leader and region balance (checkers go on).
	DisableBalance bool `json:"disable-balance"`
}

// Defaults of Options.
const (
	defaultReplicas         = 3
	defaultMaxStoreDownTime = 30 * time.Minute
	defaultLeaderLimit      = 4
	defaultRegionLimit      = 16
	defaultReplicaLimit     = 64
	defaultStoreLimit       = 8
	defaultPatrolInterval   = 50 * time.Millisecond
	defaultBalanceInterval  = 200 * time.Millisecond
)

// WithDefaults fills in what is zero.
func (o Options) WithDefaults() Options {
	setInt(&o.Replicas, defaultReplicas)
	setInt(&o.LeaderLimit, defaultLeaderLimit)
	setInt(&o.RegionLimit, defaultRegionLimit)
	setInt(&o.ReplicaLimit, defaultReplicaLimit)
	setInt(&o.StoreLimit, defaultStoreLimit)
	setDuration(&o.MaxStoreDownTime, defaultMaxStoreDownTime)
	setDuration(&o.PatrolInterval, defaultPatrolInterval)
	setDuration(&o.BalanceInterval, defaultBalanceInterval)
	return o
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
