package labeler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pingcap/kvproto/pkg/metapb"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/pd/core"
)

type memory map[string][]byte

func (m memory) Save(_ context.Context, changes map[string][]byte) error {
	for k, v := range changes {
		if v == nil {
			delete(m, k)
		} else {
			m[k] = v
		}
	}
	return nil
}

func hexKey(s string) string {
	if s == "" {
		return ""
	}
	return fmt.Sprintf("%x", codec.EncodeBytes(nil, []byte(s)))
}

func region(start, end string) *core.Region {
	m := &metapb.Region{Id: 1, RegionEpoch: &metapb.RegionEpoch{}}
	if start != "" {
		m.StartKey = codec.EncodeBytes(nil, []byte(start))
	}
	if end != "" {
		m.EndKey = codec.EncodeBytes(nil, []byte(end))
	}
	return &core.Region{Meta: m}
}

func parse(t *testing.T, text string) *Rule {
	t.Helper()
	var r Rule
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatal(err)
	}
	return &r
}

func labels(l *Labeler, r *core.Region) string {
	var out []string
	for _, lb := range l.Labels(r) {
		out = append(out, lb.Key+"="+lb.Value)
	}
	return strings.Join(out, " ")
}

// TestLabels sets rules, lets one run out, and loads what was saved.
func TestLabels(t *testing.T) {
	ctx, st, now := context.Background(), memory{}, time.Unix(1_700_000_000, 0).UTC()
	l, err := New(st, nil, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		`{"id":"a","labels":[{"key":"schedule","value":"deny","ttl":"1h"},{"key":"x","value":"1"}],"rule_type":"key-range",
		  "data":[{"start_key":"` + hexKey("b") + `","end_key":"` + hexKey("d") + `"},{"start_key":"` + hexKey("m") + `","end_key":""}]}`,
		`{"id":"b","index":1,"labels":[{"key":"x","value":"2"}],"rule_type":"key-range","data":{"start_key":"` + hexKey("c") + `","end_key":"` + hexKey("d") + `"}}`,
		`{"id":"c","labels":[{"key":"merge_option","value":"deny"}],"rule_type":"key-range","data":[{"start_key":"","end_key":"` + hexKey("b") + `"}]}`,
	} {
		if err := l.SetRule(ctx, parse(t, text)); err != nil {
			t.Fatal(err)
		}
	}
	check := func(when string, want map[[2]string]string) {
		t.Helper()
		for r, labelled := range want {
			if got := labels(l, region(r[0], r[1])); got != labelled {
				t.Errorf("%s: [%s,%s): %q, want %q", when, r[0], r[1], got, labelled)
			}
		}
	}
	check("at first", map[[2]string]string{
		{"", "b"}: "merge_option=deny", {"b", "c"}: "schedule=deny x=1", {"c", "d"}: "schedule=deny x=2",
		{"b", "d"}: "", {"d", "m"}: "", {"z", ""}: "schedule=deny x=1",
	})
	if r := region("b", "c"); !l.ScheduleDenied(r) || l.MergeDenied(r) || l.Label(r, "x") != "1" {
		t.Error("the labels say something else one by one")
	}
	if n := len(l.SplitKeys(nil, nil)); n != 4 {
		t.Errorf("%d split keys, want b, c, d, m", n)
	}
	now = now.Add(time.Hour)
	check("an hour later", map[[2]string]string{{"b", "c"}: "x=1", {"z", ""}: "x=1"})
	if err := l.Expire(ctx); err != nil || len(l.Rule("a").Labels) != 1 {
		t.Fatal(err, l.Rule("a"))
	}
	if l, err = New(st, st, func() time.Time { return now }); err != nil {
		t.Fatal(err)
	}
	check("loaded", map[[2]string]string{{"b", "c"}: "x=1", {"c", "d"}: "x=2", {"", "b"}: "merge_option=deny"})
	if err := l.Patch(ctx, nil, []string{"a", "b", "c"}); err != nil || len(st) != 0 || len(l.Rules()) != 0 {
		t.Fatal(err, st)
	}
	if err := l.DeleteRule(ctx, "a"); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
}

func TestRefusedRules(t *testing.T) {
	l, err := New(memory{}, nil, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	good := func() *Rule {
		return &Rule{ID: "a", Type: KeyRange, Labels: []Label{{Key: "k", Value: "v"}}, Data: []Range{{}}}
	}
	for name, spoil := range map[string]func(*Rule){
		"no id":      func(r *Rule) { r.ID = "" },
		"type":       func(r *Rule) { r.Type = "table" },
		"no labels":  func(r *Rule) { r.Labels = nil },
		"no ranges":  func(r *Rule) { r.Data = nil },
		"no value":   func(r *Rule) { r.Labels[0].Value = "" },
		"ttl":        func(r *Rule) { r.Labels[0].TTL = "soon" },
		"start":      func(r *Rule) { r.Labels[0].TTL, r.Labels[0].StartAt = "1h", "yesterday" },
		"not hex":    func(r *Rule) { r.Data[0].StartKeyHex = "z" },
		"no key":     func(r *Rule) { r.Data[0].StartKeyHex = "61" },
		"turned":     func(r *Rule) { r.Data[0].StartKeyHex, r.Data[0].EndKeyHex = hexKey("b"), hexKey("a") },
		"long label": func(r *Rule) { r.Labels[0].Value = strings.Repeat("x", 2000) },
	} {
		r := good()
		spoil(r)
		if err := l.SetRule(context.Background(), r); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := l.SetRule(context.Background(), good()); err != nil {
		t.Error(err)
	}
}
