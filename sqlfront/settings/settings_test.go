package settings

import (
	"reflect"
	"testing"
	"time"

	"github.com/copradb/copra/internal/pgerror"
)

func TestValues(t *testing.T) {
	for _, tc := range []struct {
		name   string
		values []string
		want   string // as SHOW prints it
		code   string
	}{
		{"statement_timeout", []string{"1500"}, "1500ms", ""},
		{"statement_timeout", []string{"2min"}, "2min", ""},
		{"Statement_Timeout", []string{"0"}, "0", ""},
		{"statement_timeout", []string{"-1"}, "", pgerror.InvalidParameterValue},
		{"statement_timeout", []string{"1 week"}, "", pgerror.InvalidParameterValue},
		{"extra_float_digits", []string{"3"}, "3", ""},
		{"extra_float_digits", []string{"4"}, "", pgerror.InvalidParameterValue},
		{"extra_float_digits", []string{"1s"}, "", pgerror.InvalidParameterValue},
		{"search_path", []string{"a", "B c", "public"}, `a, "B c", public`, ""},
		{"client_encoding", []string{"utf-8"}, "UTF8", ""},
		{"client_encoding", []string{"LATIN1"}, "", pgerror.FeatureNotSupported},
		{"client_encoding", []string{"klingon"}, "", pgerror.InvalidParameterValue},
		{"datestyle", []string{"iso", "mdy"}, "ISO, MDY", ""},
		{"datestyle", []string{"german"}, "", pgerror.FeatureNotSupported},
		{"timezone", []string{"europe/berlin"}, "Europe/Berlin", ""},
		{"timezone", []string{"nowhere/at all"}, "", pgerror.InvalidParameterValue},
		{"copra.pushdown", []string{"false"}, "off", ""},
		{"copra.pushdown", []string{"maybe"}, "", pgerror.InvalidParameterValue},
		{"copra.nothing", []string{"1"}, "", pgerror.UndefinedObject},
		{"myapp.user", []string{"x"}, "x", ""},
		{"no_such_thing", []string{"1"}, "", pgerror.UndefinedObject},
		{"server_version", []string{"1"}, "", pgerror.CantChangeRuntimeParam},
		{"default_transaction_isolation", []string{"Repeatable Read"}, "repeatable read", ""},
		{"default_transaction_isolation", []string{"serializable"}, "", pgerror.FeatureNotSupported},
		{"standard_conforming_strings", []string{"off"}, "", pgerror.FeatureNotSupported},
		{"application_name", []string{"a", "b"}, "", pgerror.InvalidParameterValue},
	} {
		s := New()
		err := s.Set(tc.name, tc.values, false)
		if tc.code != "" {
			if err == nil || pgerror.Code(err) != tc.code {
				t.Errorf("%s = %q: %v, want %s", tc.name, tc.values, err, tc.code)
			}
			continue
		}
		if got, _ := s.Get(tc.name); err != nil || got != tc.want {
			t.Errorf("%s = %q shows %q (%v), want %q", tc.name, tc.values, got, err, tc.want)
		}
	}
}

func TestTransactions(t *testing.T) {
	s := New()
	set := func(v string, local bool) {
		t.Helper()
		if err := s.Set("application_name", []string{v}, local); err != nil {
			t.Fatal(err)
		}
	}
	want := func(v string) {
		t.Helper()
		if got, _ := s.Get("application_name"); got != v {
			t.Errorf("application_name is %q, want %q", got, v)
		}
	}
	if err := s.SetStart("application_name", "start"); err != nil {
		t.Fatal(err)
	}
	set("before", false)
	before := s.Version()
	for range 2 { // a transaction without SET changes nothing
		s.Begin()
		s.Commit()
		s.Begin()
		s.Rollback()
	}
	if s.Version() != before {
		t.Error("transactions alone changed the settings")
	}
	s.Begin()
	set("inside", false)
	sp := s.Save()
	set("local", true)
	want("local")
	s.Restore(sp)
	want("inside")
	s.Rollback()
	want("before")
	s.Begin()
	set("inside", false)
	set("local", true)
	want("local")
	s.Commit()
	want("inside")
	set("nothing", true)
	want("inside")
	s.ResetAll()
	want("start")
	if err := s.Set("application_name", nil, false); err != nil {
		t.Fatal(err)
	}
	want("start")
}

func TestReported(t *testing.T) {
	s := New()
	all, changed := s.Reported()
	if !changed || all["server_version"] != ServerVersion || all["DateStyle"] != "ISO, MDY" || all["TimeZone"] != "UTC" {
		t.Errorf("at first: %v, %v", all, changed)
	}
	if _, changed = s.Reported(); changed {
		t.Error("changed without a change")
	}
	if err := s.Set("statement_timeout", []string{"10"}, false); err != nil {
		t.Fatal(err)
	}
	if _, changed = s.Reported(); changed {
		t.Error("a setting that isn't reported was")
	}
	if err := s.Set("timezone", []string{"Asia/Tokyo"}, false); err != nil {
		t.Fatal(err)
	}
	if all, changed = s.Reported(); !changed || all["TimeZone"] != "Asia/Tokyo" {
		t.Errorf("after SET: %v, %v", all["TimeZone"], changed)
	}
	if s.Millis("statement_timeout") != 10*time.Millisecond || !s.Bool("copra.pushdown") {
		t.Error("typed reads")
	}
	if got := SplitNames(`"$user", Public,"a""b"`); !reflect.DeepEqual(got, []string{"$user", "public", `a"b`}) {
		t.Errorf("names %q", got)
	}
	if len(s.All()) < 80 {
		t.Errorf("SHOW ALL has %d rows", len(s.All()))
	}
}
