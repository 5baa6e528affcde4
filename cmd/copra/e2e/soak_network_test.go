//go:build linux

package e2e

import (
	"math/rand"
	"slices"
	"testing"
	"time"
)

// soakNetworkDownMax is how long a trouble of the network lasts at most.
const soakNetworkDownMax = 8 * time.Second

// soakNetwork is three placement drivers, four stores and a SQL node whose
// network is as bad as their processes.
func soakNetwork(t *testing.T) *soakCluster {
	f := startFaults(t, 3, 4, "--region-split-size", soakSplitSize)
	f.addSQL()
	c := &soakCluster{sql: []string{f.sqlAddr}, pd: f.pdList, status: func() string { f.answering(); return f.pdAddr }}
	for _, m := range f.all() {
		c.roles = append(c.roles, m.role)
	}
	one := func(from []*member, rng *rand.Rand) *member { return from[rng.Intn(len(from))] }
	// network makes trouble between one or two of the members and others.
	network := func(what trouble, oneWay bool) func(rng *rand.Rand) {
		return func(rng *rand.Rand) {
			everybody := append(f.all(), &member{name: testName})
			rng.Shuffle(len(everybody), func(i, j int) { everybody[i], everybody[j] = everybody[j], everybody[i] })
			var some, others []string
			n := 1 + rng.Intn(2)
			for i, m := range everybody {
				switch {
				case i < n:
					some = append(some, m.name)
				case rng.Intn(3) != 0:
					others = append(others, m.name)
				}
			}
			if t.Logf("between %v and %v, one way: %v", some, others, oneWay); oneWay {
				f.net.set(what, some, others)
			} else {
				f.net.both(what, some, others)
			}
			pause(rng, soakNetworkDownMax)
			f.net.heal()
		}
	}
	c.faults = []fault{
		{"partition", 4, network(cut, false)},
		{"partition of one direction", 4, network(cut, true)},
		{"delay", 2, network(trouble{delay: 100 * time.Millisecond}, false)},
		{"slow network", 1, network(trouble{bytesPerSecond: 50_000}, false)},
		{"kill -9 a store", 2, func(rng *rand.Rand) { killed(one(f.stores, rng).role, rng) }},
		{"kill -9 a PD", 1, func(rng *rand.Rand) { killed(one(f.pds, rng).role, rng) }},
		{"kill -9 a store in a partition", 2, func(rng *rand.Rand) {
			victim := one(f.stores, rng)
			f.net.both(cut, []string{victim.name}, slices.Concat(f.others(victim), f.pdNames()))
			victim.kill()
			pause(rng, 4*time.Second)
			victim.launch()
			f.net.heal()
			victim.p.waitFor(victim.ready, time.Minute)
		}},
		{"SIGSTOP a store", 2, func(rng *rand.Rand) { frozen(one(f.stores, rng).role, rng) }},
		{"SIGSTOP a PD", 1, func(rng *rand.Rand) { frozen(one(f.pds, rng).role, rng) }},
		{"SIGTERM a store", 1, func(rng *rand.Rand) { stopped(one(f.stores, rng).role, rng) }},
	}
	return c
}

// TestSoakNetwork is TestSoakProcesses with a network that fails, too.
func TestSoakNetwork(t *testing.T) { soak(t, soakNetwork(t), soakDuration(3*time.Second)) }
