package isolation

import (
	"fmt"
	"slices"
	"strings"
)

// Model is what a database promises.
type Model int

// The models. Each allows what the one before it allows, and less.
const (
	// SnapshotIsolation: every transaction reads one snapshot, and of two that
	// run at the same time and write the same key one fails.
	SnapshotIsolation Model = iota
	// StrongSnapshotIsolation: and the snapshot has everything that had been
	// committed, as clients know, before the transaction began.
	StrongSnapshotIsolation
	// Serializable: and there is an order of all transactions in which each of
	// them could have run alone.
	Serializable
	// StrictSerializable: that of real time.
	StrictSerializable
)

func (m Model) String() string {
	return [...]string{"snapshot isolation", "strong snapshot isolation", "serializability", "strict serializability"}[m]
}

// Kind names an anomaly, as in the sources of the package.
type Kind string

// The anomalies.
const (
	G0             Kind = "G0"
	G1a            Kind = "G1a"
	G1b            Kind = "G1b"
	G1c            Kind = "G1c"
	GSingle        Kind = "G-single"
	GNonadjacent   Kind = "G-nonadjacent"
	G2Item         Kind = "G2-item"
	LostUpdate     Kind = "lost update"
	DirtyUpdate    Kind = "dirty update"
	Duplicate      Kind = "duplicate elements"
	Incompatible   Kind = "incompatible order"
	Internal       Kind = "internal inconsistency"
	Garbage        Kind = "garbage read"
	realtimeSuffix      = "-realtime"
)

// Realtime is the kind of a cycle that needs rt edges.
func (k Kind) Realtime() Kind { return k + realtimeSuffix }

// allows reports whether a database of the model may show the anomaly.
func (m Model) allows(k Kind) bool {
	base, realtime := strings.CutSuffix(string(k), realtimeSuffix)
	if realtime && (m == SnapshotIsolation || m == Serializable) {
		return true
	}
	return Kind(base) == G2Item && m <= StrongSnapshotIsolation
}

// Anomaly is one thing that should not be.
type Anomaly struct {
	Kind Kind
	// Explanation has the transactions, and for each step of a cycle the
	// operations that make it one; several lines.
	Explanation string
	// Txns are the places of the transactions in the history.
	Txns []int
}

func (a Anomaly) String() string { return string(a.Kind) + ": " + a.Explanation }

// Report is the result of Check.
type Report struct {
	// Anomalies has at most one cycle of each kind for each group of
	// transactions that depend on each other.
	Anomalies []Anomaly
	// Committed is how many transactions took part; Edges how many dependencies
	// they have, of each kind.
	Committed          int
	WW, WR, RW, Others int
}

// Kinds lists the kinds of anomalies found, sorted.
func (r *Report) Kinds() (out []Kind) {
	for _, a := range r.Anomalies {
		if !slices.Contains(out, a.Kind) {
			out = append(out, a.Kind)
		}
	}
	slices.Sort(out)
	return out
}

// Err explains the first anomalies that the model does not allow.
func (r *Report) Err(m Model) error {
	const shown = 3
	var out []string
	for _, a := range r.Anomalies {
		if !m.allows(a.Kind) {
			out = append(out, a.String())
		}
	}
	if len(out) == 0 {
		return nil
	}
	more := ""
	if n := len(out) - shown; n > 0 {
		more = fmt.Sprintf("\n\nand %d more", n)
		out = out[:shown]
	}
	return fmt.Errorf("the history violates %v:\n%s%s", m, strings.Join(out, "\n\n"), more)
}

// checker is one run of Check.
type checker struct {
	txns   []Txn
	report Report
	// writer has, for every key and value, who appended it.
	writer map[element]int
	orders map[string]*order
	graph  *graph
}

type element struct {
	key   string
	value int64
}

// Check looks for all anomalies in a history. The order of the transactions has
// no meaning. It panics if a value is appended to a key twice: then the history
// says nothing.
func Check(history []Txn) *Report {
	c := &checker{txns: slices.Clone(history), writer: map[element]int{}, orders: map[string]*order{}}
	for i := range c.txns {
		if t := &c.txns[i]; t.Name == "" {
			t.Name = fmt.Sprint("T", i)
		}
	}
	c.indexWriters()
	c.inferOutcomes()
	c.checkReads()
	c.inferOrders()
	c.checkLostUpdates()
	c.buildGraph()
	c.findCycles()
	return &c.report
}

func (c *checker) add(k Kind, txns []int, format string, args ...any) {
	var out strings.Builder
	fmt.Fprintf(&out, format, args...)
	shown := map[int]bool{}
	for _, i := range txns {
		if !shown[i] {
			shown[i] = true
			fmt.Fprintf(&out, "\n  %v", &c.txns[i])
		}
	}
	c.report.Anomalies = append(c.report.Anomalies, Anomaly{Kind: k, Explanation: out.String(), Txns: txns})
}

func (c *checker) indexWriters() {
	for i := range c.txns {
		for _, o := range c.txns[i].Ops {
			if !o.Append {
				continue
			}
			e := element{o.Key, o.Value}
			if other, twice := c.writer[e]; twice {
				panic(fmt.Sprintf("isolation: %d is appended to %s by %s and by %s; values must be unique", o.Value, o.Key, c.txns[other].Name, c.txns[i].Name))
			}
			c.writer[e] = i
		}
	}
}

// inferOutcomes takes a transaction of unknown outcome for committed if a
// committed one has read its value, and for one that never was if nobody has.
func (c *checker) inferOutcomes() {
	for i := range c.txns {
		if c.txns[i].Outcome != Committed {
			continue
		}
		for _, o := range c.txns[i].Ops {
			for _, v := range o.List {
				if w, ok := c.writer[element{o.Key, v}]; ok && c.txns[w].Outcome == Unknown {
					t := &c.txns[w]
					t.Outcome, t.End = Committed, 0 // when is not known
					// What it read was of use to nobody and may be an answer that
					// was cut off: its appends are what is known of it.
					t.Ops = slices.DeleteFunc(slices.Clone(t.Ops), func(o Op) bool { return !o.Append })
				}
			}
		}
	}
	for _, t := range c.txns {
		if t.Outcome == Committed {
			c.report.Committed++
		}
	}
}

// checkReads checks what can be said of every committed read alone.
func (c *checker) checkReads() {
	for i := range c.txns {
		if t := &c.txns[i]; t.Outcome == Committed {
			for _, key := range t.keys() {
				c.checkInternal(i, key)
			}
			for _, o := range t.Ops {
				if !o.Append {
					c.checkList(i, o)
				}
			}
		}
	}
}

// checkInternal checks that a transaction sees one list, and its own appends
// at its end.
func (c *checker) checkInternal(i int, key string) {
	var list, own []int64
	known := false
	for _, o := range c.txns[i].Ops {
		switch {
		case o.Key != key:
		case o.Append:
			list, own = append(slices.Clip(list), o.Value), append(own, o.Value)
		case known && !slices.Equal(o.List, list):
			c.add(Internal, []int{i}, "%s reads %s as %s, and by what it did before should find %s", c.txns[i].Name, key, describeList(o.List), describeList(list))
			return
		case !known && (len(o.List) < len(own) || !slices.Equal(o.List[len(o.List)-len(own):], own)):
			c.add(Internal, []int{i}, "%s reads %s as %s, which lacks at its end what it has appended itself", c.txns[i].Name, key, describeList(o.List))
			return
		default:
			known, list = true, o.List
		}
	}
}

// checkList checks the values of one list that was read.
func (c *checker) checkList(i int, o Op) {
	seen := map[int64]bool{}
	for n, v := range o.List {
		if seen[v] {
			c.add(Duplicate, []int{i}, "%s reads %d twice in %s of %s", c.txns[i].Name, v, describeList(o.List), o.Key)
			return
		}
		seen[v] = true
		w, ok := c.writer[element{o.Key, v}]
		switch {
		case !ok:
			c.add(Garbage, []int{i}, "%s reads %d in %s, and nobody has appended it", c.txns[i].Name, v, o.Key)
			return
		case c.txns[w].Outcome == Aborted:
			c.add(G1a, []int{i, w}, "%s reads %d in %s, which %s appended and that was aborted", c.txns[i].Name, v, o.Key, c.txns[w].Name)
			if n+1 < len(o.List) {
				next, ok := c.writer[element{o.Key, o.List[n+1]}]
				if ok && next != w && c.txns[next].Outcome == Committed {
					c.add(DirtyUpdate, []int{w, next}, "%s appended %d to %s behind %d of %s, which was aborted",
						c.txns[next].Name, o.List[n+1], o.Key, v, c.txns[w].Name)
				}
			}
			return
		}
	}
	if len(o.List) == 0 {
		return
	}
	last := o.List[len(o.List)-1]
	w := c.writer[element{o.Key, last}]
	if w == i {
		return
	}
	for _, other := range c.txns[w].Ops {
		if other.Append && other.Key == o.Key && other.Value != last && !seen[other.Value] {
			c.add(G1b, []int{i, w}, "%s reads %d at the end of %s, and not the %d that %s has appended behind it", c.txns[i].Name, last, o.Key, other.Value, c.txns[w].Name)
			return
		}
	}
}

// checkLostUpdates looks for transactions that read the same list and both
// changed it.
func (c *checker) checkLostUpdates() {
	type version struct {
		key    string
		length int
		last   int64
	}
	first := map[version]int{}
	for i := range c.txns {
		t := &c.txns[i]
		if t.Outcome != Committed {
			continue
		}
		for _, key := range t.keys() {
			list, ok := t.external(key)
			if !ok || !t.appends(key) {
				continue
			}
			v := version{key: key, length: len(list)}
			if len(list) > 0 {
				v.last = list[len(list)-1]
			}
			other, twice := first[v]
			if !twice {
				first[v] = i
				continue
			}
			c.add(LostUpdate, []int{other, i}, "%s and %s both read %s as %s and both appended to it", c.txns[other].Name, t.Name, key, describeList(list))
		}
	}
}
