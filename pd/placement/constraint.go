package placement

import (
	"fmt"
	"strings"

	"github.com/copradb/copra/pd/core"
)

// Op is how a constraint compares a label.
type Op string

// The operations.
const (
	In        Op = "in"
	NotIn     Op = "notIn"
	Exists    Op = "exists"
	NotExists Op = "notExists"
)

// LabelConstraint is a condition on one label of a store. A store without the
// label has the value "".
type LabelConstraint struct {
	Key    string   `json:"key,omitempty"`
	Op     Op       `json:"op,omitempty"`
	Values []string `json:"values,omitempty"`
}

func (c LabelConstraint) check() error {
	switch {
	case c.Key == "":
		return fmt.Errorf("a label constraint has no key")
	case c.Op == In || c.Op == NotIn:
		if len(c.Values) == 0 {
			return fmt.Errorf("the constraint %q on label %q has no values", c.Op, c.Key)
		}
	case c.Op != Exists && c.Op != NotExists:
		return fmt.Errorf("%q is no operation on label %q: use in, notIn, exists or notExists", c.Op, c.Key)
	}
	return nil
}

// Matches reports whether the store meets the constraint.
func (c LabelConstraint) Matches(s *core.Store) bool {
	v := s.Label(c.Key)
	switch c.Op {
	case In:
		return v != "" && contains(c.Values, v)
	case NotIn:
		return v == "" || !contains(c.Values, v)
	case Exists:
		return v != ""
	case NotExists:
		return v == ""
	}
	return false
}

func contains(list []string, v string) bool {
	for _, x := range list {
		if x == v {
			return true
		}
	}
	return false
}

// exclusive reports whether stores with the label take only peers of rules that
// name it: engines other than TiKV's, and labels that start with a dollar sign.
func exclusive(key string) bool {
	return strings.HasPrefix(key, "$") || strings.EqualFold(key, "engine") || strings.EqualFold(key, "exclusive")
}

// MatchStore reports whether the store meets all constraints. nil meets none.
func MatchStore(s *core.Store, constraints []LabelConstraint) bool {
	if s == nil {
		return false
	}
	for _, l := range s.Meta.Labels {
		if exclusive(l.Key) && l.Value != "" && !names(constraints, l.Key) && !isTiKV(l.Key, l.Value) {
			return false
		}
	}
	for _, c := range constraints {
		if !c.Matches(s) {
			return false
		}
	}
	return true
}

// isTiKV reports whether the label only says what every store is.
func isTiKV(key, value string) bool {
	return strings.EqualFold(key, "engine") && strings.EqualFold(value, "tikv")
}

func names(constraints []LabelConstraint, key string) bool {
	for _, c := range constraints {
		if strings.EqualFold(c.Key, key) {
			return true
		}
	}
	return false
}
