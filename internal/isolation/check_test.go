package isolation_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/copradb/copra/internal/isolation"
	"github.com/stretchr/testify/require"
)

type (
	txn = isolation.Txn
	ops = []isolation.Op
)

var (
	read = isolation.Read
	app  = isolation.Append
)

func done(o ...isolation.Op) txn    { return txn{Ops: o, Outcome: isolation.Committed} }
func aborted(o ...isolation.Op) txn { return txn{Ops: o, Outcome: isolation.Aborted} }
func unknown(o ...isolation.Op) txn { return txn{Ops: o, Outcome: isolation.Unknown} }
func at(begin, end int64, t txn) txn {
	t.Begin, t.End = begin, end
	return t
}

// Every anomaly by hand: exactly the named kinds are found, and the model says
// whether they may be.
func TestAnomalies(t *testing.T) {
	si, strong, serial, strict := isolation.SnapshotIsolation, isolation.StrongSnapshotIsolation, isolation.Serializable, isolation.StrictSerializable
	for _, c := range []struct {
		name     string
		history  []txn
		kinds    []isolation.Kind
		violates []isolation.Model
		explains string
	}{
		{"nothing", nil, nil, nil, ""},
		{"one after the other", []txn{done(read("x"), app("x", 1)), done(read("x", 1), app("x", 2)), done(read("x", 1, 2))}, nil, nil, ""},
		{"own writes", []txn{done(app("x", 1), read("x", 1), app("x", 2), read("x", 1, 2)), done(read("x", 1, 2))}, nil, nil, ""},
		{"aborted and not seen", []txn{done(app("x", 1)), aborted(app("x", 2)), done(read("x", 1))}, nil, nil, ""},
		{"unknown and not seen", []txn{done(app("x", 1)), unknown(app("x", 2)), done(read("x", 1))}, nil, nil, ""},
		{"unknown and seen", []txn{done(app("x", 1)), unknown(read("x", 7), app("x", 2)), done(read("x", 1, 2))}, nil, nil, ""},
		{"unknown, read early and seen late, in real time", []txn{at(1, 9, unknown(app("x", 1))), at(20, 21, done(read("x"))), at(30, 31, done(read("x", 1)))}, nil, nil, ""},
		{
			"G0", []txn{done(app("x", 1), app("y", 1)), done(app("x", 2), app("y", 2)), done(read("x", 1, 2), read("y", 2, 1))},
			[]isolation.Kind{isolation.G0}, []isolation.Model{si, strong, serial, strict}, "T0 –ww→ T1: T1 appended to x behind the 1 of T0",
		},
		{
			"G1a", []txn{aborted(app("x", 1)), done(read("x", 1))},
			[]isolation.Kind{isolation.G1a}, []isolation.Model{si, strong, serial, strict}, "T1 reads 1 in x, which T0 appended and that was aborted",
		},
		{
			"dirty update", []txn{aborted(app("x", 1)), done(app("x", 2)), done(read("x", 1, 2))},
			[]isolation.Kind{isolation.G1a, isolation.DirtyUpdate}, []isolation.Model{si, serial}, "T1 appended 2 to x behind 1 of T0",
		},
		{
			"G1b", []txn{done(app("x", 1), app("x", 2)), done(read("x", 1))},
			[]isolation.Kind{isolation.G1b, isolation.GSingle}, []isolation.Model{si, serial}, "not the 2 that T0 has appended behind it",
		},
		{
			"G1c", []txn{done(app("x", 1), read("y", 1)), done(app("y", 1), read("x", 1))},
			[]isolation.Kind{isolation.G1c}, []isolation.Model{si, serial}, "T0 –wr→ T1",
		},
		{
			"G-single: half of a transaction is seen", []txn{done(app("x", 1), app("y", 1)), done(read("x", 1), read("y")), done(read("y", 1))},
			[]isolation.Kind{isolation.GSingle}, []isolation.Model{si, serial}, "T1 read y with 0 values, without that of T0",
		},
		{
			"lost update", []txn{done(read("x"), app("x", 1)), done(read("x"), app("x", 2)), done(read("x", 1, 2))},
			[]isolation.Kind{isolation.GSingle, isolation.LostUpdate}, []isolation.Model{si, serial}, "T0 and T1 both read x as []",
		},
		{
			"an update that is gone", []txn{at(1, 2, done(read("x"), app("x", 1))), at(3, 4, done(read("x")))},
			[]isolation.Kind{isolation.GSingle.Realtime()}, []isolation.Model{strong, strict}, "T0 –rt→ T1: T0 had ended (2) before T1 began (3)",
		},
		{
			"a read of the past on purpose", []txn{at(1, 2, done(read("x"), app("x", 1))), {Begin: 3, End: 4, Past: true, Ops: ops{read("x")}, Outcome: isolation.Committed}},
			nil, nil, "",
		},
		{
			"long fork", []txn{done(app("x", 1)), done(app("y", 1)), done(read("x", 1), read("y")), done(read("x"), read("y", 1))},
			[]isolation.Kind{isolation.GNonadjacent}, []isolation.Model{si, serial}, "a cycle of 4 transactions",
		},
		{
			"write skew", []txn{done(read("x"), read("y"), app("x", 1)), done(read("x"), read("y"), app("y", 1)), done(read("x", 1), read("y", 1))},
			[]isolation.Kind{isolation.G2Item}, []isolation.Model{serial, strict}, "T0 –rw→ T1",
		},
		{
			"a read-only transaction's anomaly", []txn{
				done(read("x"), read("y"), app("x", 1)), done(read("y"), app("y", 1)), done(read("x"), read("y", 1)), done(read("x", 1), read("y", 1)),
			},
			[]isolation.Kind{isolation.G2Item}, []isolation.Model{serial}, "–rw→",
		},
		{
			"in the order of nobody's clock", []txn{at(10, 11, done(app("x", 1))), at(1, 2, done(app("x", 2))), done(read("x", 1, 2))},
			[]isolation.Kind{isolation.G0.Realtime()}, []isolation.Model{strong, strict}, "T1 –rt→ T0",
		},
		{
			"internal: own append", []txn{done(app("x", 1), read("x"))},
			[]isolation.Kind{isolation.Internal}, []isolation.Model{si, serial}, "lacks at its end",
		},
		{
			"internal: two snapshots", []txn{done(app("x", 1)), done(read("x"), read("x", 1))},
			[]isolation.Kind{isolation.GSingle, isolation.Internal}, []isolation.Model{si, serial}, "should find []",
		},
		{
			"duplicate", []txn{done(app("x", 1)), done(read("x", 1, 1))},
			[]isolation.Kind{isolation.Duplicate}, []isolation.Model{si, serial}, "reads 1 twice",
		},
		{
			"incompatible", []txn{done(app("x", 1)), done(app("x", 2)), done(read("x", 1)), done(read("x", 2, 1))},
			[]isolation.Kind{isolation.GSingle, isolation.Incompatible}, []isolation.Model{si, serial}, "neither is the beginning of the other",
		},
		{
			"garbage", []txn{done(read("x", 5))},
			[]isolation.Kind{isolation.Garbage}, []isolation.Model{si, serial}, "nobody has appended it",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			report := isolation.Check(c.history)
			kinds := slices.Clone(c.kinds)
			slices.Sort(kinds)
			require.Equal(t, kinds, report.Kinds(), "%v", report.Anomalies)
			for m := si; m <= strict; m++ {
				err := report.Err(m)
				if slices.Contains(c.violates, m) {
					require.Error(t, err, "%v", m)
				} else if len(c.violates) == 0 || m < slices.Min(c.violates) {
					require.NoError(t, err, "%v", m)
				}
			}
			var text strings.Builder
			for _, a := range report.Anomalies {
				text.WriteString(a.String() + "\n")
			}
			require.Contains(t, text.String(), c.explains)
		})
	}
}

// What a failure looks like.
func TestExplanation(t *testing.T) {
	err := isolation.Check([]txn{
		{Name: "400", Process: 3, Ops: ops{app("x", 1), app("y", 1)}, Outcome: isolation.Committed},
		{Name: "417", Process: 5, Ops: ops{read("x", 1), read("y")}, Outcome: isolation.Committed},
	}).Err(isolation.SnapshotIsolation)
	require.EqualError(t, err, `the history violates snapshot isolation:
G-single: a cycle of 2 transactions
  417 –rw→ 400: 417 read y with 0 values, without that of 400
  400 –wr→ 417: 417 read the 1 that 400 appended to x
  417 (client 5, committed): read(x) = [1], read(y) = []
  400 (client 3, committed): append(x, 1), append(y, 1)`)
}

func TestValuesMustBeUnique(t *testing.T) {
	require.PanicsWithValue(t, "isolation: 1 is appended to x by T0 and by T1; values must be unique", func() {
		isolation.Check([]txn{done(app("x", 1)), done(app("x", 1))})
	})
}

func TestBank(t *testing.T) {
	require.NoError(t, isolation.Bank(map[string]int64{"a": 40, "b": 60}, 100))
	require.EqualError(t, isolation.Bank(map[string]int64{"b": 60, "a": 39}, 100), "the balances add up to 99 and not to 100: [a 39 b 60]")
}

func TestMonotonic(t *testing.T) {
	type o = isolation.Observation
	falls := []o{{1, 5, 6, "x", 1}, {1, 1, 2, "x", 2}}
	require.ErrorContains(t, isolation.Monotonic(falls, false), "a session saw a value fall")
	other := []o{{1, 5, 6, "x", 1}, {2, 1, 2, "x", 2}}
	require.NoError(t, isolation.Monotonic(other, false))
	require.ErrorContains(t, isolation.Monotonic(other, true), "saw less than one that had ended before")
	require.NoError(t, isolation.Monotonic([]o{{1, 1, 6, "x", 1}, {2, 1, 2, "x", 2}, {1, 7, 8, "y", 0}}, true), "at the same time, or of another key")
}

func TestLongFork(t *testing.T) {
	type seen = map[string]bool
	require.NoError(t, isolation.LongFork([]isolation.Sighting{{"a", seen{"x": true, "y": false}}, {"b", seen{"x": true, "y": true}}, {"c", seen{"x": false, "y": false}}}))
	err := isolation.LongFork([]isolation.Sighting{{"a", seen{"x": true, "y": false}}, {"b", seen{"x": false, "y": true}}})
	require.EqualError(t, err, "a long fork: b saw y and not x, a saw x and not y")
}
