package sqltypes

import (
	"encoding/json"
	"strings"

	"github.com/copradb/copra/internal/pgerror"
)

func validJSON(s string) bool { return json.Valid([]byte(s)) }

// ArrayElement is one element of an array's text.
type ArrayElement struct {
	Text string
	Null bool
}

func badArray(s, detail string) error {
	return pgerror.New(pgerror.InvalidTextRepresentation, "malformed array literal: %q", Quotable(s)).WithDetail("%s", detail)
}

// SplitArray reads the text of an array type's value: one dimension, or the
// blank-separated form of the vector types. Arrays of more dimensions are
// 0A000.
func SplitArray(t Type, s string) ([]ArrayElement, error) {
	if t.OID == OIDInt2Vector || t.OID == OIDOidVector {
		var out []ArrayElement
		for _, f := range strings.Fields(s) {
			out = append(out, ArrayElement{Text: f})
		}
		return out, nil
	}
	p := trimSpace(s)
	if strings.HasPrefix(p, "[") {
		dims, rest, ok := strings.Cut(p, "=")
		if !ok || strings.Count(dims, "[") != 1 {
			return nil, pgerror.Unsupported("array of several dimensions")
		}
		p = trimSpace(rest)
	}
	if p == "" || p[0] != '{' {
		return nil, badArray(s, `Array value must start with "{" or dimension information.`)
	}
	return splitBraces(s, p)
}

func splitBraces(s, p string) ([]ArrayElement, error) {
	var out []ArrayElement
	i := skipBlanks(p, 1)
	if i < len(p) && p[i] == '}' {
		if trimSpace(p[i+1:]) != "" {
			return nil, badArray(s, "Junk after closing right brace.")
		}
		return out, nil
	}
	for {
		i = skipBlanks(p, i)
		elem, next, err := arrayElement(s, p, i)
		if err != nil {
			return nil, err
		}
		out = append(out, elem)
		i = skipBlanks(p, next)
		switch {
		case i >= len(p):
			return nil, badArray(s, "Unexpected end of input.")
		case p[i] == ',':
			i++
		case p[i] == '}':
			if trimSpace(p[i+1:]) != "" {
				return nil, badArray(s, "Junk after closing right brace.")
			}
			return out, nil
		default:
			return nil, badArray(s, "Unexpected array element.")
		}
	}
}

func skipBlanks(s string, i int) int {
	for i < len(s) && isSpace(s[i]) {
		i++
	}
	return i
}

func arrayElement(s, p string, i int) (ArrayElement, int, error) {
	if i >= len(p) {
		return ArrayElement{}, 0, badArray(s, "Unexpected end of input.")
	}
	var b strings.Builder
	switch p[i] {
	case '{':
		return ArrayElement{}, 0, pgerror.Unsupported("array of several dimensions")
	case ',', '}':
		return ArrayElement{}, 0, badArray(s, `Unexpected "`+p[i:i+1]+`" character.`)
	case '"':
		for i++; i < len(p); i++ {
			switch p[i] {
			case '"':
				return ArrayElement{Text: b.String()}, i + 1, nil
			case '\\':
				if i++; i == len(p) {
					return ArrayElement{}, 0, badArray(s, "Unexpected end of input.")
				}
			}
			b.WriteByte(p[i])
		}
		return ArrayElement{}, 0, badArray(s, "Unexpected end of input.")
	}
	keep, escaped := 0, false // keep: length up to the last character that isn't a blank
	for ; i < len(p) && p[i] != ',' && p[i] != '}'; i++ {
		switch p[i] {
		case '{':
			return ArrayElement{}, 0, badArray(s, `Unexpected "{" character.`)
		case '"':
			return ArrayElement{}, 0, badArray(s, "Unexpected array element.")
		case '\\':
			if i++; i == len(p) {
				return ArrayElement{}, 0, badArray(s, "Unexpected end of input.")
			}
			b.WriteByte(p[i])
			keep, escaped = b.Len(), true
			continue
		}
		b.WriteByte(p[i])
		if !isSpace(p[i]) {
			keep = b.Len()
		}
	}
	text := b.String()[:keep]
	return ArrayElement{Text: text, Null: !escaped && strings.EqualFold(text, "null")}, i, nil
}

// JoinArray is the text of an array of type t.
func JoinArray(t Type, elems []ArrayElement) string {
	if t.OID == OIDInt2Vector || t.OID == OIDOidVector {
		parts := make([]string, len(elems))
		for i, e := range elems {
			parts[i] = e.Text
		}
		return strings.Join(parts, " ")
	}
	dst := []byte{'{'}
	for i, e := range elems {
		if i > 0 {
			dst = append(dst, ',')
		}
		if e.Null {
			dst = append(dst, "NULL"...)
			continue
		}
		dst = appendElement(dst, e.Text)
	}
	return string(append(dst, '}'))
}

func appendElement(dst []byte, s string) []byte {
	quote := s == "" || strings.EqualFold(s, "null")
	for i := 0; i < len(s) && !quote; i++ {
		c := s[i]
		quote = c == '"' || c == '\\' || c == '{' || c == '}' || c == ',' || isSpace(c)
	}
	if !quote {
		return append(dst, s...)
	}
	dst = append(dst, '"')
	for i := 0; i < len(s); i++ {
		if s[i] == '"' || s[i] == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, s[i])
	}
	return append(dst, '"')
}

// normalizeArray checks every element against the element type and writes the
// array as PostgreSQL would.
func normalizeArray(t, elem Type, s string) (string, error) {
	elems, err := SplitArray(t, s)
	if err != nil {
		return "", err
	}
	for i, e := range elems {
		if e.Null || elem.OID == OIDText {
			continue
		}
		d, err := ParseText(elem, e.Text)
		if err != nil {
			return "", err
		}
		elems[i].Text = Format(elem, d)
	}
	return JoinArray(t, elems), nil
}
