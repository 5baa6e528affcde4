package settings

import (
	"maps"
	"sort"
	"strings"

	"github.com/copradb/copra/internal/pgerror"
)

// CustomMax is how many settings with a dotted name of its own choosing a
// session may make.
const CustomMax = 256

// ValueBytesMax is the longest value of a setting.
const ValueBytesMax = 8 << 10

// Settings are a session's values. Not safe for concurrent use.
type Settings struct {
	start  map[string]string // what RESET goes back to, where it isn't the default
	values map[string]string // what differs from that
	local  map[string]string // SET LOCAL's
	saved  map[string]string // values as of the start of the transaction
	inTxn  bool
	// changed counts changes of reported settings, version all changes.
	changed bool
	version int64
}

// New returns the settings of a session that starts.
func New() *Settings {
	return &Settings{start: map[string]string{}, values: map[string]string{}, changed: true}
}

// SetStart sets what the client's startup message or the server asked for; it
// is also what RESET goes back to.
func (s *Settings) SetStart(name, value string) error {
	d, err := find(name)
	if err != nil {
		return err
	}
	v, err := d.normalize(value)
	if err != nil {
		return err
	}
	s.start[key(name)] = v
	s.note(d)
	return nil
}

// SetInternal sets a read-only setting from inside.
func (s *Settings) SetInternal(name, value string) {
	s.start[key(name)] = value
	s.changed = true
	s.version++
}

func (s *Settings) note(d *definition) {
	s.version++
	if d.report {
		s.changed = true
	}
}

// key is the name under which a setting is kept; names are case-insensitive.
func key(name string) string { return strings.ToLower(name) }

// Get returns a setting as SHOW prints it.
func (s *Settings) Get(name string) (string, bool) {
	k := key(name)
	d := definitions[k]
	for _, m := range []map[string]string{s.local, s.values, s.start} {
		if v, ok := m[k]; ok {
			if d != nil {
				v = d.show(v)
			}
			return v, true
		}
	}
	if d == nil {
		return "", false
	}
	return d.show(d.value), true
}

// Show is Get with PostgreSQL's error for an unknown name, and the name as
// PostgreSQL spells it.
func (s *Settings) Show(name string) (spelled, value string, err error) {
	v, ok := s.Get(name)
	if !ok {
		return "", "", unknown(name)
	}
	if d := definitions[key(name)]; d != nil {
		return d.name, v, nil
	}
	return key(name), v, nil
}

// Set changes a setting; local until the end of the transaction only. Nil
// values mean DEFAULT.
func (s *Settings) Set(name string, values []string, local bool) error {
	k := key(name)
	d, err := find(name)
	if err != nil {
		return err
	}
	if d.readOnly {
		return pgerror.New(pgerror.CantChangeRuntimeParam, "parameter \"%s\" cannot be changed", d.name)
	}
	if local && !s.inTxn {
		return nil // PostgreSQL warns; the caller does, too
	}
	target := s.values
	if local {
		if s.local == nil {
			s.local = map[string]string{}
		}
		target = s.local
	} else {
		delete(s.local, k)
	}
	s.note(d)
	if values == nil {
		if local {
			if v, ok := s.start[k]; ok {
				target[k] = v
			} else {
				target[k] = d.value
			}
			return nil
		}
		delete(target, k)
		return nil
	}
	v, err := d.join(values)
	if err != nil {
		return err
	}
	if v, err = d.normalize(v); err != nil {
		return err
	}
	if _, known := target[k]; !known && definitions[k] == nil && len(target) >= CustomMax {
		return pgerror.New(pgerror.ConfigurationLimitExceeded, "a session cannot have more than %d settings of its own", CustomMax)
	}
	target[k] = v
	return nil
}

// ResetAll brings every setting back to what it was at the start.
func (s *Settings) ResetAll() {
	for k := range s.values {
		if d := definitions[k]; d != nil && d.noResetAll {
			continue
		}
		delete(s.values, k)
	}
	s.local = nil
	s.changed = true
	s.version++
}

// Begin, Commit and Rollback follow the transaction.
func (s *Settings) Begin() {
	s.inTxn = true
	s.saved = clone(s.values)
}

// Commit keeps what SET set and ends SET LOCAL.
func (s *Settings) Commit() { s.end() }

// Rollback brings the values back that were at Begin.
func (s *Settings) Rollback() {
	if s.inTxn && !maps.Equal(s.values, s.saved) {
		s.values = s.saved
		s.changed = true
		s.version++
	}
	s.end()
}

func (s *Settings) end() {
	s.inTxn = false
	s.saved = nil
	if len(s.local) > 0 {
		s.local = nil
		s.changed = true
		s.version++
	}
}

// State is what a savepoint remembers.
type State struct{ values, local map[string]string }

// Save returns the present values.
func (s *Settings) Save() State { return State{clone(s.values), clone(s.local)} }

// Restore brings saved values back.
func (s *Settings) Restore(st State) {
	s.values, s.local = clone(st.values), clone(st.local)
	if s.values == nil {
		s.values = map[string]string{}
	}
	s.changed = true
	s.version++
}

func clone(m map[string]string) map[string]string {
	if m == nil {
		return nil
	}
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}

// Version changes whenever a value may have.
func (s *Settings) Version() int64 { return s.version }

// Reported returns the settings that the client must be told, by PostgreSQL's
// spelling, if one may have changed since the last call; else false. It is
// called after every statement.
func (s *Settings) Reported() (map[string]string, bool) {
	if !s.changed {
		return nil, false
	}
	s.changed = false
	out := map[string]string{}
	for _, d := range definitions {
		if d.report {
			out[d.name], _ = s.Get(d.name)
		}
	}
	return out, true
}

// Row is a line of SHOW ALL and pg_settings.
type Row struct{ Name, Value, Default, Description string }

// All lists every setting by name.
func (s *Settings) All() []Row {
	var out []Row
	for _, d := range definitions {
		v, _ := s.Get(d.name)
		out = append(out, Row{Name: d.name, Value: v, Default: d.show(d.value), Description: d.text})
	}
	sort.Slice(out, func(i, j int) bool { return strings.ToLower(out[i].Name) < strings.ToLower(out[j].Name) })
	return out
}

func unknown(name string) *pgerror.Error {
	return pgerror.New(pgerror.UndefinedObject, "unrecognized configuration parameter \"%s\"", name)
}

// find returns the setting's definition. Like PostgreSQL, any name with a dot
// may be made up, but not under copra's own prefix.
func find(name string) (*definition, error) {
	k := key(name)
	if d := definitions[k]; d != nil {
		return d, nil
	}
	if !strings.Contains(k, ".") || strings.HasPrefix(k, "copra.") {
		return nil, unknown(name)
	}
	return &definition{name: k}, nil
}
