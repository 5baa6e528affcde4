package expr

import (
	"bytes"
	"strings"
)

// commonLetters are bytes by how often English text has them, most frequent
// first; others are taken to be rarer.
const commonLetters = " etaoinsrhldcumfpgywbvk"

// likeScan looks for a pattern in all strings of a column at once: for a byte
// of it that is rare in text, which is what runs over the most bytes a cycle.
type likeScan struct {
	m     *likePattern
	piece string
	at    int // of the byte in piece
}

// scan is the search for the rarest byte of a pattern that starts and ends
// anywhere; nil for patterns that are better tried at every string.
func (m *likePattern) scan() *likeScan {
	if m.fold || m.more != nil || !m.openStart || len(m.pieces) == 0 {
		return nil
	}
	var best *likeScan
	rank := -1
	for _, p := range m.pieces {
		if p.wild != nil {
			continue
		}
		for at := range len(p.text) {
			r := strings.IndexByte(commonLetters, p.text[at])
			if r < 0 {
				r = len(commonLetters)
			}
			if r > rank {
				best, rank = &likeScan{m, p.text, at}, r
			}
		}
	}
	return best
}

// scanShare: a selection of at least this share of the strings (in eighths) is
// worth reading all of them.
const scanShare = 4

// filter appends the rows that match, or those that do not. Rows of sel only,
// nil = all. What a row that is NULL has does not matter.
func (l *likeScan) filter(s strs, n int, not bool, sel, out []int32) []int32 {
	mem := getRows(n)
	defer putRows(mem)
	hits := l.find(s, n, (*mem)[:0])
	if !not && sel == nil {
		return append(out, hits...)
	}
	if sel == nil {
		return minusRows(n, nil, hits, out)
	}
	k := 0
	out, buf := growRows(out, len(sel))
	for _, i := range sel {
		for len(hits) > 0 && hits[0] < i {
			hits = hits[1:]
		}
		buf[k] = i
		k += b2i((len(hits) > 0 && hits[0] == i) != not)
	}
	return out[:len(out)+k]
}

// find appends the rows that match.
func (l *likeScan) find(s strs, n int, out []int32) []int32 {
	if n == 0 {
		return out
	}
	offs := s.offs[: n+1 : n+1]
	rare, row := l.piece[l.at], 0
	for pos, end := int(offs[0]), int(offs[n]); pos < end; {
		k := bytes.IndexByte(s.data[pos:end], rare)
		if k < 0 {
			break
		}
		at := pos + k
		pos = at + 1
		for int(offs[row+1]) <= at {
			row++
		}
		from := at - l.at
		to := from + len(l.piece)
		if from < int(offs[row]) || to > int(offs[row+1]) || string(s.data[from:to]) != l.piece {
			continue
		}
		if len(l.m.pieces) == 1 && l.m.openEnd || l.m.match(s.get(row)) {
			out = append(out, int32(row))
		}
		if pos = int(offs[row+1]); row == n-1 {
			break
		}
	}
	return out
}
