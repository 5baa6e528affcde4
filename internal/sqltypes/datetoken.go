package sqltypes

import "strings"

// tokKind is the kind of a field of a date, time or interval text, as
// PostgreSQL's ParseDateTime splits them.
type tokKind uint8

const (
	tokNumber tokKind = iota
	tokDate           // digits or words joined by - / .
	tokTime           // digits with colons
	tokZone           // a sign, then digits
	tokWord
	tokSpecial // a sign, then a word
)

type dateToken struct {
	kind tokKind
	text string // lower case
}

const dateTokensMax = 25

func isAlpha(c byte) bool { return c >= 'a' && c <= 'z' || c >= 0x80 }

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

// tokenize splits a date/time text; ok is false for characters that cannot be
// in one.
func tokenize(s string) (toks []dateToken, ok bool) {
	s = strings.ToLower(s)
	for i := 0; i < len(s); {
		c := s[i]
		start := i
		var kind tokKind
		switch {
		case isSpace(c):
			i++
			continue
		case isDigit(c):
			kind, i = scanNumber(s, i)
		case c == '.':
			kind = tokNumber
			for i++; i < len(s) && isDigit(s[i]); i++ {
			}
		case isAlpha(c):
			kind, i = scanWord(s, i)
		case c == '+' || c == '-':
			for i++; i < len(s) && isSpace(s[i]); i++ {
			}
			body := i
			switch {
			case i < len(s) && isDigit(s[i]):
				kind = tokZone
				for i < len(s) && (isDigit(s[i]) || s[i] == ':' || s[i] == '.' || s[i] == '-') {
					i++
				}
			case i < len(s) && isAlpha(s[i]):
				kind = tokSpecial
				for i < len(s) && isAlpha(s[i]) {
					i++
				}
			default:
				return nil, false
			}
			toks = append(toks, dateToken{kind, string(c) + s[body:i]})
			if len(toks) > dateTokensMax {
				return nil, false
			}
			continue
		case strings.IndexByte("!\"#$%&'()*,/;<=>?@[\\]^_`{|}~", c) >= 0:
			i++
			continue
		default:
			return nil, false
		}
		toks = append(toks, dateToken{kind, s[start:i]})
		if len(toks) > dateTokensMax {
			return nil, false
		}
	}
	return toks, len(toks) > 0
}

func scanNumber(s string, i int) (tokKind, int) {
	digits := func() {
		for i < len(s) && isDigit(s[i]) {
			i++
		}
	}
	digits()
	if i == len(s) {
		return tokNumber, i
	}
	switch delim := s[i]; delim {
	case ':':
		for i < len(s) && (isDigit(s[i]) || s[i] == ':' || s[i] == '.') {
			i++
		}
		return tokTime, i
	case '-', '/', '.':
		i++
		if i < len(s) && isDigit(s[i]) {
			kind := tokDate
			if delim == '.' {
				kind = tokNumber
			}
			digits()
			if i < len(s) && s[i] == delim {
				kind = tokDate
				for i < len(s) && (isDigit(s[i]) || s[i] == delim) {
					i++
				}
			}
			return kind, i
		}
		if delim == '.' && (i == len(s) || !isAlpha(s[i])) {
			return tokNumber, i
		}
		for i < len(s) && (isDigit(s[i]) || isAlpha(s[i]) || s[i] == delim) {
			i++
		}
		return tokDate, i
	}
	return tokNumber, i
}

func scanWord(s string, i int) (tokKind, int) {
	start := i
	for i < len(s) && isAlpha(s[i]) {
		i++
	}
	if i == len(s) {
		return tokWord, i
	}
	word := s[start:i]
	c := s[i]
	if c != '-' && c != '/' && c != '.' {
		return tokWord, i // an underscore separates, but in names with a slash
	}
	if c == '-' && months[word] == 0 && i+1 < len(s) && isDigit(s[i+1]) {
		return tokWord, i // a POSIX zone such as est-5
	}
	isName := c == '/'
	for i < len(s) && (isDigit(s[i]) || isAlpha(s[i]) || s[i] == c || isName && (s[i] == '_' || s[i] == '-' || s[i] == '+')) {
		i++
	}
	if months[word] != 0 {
		return tokDate, i
	}
	return tokWord, i
}

var months = map[string]int64{
	"jan": 1, "january": 1, "feb": 2, "february": 2, "mar": 3, "march": 3, "apr": 4, "april": 4, "may": 5, "jun": 6, "june": 6,
	"jul": 7, "july": 7, "aug": 8, "august": 8, "sep": 9, "sept": 9, "september": 9, "oct": 10, "october": 10,
	"nov": 11, "november": 11, "dec": 12, "december": 12,
}

var weekdays = map[string]int64{
	"sun": 0, "sunday": 0, "mon": 1, "monday": 1, "tue": 2, "tues": 2, "tuesday": 2, "wed": 3, "weds": 3, "wednesday": 3,
	"thu": 4, "thur": 4, "thurs": 4, "thursday": 4, "fri": 5, "friday": 5, "sat": 6, "saturday": 6,
}
