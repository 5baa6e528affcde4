package sqltypes

import (
	"math"
	"strconv"
	"strings"

	"github.com/copradb/copra/internal/pgerror"
)

// intervalUnit is a field of an interval text.
type intervalUnit uint8

const (
	unitNone intervalUnit = iota
	unitMicrosecond
	unitMillisecond
	unitSecond
	unitMinute
	unitHour
	unitDay
	unitWeek
	unitMonth
	unitYear
	unitDecade
	unitCentury
	unitMillennium
)

var intervalUnits = func() map[string]intervalUnit {
	m := map[string]intervalUnit{}
	for unit, words := range map[intervalUnit]string{
		unitMicrosecond: "us usec usecs usecond useconds microsecon microsecond microseconds microsec microsecs",
		unitMillisecond: "ms msec msecs msecond mseconds millisecon millisecond milliseconds millisec millisecs",
		unitSecond:      "s sec secs second seconds",
		unitMinute:      "m min mins minute minutes",
		unitHour:        "h hr hrs hour hours",
		unitDay:         "d day days",
		unitWeek:        "w week weeks",
		unitMonth:       "mon mons month months",
		unitYear:        "y yr yrs year years",
		unitDecade:      "dec decs decade decades",
		unitCentury:     "c cent century centuries",
		unitMillennium:  "mil mils millennia millennium",
	} {
		for _, w := range strings.Fields(words) {
			m[w] = unit
		}
	}
	return m
}()

// intervalSum adds up the parts; overflow is remembered.
type intervalSum struct {
	months, days, micros int64
	over                 bool
}

func (s *intervalSum) addMicros(v int64, frac float64, scale int64) {
	p := v * scale
	if v != 0 && (p/v != scale || v > math.MaxInt64/scale || v < math.MinInt64/scale) {
		s.over = true
	}
	s.addMicros1(p)
	s.addMicros1(int64(math.RoundToEven(frac * float64(scale))))
}

func (s *intervalSum) addMicros1(v int64) {
	sum := s.micros + v
	if (sum > s.micros) != (v > 0) && v != 0 {
		s.over = true
	}
	s.micros = sum
}

// addFracDays adds frac*scale days, the rest of a day as µs.
func (s *intervalSum) addFracDays(frac float64, scale int64) {
	frac *= float64(scale)
	whole := math.Trunc(frac)
	s.days += int64(whole)
	s.addMicros(0, frac-whole, MicrosPerDay)
}

func (s *intervalSum) add(unit intervalUnit, v int64, frac float64) {
	if v > math.MaxInt32 || v < math.MinInt32 {
		if unit > unitHour {
			s.over = true
			return
		}
	}
	years := func(n int64) {
		s.months += v * 12 * n
		s.months += int64(math.RoundToEven(frac * 12 * float64(n)))
	}
	switch unit {
	case unitMicrosecond:
		s.addMicros(v, frac, 1)
	case unitMillisecond:
		s.addMicros(v, frac, 1000)
	case unitSecond:
		s.addMicros(v, frac, MicrosPerSecond)
	case unitMinute:
		s.addMicros(v, frac, MicrosPerMinute)
	case unitHour:
		s.addMicros(v, frac, MicrosPerHour)
	case unitDay:
		s.days += v
		s.addMicros(0, frac, MicrosPerDay)
	case unitWeek:
		s.days += v * 7
		s.addFracDays(frac, 7)
	case unitMonth:
		s.months += v
		s.addFracDays(frac, DaysPerMonth)
	case unitYear:
		years(1)
	case unitDecade:
		years(10)
	case unitCentury:
		years(100)
	case unitMillennium:
		years(1000)
	}
}

func (s *intervalSum) value() (IntervalValue, bool) {
	if s.over || s.months > math.MaxInt32 || s.months < math.MinInt32 || s.days > math.MaxInt32 || s.days < math.MinInt32 {
		return IntervalValue{}, false
	}
	return IntervalValue{Months: int32(s.months), Days: int32(s.days), Micros: s.micros}, true
}

// intervalFieldOverflow is the SQLSTATE of an interval too large.
const intervalFieldOverflow = "22015"

func intervalOverflow(s string) error {
	return pgerror.New(intervalFieldOverflow, "interval field value out of range: %q", Quotable(s))
}

// ParseInterval reads an interval in any of PostgreSQL's spellings; t gives
// the allowed fields and the precision (Interval for all).
func ParseInterval(s string, t Type) (IntervalValue, error) {
	var sum intervalSum
	e := dateBadFormat
	if toks, ok := tokenize(s); ok {
		e = decodeInterval(toks, t.Scale, &sum)
	}
	if e == dateBadFormat {
		sum = intervalSum{}
		e = decodeISOInterval(trimSpace(s), &sum)
	}
	if e == dateBadFormat {
		return IntervalValue{}, e.error("interval", s, "")
	}
	iv, ok := sum.value()
	if e != dateOK || !ok {
		return IntervalValue{}, intervalOverflow(s)
	}
	return FitInterval(iv, t), nil
}

// decodeInterval goes through the fields from the last to the first, since a
// unit follows its number.
func decodeInterval(toks []dateToken, mask int32, sum *intervalSum) dateError {
	unit := unitNone
	var seen uint32
	ago := false
	for i := len(toks) - 1; i >= 0; i-- {
		tok := toks[i].text
		var got uint32
		switch kind := toks[i].kind; {
		case kind == tokTime || kind == tokZone && strings.ContainsRune(tok[1:], ':'):
			us, ok := intervalClock(strings.TrimLeft(tok, "+-"), mask)
			if !ok {
				return dateBadFormat
			}
			if tok[0] == '-' {
				us = -us
			}
			sum.addMicros1(us)
			got = 1<<unitHour | 1<<unitMinute | 1<<unitSecond
			unit = unitDay
		case kind == tokWord:
			if tok == "ago" {
				if i != len(toks)-1 {
					return dateBadFormat
				}
				ago = true
				continue
			}
			u, ok := intervalUnits[tok]
			if !ok {
				return dateBadFormat
			}
			unit = u
			continue
		case kind == tokSpecial:
			return dateBadFormat
		default:
			var e dateError
			if got, e = intervalNumber(tok, &unit, mask, sum); e != dateOK {
				return e
			}
		}
		if got&seen != 0 {
			return dateBadFormat
		}
		seen |= got
	}
	if seen == 0 {
		return dateBadFormat
	}
	if ago {
		sum.months, sum.days, sum.micros = -sum.months, -sum.days, -sum.micros
	}
	return dateOK
}

func intervalClock(s string, mask int32) (us int64, ok bool) {
	body, frac, dotted := strings.Cut(s, ".")
	p := strings.Split(body, ":")
	if len(p) < 2 || len(p) > 3 || p[0] == "" {
		return 0, false
	}
	var v [3]int64
	for i := range p {
		n, err := strconv.ParseInt("0"+p[i], 10, 64)
		if err != nil || n > math.MaxInt64/MicrosPerHour-1 {
			return 0, false
		}
		v[i] = n
	}
	if len(p) == 2 && (dotted || mask == intervalMinute|intervalSecond) {
		v[0], v[1], v[2] = 0, v[0], v[1]
	}
	if v[1] > 59 || v[2] > 60 {
		return 0, false
	}
	return v[0]*MicrosPerHour + v[1]*MicrosPerMinute + v[2]*MicrosPerSecond + fractionMicros(frac), true
}

// defaultUnit is the unit of a bare number, by the type's fields.
func defaultUnit(mask int32) intervalUnit {
	switch {
	case mask == intervalYear:
		return unitYear
	case mask == intervalMonth, mask == intervalYear|intervalMonth:
		return unitMonth
	case mask == intervalDay:
		return unitDay
	case mask == intervalHour, mask == intervalDay|intervalHour:
		return unitHour
	case mask != 0 && mask&intervalMinute != 0 && mask&intervalSecond == 0:
		return unitMinute
	}
	return unitSecond
}

// intervalNumber adds [sign]digits[.digits] or SQL's years-months.
func intervalNumber(tok string, unit *intervalUnit, mask int32, sum *intervalSum) (got uint32, e dateError) {
	if *unit == unitNone {
		*unit = defaultUnit(mask)
	}
	neg := tok[0] == '-'
	body := strings.TrimLeft(tok, "+-")
	digits := 0
	for digits < len(body) && isDigit(body[digits]) {
		digits++
	}
	v, err := int64(0), error(nil)
	if digits > 0 {
		if v, err = strconv.ParseInt(body[:digits], 10, 64); err != nil {
			return 0, dateOverflow
		}
	}
	frac := 0.0
	switch rest := body[digits:]; {
	case rest == "":
	case rest[0] == '-':
		m, err := strconv.ParseInt(rest[1:], 10, 64)
		if err != nil || digits == 0 {
			return 0, dateBadFormat
		}
		if m >= 12 || v > math.MaxInt32 {
			return 0, dateOverflow
		}
		v, *unit = v*12+m, unitMonth
	case rest[0] == '.':
		for _, c := range []byte(rest[1:]) {
			if !isDigit(c) {
				return 0, dateBadFormat
			}
		}
		if len(rest) > 1 {
			frac, _ = strconv.ParseFloat("0"+rest, 64)
		} else if digits == 0 {
			return 0, dateBadFormat
		}
	default:
		return 0, dateBadFormat
	}
	if neg {
		v, frac = -v, -frac
	}
	sum.add(*unit, v, frac)
	got = 1 << *unit
	if *unit == unitSecond && frac != 0 {
		got |= 1<<unitMillisecond | 1<<unitMicrosecond
	}
	if *unit == unitHour {
		*unit = unitDay
	}
	return got, dateOK
}

// decodeISOInterval reads P1Y2M3DT4H5M6S, P0001-02-03T04:05:06 and kin.
func decodeISOInterval(s string, sum *intervalSum) dateError {
	if len(s) < 2 || s[0] != 'P' {
		return dateBadFormat
	}
	s = s[1:]
	inTime, any := false, false
	for s != "" {
		if s[0] == 'T' {
			inTime, any = true, false
			s = s[1:]
			continue
		}
		if e, done := isoAlternative(s, inTime, sum); done {
			return e
		}
		n := 0
		for n < len(s) && (isDigit(s[n]) || s[n] == '.' || (s[n] == '-' || s[n] == '+') && n == 0) {
			n++
		}
		if n == 0 || n == len(s) {
			return dateBadFormat
		}
		v, frac, ok := isoNumber(s[:n])
		if !ok {
			return dateBadFormat
		}
		unit := unitNone
		switch c := s[n]; {
		case !inTime && c == 'Y':
			unit = unitYear
		case !inTime && c == 'M':
			unit = unitMonth
		case !inTime && c == 'W':
			unit = unitWeek
		case !inTime && c == 'D':
			unit = unitDay
		case inTime && c == 'H':
			unit = unitHour
		case inTime && c == 'M':
			unit = unitMinute
		case inTime && c == 'S':
			unit = unitSecond
		default:
			return dateBadFormat
		}
		sum.add(unit, v, frac)
		any = true
		s = s[n+1:]
	}
	if !any {
		return dateBadFormat
	}
	return dateOK
}

func isoNumber(s string) (v int64, frac float64, ok bool) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.Abs(f) > 1e15 {
		return 0, 0, false
	}
	whole := math.Trunc(f)
	if i := strings.IndexByte(s, '.'); i >= 0 {
		frac, _ = strconv.ParseFloat("0"+s[i:]+"0", 64)
		if s[0] == '-' {
			frac = -frac
		}
	}
	return int64(whole), frac, true
}

// isoAlternative reads the rest of a P-text in the alternative format
// (Y-M-D, YYYYMMDD, h:m:s); done is false when it isn't in it.
func isoAlternative(s string, inTime bool, sum *intervalSum) (e dateError, done bool) {
	part, rest, hasTime := strings.Cut(s, "T")
	sep := byte('-')
	if inTime {
		sep, part, rest, hasTime = ':', s, "", false
	}
	if strings.IndexFunc(part, func(r rune) bool { return r >= 'A' && r <= 'Z' }) >= 0 {
		return dateOK, false
	}
	units := []intervalUnit{unitYear, unitMonth, unitDay}
	if inTime {
		units = []intervalUnit{unitHour, unitMinute, unitSecond}
	}
	var fields []string
	if strings.IndexByte(part[1:], sep) >= 0 {
		fields = strings.Split(part, string(sep))
	} else if len(part) == 8 && !inTime {
		fields = []string{part[:4], part[4:6], part[6:]}
	} else if len(part) == 6 && inTime {
		fields = []string{part[:2], part[2:4], part[4:]}
	} else {
		fields = []string{part}
	}
	if len(fields) > 3 {
		return dateBadFormat, true
	}
	for i, f := range fields {
		v, frac, ok := isoNumber(f)
		if !ok {
			return dateBadFormat, true
		}
		sum.add(units[i], v, frac)
	}
	if hasTime && rest != "" {
		return isoTimePart(rest, sum), true
	}
	return dateOK, true
}

func isoTimePart(s string, sum *intervalSum) dateError {
	if e, done := isoAlternative(s, true, sum); done {
		return e
	}
	return decodeISOInterval("PT"+s, sum)
}

// FitInterval drops the fields below those that t allows and rounds to t's
// precision, as PostgreSQL's AdjustIntervalForTypmod.
func FitInterval(iv IntervalValue, t Type) IntervalValue {
	switch mask := t.Scale; {
	case mask == 0 || mask&intervalSecond != 0:
	case mask == intervalYear:
		return IntervalValue{Months: iv.Months / 12 * 12}
	case mask&(intervalHour|intervalMinute|intervalDay) == 0:
		return IntervalValue{Months: iv.Months}
	case mask == intervalDay:
		iv.Micros = 0
	case mask&intervalMinute != 0:
		iv.Micros = iv.Micros / MicrosPerMinute * MicrosPerMinute
	default:
		iv.Micros = iv.Micros / MicrosPerHour * MicrosPerHour
	}
	iv.Micros = RoundMicros(iv.Micros, t.Precision)
	return iv
}

// CompareIntervals orders intervals with months of 30 days and days of 24
// hours.
func CompareIntervals(a, b IntervalValue) int {
	ha, la := intervalSpan(a)
	hb, lb := intervalSpan(b)
	switch {
	case ha != hb:
		if ha < hb {
			return -1
		}
		return 1
	case la < lb:
		return -1
	case la > lb:
		return 1
	}
	return 0
}

// IntervalSpan is an interval's length as whole days and µs of a day: equal
// for equal intervals.
func IntervalSpan(iv IntervalValue) (days, micros int64) { return intervalSpan(iv) }

func intervalSpan(iv IntervalValue) (days, micros int64) {
	d, us := SplitTimestamp(iv.Micros)
	return int64(iv.Months)*DaysPerMonth + int64(iv.Days) + d, us
}
