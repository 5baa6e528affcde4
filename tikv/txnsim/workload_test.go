package txnsim_test

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/copradb/copra/internal/isolation"
	"github.com/copradb/copra/txn/mvcccheck"
)

const (
	balance   = 100 // of every account at first
	forkEvery = 2 * time.Second
)

// The keys of the workloads are beside each other, and spread over all regions.
func list(name string) string          { return name + "/list" }
func account(name string) string       { return name + "/account" }
func pair(name string, i int) string   { return fmt.Sprintf("%s/pair%d", name, i) }
func counter(name string) string       { return name + "/counter" }
func fork(name string, g int64) string { return fmt.Sprintf("%s/fork%d", name, g) }

// step is one transaction, or a read.
func (c *client) step() {
	if c.rng.IntN(60) == 0 && !c.r.s.Without("death") {
		c.rpc.dieAfter(c.rng.IntN(8))
		defer c.rise()
	}
	switch kind := c.rng.IntN(100); {
	case kind < 34:
		var keys []string
		for range 1 + c.rng.IntN(4) {
			keys = append(keys, list(c.name()))
		}
		c.appendTo(c.mode(), keys)
	case kind < 48:
		c.readLists(c.reading(), c.r.names)
	case kind < 62:
		c.transfer(c.mode())
	case kind < 70:
		c.readBank(c.reading())
	case kind < 79:
		c.flip(c.mode())
	case kind < 84:
		c.readPairs(c.reading())
	case kind < 88:
		c.increment(c.mode())
	case kind < 93:
		c.readCounters(c.reading())
	case kind < 97:
		c.writeFork(c.mode())
	default:
		c.readFork(c.reading())
	}
}

// pause lets others in between the operations of a transaction, at times for so
// long that they take it for dead.
func (c *client) pause() {
	switch n := c.rng.IntN(100); {
	case n < 1:
		time.Sleep(time.Duration(c.rng.IntN(8000)) * time.Millisecond)
	case n < 15:
		time.Sleep(time.Duration(c.rng.IntN(100)) * time.Millisecond)
	}
}

func isolationOutcome(o mvcccheck.Outcome) isolation.Outcome {
	switch o {
	case mvcccheck.Committed:
		return isolation.Committed
	case mvcccheck.Failed:
		return isolation.Aborted
	}
	return isolation.Unknown
}

func (c *client) addList(t isolation.Txn) {
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	c.r.lists = append(c.r.lists, t)
}

// appendTo reads the lists and appends to most of them.
func (c *client) appendTo(m mode, keys []string) (ok bool) {
	x, err := c.begin(m)
	if err != nil {
		return false
	}
	t := isolation.Txn{Name: fmt.Sprint(x.txn.StartTS()), Process: c.id, Begin: x.begin}
	outcome := mvcccheck.Failed
	for i, key := range keys {
		var value []byte
		if value, err = x.get(key); err != nil {
			break
		}
		before, err := parseList(value)
		if err != nil {
			c.r.s.Fail("client %d: transaction %d reads %s: %v", c.id, x.txn.StartTS(), key, err)
			break
		}
		t.Ops = append(t.Ops, isolation.Read(key, before...))
		if i > 0 && c.rng.IntN(3) == 0 {
			continue
		}
		n := c.r.values.Add(1)
		t.Ops = append(t.Ops, isolation.Append(key, n))
		x.set(key, appendValue(value, n))
		c.pause()
	}
	if err != nil {
		x.rollback()
	} else {
		outcome = x.commit("append")
	}
	t.End, t.Outcome = x.end, isolationOutcome(outcome)
	c.addList(t)
	return outcome == mvcccheck.Committed
}

// appendValue puts a number behind a list; long ones are in the default family.
func appendValue(list []byte, n int64) []byte {
	out := append([]byte(nil), list...)
	return append(strconv.AppendInt(out, n, 10), ',')
}

func parseList(value []byte) (out []int64, err error) {
	for text := range strings.SplitSeq(strings.TrimSuffix(string(value), ","), ",") {
		if text == "" {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%q is no list: %w", value, err)
		}
		out = append(out, n)
	}
	return out, nil
}

func (c *client) readLists(how reading, names []string) bool {
	var keys []string
	for _, name := range names {
		keys = append(keys, list(name))
	}
	values, begin, end, ok := c.readAll(how, keys)
	if !ok {
		return false
	}
	t := isolation.Txn{Name: fmt.Sprintf("reader %d", begin), Process: c.id, Begin: begin, End: end, Past: how.stale > 0, Outcome: isolation.Committed}
	for _, key := range keys {
		l, err := parseList(values[key])
		if err != nil {
			c.r.s.Fail("client %d reads %s: %v", c.id, key, err)
			return false
		}
		t.Ops = append(t.Ops, isolation.Read(key, l...))
	}
	c.addList(t)
	return true
}

func number(value []byte) int64 {
	n, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil {
		return 0 // not written yet; the checks of sums notice anything else
	}
	return n
}

// change reads keys, and writes what f makes of their values.
func (c *client) change(kind string, m mode, keys []string, f func(x *tx, values []int64)) (ok bool) {
	x, err := c.begin(m)
	if err != nil {
		return false
	}
	var values []int64
	for _, key := range keys {
		value, err := x.get(key)
		if err != nil {
			x.rollback()
			return false
		}
		values = append(values, number(value))
	}
	c.pause()
	f(x, values)
	return x.commit(kind) == mvcccheck.Committed
}

func (x *tx) setNumber(key string, n int64) { x.set(key, strconv.AppendInt(nil, n, 10)) }

func (c *client) transfer(m mode) {
	from, to := account(c.name()), account(c.name())
	amount := 1 + c.rng.Int64N(20)
	if from == to {
		return
	}
	c.change("transfer", m, []string{from, to}, func(x *tx, values []int64) {
		x.setNumber(from, values[0]-amount)
		x.setNumber(to, values[1]+amount)
	})
}

func (c *client) readBank(how reading) bool {
	var keys []string
	for _, name := range c.r.names {
		keys = append(keys, account(name))
	}
	if how.stale > 0 { // it must not be before the setup
		how.stale = min(how.stale, time.Since(c.r.ready))
	}
	values, _, _, ok := c.readAll(how, keys)
	if !ok {
		return false
	}
	balances := map[string]int64{}
	for key, value := range values {
		balances[key] = number(value)
	}
	if err := isolation.Bank(balances, int64(balance*len(keys))); err != nil {
		c.r.s.Fail("client %d, %+v: %v", c.id, how, err)
	}
	return true
}

// flip turns one of a pair off, by deleting it, if both are on, and on otherwise. Both rows are
// read and one is written: write skew, if they were not locked.
func (c *client) flip(m mode) {
	m.pipelined = false // there is no lock without a write
	name, which := c.name(), c.rng.IntN(2)
	keys := []string{pair(name, 0), pair(name, 1)}
	if m.pessimistic && c.rng.IntN(2) == 0 {
		c.flipOwn(m, keys[which], keys[1-which])
		return
	}
	c.change("flip", m, keys, func(x *tx, values []int64) {
		if !m.pessimistic {
			if err := x.keep(keys...); err != nil {
				return
			}
		}
		switch {
		case values[0] == 0:
			x.setNumber(keys[0], 1)
		case values[1] == 0:
			x.setNumber(keys[1], 1)
		default:
			x.delete(keys[which])
		}
	})
}

// flipOwn turns one of a pair off, or on. It locks that one, and shares the lock
// of the other one, which must be on, or stay so.
func (c *client) flipOwn(m mode, own, other string) {
	c.change("flip own", m, []string{own}, func(x *tx, values []int64) {
		value, err := x.share(other)
		switch {
		case err != nil:
		case values[0] == 0:
			x.setNumber(own, 1)
		case number(value) != 0:
			x.setNumber(own, 0)
		}
	})
}

func (c *client) readPairs(how reading) bool {
	var keys []string
	for _, name := range c.r.names {
		keys = append(keys, pair(name, 0), pair(name, 1))
	}
	if how.stale > 0 { // it must not be before the setup
		how.stale = min(how.stale, time.Since(c.r.ready))
	}
	values, _, _, ok := c.readAll(how, keys)
	for i := 0; ok && i < len(keys); i += 2 {
		if number(values[keys[i]])+number(values[keys[i+1]]) == 0 {
			c.r.s.Fail("client %d, %+v: write skew: %s and %s are both off, though who turned one off had locked both", c.id, how, keys[i], keys[i+1])
		}
	}
	return ok
}

func (c *client) increment(m mode) {
	key := counter(c.name())
	c.change("increment", m, []string{key}, func(x *tx, values []int64) { x.setNumber(key, values[0]+1) })
}

func (c *client) readCounters(how reading) {
	var keys []string
	for _, name := range c.r.names {
		keys = append(keys, counter(name))
	}
	values, begin, end, ok := c.readAll(how, keys)
	if !ok || how.stale > 0 {
		return
	}
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	for key, value := range values {
		c.r.counters = append(c.r.counters, isolation.Observation{Process: c.id, Begin: begin, End: end, Key: key, Value: number(value)})
	}
}

func (c *client) forkGroup() int64 { return time.Now().UnixNano() / int64(forkEvery) }

// writeFork writes a key of its own in the present group, once.
func (c *client) writeFork(m mode) {
	group := c.forkGroup()
	if c.group == group {
		return
	}
	c.group = group
	x, err := c.begin(m)
	if err != nil {
		return
	}
	x.set(fork(c.r.names[c.id%len(c.r.names)], group), fmt.Appendf(nil, "%d", c.id))
	x.commit("fork")
}

func (c *client) readFork(how reading) {
	group := c.forkGroup() - c.rng.Int64N(2)
	var keys []string
	for _, name := range c.r.names {
		keys = append(keys, fork(name, group))
	}
	values, begin, _, ok := c.readAll(how, keys)
	if !ok {
		return
	}
	seen := map[string]bool{}
	for key, value := range values {
		seen[key] = len(value) > 0
	}
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	c.r.forks[group] = append(c.r.forks[group], isolation.Sighting{Name: fmt.Sprintf("client %d at %d", c.id, begin), Seen: seen})
}
