package raftstore

import (
	"fmt"
	"time"
)

// Config are the settings of a Store. The zero value of a field means its
// default.
type Config struct {
	// TickInterval is Raft's clock. A leader sends heartbeats every
	// HeartbeatTicks; a follower that hears nothing for ElectionTicks to twice
	// that starts an election. The defaults (100 ms, 2, 10) give a failover of
	// one to two seconds.
	TickInterval   time.Duration
	HeartbeatTicks int
	ElectionTicks  int

	// RaftWorkers drive all regions; ApplyWorkers write committed entries;
	// BackgroundWorkers make and apply snapshots, destroy and measure regions.
	RaftWorkers, ApplyWorkers, BackgroundWorkers int

	// A region of more than RegionMaxBytes, or RegionMaxKeys entries, is cut into
	// pieces of about RegionSplitBytes and RegionSplitKeys.
	RegionMaxBytes, RegionSplitBytes uint64
	RegionMaxKeys, RegionSplitKeys   uint64
	SplitCheckInterval               time.Duration
	// A region that for loadSplitSeconds takes more than LoadSplitQPS requests or
	// LoadSplitBytes of reads a second is cut where its load halves. Negative
	// turns it off.
	LoadSplitQPS, LoadSplitBytes int64

	// RegionHeartbeatInterval is how often a leader reports to PD when nothing
	// changes.
	RegionHeartbeatInterval time.Duration
	// PeerDownDuration: a peer silent for longer is reported as down.
	PeerDownDuration time.Duration

	// MaxLeaderMissingDuration: a peer that has heard of no leader for longer
	// asks PD whether it is still a member.
	MaxLeaderMissingDuration time.Duration

	// A merge whose source has waited for MergeTimeout is given up: its target
	// is asked to make it impossible, and then the source serves again.
	MergeTimeout time.Duration

	// A region sleeps when nothing has happened in it for HibernateTicks, unless
	// NoHibernation is set. The leader of a sleeping region reports to PD every
	// HibernateHeartbeatInterval.
	NoHibernation              bool
	HibernateTicks             int
	HibernateHeartbeatInterval time.Duration

	// The log is truncated when LogTruncateEntries or LogTruncateBytes can go;
	// a peer that is down holds back at most LogKeepEntriesMax entries and
	// LogKeepBytesMax bytes and needs a snapshot after that.
	LogCheckInterval                      time.Duration
	LogTruncateEntries, LogTruncateBytes  uint64
	LogKeepEntriesMax, LogKeepBytesMax    uint64
	ReadIndexRetryTicks, ReadTimeoutTicks int

	// ConsistencyCheckInterval is how often a leader has its region compared
	// between the replicas; 0 is never. A check reads the region on every replica.
	ConsistencyCheckInterval time.Duration

	// ReceiveBytesMax bounds the messages from other stores that wait to be
	// stepped or written (hazard 16); ProposalBytesMax the writes waiting for
	// consensus on this store.
	ReceiveBytesMax, ProposalBytesMax int64
	// ApplyBytesMax bounds the entries of all regions that are committed and not
	// applied: above it neither writes nor appends are taken. EntryCacheBytesMax
	// bounds the entries that all regions together keep in memory for others.
	ApplyBytesMax, EntryCacheBytesMax int64

	// DiskCheckInterval is how often free space is looked at.
	DiskCheckInterval time.Duration
}

// Limits that are not settings.
const (
	entryBytesMax             = 8 << 20 // one write
	raftMessageBytesMax       = 1 << 20 // entries of one MsgApp
	raftInflightCountMax      = 256     // MsgApps on the way to one peer
	raftInflightBytesMax      = 32 << 20
	committedBytesPerReadyMax = 16 << 20 // entries handed to apply and not yet applied, per region
	uncommittedBytesMax       = 64 << 20 // per region
	entryCacheBytesMax        = 8 << 20  // per region; of all: Config.EntryCacheBytesMax
	applyRoundBytesMax        = 4 << 20  // one engine batch
	applyRoundRegionsMax      = 64
	logRoundBytesMax          = 16 << 20 // one raft log commit
	mailCountMax              = 4096     // requests (not messages) waiting at one region
	heldMessageCountMax       = 256      // messages for regions that a split is about to create
	snapshotReceiveCountMax   = 8        // snapshots being received
	snapshotSendCountMax      = 4
	snapshotFileBytesMax      = 64 << 20
	snapshotSendTimeout       = 10 * time.Minute
	splitWorkerCount          = 4
	splitKeyCountMax          = 64
	splitCutCountMax          = splitKeyCountMax / 3 // a cut may have the ends of its pocket beside it
	backgroundCountMax        = 4096                 // tasks waiting for a background worker
	pdRequestTimeout          = 5 * time.Second
	peerCacheCountMax         = 32 // peers outside the region whose messages we answer
	flushIntervalMin          = 10 * time.Second
	mergeRetryTicks           = 2                // between a source's questions to its target
	mergeLogGapMax            = 1024             // entries that a peer may lag when a merge begins
	mergedRecordCountMax      = 64               // merges that a target remembers
	stopFlushMax              = 30 * time.Second // of the data engine at Stop; what is not flushed is replayed
)

func orDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

func (c *Config) setDefaults() {
	orDefault(&c.TickInterval, 100*time.Millisecond)
	orDefault(&c.HeartbeatTicks, 2)
	orDefault(&c.ElectionTicks, 10)
	orDefault(&c.RaftWorkers, 4)
	orDefault(&c.ApplyWorkers, 2)
	orDefault(&c.BackgroundWorkers, 4)
	orDefault(&c.RegionSplitBytes, 96<<20)
	orDefault(&c.RegionMaxBytes, c.RegionSplitBytes/2*3)
	orDefault(&c.RegionSplitKeys, 960_000)
	orDefault(&c.RegionMaxKeys, c.RegionSplitKeys/2*3)
	orDefault(&c.LoadSplitQPS, 3000)
	orDefault(&c.LoadSplitBytes, 30<<20)
	orDefault(&c.SplitCheckInterval, 10*time.Second)
	orDefault(&c.RegionHeartbeatInterval, 10*time.Second)
	orDefault(&c.PeerDownDuration, 30*time.Second)
	orDefault(&c.MaxLeaderMissingDuration, 2*time.Hour)
	orDefault(&c.MergeTimeout, 5*time.Second)
	orDefault(&c.HibernateTicks, 5*c.ElectionTicks)
	orDefault(&c.HibernateHeartbeatInterval, 6*c.RegionHeartbeatInterval)
	orDefault(&c.LogCheckInterval, 3*time.Second)
	orDefault(&c.LogTruncateEntries, 1024)
	orDefault(&c.LogTruncateBytes, 4<<20)
	orDefault(&c.LogKeepEntriesMax, 64<<10)
	orDefault(&c.LogKeepBytesMax, 64<<20)
	orDefault(&c.ReadIndexRetryTicks, 5)
	orDefault(&c.ReadTimeoutTicks, 50)
	orDefault(&c.ReceiveBytesMax, 256<<20)
	orDefault(&c.ProposalBytesMax, 256<<20)
	orDefault(&c.ApplyBytesMax, 256<<20)
	orDefault(&c.EntryCacheBytesMax, 256<<20)
	orDefault(&c.DiskCheckInterval, time.Second)
}

func (c *Config) validate() error {
	if c.HeartbeatTicks < 1 || c.ElectionTicks < 3*c.HeartbeatTicks || c.ElectionTicks < 5 {
		return fmt.Errorf("raftstore: election after %d ticks with heartbeats every %d: want at least 5 ticks and three heartbeats",
			c.ElectionTicks, c.HeartbeatTicks)
	}
	if c.RegionMaxBytes < c.RegionSplitBytes {
		return fmt.Errorf("raftstore: regions of at most %d bytes cannot be split into pieces of %d bytes", c.RegionMaxBytes, c.RegionSplitBytes)
	}
	if c.RegionMaxKeys < c.RegionSplitKeys {
		return fmt.Errorf("raftstore: regions of at most %d keys cannot be split into pieces of %d keys", c.RegionMaxKeys, c.RegionSplitKeys)
	}
	return nil
}

// leaseDuration is how long after it sent a heartbeat that a quorum answered a
// leader may serve reads. A follower refuses votes for ElectionTicks of its
// own clock after the heartbeat. Ticks are delivered late and may bunch up, but
// never more than one extra at either end; a third tick covers clocks that run
// at different speeds (hazard 7).
func (c *Config) leaseDuration() time.Duration {
	return time.Duration(c.ElectionTicks-3) * c.TickInterval
}

func (c *Config) electionTimeout() time.Duration {
	return time.Duration(c.ElectionTicks) * c.TickInterval
}
