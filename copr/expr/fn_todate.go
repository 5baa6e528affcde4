package expr

import (
	"strings"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// dateInput collects what a text says by a template.
type dateInput struct {
	v      map[string]int64
	pm, am bool
	bc     bool
}

func errDateInput(format string, args ...any) *pgerror.Error {
	return pgerror.New(pgerror.InvalidDatetimeFormat, format, args...)
}

// dateWidths are the most digits that a pattern takes when digits follow it.
var dateWidths = map[string]int{
	"HH24": 2, "HH12": 2, "HH": 2, "MI": 2, "SS": 2, "MS": 3, "US": 6, "SSSS": 5, "SSSSS": 5, "YYYY": 4, "YYY": 3, "YY": 2, "Y": 1,
	"IYYY": 4, "IYY": 3, "IY": 2, "I": 1, "MM": 2, "DD": 2, "DDD": 3, "IDDD": 3, "D": 1, "ID": 1, "W": 1, "WW": 2, "IW": 2, "Q": 1,
	"CC": 2, "J": 7, "FF1": 1, "FF2": 2, "FF3": 3, "FF4": 4, "FF5": 5, "FF6": 6, "TZH": 2, "TZM": 2,
}

// parseByTemplate reads s by a template, as to_date and to_timestamp do.
func parseByTemplate(s, template string) (*dateInput, error) {
	in := &dateInput{v: map[string]int64{}}
	pieces := splitDateTemplate(template)
	for i, p := range pieces {
		if p.word == "" {
			s = skipLiteral(s, p)
			continue
		}
		s = strings.TrimLeft(s, " \t\n")
		if s == "" {
			break
		}
		var err error
		if width, ok := dateWidths[strings.ToUpper(p.word)]; ok {
			tight := !p.fill && i+1 < len(pieces) && pieces[i+1].word != "" && dateWidths[strings.ToUpper(pieces[i+1].word)] > 0
			s, err = in.number(s, p, width, tight)
		} else {
			s, err = in.word(s, p)
		}
		if err != nil {
			return nil, err
		}
	}
	return in, nil
}

func separator(c byte) bool {
	return c > 0x20 && c < 0x7f && !(c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z')
}

// skipLiteral passes over literal text of a template: any separator for a
// separator, any character for another one.
func skipLiteral(s string, p datePiece) string {
	for _, c := range []byte(p.literal) {
		if s == "" {
			return ""
		}
		switch {
		case p.quoted:
			s = s[1:]
		case c == ' ' || separator(c):
			trimmed := strings.TrimLeft(s, " ")
			if trimmed != "" && separator(trimmed[0]) && trimmed[0] != '-' && trimmed[0] != '+' || trimmed != "" && trimmed[0] == c {
				s = trimmed[1:]
			} else if trimmed != "" && trimmed[0] == '-' && c != ' ' {
				s = trimmed[1:]
			} else {
				s = trimmed
			}
		default:
			s = s[1:]
		}
	}
	return s
}

func (in *dateInput) number(s string, p datePiece, width int, tight bool) (string, error) {
	name := strings.ToUpper(p.word)
	i, neg := 0, false
	if s[0] == '-' || s[0] == '+' {
		neg = s[0] == '-'
		i = 1
	}
	start := i
	limit := len(s)
	if tight || name == "MS" || name == "US" || strings.HasPrefix(name, "FF") {
		limit = min(limit, start+width)
	}
	var v int64
	for ; i < limit && s[i] >= '0' && s[i] <= '9' && i-start < 18; i++ {
		v = v*10 + int64(s[i]-'0')
	}
	if i == start {
		got := s[:min(width, len(s))]
		return "", errDateInput("invalid value %q for %q", sqltypes.Quotable(got), sqltypes.Quotable(p.word)).
			WithDetail("Value must be an integer.")
	}
	digits := i - start
	switch name {
	case "MS", "US", "FF1", "FF2", "FF3", "FF4", "FF5", "FF6":
		name, v = "US", v*pow10i64[6-digits]
	case "YYY", "YY", "Y", "IYYY", "IYY", "IY", "I", "YYYY":
		if digits < 4 && name != "YYYY" && name != "IYYY" {
			v = nearYear(v, digits)
		}
		name = map[bool]string{true: "IYYY", false: "YYYY"}[name[0] == 'I']
	case "HH":
		name = "HH12"
	case "SSSSS":
		name = "SSSS"
	}
	if neg {
		v = -v
	}
	in.v[name] = v
	s = s[i:]
	if p.ordinal != 0 && len(s) >= 2 {
		s = s[2:]
	}
	return s, nil
}

// nearYear completes a short year to the one nearest to 2020.
func nearYear(v int64, digits int) int64 {
	switch {
	case digits <= 2 && v < 70:
		return v + 2000
	case digits <= 2:
		return v + 1900
	case v < 520:
		return v + 2000
	}
	return v + 1000
}

// matchName finds the longest of names (or their first n letters) that s begins
// with, in any case.
func matchName(s string, names []string, n int) (index, length int) {
	for i, name := range names {
		if n > 0 {
			name = name[:n]
		}
		if len(s) >= len(name) && strings.EqualFold(s[:len(name)], name) && len(name) > length {
			index, length = i, len(name)
		}
	}
	return index, length
}

func (in *dateInput) word(s string, p datePiece) (string, error) {
	bad := func() error {
		end := strings.IndexAny(s, " ,-/.:")
		if end < 0 {
			end = len(s)
		}
		return errDateInput("invalid value %q for %q", sqltypes.Quotable(s[:end]), sqltypes.Quotable(p.word)).
			WithDetail("The given value did not match any of the allowed values for this field.")
	}
	name := strings.ToUpper(p.word)
	take := func(names []string, n int, key string) (string, error) {
		i, length := matchName(s, names, n)
		if length == 0 {
			return "", bad()
		}
		if key != "" {
			in.v[key] = int64(i) + 1
		}
		return s[length:], nil
	}
	switch name {
	case "MONTH":
		return take(monthNames, 0, "MM")
	case "MON":
		return take(monthNames, 3, "MM")
	case "DAY":
		return take(dayNames, 0, "")
	case "DY":
		return take(dayNames, 3, "")
	case "RM":
		return take(romans, 0, "MM")
	case "AM", "PM", "A.M.", "P.M.":
		i, length := matchName(s, []string{"AM", "PM", "A.M.", "P.M."}, 0)
		if length == 0 {
			return "", bad()
		}
		in.pm, in.am = i%2 == 1, i%2 == 0
		return s[length:], nil
	case "AD", "BC", "A.D.", "B.C.":
		i, length := matchName(s, []string{"AD", "BC", "A.D.", "B.C."}, 0)
		if length == 0 {
			return "", bad()
		}
		in.bc = i%2 == 1
		return s[length:], nil
	case "Y,YYY":
		text := strings.Replace(s, ",", "", 1)
		return in.number(text, datePiece{word: "YYYY"}, 4, false)
	case "TZ", "OF":
		return "", pgerror.New(pgerror.FeatureNotSupported, "formatting field %q is only supported in to_char", sqltypes.Quotable(p.word))
	}
	return "", bad()
}

// date is the day that was given.
func (in *dateInput) date(text string) (int64, error) {
	get := func(k string, otherwise int64) int64 {
		if v, ok := in.v[k]; ok {
			return v
		}
		return otherwise
	}
	overflow := pgerror.New(pgerror.DatetimeFieldOverflow, "date/time field value out of range: %q", sqltypes.Quotable(text))
	if j, ok := in.v["J"]; ok {
		return j - julianDay1970, nil
	}
	y, m, d := get("YYYY", 0), get("MM", 1), get("DD", 1)
	_, hasYear := in.v["YYYY"]
	if in.bc && y > 0 {
		y = 1 - y
	} else if y < 0 {
		y++
	} else if !hasYear {
		if y = 0; in.v["CC"] > 0 {
			y = (in.v["CC"]-1)*100 + 1
		}
	}
	if iso, ok := in.v["IYYY"]; ok {
		jan4 := breakStamp(sqltypes.DaysFromCivil(iso, 1, 4) * usDay)
		if doy, ok := in.v["IDDD"]; ok {
			return jan4.isoMonday() + doy - 1, nil
		}
		return jan4.isoMonday() + (get("IW", 1)-1)*7 + get("ID", 1) - 1, nil
	}
	if doy, ok := in.v["DDD"]; ok {
		if _, month := in.v["MM"]; !month {
			return sqltypes.DaysFromCivil(y, 1, 1) + doy - 1, nil
		}
	}
	if w, ok := in.v["WW"]; ok {
		return sqltypes.DaysFromCivil(y, 1, 1) + (w-1)*7, nil
	}
	if w, ok := in.v["W"]; ok {
		d = (w-1)*7 + 1
	}
	if m < 1 || m > 12 || d < 1 || d > sqltypes.DaysInMonth(y, m) {
		return 0, overflow
	}
	return sqltypes.DaysFromCivil(y, m, d), nil
}

// micros is the time of day that was given.
func (in *dateInput) micros(text string) (int64, error) {
	if s, ok := in.v["SSSS"]; ok {
		return s*usSecond + in.v["US"], nil
	}
	h, ok := in.v["HH24"]
	if h12, has := in.v["HH12"]; has && !ok {
		if h12 < 1 || h12 > 12 {
			return 0, errDateInput("hour \"%d\" is invalid for the 12-hour clock", h12).
				WithHint("Use the 24-hour clock, or give an hour between 1 and 12.")
		}
		h = h12
		if in.pm && h < 12 {
			h += 12
		} else if in.am && h == 12 {
			h = 0
		}
	}
	m, s := in.v["MI"], in.v["SS"]
	if h < 0 || h > 24 || m < 0 || m > 59 || s < 0 || s > 59 {
		return 0, pgerror.New(pgerror.DatetimeFieldOverflow, "date/time field value out of range: %q", sqltypes.Quotable(text))
	}
	return h*usHour + m*usMinute + s*usSecond + in.v["US"], nil
}

func init() {
	def("to_date(text,text) date", fn2(func(_ *call, s, f string) (int32, error) {
		in, err := parseByTemplate(s, f)
		if err != nil {
			return 0, err
		}
		days, err := in.date(s)
		if err != nil {
			return 0, err
		}
		if !sqltypes.DateInRange(days) {
			return 0, pgerror.New(pgerror.DatetimeFieldOverflow, "date out of range: %q", sqltypes.Quotable(s))
		}
		return int32(days), nil
	}), stable)
	def("to_timestamp(text,text) timestamptz", fn2(func(cc *call, s, f string) (int64, error) {
		in, err := parseByTemplate(s, f)
		if err != nil {
			return 0, err
		}
		days, err := in.date(s)
		if err != nil {
			return 0, err
		}
		us, err := in.micros(s)
		if err != nil {
			return 0, err
		}
		local := days*usDay + us
		h, zoned := in.v["TZH"]
		if !zoned {
			return toUTC(cc, local)
		}
		m := in.v["TZM"]
		if h < 0 {
			m = -m
		}
		return checkStamp(local-(h*3600+m*60)*usSecond, true)
	}), stable)
}
