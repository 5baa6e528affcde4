package isolation

import (
	"fmt"
	"slices"
	"strings"
)

// Outcome is what a client knows of its transaction.
type Outcome int

// The outcomes.
const (
	Unknown Outcome = iota // may have been committed, or be committed later
	Committed
	Aborted // never was and never will be committed
)

func (o Outcome) String() string {
	switch o {
	case Committed:
		return "committed"
	case Aborted:
		return "aborted"
	}
	return "of unknown outcome"
}

// Op is one operation of a transaction: a read of a whole list, or an append of
// one value. A value is appended to a key by one operation only, in the whole
// history.
type Op struct {
	Key    string
	Append bool
	Value  int64   // appended
	List   []int64 // read
}

// Read is a read of a key's list.
func Read(key string, list ...int64) Op { return Op{Key: key, List: list} }

// Append is an append to a key's list.
func Append(key string, value int64) Op { return Op{Key: key, Append: true, Value: value} }

func (o Op) String() string {
	if o.Append {
		return fmt.Sprintf("append(%s, %d)", o.Key, o.Value)
	}
	return fmt.Sprintf("read(%s) = %s", o.Key, describeList(o.List))
}

// listShownMax is how many values of a list are printed.
const listShownMax = 12

func describeList(list []int64) string {
	if n := len(list) - listShownMax; n > 0 {
		return fmt.Sprintf("[… %d more %s", n, strings.TrimPrefix(fmt.Sprint(list[n:]), "["))
	}
	return fmt.Sprint(list)
}

// Txn is one transaction as its client has seen it. Reads of aborted
// transactions, and of those of unknown outcome, are not looked at: the
// operations that count are those of committed ones, and all appends.
type Txn struct {
	// Name is what the transaction is called in explanations: a start
	// timestamp, say. Empty: its place in the history.
	Name string
	// Process is the client (session) that ran it, one transaction at a time.
	Process int
	Ops     []Op
	Outcome Outcome
	// Begin and End are when the client began and got the outcome, in any unit.
	// A transaction that reads the past on purpose has Past set: nothing that
	// had ended before it must be seen by it.
	Begin, End int64
	Past       bool
}

func (t *Txn) String() string {
	var ops []string
	for _, o := range t.Ops {
		ops = append(ops, o.String())
	}
	return fmt.Sprintf("%s (client %d, %s): %s", t.Name, t.Process, t.Outcome, strings.Join(ops, ", "))
}

// keys lists what the transaction touches, in order.
func (t *Txn) keys() (out []string) {
	for _, o := range t.Ops {
		if !slices.Contains(out, o.Key) {
			out = append(out, o.Key)
		}
	}
	return out
}

// external returns the list that the transaction read of a key before it
// appended to it itself.
func (t *Txn) external(key string) (list []int64, ok bool) {
	for _, o := range t.Ops {
		switch {
		case o.Key != key:
		case o.Append:
			return nil, false
		default:
			return o.List, true
		}
	}
	return nil, false
}

// appends reports whether the transaction writes to the key.
func (t *Txn) appends(key string) bool {
	return slices.ContainsFunc(t.Ops, func(o Op) bool { return o.Append && o.Key == key })
}
