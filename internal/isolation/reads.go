package isolation

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// Bank checks a transaction that read all accounts: transfers don't change the
// total, whatever snapshot is read.
func Bank(balances map[string]int64, total int64) error {
	var sum int64
	for _, b := range balances {
		sum += b
	}
	if sum == total {
		return nil
	}
	var text []string
	for _, key := range slices.Sorted(maps.Keys(balances)) {
		text = append(text, fmt.Sprintf("%s %d", key, balances[key]))
	}
	return fmt.Errorf("the balances add up to %d and not to %d: %v", sum, total, text)
}

// Observation is what one read found of a value that only grows.
type Observation struct {
	Process    int
	Begin, End int64 // when the client began and had the answer
	Key        string
	Value      int64
}

func (o Observation) String() string {
	return fmt.Sprintf("client %d, %d..%d: %s = %d", o.Process, o.Begin, o.End, o.Key, o.Value)
}

// Monotonic checks reads of values that only grow: no session sees one fall.
// With realtime nobody may see less than what anybody had seen before the read
// began.
func Monotonic(reads []Observation, realtime bool) error {
	type session struct {
		key     string
		process int
	}
	byEnd := slices.SortedFunc(slices.Values(reads), func(a, b Observation) int { return cmp.Compare(a.End, b.End) })
	last := map[session]Observation{}
	for _, o := range byEnd {
		s := session{o.Key, o.Process}
		if before, ok := last[s]; ok && before.Value > o.Value {
			return fmt.Errorf("a session saw a value fall:\n  %v\n  %v", before, o)
		}
		last[s] = o
	}
	if !realtime {
		return nil
	}
	// In the order of beginnings, with the largest of what had ended by then.
	byBegin := slices.SortedFunc(slices.Values(reads), func(a, b Observation) int { return cmp.Compare(a.Begin, b.Begin) })
	most := map[string]Observation{}
	n := 0
	for _, o := range byBegin {
		for ; n < len(byEnd) && byEnd[n].End < o.Begin; n++ {
			if m, ok := most[byEnd[n].Key]; !ok || m.Value < byEnd[n].Value {
				most[byEnd[n].Key] = byEnd[n]
			}
		}
		if m, ok := most[o.Key]; ok && m.Value > o.Value {
			return fmt.Errorf("a read saw less than one that had ended before it began:\n  %v\n  %v", m, o)
		}
	}
	return nil
}

// Sighting is what one transaction saw of keys that are written once each.
type Sighting struct {
	Name string
	Seen map[string]bool // the keys that were read; true: it was there
}

// LongFork looks for two transactions that saw independent writes in different
// orders: one has a key and lacks another, which the other transaction has
// while it lacks the first.
func LongFork(sightings []Sighting) error {
	type pair struct{ has, lacks string }
	first := map[pair]string{}
	for _, s := range sightings {
		keys := slices.Sorted(maps.Keys(s.Seen))
		for _, a := range keys {
			for _, b := range keys {
				if !s.Seen[a] || s.Seen[b] {
					continue
				}
				if other, ok := first[pair{b, a}]; ok {
					return fmt.Errorf("a long fork: %s saw %s and not %s, %s saw %s and not %s", s.Name, a, b, other, b, a)
				}
				if _, ok := first[pair{a, b}]; !ok {
					first[pair{a, b}] = s.Name
				}
			}
		}
	}
	return nil
}
