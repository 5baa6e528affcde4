package labeler

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/copradb/copra/pd/placement"
)

// KeyRange is the one type of rule there is.
const KeyRange = "key-range"

// Limits of a rule.
const (
	idBytesMax     = 1024
	ruleLabelsMax  = 64
	ruleRangesMax  = 65_536
	labelRulesMax  = 100_000
	labelBytesMax  = 1024
	startAtLayout  = time.RFC3339
	scheduleLabel  = "schedule"
	mergeLabel     = "merge_option"
	denyLabelValue = "deny"
)

// Label is a key and a value, for as long as TTL says.
type Label struct {
	Key   string `json:"key"`
	Value string `json:"value"`
	// TTL is a duration such as 1h30m; empty is for good. It runs from StartAt,
	// which PD sets.
	TTL     string `json:"ttl,omitempty"`
	StartAt string `json:"start_at,omitempty"`

	expires time.Time // zero: never
}

func (l *Label) expired(now time.Time) bool { return !l.expires.IsZero() && !now.Before(l.expires) }

// Range is a key range of a rule, in hexadecimal; an empty end is unbounded.
type Range struct {
	StartKeyHex string `json:"start_key"`
	EndKeyHex   string `json:"end_key"`

	start, end []byte
}

// Rule gives labels to the regions of key ranges. It is not changed once it is
// in force.
type Rule struct {
	ID     string  `json:"id"`
	Index  int     `json:"index"`
	Labels []Label `json:"labels"`
	Type   string  `json:"rule_type"`
	Data   []Range `json:"data"`
}

// UnmarshalJSON implements json.Unmarshaler: older clients send a single range
// as an object.
func (r *Rule) UnmarshalJSON(raw []byte) error {
	type plain Rule
	j := struct {
		*plain
		Data json.RawMessage `json:"data"`
	}{plain: (*plain)(r)}
	if err := json.Unmarshal(raw, &j); err != nil {
		return err
	}
	r.Data = nil
	if trimmed := bytes.TrimSpace(j.Data); len(trimmed) > 0 && trimmed[0] == '{' {
		r.Data = make([]Range, 1)
		return json.Unmarshal(trimmed, &r.Data[0])
	}
	if len(j.Data) == 0 {
		return nil
	}
	return json.Unmarshal(j.Data, &r.Data)
}

// prepared returns a checked copy with keys decoded and ends of labels set.
func (r *Rule) prepared(now time.Time) (*Rule, error) {
	fail := func(format string, args ...any) (*Rule, error) {
		return nil, fmt.Errorf("%w: label rule %.80q: %s", ErrInvalid, r.ID, fmt.Sprintf(format, args...))
	}
	switch {
	case r.ID == "" || len(r.ID) > idBytesMax:
		return fail("its id has %d bytes, not 1 to %d", len(r.ID), idBytesMax)
	case r.Type != KeyRange:
		return fail("rule_type %q is not %s", r.Type, KeyRange)
	case len(r.Labels) == 0 || len(r.Labels) > ruleLabelsMax:
		return fail("it has %d labels, not 1 to %d", len(r.Labels), ruleLabelsMax)
	case len(r.Data) == 0 || len(r.Data) > ruleRangesMax:
		return fail("it has %d key ranges, not 1 to %d", len(r.Data), ruleRangesMax)
	}
	c := *r
	c.Labels = append([]Label(nil), r.Labels...)
	for i := range c.Labels {
		if err := c.Labels[i].prepare(now); err != nil {
			return fail("%v", err)
		}
	}
	c.Data = append([]Range(nil), r.Data...)
	for i := range c.Data {
		if err := c.Data[i].prepare(); err != nil {
			return fail("%v", err)
		}
	}
	return &c, nil
}

func (l *Label) prepare(now time.Time) error {
	if l.Key == "" || l.Value == "" || len(l.Key)+len(l.Value) > labelBytesMax {
		return fmt.Errorf("a label needs a key and a value of together at most %d bytes", labelBytesMax)
	}
	if l.TTL == "" {
		l.StartAt = ""
		return nil
	}
	ttl, err := time.ParseDuration(l.TTL)
	if err != nil || ttl <= 0 {
		return fmt.Errorf("ttl %q of label %q is not a duration such as 1h", l.TTL, l.Key)
	}
	start := now
	if l.StartAt == "" {
		l.StartAt = now.Format(startAtLayout)
	} else if start, err = time.Parse(startAtLayout, l.StartAt); err != nil {
		return fmt.Errorf("start_at %q of label %q is no time", l.StartAt, l.Key)
	}
	l.expires = start.Add(ttl)
	return nil
}

func (r *Range) prepare() error {
	var err error
	if r.start, err = hex.DecodeString(r.StartKeyHex); err != nil {
		return fmt.Errorf("start_key %q is not hexadecimal", r.StartKeyHex)
	}
	if r.end, err = hex.DecodeString(r.EndKeyHex); err != nil {
		return fmt.Errorf("end_key %q is not hexadecimal", r.EndKeyHex)
	}
	if len(r.end) > 0 && bytes.Compare(r.start, r.end) >= 0 {
		return fmt.Errorf("end_key %s is not above start_key %s", r.EndKeyHex, r.StartKeyHex)
	}
	for _, key := range [][]byte{r.start, r.end} {
		if err := placement.CheckKey(key); err != nil {
			return err
		}
	}
	r.StartKeyHex, r.EndKeyHex = strings.ToLower(r.StartKeyHex), strings.ToLower(r.EndKeyHex)
	return nil
}

// live returns the rule's labels that have not run out.
func (r *Rule) live(now time.Time) (live []Label) {
	for _, l := range r.Labels {
		if !l.expired(now) {
			live = append(live, l)
		}
	}
	return live
}
