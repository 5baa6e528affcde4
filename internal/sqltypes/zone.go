package sqltypes

import (
	"strings"
	"sync"
	"time"

	"github.com/copradb/copra/internal/pgerror"
)

// zoneAbbrevs are the fixed offsets (hours east) of PostgreSQL's default
// abbreviations that people use.
var zoneAbbrevs = map[string]float64{
	"utc": 0, "gmt": 0, "z": 0, "zulu": 0, "ut": 0, "uct": 0, "wet": 0, "west": 1, "bst": 1, "cet": 1, "cest": 2, "met": 1, "mest": 2,
	"eet": 2, "eest": 3, "msk": 3, "msd": 4, "est": -5, "edt": -4, "cst": -6, "cdt": -5, "mst": -7, "mdt": -6, "pst": -8,
	"pdt": -7, "akst": -9, "akdt": -8, "hst": -10, "ast": -4, "adt": -3, "nst": -3.5, "ndt": -2.5, "jst": 9, "kst": 9,
	"ist": 2, "sgt": 8, "hkt": 8, "aest": 10, "aedt": 11, "acst": 9.5, "acdt": 10.5, "awst": 8, "nzst": 12, "nzdt": 13,
	"brt": -3, "art": -3, "pkt": 5, "npt": 5.75, "sast": 2, "cat": 2, "eat": 3,
}

const zoneCacheEntriesMax = 1024

var zoneCache = struct {
	sync.Mutex
	m map[string]*time.Location
}{m: map[string]*time.Location{}}

// LoadZone finds a time zone by IANA name (any case), abbreviation, or offset
// as SET TIME ZONE and AT TIME ZONE accept them; 22023 when there is none.
// ISO offsets in names follow POSIX: "UTC+3" is west of Greenwich.
func LoadZone(name string) (*time.Location, error) {
	if loc := findZone(name); loc != nil {
		return loc, nil
	}
	return nil, pgerror.New(pgerror.InvalidParameterValue, "time zone %q not recognized", Quotable(name))
}

func findZone(name string) *time.Location {
	zoneCache.Lock()
	defer zoneCache.Unlock()
	if loc, ok := zoneCache.m[name]; ok {
		return loc
	}
	loc := lookupZone(name)
	if loc != nil && len(zoneCache.m) < zoneCacheEntriesMax {
		zoneCache.m[name] = loc
	}
	return loc
}

func lookupZone(name string) *time.Location {
	lower := strings.ToLower(name)
	if lower == "utc" || lower == "gmt" || lower == "z" || lower == "zulu" {
		return time.UTC
	}
	if hours, ok := zoneAbbrevs[lower]; ok {
		return time.FixedZone(strings.ToUpper(name), int(hours*3600))
	}
	if lower == "" || lower == "local" || strings.HasPrefix(lower, ".") || strings.HasPrefix(lower, "/") {
		return nil
	}
	for _, candidate := range []string{name, titleZone(lower), strings.ToUpper(name)} {
		if loc, err := time.LoadLocation(candidate); err == nil {
			return loc
		}
	}
	return posixZone(name)
}

// titleZone guesses an IANA name's capitals: america/new_york.
func titleZone(lower string) string {
	out := []byte(lower)
	up := true
	for i, c := range out {
		if up && c >= 'a' && c <= 'z' {
			out[i] = c - 32
		}
		up = c == '/' || c == '_' || c == '-'
	}
	return strings.NewReplacer("_Of_", "_of_", "/Of_", "/of_", "-Es-", "-es-", "-Au-", "-au-", "_And_", "_and_").Replace(string(out))
}

// posixZone reads NAME[+-]H[:MM[:SS]], or the offset alone (then ISO style as
// PostgreSQL's timezone('+03', …): POSIX signs too).
func posixZone(name string) *time.Location {
	i := 0
	for i < len(name) && (isAlpha(name[i]|0x20) && name[i] != '+' && name[i] != '-') {
		i++
	}
	if i != 0 && i < 3 {
		return nil
	}
	secs, ok := parseOffset(name[i:])
	if !ok {
		return nil
	}
	return time.FixedZone(name, -secs)
}

// parseOffset reads [+-]HH[:MM[:SS]], [+-]HHMM or [+-]HHMMSS as seconds.
func parseOffset(s string) (secs int, ok bool) {
	if s == "" {
		return 0, false
	}
	neg := s[0] == '-'
	if neg || s[0] == '+' {
		s = s[1:]
	}
	var parts [3]int
	fields := strings.Split(s, ":")
	if len(fields) == 1 && len(s) > 2 {
		if len(s) > 6 {
			return 0, false
		}
		fields = nil
		for len(s) > 0 {
			cut := 2
			if len(s)%2 == 1 {
				cut = 1
			}
			fields = append(fields, s[:cut])
			s = s[cut:]
		}
	}
	if len(fields) > 3 {
		return 0, false
	}
	for i, f := range fields {
		if f == "" || len(f) > 3 {
			return 0, false
		}
		for j := 0; j < len(f); j++ {
			if !isDigit(f[j]) {
				return 0, false
			}
			parts[i] = parts[i]*10 + int(f[j]-'0')
		}
	}
	if parts[0] > 24 || parts[1] > 59 || parts[2] > 59 {
		return 0, false
	}
	secs = parts[0]*3600 + parts[1]*60 + parts[2]
	if neg {
		secs = -secs
	}
	return secs, true
}
