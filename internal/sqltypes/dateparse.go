package sqltypes

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/copradb/copra/internal/pgerror"
)

// ParseOptions is what the session knows and texts of dates depend on.
type ParseOptions struct {
	TimeZone *time.Location // nil = UTC
	Now      time.Time      // of the transaction; zero = the clock's
}

func (o *ParseOptions) zone() *time.Location {
	if o == nil || o.TimeZone == nil {
		return time.UTC
	}
	return o.TimeZone
}

func (o *ParseOptions) now() int64 {
	if o == nil || o.Now.IsZero() {
		return time.Now().UnixMicro()
	}
	return o.Now.UnixMicro()
}

// dateFields is what a date/time text said.
type dateFields struct {
	year, month, day          int64
	hasYear, hasMonth, hasDay bool
	textMonth, twoDigits      bool
	micros                    int64 // of the day
	hasTime, pm, am, bc       bool
	zone                      *time.Location
	special                   string // infinity, now, …
	isoTime                   bool   // a T was just seen
	julian                    bool
	dayOfYear                 int64
	hourOver12                bool
}

type dateError uint8

const (
	dateOK dateError = iota
	dateBadFormat
	dateOverflow
	dateMonthDayOverflow
	dateZoneOverflow
)

func (e dateError) error(typ, s string, zone string) error {
	q := Quotable(s)
	switch e {
	case dateOverflow:
		return pgerror.New(pgerror.DatetimeFieldOverflow, "date/time field value out of range: %q", q)
	case dateMonthDayOverflow:
		return pgerror.New(pgerror.DatetimeFieldOverflow, "date/time field value out of range: %q", q).
			WithHint(`Perhaps you need a different "datestyle" setting.`)
	case dateZoneOverflow:
		return pgerror.New(pgerror.InvalidTimeZone, "time zone displacement out of range: %q", q)
	}
	if zone != "" {
		return pgerror.New(pgerror.InvalidParameterValue, "time zone %q not recognized", Quotable(zone))
	}
	return pgerror.New(pgerror.InvalidDatetimeFormat, "invalid input syntax for type %s: %q", typ, q)
}

// decodeDate reads a text of any of the date/time types; onlyTime says that
// bare numbers are times.
func decodeDate(s string, onlyTime bool) (f dateFields, badZone string, e dateError) {
	toks, ok := tokenize(s)
	if !ok {
		return f, "", dateBadFormat
	}
	for i, tok := range toks {
		switch tok.kind {
		case tokDate:
			e = f.date(tok.text)
		case tokTime:
			e = f.time(tok.text)
		case tokZone:
			e = f.offset(tok.text)
		case tokNumber:
			e = f.number(tok.text, onlyTime)
		case tokWord, tokSpecial:
			e = f.word(tok.text, i, toks)
			if e == dateBadFormat && tok.kind == tokWord && strings.ContainsAny(tok.text, "/_") {
				badZone = tok.text
			}
		}
		if e != dateOK {
			return f, badZone, e
		}
	}
	return f, "", f.finish()
}

func atoi(s string) int64 {
	v, err := strconv.ParseInt(s, 10, 64)
	if err != nil || v > math.MaxInt32 {
		return math.MaxInt32
	}
	return v
}

// date reads digits and a month name joined by a delimiter.
func (f *dateFields) date(s string) dateError {
	if f.hasYear && f.hasMonth && f.hasDay {
		clock, zone, ok := strings.Cut(s, "-") // HHMMSS-ZZ
		if !ok || f.hasTime {
			return dateBadFormat
		}
		clock, frac, _ := strings.Cut(clock, ".")
		if e := f.compactTime(clock, frac); e != dateOK {
			return e
		}
		return f.offset("-" + zone)
	}
	parts := strings.FieldsFunc(s, func(r rune) bool { return r == '-' || r == '/' || r == '.' })
	if len(parts) == 2 && strings.Contains(s, ".") && isDigit(s[0]) {
		return f.number(s, false)
	}
	if len(parts) < 2 || len(parts) > 3 {
		return dateBadFormat
	}
	for i, p := range parts { // a month's name settles the rest
		if m := months[p]; m != 0 {
			if f.hasMonth {
				return dateBadFormat
			}
			f.month, f.hasMonth, f.textMonth = m, true, true
			parts[i] = ""
		}
	}
	for _, p := range parts {
		if p == "" {
			continue
		}
		if !isDigit(p[0]) || !isDigit(p[len(p)-1]) {
			return dateBadFormat
		}
		if e := f.dateNumber(p); e != dateOK {
			return e
		}
	}
	if len(parts) == 2 && !(f.hasYear && f.hasMonth && f.hasDay) && !(f.hasYear && f.dayOfYear > 0) {
		return dateBadFormat
	}
	return dateOK
}

// dateNumber gives a number its meaning by what is known already, in the
// order month, day, year.
func (f *dateFields) dateNumber(p string) dateError {
	v := atoi(p)
	setYear := func() {
		f.year, f.hasYear, f.twoDigits = v, true, len(p) <= 2
	}
	switch {
	case !f.hasYear && !f.hasMonth && !f.hasDay:
		if len(p) >= 3 {
			setYear()
		} else {
			f.month, f.hasMonth = v, true
		}
	case f.hasYear && !f.hasMonth && !f.hasDay:
		if len(p) == 3 && v >= 1 && v <= 366 {
			f.dayOfYear, f.hasMonth, f.hasDay = v, true, true
			return dateOK
		}
		f.month, f.hasMonth = v, true
	case f.hasMonth && !f.hasDay:
		if f.textMonth && !f.hasYear && len(p) >= 3 {
			setYear()
		} else if f.hasYear && f.textMonth && f.twoDigits && len(p) >= 3 {
			f.day, f.hasDay = f.year, true // DD-Mon-YYYY read as year first
			setYear()
		} else {
			f.day, f.hasDay = v, true
		}
	case f.hasMonth && f.hasDay && !f.hasYear:
		setYear()
	case f.hasDay && !f.hasMonth:
		f.month, f.hasMonth = v, true
	default:
		return dateBadFormat
	}
	return dateOK
}

func (f *dateFields) number(s string, onlyTime bool) dateError {
	if f.julian {
		return dateBadFormat
	}
	whole, frac, dotted := strings.Cut(s, ".")
	haveDate := f.hasYear && f.hasMonth && f.hasDay || f.special != ""
	if f.isoTime || haveDate || onlyTime && !f.hasMonth && len(whole) != 8 {
		f.isoTime = false
		if f.hasTime {
			return dateBadFormat
		}
		return f.compactTime(whole, frac)
	}
	if dotted {
		if len(whole) == 4 && len(frac) == 3 && !f.hasYear && !f.hasMonth {
			f.year, f.hasYear = atoi(whole), true
			f.dayOfYear, f.hasMonth, f.hasDay = atoi(frac), true, true
			return dateOK
		}
		if len(whole) == 8 || len(whole) == 14 {
			return f.compactDate(whole, frac)
		}
		return dateBadFormat
	}
	if !f.hasYear && !f.hasMonth && !f.hasDay && len(whole) >= 6 {
		return f.compactDate(whole, "")
	}
	return f.dateNumber(whole)
}

// compactDate reads YYYYMMDD, YYMMDD and YYYYMMDDHHMMSS.
func (f *dateFields) compactDate(s, frac string) dateError {
	if len(s) == 14 {
		if e := f.compactTime(s[8:], frac); e != dateOK {
			return e
		}
		s = s[:8]
	}
	if len(s) < 6 {
		return dateBadFormat
	}
	n := len(s)
	f.year, f.month, f.day = atoi(s[:n-4]), atoi(s[n-4:n-2]), atoi(s[n-2:])
	f.hasYear, f.hasMonth, f.hasDay, f.twoDigits = true, true, true, n == 6
	return dateOK
}

// compactTime reads HHMMSS, HHMM and HH.
func (f *dateFields) compactTime(s, frac string) dateError {
	var h, m, sec int64
	switch len(s) {
	case 6:
		h, m, sec = atoi(s[:2]), atoi(s[2:4]), atoi(s[4:])
	case 4:
		h, m = atoi(s[:2]), atoi(s[2:])
	case 2:
		h = atoi(s)
	default:
		return dateBadFormat
	}
	return f.setTime(h, m, sec, fractionMicros(frac))
}

func (f *dateFields) setTime(h, m, s, us int64) dateError {
	if f.hasTime {
		return dateBadFormat
	}
	if h < 0 || m < 0 || m > 59 || s < 0 || s > 60 || us > MicrosPerSecond {
		return dateOverflow
	}
	f.hasTime = true
	f.hourOver12 = h > 12
	f.micros = ((h*60+m)*60+s)*MicrosPerSecond + us
	if h > 24 || f.micros > MicrosPerDay {
		return dateOverflow
	}
	return dateOK
}

// fractionMicros rounds the digits after a point to µs.
func fractionMicros(digits string) int64 {
	if digits == "" {
		return 0
	}
	v, err := strconv.ParseFloat("0."+digits, 64)
	if err != nil {
		return 0
	}
	return int64(math.RoundToEven(v * MicrosPerSecond))
}

func (f *dateFields) time(s string) dateError {
	f.isoTime = false
	h, m, sec, us, ok := splitClock(s)
	if !ok {
		return dateBadFormat
	}
	return f.setTime(h, m, sec, us)
}

// splitClock reads H:M, H:M:S and H:M:S.f; also M:S.f, as PostgreSQL does.
func splitClock(s string) (h, m, sec, us int64, ok bool) {
	body, frac, dotted := strings.Cut(s, ".")
	if strings.ContainsAny(frac, ".:") {
		return 0, 0, 0, 0, false
	}
	p := strings.Split(body, ":")
	if len(p) < 2 || len(p) > 3 || p[0] == "" || p[1] == "" && len(p) == 3 {
		return 0, 0, 0, 0, false
	}
	us = fractionMicros(frac)
	switch {
	case len(p) == 3:
		if p[2] == "" {
			return 0, 0, 0, 0, false
		}
		h, m, sec = atoi(p[0]), atoi(p[1]), atoi(p[2])
	case dotted:
		m, sec = atoi(p[0]), atoi(p[1])
	default:
		h, m = atoi(p[0]), atoi("0"+p[1])
	}
	return h, m, sec, us, true
}

func (f *dateFields) offset(s string) dateError {
	if f.zone != nil || !f.hasTime && !(f.hasYear && f.hasMonth && f.hasDay) && f.special == "" {
		return dateBadFormat
	}
	if f.hasYear && !f.hasTime && !f.hasDay {
		return dateBadFormat
	}
	secs, ok := parseOffset(s)
	if !ok {
		if strings.ContainsAny(s[1:], "-.") {
			return dateBadFormat
		}
		return dateZoneOverflow
	}
	if secs > 57599 || secs < -57599 {
		return dateZoneOverflow
	}
	f.zone = fixedZone(secs)
	return dateOK
}

func fixedZone(secs int) *time.Location {
	if secs == 0 {
		return time.UTC
	}
	return time.FixedZone("", secs)
}

func (f *dateFields) word(s string, i int, toks []dateToken) dateError {
	if m := months[s]; m != 0 {
		if f.hasMonth && !f.textMonth && !f.hasDay && f.month >= 1 && f.month <= 31 {
			f.day, f.hasDay = f.month, true
		} else if f.hasMonth {
			return dateBadFormat
		}
		f.month, f.hasMonth, f.textMonth = m, true, true
		return dateOK
	}
	if _, ok := weekdays[s]; ok {
		return dateOK
	}
	switch s {
	case "am":
		f.am = true
	case "pm":
		f.pm = true
	case "bc":
		f.bc = true
	case "ad", "at", "on", "dst":
	case "t":
		if !(f.hasYear && f.hasMonth && f.hasDay) && i+1 < len(toks) && f.hasMonth {
			return dateBadFormat
		}
		f.isoTime = true
	case "j", "jd", "julian":
		if i+1 >= len(toks) || toks[i+1].kind != tokNumber {
			return dateBadFormat
		}
		days, frac, _ := strings.Cut(toks[i+1].text, ".")
		f.year, f.month, f.day = CivilFromDays(atoi(days) - julianOfUnixEpoch)
		f.hasYear, f.hasMonth, f.hasDay = true, true, true
		if frac != "" {
			v, _ := strconv.ParseFloat("0."+frac, 64)
			f.micros, f.hasTime = int64(v*float64(MicrosPerDay)), true
		}
		toks[i+1] = dateToken{tokWord, "ad"}
		f.julian = true
	case "allballs":
		f.zone = time.UTC
		return f.setTime(0, 0, 0, 0)
	case "infinity", "+infinity", "-infinity", "epoch", "now", "today", "tomorrow", "yesterday":
		if f.special != "" || f.hasYear || f.hasMonth {
			return dateBadFormat
		}
		f.special = s
	default:
		loc := findZone(s)
		if loc == nil || f.zone != nil || s[0] == '-' || s[0] == '+' {
			return dateBadFormat
		}
		f.zone = loc
	}
	return dateOK
}

// finish checks the fields against one another.
func (f *dateFields) finish() dateError {
	if f.am || f.pm {
		if !f.hasTime || f.hourOver12 {
			return dateOverflow
		}
		if f.pm && f.micros < 12*MicrosPerHour {
			f.micros += 12 * MicrosPerHour
		} else if f.am && f.micros >= 12*MicrosPerHour {
			f.micros -= 12 * MicrosPerHour
		}
	}
	if !f.hasYear && !f.hasMonth && !f.hasDay {
		return dateOK
	}
	if !f.hasYear || !f.hasMonth || !f.hasDay {
		return dateBadFormat
	}
	if f.julian {
		return dateOK
	}
	if f.bc {
		if f.year <= 0 {
			return dateOverflow
		}
		f.year = 1 - f.year
	} else if f.twoDigits {
		if f.year < 70 {
			f.year += 2000
		} else if f.year < 100 {
			f.year += 1900
		}
	} else if f.year <= 0 {
		return dateOverflow
	}
	if f.dayOfYear > 0 {
		f.year, f.month, f.day = CivilFromDays(DaysFromCivil(f.year, 1, 1) + f.dayOfYear - 1)
	}
	if f.month < 1 || f.month > 12 || f.day < 1 || f.day > 31 {
		return dateMonthDayOverflow
	}
	if f.day > DaysInMonth(f.year, f.month) {
		return dateOverflow
	}
	return dateOK
}

// fastISO reads exactly YYYY-MM-DD.
func fastISO(s string) (days int64, ok bool) { return ParseISODate(s) }

// ParseISODate reads a date that is written as YYYY-MM-DD, of the years 1 to
// 9999, and nothing else.
func ParseISODate[S string | []byte](s S) (days int64, ok bool) {
	if len(s) != 10 || s[4] != '-' || s[7] != '-' {
		return 0, false
	}
	for _, i := range [8]int{0, 1, 2, 3, 5, 6, 8, 9} {
		if !isDigit(s[i]) {
			return 0, false
		}
	}
	two := func(i int) int64 { return int64(s[i]-'0')*10 + int64(s[i+1]-'0') }
	y, m, d := two(0)*100+two(2), two(5), two(8)
	if y == 0 || m < 1 || m > 12 || d < 1 || d > DaysInMonth(y, m) {
		return 0, false
	}
	return DaysFromCivil(y, m, d), true
}

// ParseDate reads a date as days since 1970.
func ParseDate(s string, o *ParseOptions) (int64, error) {
	if days, ok := fastISO(s); ok {
		return days, nil
	}
	f, zone, e := decodeDate(s, false)
	if e != dateOK {
		return 0, e.error("date", s, zone)
	}
	days, isDate := int64(0), f.hasDay
	switch f.special {
	case "infinity", "+infinity":
		return DateInfinity, nil
	case "-infinity":
		return DateMinusInfinity, nil
	case "epoch":
		return 0, nil
	case "":
		days = DaysFromCivil(f.year, f.month, f.day)
	default:
		days, _ = SplitTimestamp(UTCToLocal(o.now(), o.zone()))
		days, isDate = days+specialDays(f.special), true
	}
	if !isDate {
		return 0, dateBadFormat.error("date", s, "")
	}
	if !DateInRange(days) {
		return 0, pgerror.New(pgerror.DatetimeFieldOverflow, "date out of range: %q", Quotable(s))
	}
	return days, nil
}

func specialDays(word string) int64 {
	switch word {
	case "tomorrow":
		return 1
	case "yesterday":
		return -1
	}
	return 0
}

// ParseTimestamp reads a timestamp, or with withZone a timestamptz, as µs
// since 1970, rounded to precision fractional digits.
func ParseTimestamp(s string, withZone bool, precision int32, o *ParseOptions) (int64, error) {
	name := "timestamp"
	if withZone {
		name = "timestamp with time zone"
	}
	f, zone, e := decodeDate(s, false)
	if e != dateOK {
		return 0, e.error(name, s, zone)
	}
	var us int64
	switch f.special {
	case "infinity", "+infinity":
		return TimestampInfinity, nil
	case "-infinity":
		return TimestampMinusInf, nil
	case "epoch":
		return 0, nil
	case "now":
		us = o.now()
		if !withZone {
			us = UTCToLocal(us, o.zone())
		}
		return RoundMicros(us, precision), nil
	case "":
		if !f.hasDay {
			return 0, dateBadFormat.error(name, s, "")
		}
		days := DaysFromCivil(f.year, f.month, f.day)
		if days > math.MaxInt64/MicrosPerDay-1 || days < -julianOfUnixEpoch {
			return 0, pgerror.New(pgerror.DatetimeFieldOverflow, "timestamp out of range: %q", Quotable(s))
		}
		us = days*MicrosPerDay + f.micros
	default:
		days, _ := SplitTimestamp(UTCToLocal(o.now(), o.zone()))
		us = (days+specialDays(f.special))*MicrosPerDay + f.micros
	}
	us = RoundMicros(us, precision)
	if withZone {
		if f.zone == nil {
			f.zone = o.zone()
		}
		us = LocalToUTC(us, f.zone)
	}
	if !TimestampInRange(us) {
		return 0, pgerror.New(pgerror.DatetimeFieldOverflow, "timestamp out of range: %q", Quotable(s))
	}
	return us, nil
}

// ParseTime reads a time of day as µs.
func ParseTime(s string, precision int32, o *ParseOptions) (int64, error) {
	f, zone, e := decodeDate(s, true)
	if e == dateOK && f.special == "now" {
		_, us := SplitTimestamp(UTCToLocal(o.now(), o.zone()))
		return RoundMicros(us, precision), nil
	}
	if e == dateOK && !f.hasTime {
		e = dateBadFormat
	}
	if e != dateOK {
		return 0, e.error("time", s, zone)
	}
	return RoundMicros(f.micros, precision), nil
}

var microScales = [...]int64{1_000_000, 100_000, 10_000, 1000, 100, 10, 1}

// RoundMicros rounds µs to precision-1 fractional digits of a second, halves
// away from zero; 0 = no rounding (Type.Precision of the time types).
func RoundMicros(us int64, precision int32) int64 {
	if precision <= 0 || precision > timePrecisionMax || us == TimestampInfinity || us == TimestampMinusInf {
		return us
	}
	unit := microScales[precision-1]
	if us >= 0 {
		return (us + unit/2) / unit * unit
	}
	return -((-us + unit/2) / unit * unit)
}
