package pd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/copradb/copra/pd/gcworker"
	"github.com/copradb/copra/pd/placement"
	"github.com/copradb/copra/pd/schedule"
	"github.com/copradb/copra/pd/tso"
)

// Defaults of Config.
const (
	DefaultName               = "pd1"
	DefaultClientAddr         = "127.0.0.1:2379"
	DefaultPeerAddr           = "127.0.0.1:2380"
	DefaultReplicas           = 3
	DefaultLeaderLeaseSeconds = 2
	defaultRegionSaveInterval = time.Second
)

// Config is how a member of PD runs. The zero value of every field but DataDir
// is a good default.
type Config struct {
	// Name is the member's name, unique in the cluster.
	Name string
	// DataDir holds etcd's data. One process at a time.
	DataDir string
	// ClientAddr serves etcd, PD and HTTP; PeerAddr is for the other members.
	// host:port; port 0 picks a free one.
	ClientAddr, PeerAddr string
	// AdvertiseClientAddr and AdvertisePeerAddr are what others are told to
	// dial; the listening addresses by default.
	AdvertiseClientAddr, AdvertisePeerAddr string
	// InitialCluster lists all first members, etcd style:
	// "pd1=http://h1:2380,pd2=http://h2:2380". Empty: this member alone.
	InitialCluster string
	// Join lists client URLs of a running cluster to become a member of,
	// separated by commas. Ignored once the data directory has been set up.
	Join string
	// ForceNewCluster makes this member the only one, with the data it has, when
	// the others are lost for good. What only they had is lost; ids and
	// timestamps that they may have given are skipped.
	ForceNewCluster bool

	// Replicas is how many peers a region should have.
	Replicas int
	// LeaderLeaseSeconds is after how long without a renewal another member may
	// lead.
	LeaderLeaseSeconds int64
	// RegionSaveInterval is how often changed regions are written to etcd.
	RegionSaveInterval time.Duration
	// Schedule is how the cluster is balanced. Replicas above wins over its
	// Replicas.
	Schedule schedule.Options

	// GCResolver connects the leader to the cluster to resolve locks before garbage
	// is collected. Without it the safe points move only when others move them.
	GCResolver func(ctx context.Context, pdEndpoints []string) (gcworker.Resolver, error)

	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// Clock is the time source of timestamps and leases; the machine's by
	// default.
	Clock tso.Clock
}

func (c Config) withDefaults() (Config, error) {
	if c.DataDir == "" {
		return c, errors.New("pd: no data directory is set (--data-dir)")
	}
	set := func(s *string, def string) {
		if *s == "" {
			*s = def
		}
	}
	set(&c.Name, DefaultName)
	set(&c.ClientAddr, DefaultClientAddr)
	set(&c.PeerAddr, DefaultPeerAddr)
	if c.Replicas == 0 {
		c.Replicas = DefaultReplicas
	}
	if c.LeaderLeaseSeconds == 0 {
		c.LeaderLeaseSeconds = DefaultLeaderLeaseSeconds
	}
	if c.RegionSaveInterval == 0 {
		c.RegionSaveInterval = defaultRegionSaveInterval
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Clock == nil {
		c.Clock = tso.NewSystemClock()
	}
	c.Schedule.Replicas = c.Replicas
	c.Schedule = c.Schedule.WithDefaults()
	return c, c.check()
}

func (c Config) check() error {
	for _, a := range []string{c.ClientAddr, c.PeerAddr} {
		if _, _, err := net.SplitHostPort(a); err != nil {
			return fmt.Errorf("pd: address %q is not host:port: %w", a, err)
		}
	}
	if c.ForceNewCluster && c.Join != "" {
		return errors.New("pd: --force-new-cluster and --join exclude each other")
	}
	if c.InitialCluster != "" && c.Join != "" {
		return errors.New("pd: --initial-cluster and --join exclude each other")
	}
	if c.Replicas < 1 || c.Replicas > schedule.ReplicasMax {
		return fmt.Errorf("pd: %d replicas are outside of 1 to %d", c.Replicas, schedule.ReplicasMax)
	}
	if err := placement.CheckLocation(c.Schedule.LocationLabels, c.Schedule.IsolationLevel); err != nil {
		return err
	}
	if c.LeaderLeaseSeconds < 1 {
		return fmt.Errorf("pd: a leader lease of %d s is too short", c.LeaderLeaseSeconds)
	}
	return nil
}

// alone reports whether the configuration names no other member.
func (c Config) alone() bool {
	return c.Join == "" && !strings.Contains(c.InitialCluster, ",")
}
