package settings

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// valueKind is how a setting's text is read.
type valueKind int

const (
	kindText valueKind = iota
	kindBool
	kindInt
	kindMillis // an integer of milliseconds, other units allowed
	kindFloat
	kindEnum
	kindList // comma-separated names
)

// definition describes a setting. value is its default.
type definition struct {
	name       string
	kind       valueKind
	value      string
	text       string
	min, max   int64
	choices    []string // of an enum
	report     bool     // told to the client (ParameterStatus)
	readOnly   bool
	noResetAll bool
	// check normalizes further, or refuses.
	check func(d *definition, v string) (string, error)
}

func (d *definition) invalid(v string) *pgerror.Error {
	return pgerror.New(pgerror.InvalidParameterValue, "invalid value for parameter \"%s\": \"%s\"", d.name, v)
}

// join makes one value of SET's list.
func (d *definition) join(values []string) (string, error) {
	if d.kind == kindList {
		quoted := make([]string, len(values))
		for i, v := range values {
			quoted[i] = quoteName(v)
		}
		return strings.Join(quoted, ", "), nil
	}
	if len(values) != 1 && d.name != "DateStyle" {
		return "", pgerror.New(pgerror.InvalidParameterValue, "SET %s takes only one argument", d.name)
	}
	return strings.Join(values, ", "), nil
}

func quoteName(v string) string {
	plain := v != ""
	for i, r := range v {
		letter := r >= 'a' && r <= 'z' || r == '_'
		if !letter && (i == 0 || !(r >= '0' && r <= '9')) {
			plain = false
		}
	}
	if plain {
		return v
	}
	return `"` + strings.ReplaceAll(v, `"`, `""`) + `"`
}

// SplitNames takes a list of names apart, as search_path has it.
func SplitNames(list string) []string {
	var out []string
	for i := 0; i < len(list); {
		switch {
		case list[i] == ' ' || list[i] == ',':
			i++
		case list[i] == '"':
			var b strings.Builder
			for i++; i < len(list); i++ {
				if list[i] == '"' {
					if i+1 >= len(list) || list[i+1] != '"' {
						i++
						break
					}
					i++
				}
				b.WriteByte(list[i])
			}
			out = append(out, b.String())
		default:
			end := i
			for end < len(list) && list[end] != ',' && list[end] != ' ' {
				end++
			}
			out = append(out, strings.ToLower(list[i:end]))
			i = end
		}
	}
	return out
}

// normalize checks a value and returns the form in which it is kept.
func (d *definition) normalize(v string) (string, error) {
	if len(v) > ValueBytesMax {
		return "", pgerror.New(pgerror.InvalidParameterValue, "the value of parameter \"%s\" is longer than %d bytes", d.name, ValueBytesMax)
	}
	var err error
	switch d.kind {
	case kindBool:
		b, ok := sqltypes.ParseBool(v)
		if !ok {
			return "", pgerror.New(pgerror.InvalidParameterValue, "parameter \"%s\" requires a Boolean value", d.name)
		}
		v = "off"
		if b {
			v = "on"
		}
	case kindInt, kindMillis:
		v, err = d.integer(v)
	case kindFloat:
		f, e := strconv.ParseFloat(strings.TrimSpace(v), 64)
		if e != nil || math.IsNaN(f) {
			return "", d.invalid(v)
		}
		v = strconv.FormatFloat(f, 'g', -1, 64)
	case kindEnum:
		v, err = d.choice(v)
	}
	if err == nil && d.check != nil {
		v, err = d.check(d, v)
	}
	return v, err
}

var millisUnits = map[string]float64{
	"us": 0.001, "ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000, "": 1,
}

func (d *definition) integer(v string) (string, error) {
	text := strings.TrimSpace(v)
	digits := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyz ")
	unit := strings.TrimSpace(text[len(digits):])
	f, err := strconv.ParseFloat(digits, 64)
	factor, ok := millisUnits[unit]
	if err != nil || !ok || unit != "" && d.kind != kindMillis {
		return "", d.invalid(v)
	}
	n := math.RoundToEven(f * factor)
	if n < float64(d.min) || n > float64(d.max) {
		suffix := ""
		if d.kind == kindMillis {
			suffix = " ms"
		}
		return "", pgerror.New(pgerror.InvalidParameterValue, "%d%s is outside the valid range for parameter \"%s\" (%d%s .. %d%s)",
			int64(n), suffix, d.name, d.min, suffix, d.max, suffix)
	}
	return strconv.FormatInt(int64(n), 10), nil
}

func (d *definition) choice(v string) (string, error) {
	for _, c := range d.choices {
		if strings.EqualFold(c, v) {
			return c, nil
		}
	}
	return "", d.invalid(v).WithHint("Available values: %s.", strings.Join(d.choices, ", "))
}

// show is how SHOW prints a kept value.
func (d *definition) show(v string) string {
	if d.kind != kindMillis {
		return v
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n <= 0 {
		return v
	}
	for _, u := range []struct {
		ms   int64
		name string
	}{{86_400_000, "d"}, {3_600_000, "h"}, {60_000, "min"}, {1000, "s"}} {
		if n%u.ms == 0 {
			return fmt.Sprintf("%d%s", n/u.ms, u.name)
		}
	}
	return fmt.Sprintf("%dms", n)
}

// raw returns the kept value.
func (s *Settings) raw(name string) string {
	k := key(name)
	for _, m := range []map[string]string{s.local, s.values, s.start} {
		if v, ok := m[k]; ok {
			return v
		}
	}
	if d := definitions[k]; d != nil {
		return d.value
	}
	return ""
}

// Bool, Millis, Text and Names read a setting by its kind.
func (s *Settings) Bool(name string) bool { return s.raw(name) == "on" }

// Millis reads a setting of milliseconds.
func (s *Settings) Millis(name string) time.Duration {
	n, err := strconv.ParseInt(s.raw(name), 10, 64)
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Millisecond
}

// Text reads a setting as it is kept.
func (s *Settings) Text(name string) string { return s.raw(name) }

// Names reads a list.
func (s *Settings) Names(name string) []string { return SplitNames(s.raw(name)) }
