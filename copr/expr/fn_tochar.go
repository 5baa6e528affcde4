package expr

import (
	"strconv"
	"strings"
	"time"

	"github.com/copradb/copra/internal/sqltypes"
)

// dateWords are the template patterns of to_char and to_date, longest first
// where one begins another.
var dateWords = strings.Fields(`A.D. A.M. AD AM B.C. BC CC DAY DDD DD DY Day Dy D FF1 FF2 FF3 FF4 FF5 FF6
 HH24 HH12 HH IDDD ID IW IYYY IYY IY I J MI MM MONTH MON MS Month Mon OF P.M. PM Q RM SSSSS SSSS SS TZH TZM TZ US WW W
 Y,YYY YYYY YYY YY Y a.d. a.m. ad am b.c. bc cc day ddd dd dy d hh24 hh12 hh iddd id iw iyyy iyy iy i j mi mm month mon ms
 p.m. pm q rm ssssss sssss ssss ss tz us ww w y,yyy yyyy yyy yy y of tzh tzm ff1 ff2 ff3 ff4 ff5 ff6`)

// datePiece is a part of a template: a pattern or literal text.
type datePiece struct {
	word    string // as written; "" = literal
	literal string
	fill    bool // FM: no padding
	ordinal byte // 't' or 'T' for th and TH
	quoted  bool
}

// splitDateTemplate takes a template apart.
func splitDateTemplate(s string) []datePiece {
	var out []datePiece
	for s != "" {
		fill := false
		for strings.HasPrefix(s, "FM") || strings.HasPrefix(s, "fm") || strings.HasPrefix(s, "FX") || strings.HasPrefix(s, "fx") {
			fill = fill || s[0]|0x20 == 'f' && s[1]|0x20 == 'm'
			s = s[2:]
		}
		if word := dateWord(s); word != "" {
			p := datePiece{word: word, fill: fill}
			s = s[len(word):]
			if strings.HasPrefix(s, "TH") || strings.HasPrefix(s, "th") {
				p.ordinal, s = s[0], s[2:]
			}
			out = append(out, p)
			continue
		}
		if s == "" {
			break
		}
		if s[0] == '"' {
			text, rest, _ := strings.Cut(s[1:], `"`)
			out = append(out, datePiece{literal: text, quoted: true})
			s = rest
			continue
		}
		if s[0] == '\\' && len(s) > 1 && s[1] == '"' {
			s = s[1:]
		}
		n := 1
		for n < len(s) && s[n]&0xC0 == 0x80 {
			n++
		}
		out = append(out, datePiece{literal: s[:n]})
		s = s[n:]
	}
	return out
}

func dateWord(s string) string {
	best := ""
	for _, w := range dateWords {
		if len(w) > len(best) && strings.HasPrefix(s, w) {
			best = w
		}
	}
	return best
}

var (
	monthNames = strings.Fields("January February March April May June July August September October November December")
	dayNames   = strings.Fields("Sunday Monday Tuesday Wednesday Thursday Friday Saturday")
	romans     = strings.Fields("I II III IV V VI VII VIII IX X XI XII")
)

// stampParts is what a template prints from.
type stampParts struct {
	b        broken
	hour     int64
	interval bool
	zone     string // abbreviation, "" = none
	offset   int64
	hasZone  bool
}

func ordinalSuffix(n int64) string {
	if n < 0 {
		n = -n
	}
	switch {
	case n%100 >= 11 && n%100 <= 13:
		return "th"
	case n%10 == 1:
		return "st"
	case n%10 == 2:
		return "nd"
	case n%10 == 3:
		return "rd"
	}
	return "th"
}

// cased prints a name as its pattern is written: MONTH, Month or month.
func cased(word, name string) string {
	switch {
	case word == strings.ToUpper(word):
		return strings.ToUpper(name)
	case word == strings.ToLower(word):
		return strings.ToLower(name)
	}
	return name
}

func padRight(s string, n int, fill bool) string {
	if fill {
		return s
	}
	return s + strings.Repeat(" ", max(n-len(s), 0))
}

func padZero(v int64, width int, fill bool) string {
	if fill {
		return strconv.FormatInt(v, 10)
	}
	s := strconv.FormatInt(max(v, -v), 10)
	if v < 0 {
		return "-" + strings.Repeat("0", max(width-len(s), 0)) + s
	}
	return strings.Repeat("0", max(width-len(s), 0)) + s
}

func formatStamp(pieces []datePiece, p *stampParts) string {
	var out strings.Builder
	for _, x := range pieces {
		if x.word == "" {
			out.WriteString(x.literal)
			continue
		}
		text, n, isNumber := p.field(x)
		out.WriteString(text)
		if isNumber && x.ordinal != 0 {
			suffix := ordinalSuffix(n)
			if x.ordinal == 'T' {
				suffix = strings.ToUpper(suffix)
			}
			out.WriteString(suffix)
		}
	}
	return out.String()
}

// field prints one pattern; n is its number where it is one.
func (p *stampParts) field(x datePiece) (text string, n int64, isNumber bool) {
	num := func(v int64, width int) (string, int64, bool) { return padZero(v, width, x.fill), v, true }
	year := p.b.y
	if year <= 0 && !p.interval {
		year = 1 - year
	}
	isoYear, isoWeek := p.b.isoWeek()
	switch strings.ToUpper(x.word) {
	case "HH24":
		return num(p.hour, 2)
	case "HH12", "HH":
		h := p.hour % 12
		if h == 0 {
			h = 12
		}
		return num(h, 2)
	case "MI":
		return num(p.b.us/usMinute%60, 2)
	case "SS":
		return num(p.b.us/usSecond%60, 2)
	case "MS", "FF3":
		return num(p.b.us%usSecond/1000, 3)
	case "US", "FF6":
		return num(p.b.us%usSecond, 6)
	case "FF1", "FF2", "FF4", "FF5":
		digits := int(x.word[2] - '0')
		return num(p.b.us%usSecond/pow10i64[6-digits], digits)
	case "SSSS", "SSSSS":
		return num(p.b.us/usSecond%86400, 1)
	case "YYYY":
		return num(year, 4)
	case "YYY":
		return num(year%1000, 3)
	case "YY":
		return num(year%100, 2)
	case "Y":
		return num(year%10, 1)
	case "Y,YYY":
		return padZero(year/1000, 1, false) + "," + padZero(year%1000, 3, false), year, true
	case "IYYY":
		return num(isoYear, 4)
	case "IYY":
		return num(isoYear%1000, 3)
	case "IY":
		return num(isoYear%100, 2)
	case "I":
		return num(isoYear%10, 1)
	case "MM":
		return num(p.b.m, 2)
	case "DD":
		return num(p.b.d, 2)
	case "DDD":
		return num(p.b.doy(), 3)
	case "D":
		return num(p.b.dow()+1, 1)
	case "ID":
		return num(p.b.isoDow(), 1)
	case "IDDD":
		return num((isoWeek-1)*7+p.b.isoDow(), 3)
	case "W":
		return num((p.b.d-1)/7+1, 1)
	case "WW":
		return num((p.b.doy()-1)/7+1, 2)
	case "IW":
		return num(isoWeek, 2)
	case "Q":
		return num((p.b.m-1)/3+1, 1)
	case "J":
		return num(p.b.days+julianDay1970, 1)
	case "CC":
		v, _, _ := extractCivil("century", p.b)
		return num(v, 2)
	}
	return p.name(x), 0, false
}

// name prints a pattern that is a word.
func (p *stampParts) name(x datePiece) string {
	half := func(a, b string, second bool) string {
		if second {
			a = b
		}
		if strings.Contains(x.word, ".") {
			a = a[:1] + "." + a[1:] + "."
		}
		return cased(x.word, a)
	}
	month := func() string {
		if p.b.m < 1 || p.b.m > 12 {
			return ""
		}
		return monthNames[p.b.m-1]
	}
	switch upper := strings.ToUpper(x.word); upper {
	case "AM", "PM", "A.M.", "P.M.":
		return half("AM", "PM", p.hour%24 >= 12)
	case "AD", "BC", "A.D.", "B.C.":
		return half("AD", "BC", p.b.y <= 0)
	case "MONTH":
		return padRight(cased(x.word, month()), 9, x.fill)
	case "MON":
		if m := month(); m != "" {
			return cased(x.word, m[:3])
		}
		return ""
	case "DAY":
		return padRight(cased(x.word, dayNames[p.b.dow()]), 9, x.fill)
	case "DY":
		return cased(x.word, dayNames[p.b.dow()][:3])
	case "RM":
		if p.b.m < 1 || p.b.m > 12 {
			return ""
		}
		return padRight(cased(x.word, romans[p.b.m-1]), 4, x.fill)
	case "TZ":
		if x.word == "tz" {
			return strings.ToLower(p.zone)
		}
		return p.zone
	case "TZH", "TZM", "OF":
		return p.offsetText(upper)
	}
	return x.word
}

func (p *stampParts) offsetText(word string) string {
	off := p.offset
	sign := "+"
	if off < 0 {
		sign, off = "-", -off
	}
	h, m := padZero(off/3600, 2, false), padZero(off/60%60, 2, false)
	switch {
	case word == "TZH":
		return sign + h
	case word == "TZM":
		return m
	case off%3600 != 0:
		return sign + h + ":" + m
	}
	return sign + h
}

func init() {
	def("to_char(timestamp,text) text", toCharEval(func(_ *call, us int64) (stampParts, bool) {
		b := breakStamp(us)
		return stampParts{b: b, hour: b.us / usHour}, !infinite(us)
	}), stable)
	def("to_char(timestamptz,text) text", toCharEval(func(cc *call, us int64) (stampParts, bool) {
		if infinite(us) {
			return stampParts{}, false
		}
		off, name := sqltypes.ZoneOffset(us, cc.ctx.zone())
		b := breakStamp(us + off*usSecond)
		if strings.HasPrefix(name, "+") || strings.HasPrefix(name, "-") {
			name = time.Unix(0, 0).In(time.FixedZone("", int(off))).Format("-07")
		}
		return stampParts{b: b, hour: b.us / usHour, zone: name, offset: off, hasZone: true}, true
	}), stable)
	def("to_char(interval,text) text", toCharEval(func(_ *call, iv interval) (stampParts, bool) {
		b := broken{y: int64(iv.Months / 12), m: int64(iv.Months % 12), d: int64(iv.Days), us: iv.Micros}
		return stampParts{b: b, hour: iv.Micros / usHour, interval: true}, true
	}), stable)
}

// toCharEval formats values; a constant template is taken apart once.
func toCharEval[T any](parts func(cc *call, v T) (stampParts, bool)) evalFunc {
	return func(cc *call, args []vec, n int, sel []int32) (vec, error) {
		v, f := reader[T](args[0]), reader[string](args[1])
		var last string
		var pieces []datePiece
		return lift(cc, args, n, sel, func(i int) (string, bool, error) {
			p, ok := parts(cc, v(i))
			if !ok || f(i) == "" {
				return "", false, nil
			}
			if x := f(i); pieces == nil || x != last {
				pieces, last = splitDateTemplate(x), x
			}
			return formatStamp(pieces, &p), true, nil
		})
	}
}
