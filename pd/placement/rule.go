package placement

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/copradb/copra/internal/codec"
)

// Limits of a set of rules.
const (
	// RulePeersMax is how many peers all rules of one segment may ask for.
	RulePeersMax = 16
	// segmentRulesMax is how many rules may hold on one segment.
	segmentRulesMax = 16
	// rulesMax is how many rules there may be in all.
	rulesMax = 100_000
	// nameBytesMax is how long ids of rules and groups may be.
	nameBytesMax = 256
)

// The rule that exists from the start.
const (
	DefaultGroup = "pd"
	DefaultID    = "default"
)

// Role is what a peer is to be.
type Role string

// The roles. A voter may lead or follow.
const (
	Voter    Role = "voter"
	Leader   Role = "leader"
	Follower Role = "follower"
	Learner  Role = "learner"
)

// Rule asks for Count peers of a Role for the regions of a key range. It is not
// changed once it is in force.
type Rule struct {
	GroupID string
	ID      string
	// Index orders the rules of a group; Override hides those before it.
	Index    int
	Override bool
	// StartKey and EndKey are as regions' boundaries are; an empty EndKey is
	// unbounded.
	StartKey, EndKey []byte
	Role             Role
	Count            int
	LabelConstraints []LabelConstraint
	// LocationLabels are from the widest place to the narrowest: zone, rack,
	// host. Peers go where they differ as early as possible.
	LocationLabels []string
	// IsolationLevel is the location label in which peers must differ.
	IsolationLevel string
	// Version and CreateTimestamp are the writer's; they are kept as they are.
	Version, CreateTimestamp uint64

	group *Group // its group, where that has settings
}

// ruleJSON is PD's form.
type ruleJSON struct {
	GroupID          string            `json:"group_id"`
	ID               string            `json:"id"`
	Index            int               `json:"index,omitempty"`
	Override         bool              `json:"override,omitempty"`
	StartKey         string            `json:"start_key"`
	EndKey           string            `json:"end_key"`
	Role             Role              `json:"role"`
	IsWitness        bool              `json:"is_witness"`
	Count            int               `json:"count"`
	LabelConstraints []LabelConstraint `json:"label_constraints,omitempty"`
	LocationLabels   []string          `json:"location_labels,omitempty"`
	IsolationLevel   string            `json:"isolation_level,omitempty"`
	Version          uint64            `json:"version,omitempty"`
	CreateTimestamp  uint64            `json:"create_timestamp,omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (r *Rule) MarshalJSON() ([]byte, error) {
	return json.Marshal(ruleJSON{
		GroupID: r.GroupID, ID: r.ID, Index: r.Index, Override: r.Override,
		StartKey: strings.ToUpper(hex.EncodeToString(r.StartKey)), EndKey: strings.ToUpper(hex.EncodeToString(r.EndKey)),
		Role: r.Role, Count: r.Count, LabelConstraints: r.LabelConstraints,
		LocationLabels: r.LocationLabels, IsolationLevel: r.IsolationLevel,
		Version: r.Version, CreateTimestamp: r.CreateTimestamp,
	})
}

// UnmarshalJSON implements json.Unmarshaler.
func (r *Rule) UnmarshalJSON(raw []byte) error {
	var j ruleJSON
	if err := json.Unmarshal(raw, &j); err != nil {
		return err
	}
	if j.IsWitness {
		return fmt.Errorf("pd: rule %s/%s asks for witnesses, which are not supported", j.GroupID, j.ID)
	}
	start, err := hex.DecodeString(j.StartKey)
	if err != nil {
		return fmt.Errorf("pd: start_key %q of rule %s/%s is not hexadecimal", j.StartKey, j.GroupID, j.ID)
	}
	end, err := hex.DecodeString(j.EndKey)
	if err != nil {
		return fmt.Errorf("pd: end_key %q of rule %s/%s is not hexadecimal", j.EndKey, j.GroupID, j.ID)
	}
	*r = Rule{
		GroupID: j.GroupID, ID: j.ID, Index: j.Index, Override: j.Override, StartKey: start, EndKey: end,
		Role: j.Role, Count: j.Count, LabelConstraints: j.LabelConstraints,
		LocationLabels: j.LocationLabels, IsolationLevel: j.IsolationLevel,
		Version: j.Version, CreateTimestamp: j.CreateTimestamp,
	}
	return nil
}

// Name is the rule's group and id.
func (r *Rule) Name() string { return r.GroupID + "/" + r.ID }

// CheckKey refuses a key at which no region can start: a boundary is the
// memcomparable encoding of something, or empty.
func CheckKey(key []byte) error {
	if len(key) == 0 {
		return nil
	}
	if _, rest, err := codec.DecodeBytes(nil, key); err != nil || len(rest) > 0 {
		return fmt.Errorf("key %X is no region boundary: it must be encoded as memcomparable bytes", key)
	}
	return nil
}

// check refuses a rule that can't be right.
func (r *Rule) check() error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("pd: rule %s: %s", r.Name(), fmt.Sprintf(format, args...))
	}
	switch {
	case r.GroupID == "" || r.ID == "":
		return errors.New("pd: a rule needs a group_id and an id")
	case len(r.GroupID) > nameBytesMax || len(r.ID) > nameBytesMax:
		return fmt.Errorf("pd: the names of rule %.40s…/%.40s… are longer than %d bytes", r.GroupID, r.ID, nameBytesMax)
	case len(r.EndKey) > 0 && bytes.Compare(r.StartKey, r.EndKey) >= 0:
		return fail("end_key %X is not above start_key %X", r.EndKey, r.StartKey)
	case r.Role != Voter && r.Role != Leader && r.Role != Follower && r.Role != Learner:
		return fail("role %q is none of voter, leader, follower, learner", r.Role)
	case r.Count < 1 || r.Count > RulePeersMax:
		return fail("count %d is outside of 1 to %d", r.Count, RulePeersMax)
	case r.Role == Leader && r.Count > 1:
		return fail("a region has one leader, not %d", r.Count)
	}
	for _, key := range [][]byte{r.StartKey, r.EndKey} {
		if err := CheckKey(key); err != nil {
			return fail("%v", err)
		}
	}
	for _, c := range r.LabelConstraints {
		if err := c.check(); err != nil {
			return fail("%v", err)
		}
	}
	return CheckLocation(r.LocationLabels, r.IsolationLevel)
}

// CheckLocation refuses location labels that aren't, and an isolation level
// that isn't one of them.
func CheckLocation(labels []string, level string) error {
	found := level == ""
	for i, l := range labels {
		if l == "" {
			return errors.New("pd: a location label is empty")
		}
		for _, other := range labels[:i] {
			if other == l {
				return fmt.Errorf("pd: location label %q is named twice", l)
			}
		}
		found = found || l == level
	}
	if !found {
		return fmt.Errorf("pd: isolation level %q is none of the location labels %v", level, labels)
	}
	return nil
}

// less is the order in which rules apply.
func (r *Rule) less(o *Rule) bool {
	switch {
	case r.groupIndex() != o.groupIndex():
		return r.groupIndex() < o.groupIndex()
	case r.GroupID != o.GroupID:
		return r.GroupID < o.GroupID
	case r.Index != o.Index:
		return r.Index < o.Index
	}
	return r.ID < o.ID
}

func (r *Rule) groupIndex() int {
	if r.group == nil {
		return 0
	}
	return r.group.Index
}

// Group is how the rules of a group stand to those of others.
type Group struct {
	ID       string `json:"id,omitempty"`
	Index    int    `json:"index,omitempty"`
	Override bool   `json:"override,omitempty"`
}

func (g *Group) isDefault() bool { return g.Index == 0 && !g.Override }

func (g *Group) check() error {
	if g.ID == "" || len(g.ID) > nameBytesMax {
		return fmt.Errorf("pd: a rule group's id has 1 to %d bytes, not %d", nameBytesMax, len(g.ID))
	}
	return nil
}

// Bundle is a group with all of its rules.
type Bundle struct {
	ID       string  `json:"group_id"`
	Index    int     `json:"group_index"`
	Override bool    `json:"group_override"`
	Rules    []*Rule `json:"rules"`
}
