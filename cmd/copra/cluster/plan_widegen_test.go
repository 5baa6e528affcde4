package cluster

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// wideColumns are those of the tables x, y and z. Kinds: i (small whole
// numbers), I (whole numbers to the edges of bigint), d (numeric of some scale),
// u (numeric without one), f (floats), s (text, varchar), c (char(10)), t (date),
// m (timestamp), z (timestamptz), b (boolean).
var wideColumns = []struct {
	name, typ string
	kind      byte
	value     func(*rand.Rand) string
}{
	{"k", "int NOT NULL", 'i', func(r *rand.Rand) string { return strconv.Itoa(r.IntN(40)) }},
	{"k2", "int", 'i', func(r *rand.Rand) string { return strconv.Itoa(r.IntN(8)) }},
	{"ref", "bigint", 'i', func(r *rand.Rand) string { return strconv.Itoa(r.IntN(150)) }},
	{"i2", "smallint", 'i', func(r *rand.Rand) string { return strconv.Itoa(r.IntN(60) - 30) }},
	{"i8", "bigint", 'I', func(r *rand.Rand) string {
		return pickOf(r, strconv.Itoa(r.IntN(40)), "9223372036854775807", "-9223372036854775808", strconv.FormatInt(r.Int64(), 10))
	}},
	{"d2", "numeric(12,2)", 'd', func(r *rand.Rand) string { return fmt.Sprintf("%d.%02d", r.IntN(200)-100, r.IntN(4)*25) }},
	{"d18", "numeric(18,4)", 'd', func(r *rand.Rand) string {
		return pickOf(r, strconv.Itoa(r.IntN(40)), "99999999999999.9999", "-99999999999999.9999", fmt.Sprintf("%d.%04d", r.IntN(2000)-1000, r.IntN(10000)))
	}},
	{"d38", "numeric(38,10)", 'd', func(r *rand.Rand) string {
		return pickOf(r, strconv.Itoa(r.IntN(40)), "9999999999999999999999999999.9999999999", "-9999999999999999999999999999.9999999999", "0.0000000001", "922337203.6854775807", "-922337203.6854775808")
	}},
	{"num", "numeric", 'u', func(r *rand.Rand) string {
		return pickOf(r, strconv.Itoa(r.IntN(40)), fmt.Sprintf("%d.50", r.IntN(9)), fmt.Sprintf("%d.5", r.IntN(9)), "NaN", "1e30", "-0.00000001")
	}},
	{"f8", "float8", 'f', func(r *rand.Rand) string {
		return pickOf(r, strconv.Itoa(r.IntN(40)), "-0", "NaN", "Infinity", "-Infinity", fmt.Sprintf("%g", float64(r.IntN(4000)-2000)/4), "0.5")
	}},
	{"f4", "real", 'f', func(r *rand.Rand) string { return pickOf(r, strconv.Itoa(r.IntN(40)), "-2.5", "0.25", "-0", "NaN") }},
	{"txt", "text", 's', wideText},
	{"vc", "varchar(12)", 's', wideText},
	{"ch", "char(10)", 'c', wideText},
	{"long", "text", 's', func(r *rand.Rand) string { return strings.Repeat("long text ", 4+r.IntN(8)) + strconv.Itoa(r.IntN(3)) }},
	{"day", "date", 't', func(r *rand.Rand) string {
		return pickOf(r, fmt.Sprintf("199%d-0%d-1%d", r.IntN(3), 1+r.IntN(3), r.IntN(3)), "infinity", "-infinity", "4000-01-01 BC", "9999-12-31", "2000-02-29", "1970-01-01")
	}},
	{"ts", "timestamp", 'm', func(r *rand.Rand) string {
		return pickOf(r, fmt.Sprintf("199%d-0%d-1%d", r.IntN(3), 1+r.IntN(3), r.IntN(3)), "infinity", "0001-01-01 00:00:00 BC", "1969-12-31 23:59:59.999999", fmt.Sprintf("1991-01-01 %02d:30:00.5", r.IntN(24)))
	}},
	{"tz", "timestamptz", 'z', func(r *rand.Rand) string {
		return pickOf(r, fmt.Sprintf("199%d-0%d-1%d 00:00+00", r.IntN(3), 1+r.IntN(3), r.IntN(3)), "-infinity", fmt.Sprintf("1991-01-01 %02d:30:00+02", r.IntN(24)))
	}},
	{"ok", "boolean", 'b', func(r *rand.Rand) string { return pickOf(r, "t", "f") }},
}

func wideText(r *rand.Rand) string {
	return pickOf(r, "a", "b", "ab", "ab ", "AB", "", " ", "straße", "日本語", "ÄÖ", "a%b", "a_b", "x\\\\y", "12", "w"+strconv.Itoa(r.IntN(30)))
}

func wideDDL(table string) string {
	defs := []string{"id bigint PRIMARY KEY"}
	for _, c := range wideColumns {
		defs = append(defs, c.name+" "+c.typ)
	}
	return "CREATE TABLE " + table + " (" + strings.Join(defs, ", ") + ")"
}

// wideRow is a row as COPY takes it.
func wideRow(r *rand.Rand, id int) string {
	vals := []string{strconv.Itoa(id)}
	for _, c := range wideColumns {
		v := c.value(r)
		if r.IntN(8) == 0 && !strings.HasSuffix(c.typ, "NOT NULL") {
			v = `\N`
		}
		vals = append(vals, v)
	}
	return strings.Join(vals, "\t") + "\n"
}

// wcol is a column in scope.
type wcol struct {
	name string
	kind byte
}

// wide makes queries of all kinds over x, y and z. None of them fails, but for
// those of risky.
type wide struct {
	r *rand.Rand
	// loose says that equal values with different texts (1.5 and 1.50, -0 and 0)
	// may be in the answer, of which either may stand for both.
	loose bool
	n     int
	ctes  []wfrom
	// params are the values of $1, ..., where literals become parameters.
	params   []string
	prepared bool
}

// wfrom is an item of FROM: its text and its columns, base where it is a table.
type wfrom struct {
	sql   string
	alias string
	cols  []wcol
	base  bool
}

func (g *wide) alias() string { g.n++; return "q" + strconv.Itoa(g.n) }

func (g *wide) pick(of ...string) string { return pickOf(g.r, of...) }

// lit is a literal of a type, or a parameter.
func (g *wide) lit(value, typ string) string {
	if g.prepared && g.r.IntN(2) == 0 {
		g.params = append(g.params, value)
		return "$" + strconv.Itoa(len(g.params)) + "::" + typ
	}
	switch typ {
	case "int", "numeric":
		return value
	}
	return typ + " '" + strings.ReplaceAll(value, "'", "''") + "'"
}

// column is one of the kinds, "" if there is none.
func (g *wide) column(sc []wcol, kinds string) string {
	var of []wcol
	for _, c := range sc {
		if strings.IndexByte(kinds, c.kind) >= 0 {
			of = append(of, c)
		}
	}
	if len(of) == 0 {
		return ""
	}
	c := of[g.r.IntN(len(of))]
	if c.kind == 'u' || c.kind == 'f' {
		g.loose = true
	}
	return c.name
}

func (g *wide) or(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

// whole is a small whole number.
func (g *wide) whole(sc []wcol, depth int) string {
	if depth <= 0 {
		return g.or(g.column(sc, "i"), g.lit(strconv.Itoa(g.r.IntN(30)), "int"))
	}
	w := func() string { return g.whole(sc, depth-1) }
	switch g.r.IntN(9) {
	case 0:
		return "(" + w() + g.pick(" + ", " - ", " * ") + w() + ")"
	case 1:
		return "length(" + g.text(sc, depth-1) + ")"
	case 2:
		return "CASE WHEN " + g.boolean(sc, depth-1) + " THEN " + w() + " ELSE " + w() + " END"
	case 3:
		a := w()
		return "CASE WHEN " + a + " <> 0 THEN " + w() + g.pick(" / ", " % ") + a + " ELSE -1 END"
	case 4:
		return "coalesce(" + w() + ", " + w() + ")"
	case 5:
		return g.pick("nullif(", "greatest(", "least(") + w() + ", " + w() + ")"
	case 6:
		return "abs(" + w() + ")"
	}
	return g.whole(sc, 0)
}

// number is a numeric or a whole number.
func (g *wide) number(sc []wcol, depth int) string {
	if depth <= 0 {
		switch g.r.IntN(4) {
		case 0:
			return g.lit(g.pick(strconv.Itoa(g.r.IntN(30)), "0.50", "1.5", "-3.25", "0.0000000001"), "numeric")
		case 1:
			if c := g.column(sc, "I"); c != "" {
				return c + "::numeric"
			}
		}
		return g.or(g.column(sc, "dddui"), g.whole(sc, 0))
	}
	g.loose = true // of numbers of different scales that are equal, DISTINCT may take any
	n := func() string { return g.number(sc, depth-1) }
	switch g.r.IntN(11) {
	case 0, 1:
		return "(" + n() + "::numeric" + g.pick(" + ", " - ", " * ") + n() + ")"
	case 2:
		return "(" + g.or(g.column(sc, "d"), n()) + " * (1 - " + g.or(g.column(sc, "d"), "0.25") + "::numeric))"
	case 3:
		return "CASE WHEN " + g.boolean(sc, depth-1) + " THEN " + n() + " ELSE " + n() + " END"
	case 4:
		a := n()
		return "CASE WHEN " + a + " = 0 THEN 0 ELSE " + n() + "::numeric" + g.pick(" / ", " % ") + a + " END"
	case 5:
		return "coalesce(" + n() + ", " + n() + ")"
	case 6:
		return "extract(" + g.pick("year", "month", "day", "dow", "quarter", "doy") + " FROM " + g.date(sc, depth-1) + ")"
	case 7:
		return g.pick("round(", "trunc(") + n() + "::numeric, " + strconv.Itoa(g.r.IntN(3)) + ")"
	case 8:
		return g.pick("abs(", "ceil(", "floor(", "sign(", "- (") + n() + "::numeric)"
	}
	return g.whole(sc, depth)
}

func (g *wide) float(sc []wcol, depth int) string {
	if depth > 0 && g.r.IntN(2) == 0 {
		return "(" + g.float(sc, depth-1) + g.pick(" + ", " - ", " * ") + g.float(sc, depth-1) + ")"
	}
	return g.or(g.column(sc, "f"), g.lit("0.5", "float8"))
}

func (g *wide) text(sc []wcol, depth int) string {
	if depth <= 0 {
		return g.or(g.column(sc, "sssc"), g.lit(g.pick("a", "ab", "ab ", "", "straße"), "text"))
	}
	s := func() string { return g.text(sc, depth-1) }
	switch g.r.IntN(12) {
	case 0:
		return fmt.Sprintf("substring(%s from %d for %d)", s(), g.r.IntN(4)-1, g.r.IntN(4)+2)
	case 1:
		return "CASE WHEN " + g.boolean(sc, depth-1) + " THEN " + s() + "::text ELSE 'none' END"
	case 2:
		return "(" + s() + "::text || " + s() + ")"
	case 3:
		return "coalesce(" + s() + "::text, " + s() + ")"
	case 4:
		return g.pick("upper(", "lower(", "btrim(", "rtrim(", "ltrim(", "reverse(", "initcap(") + s() + ")"
	case 5:
		return fmt.Sprintf("%s(%s, %d, '日x')", g.pick("lpad", "rpad"), s(), g.r.IntN(8))
	case 6:
		return "replace(" + s() + ", 'a', 'ü')"
	case 7:
		return g.whole(sc, depth-1) + "::text"
	case 8:
		return g.pick("left(", "right(") + s() + ", " + strconv.Itoa(g.r.IntN(5)-2) + ")"
	case 9:
		return s() + "::" + g.pick("char(3)", "varchar(2)", "text", "char(10)")
	}
	return g.text(sc, 0)
}

// date is a date or a timestamp.
func (g *wide) date(sc []wcol, depth int) string {
	day := g.or(g.column(sc, "t"), g.lit("1991-02-11", "date"))
	if depth > 0 {
		switch g.r.IntN(6) {
		case 0:
			return fmt.Sprintf("(%s + %d)", day, g.r.IntN(40))
		case 1:
			return fmt.Sprintf("(%s - interval '%d %s')", day, g.r.IntN(14), g.pick("month", "day", "year", "hour"))
		case 2:
			return "date_trunc('" + g.pick("month", "year", "day", "hour") + "', " + g.or(g.column(sc, "m"), day+"::timestamp") + ")"
		case 3:
			return g.or(g.column(sc, "m"), day) + "::date"
		case 4:
			return "coalesce(" + day + ", " + g.lit("1991-01-11", "date") + ")"
		}
	}
	return g.or(g.column(sc, "ttm"), day)
}

func (g *wide) cmp() string { return g.pick(" < ", " <= ", " > ", " >= ", " = ", " = ", " <> ") }

func (g *wide) boolean(sc []wcol, depth int) string {
	if depth > 0 {
		switch g.r.IntN(7) {
		case 0:
			return "(" + g.boolean(sc, depth-1) + " AND " + g.boolean(sc, depth-1) + ")"
		case 1:
			return "(" + g.boolean(sc, depth-1) + " OR " + g.boolean(sc, depth-1) + ")"
		case 2:
			return "NOT (" + g.boolean(sc, depth-1) + ")"
		case 3:
			return "(" + g.boolean(sc, depth-1) + ")" + g.pick(" IS TRUE", " IS NOT TRUE", " IS FALSE", " IS UNKNOWN", " IS NOT NULL")
		}
	}
	not, d := g.pick("", "", " NOT"), depth-1
	switch g.r.IntN(16) {
	case 0, 1:
		return g.number(sc, d) + g.cmp() + g.number(sc, d)
	case 2:
		return g.date(sc, d) + g.cmp() + g.or(g.column(sc, "tmz"), g.date(sc, d))
	case 3:
		return g.number(sc, 0) + not + " BETWEEN " + g.number(sc, 0) + " AND " + g.number(sc, d)
	case 4:
		return g.text(sc, d) + not + g.pick(" LIKE ", " LIKE ", " ILIKE ") + g.pick("'%a%'", "'a%'", "'%b'", "'a_'", "'a\\%%'", "'_'", "''", "'%ß%'", "'___'", "'日%'", "'%long%text%'", "'ab '", "'x\\\\y'")
	case 5:
		return g.text(sc, 0) + not + " IN ('a', 'ab', 'straße', ''" + g.pick("", ", 'ab '", ", NULL") + ")"
	case 6:
		return g.or(g.column(sc, "iIdu"), "1") + not + " IN (1, 2, 3, " + g.pick("5", "0.5", "NULL", "13.00", "9223372036854775807") + ")"
	case 7:
		return g.or(g.column(sc, "iIdufsctmzb"), "1") + " IS" + not + " NULL"
	case 8:
		return g.text(sc, d) + g.cmp() + g.text(sc, d)
	case 9:
		if c := g.column(sc, "f"); c != "" {
			return c + g.cmp() + g.pick(g.column(sc, "f"), g.or(g.column(sc, "i"), "1"), "0", "float8 'NaN'", g.or(g.column(sc, "d"), "1.5"))
		}
	case 10:
		if c := g.column(sc, "I"); c != "" {
			return c + g.cmp() + g.pick("9223372036854775807", "0", "9223372036854775808", "1.5", "-9223372036854775808", g.or(g.column(sc, "i"), "7"))
		}
	case 11:
		return g.or(g.column(sc, "c"), "'a'::char(3)") + g.cmp() + g.pick("'ab'", "'ab '", g.or(g.column(sc, "c"), "''"), g.or(g.column(sc, "s"), "'a'"))
	case 12:
		return g.number(sc, d) + " IS" + not + " DISTINCT FROM " + g.number(sc, d)
	case 13:
		return "(" + g.whole(sc, 0) + ", " + g.number(sc, 0) + ")" + g.pick(" = ", " < ", " >= ", " <> ") + "(" + g.whole(sc, 0) + ", " + g.number(sc, 0) + ")"
	case 14:
		if depth > 0 {
			return g.subquery(sc)
		}
	}
	return g.or(g.column(sc, "b"), g.whole(sc, d)+g.cmp()+g.whole(sc, 0))
}

// table is one of x, y and z under a name of its own.
func (g *wide) table(of ...string) wfrom {
	a, t := g.alias(), g.pick(of...)
	cols := []wcol{{a + ".id", 'i'}}
	for _, c := range wideColumns {
		cols = append(cols, wcol{a + "." + c.name, c.kind})
	}
	return wfrom{t + " " + a, a, cols, true}
}

// subquery is a condition with one.
func (g *wide) subquery(outer []wcol) string {
	t := g.table("y", "z", "z")
	in := func(n string) string { return t.alias + "." + n }
	o := g.or(g.column(outer, "i"), "7")
	corr := in(g.pick("k", "k2", "ref", "id", "i2")) + " = " + o
	if g.r.IntN(3) == 0 {
		corr += " AND " + g.boolean(append(append([]wcol{}, t.cols...), outer...), 0)
	}
	where := " WHERE " + g.boolean(t.cols, 1)
	not := g.pick("", " NOT")
	switch g.r.IntN(9) {
	case 0, 1:
		return strings.TrimSpace(not) + " EXISTS (SELECT " + g.pick("*", "1", in("k")) + " FROM " + t.sql + " WHERE " + corr + ")"
	case 2:
		return g.number(outer, 0) + not + " IN (SELECT " + g.column(t.cols, "iIdu") + " FROM " + t.sql + g.pick("", where) + ")"
	case 3:
		return "(" + o + ", " + g.text(outer, 0) + ")" + not + " IN (SELECT " + in(g.pick("k", "ref")) + ", " + in(g.pick("txt", "vc", "ch")) + " FROM " + t.sql + g.pick("", where) + ")"
	case 4:
		return g.number(outer, 0) + g.cmp() + g.pick("ANY", "ALL") + " (SELECT " + g.column(t.cols, "id") + " FROM " + t.sql + " WHERE " + corr + ")"
	case 5:
		return g.number(outer, 0) + g.cmp() + "(SELECT " + g.aggregate(t.cols) + "::text::numeric FROM " + t.sql + " WHERE " + corr + ")"
	case 6:
		return g.text(outer, 0) + not + " IN (SELECT " + g.column(t.cols, "sc") + " FROM " + t.sql + g.pick("", where) + ")"
	case 7:
		return g.date(outer, 0) + g.cmp() + "(SELECT " + g.pick("min", "max") + "(" + g.column(t.cols, "tm") + ") FROM " + t.sql + g.pick(where, " WHERE "+corr) + ")"
	}
	return g.date(outer, 0) + not + " IN (SELECT " + g.column(t.cols, "tm") + " FROM " + t.sql + where + ")"
}

// scalar is a subquery with one value, a number.
func (g *wide) scalar(outer []wcol) string {
	t := g.table("y", "z")
	o := g.or(g.column(outer, "i"), "7")
	by := t.alias + "." + g.pick("k", "ref", "id") + " = " + o
	switch g.r.IntN(4) {
	case 0:
		return "(SELECT " + g.column(t.cols, "idu") + " FROM " + t.sql + " WHERE " + t.alias + ".id = " + o + ")"
	case 1:
		return "(SELECT " + g.column(t.cols, "id") + " FROM " + t.sql + " WHERE " + by + " ORDER BY " + t.alias + ".id" + g.pick("", " DESC") + " LIMIT 1" + g.pick("", " OFFSET 1") + ")"
	case 2:
		return "coalesce((SELECT " + g.aggregate(t.cols) + "::text::numeric FROM " + t.sql + " WHERE " + by + "), -1)"
	}
	return "(SELECT " + g.aggregate(t.cols) + "::text::numeric FROM " + t.sql + " WHERE " + by + " AND " + g.boolean(t.cols, 0) + ")"
}

// aggregate has a number for its answer.
func (g *wide) aggregate(sc []wcol) string {
	distinct, filter := g.pick("", "", "", "DISTINCT "), ""
	if g.r.IntN(4) == 0 {
		filter = " FILTER (WHERE " + g.boolean(sc, 1) + ")"
	}
	switch g.r.IntN(10) {
	case 0:
		return "count(*)" + filter
	case 1:
		return "count(" + distinct + g.or(g.column(sc, "iIdufsctmzb"), "1") + ")" + filter
	case 2, 3:
		return "sum(" + distinct + g.number(sc, 2) + ")" + filter
	case 4:
		return "avg(" + distinct + g.number(sc, 1) + ")" + filter
	case 5:
		return g.pick("min(", "max(") + g.number(sc, 1) + ")" + filter
	case 6:
		if c := g.column(sc, "I"); c != "" {
			return g.pick("sum(", "avg(", "min(", "max(") + c + ")" + filter
		}
	case 7:
		if c := g.column(sc, "f"); c != "" {
			return g.pick("sum(", "min(", "max(") + c + ")" + filter
		}
	case 8:
		return "sum(CASE WHEN " + g.boolean(sc, 1) + " THEN " + g.number(sc, 1) + " ELSE 0 END)" + filter
	}
	return g.pick("variance(", "stddev_pop(", "var_pop(") + g.or(g.column(sc, "id"), "1") + ")" + filter
}

// otherAggregate has an answer of another kind.
func (g *wide) otherAggregate(sc []wcol) (string, byte) {
	switch g.r.IntN(4) {
	case 0:
		return g.pick("min(", "max(") + g.text(sc, 1) + "::text)", 's'
	case 1:
		return g.pick("min(", "max(") + g.or(g.column(sc, "tm"), "date '1990-01-01'") + ")", 'o'
	case 2:
		return g.pick("bool_and(", "bool_or(", "every(") + g.boolean(sc, 1) + ")", 'b'
	}
	s := "left(" + g.or(g.column(sc, "s"), "'q'") + ", 3)"
	return "string_agg(" + g.pick("", "DISTINCT ") + s + ", ',' ORDER BY " + s + g.pick("", " DESC") + ")", 's'
}

// value is an expression of a random kind.
func (g *wide) value(sc []wcol, depth int) (string, byte) {
	switch g.r.IntN(12) {
	case 0, 1:
		return g.whole(sc, depth), 'o'
	case 2, 3:
		return g.number(sc, depth), 'o'
	case 4, 5:
		return g.text(sc, depth) + g.pick("::text", ""), 's'
	case 6:
		return g.date(sc, depth), 'o'
	case 7:
		return g.boolean(sc, depth), 'b'
	case 8:
		if g.column(sc, "f") != "" {
			return g.float(sc, 1), 'f'
		}
	case 9:
		return g.scalar(sc), 'o'
	}
	c := sc[g.r.IntN(len(sc))]
	if c.kind == 'u' || c.kind == 'f' {
		g.loose = true
	}
	return c.name, c.kind
}

// item is one item of FROM, lateral to those of outer.
func (g *wide) item(depth int, outer []wcol) wfrom {
	a := g.alias()
	if len(g.ctes) > 0 && g.r.IntN(3) == 0 {
		c := g.ctes[g.r.IntN(len(g.ctes))]
		return g.renamed(c.alias+" "+a, a, c.cols)
	}
	if depth > 0 {
		switch g.r.IntN(9) {
		case 0, 1:
			sql, cols := g.selectOf(depth-1, nil)
			return g.renamed("("+sql+") "+a, a, cols)
		case 2:
			if len(outer) > 0 {
				t := g.table("y", "z")
				by := t.alias + "." + g.pick("k", "ref", "id") + " = " + g.or(g.column(outer, "i"), "3")
				sc := append(append([]wcol{}, t.cols...), outer...)
				if g.r.IntN(2) == 0 {
					return wfrom{"LATERAL (SELECT " + t.alias + ".id AS c0, " + g.number(sc, 1) + "::numeric AS c1 FROM " + t.sql + " WHERE " + by + " ORDER BY 1 LIMIT 2) " + a, a, []wcol{{a + ".c0", 'i'}, {a + ".c1", 'd'}}, false}
				}
				return wfrom{"LATERAL (SELECT count(*) AS c0, (" + g.aggregate(t.cols) + ")::text::numeric AS c1 FROM " + t.sql + " WHERE " + by + ") " + a, a, []wcol{{a + ".c0", 'I'}, {a + ".c1", 'd'}}, false}
			}
		case 3:
			return wfrom{"(VALUES (1, 'a', 1.50), (2, 'ab', NULL), (NULL, '', 2), (" + strconv.Itoa(g.r.IntN(9)) + ", NULL, 7.125)) " + a + " (c0, c1, c2)", a, []wcol{{a + ".c0", 'i'}, {a + ".c1", 's'}, {a + ".c2", 'd'}}, false}
		case 4:
			return wfrom{fmt.Sprintf("generate_series(%d, %d) %s (c0)", g.r.IntN(5), g.r.IntN(30), a), a, []wcol{{a + ".c0", 'i'}}, false}
		}
	}
	return g.table("x", "x", "y", "z")
}

// renamed has columns c0, ... under another alias.
func (g *wide) renamed(sql, alias string, cols []wcol) wfrom {
	f := wfrom{sql: sql, alias: alias}
	for i, c := range cols {
		f.cols = append(f.cols, wcol{alias + ".c" + strconv.Itoa(i), c.kind})
	}
	return f
}

// equal is an equality between columns of two items.
func (g *wide) equal(a, b []wcol) string {
	pair := g.pick("ii", "ii", "ii", "ii", "di", "dd", "du", "iI", "ss", "sc", "cc", "tt", "tm", "mz", "fi", "ff", "fd")
	x, y := g.column(a, pair[:1]), g.column(b, pair[1:])
	if x == "" || y == "" {
		x, y = a[g.r.IntN(len(a))].name+"::text", b[g.r.IntN(len(b))].name+"::text"
		g.loose = true
	}
	return x + " = " + y
}

// from is a FROM with its joins, and a condition that belongs into WHERE.
func (g *wide) from(depth int) (sql, where string, sc []wcol) {
	first := g.item(depth, nil)
	sql, sc = first.sql, first.cols
	for n := g.r.IntN(3); n > 0; n-- {
		next := g.item(depth, sc)
		both := append(append([]wcol{}, sc...), next.cols...)
		// Keys that find few rows: the answer must not have millions.
		on := g.equal(sc, next.cols)
		if g.r.IntN(3) == 0 {
			on += " AND " + g.equal(sc, next.cols)
		}
		lateral := strings.HasPrefix(next.sql, "LATERAL")
		switch k := g.r.IntN(8); {
		case k == 0 && !lateral:
			on += " AND " + g.boolean(both, g.r.IntN(2))
			sql += " FULL JOIN " + next.sql + " ON " + on
		case k == 1 && !lateral:
			sql += " RIGHT JOIN " + next.sql + " ON " + on + g.pick("", " AND "+g.boolean(both, 1))
		case k == 2 || k == 3:
			sql += " LEFT JOIN " + next.sql + " ON " + on + g.pick("", " AND "+g.boolean(both, 1))
		case k == 4 && where == "":
			where = on
			sql = sql + " CROSS JOIN " + next.sql
		case k == 5:
			sql += " JOIN " + next.sql + " ON (" + on + ") OR (" + g.equal(sc, next.cols) + " AND " + g.boolean(both, 0) + ")"
		default:
			sql += " JOIN " + next.sql + " ON " + on + g.pick("", " AND "+g.boolean(both, 1))
		}
		sc = both
	}
	return sql, where, sc
}

func (g *wide) where(sc []wcol, first string) string {
	switch g.r.IntN(4) {
	case 0:
		if first == "" {
			return ""
		}
		return " WHERE " + first
	case 1:
		if first != "" {
			return " WHERE " + first + " AND " + g.boolean(sc, 1)
		}
	}
	if first != "" {
		first += " AND "
	}
	return " WHERE " + first + g.boolean(sc, 2)
}

// selectOf is a SELECT whose columns are c0, c1, ...; kinds are those it must
// have, for branches of set operations.
func (g *wide) selectOf(depth int, kinds []byte) (sql string, cols []wcol) {
	from, first, sc := g.from(depth)
	add := func(e string, k byte) {
		sql += ", " + e + " AS c" + strconv.Itoa(len(cols))
		cols = append(cols, wcol{"c" + strconv.Itoa(len(cols)), k})
	}
	if kinds != nil {
		for _, k := range kinds {
			switch k {
			case 'i':
				add(g.whole(sc, 1), k)
			case 'd':
				add(g.number(sc, 1), k)
			case 's':
				add(g.text(sc, 1), k)
			case 't':
				add(g.date(sc, 1), k)
			default:
				add(g.boolean(sc, 1), k)
			}
		}
		return "SELECT " + g.pick("", "", "DISTINCT ") + sql[2:] + " FROM " + from + g.where(sc, first), cols
	}
	where := g.where(sc, first)
	switch g.r.IntN(7) {
	case 0: // one group
		for range 1 + g.r.IntN(3) {
			add(g.aggregate(sc), 'o')
		}
		if g.r.IntN(2) == 0 {
			add(g.otherAggregate(sc))
		}
		sql = "SELECT " + sql[2:] + " FROM " + from + where
		if g.r.IntN(5) == 0 {
			sql += " HAVING " + g.aggregate(sc) + "::text::numeric > 3"
		}
		return sql, cols
	case 1, 2: // groups
		var by []string
		for range 1 + g.r.IntN(2) {
			add(g.value(sc, g.r.IntN(2)))
			by = append(by, strconv.Itoa(len(cols)))
		}
		for range 1 + g.r.IntN(2) {
			add(g.aggregate(sc), 'o')
		}
		if g.r.IntN(3) == 0 {
			add(g.otherAggregate(sc))
		}
		sql = "SELECT " + sql[2:] + " FROM " + from + where + " GROUP BY " + strings.Join(by, ", ")
		if g.r.IntN(4) == 0 {
			sql += " HAVING " + g.pick("count(*) > 1", "NOT "+g.aggregate(sc)+"::text::numeric < 7", "count(*) BETWEEN 2 AND 40")
		}
		return sql, cols
	case 3: // windows; rows of equal keys are the same but for what the frames say
		p, o := g.or(g.column(sc, "icsb"), "1"), g.or(g.column(sc, "idst"), "2")
		add(p, 'o')
		add(o, 'o')
		w := " OVER (PARTITION BY " + p + " ORDER BY " + o + g.pick("", " DESC", " NULLS FIRST")
		num := "1"
		if strings.IndexByte("id", kindOf(sc, o)) >= 0 {
			num = o
		}
		for range 1 + g.r.IntN(2) {
			f := g.pick("rank()", "dense_rank()", "row_number()", "count("+o+")", "sum("+num+")", "max("+o+")", "lag("+o+", 1)", "lead("+o+", 2)", "first_value("+o+")", "last_value("+o+")", "ntile(3)", "nth_value("+o+", 2)", "percent_rank()")
			frame := g.pick("", "", " ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING", " ROWS UNBOUNDED PRECEDING", " RANGE BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING", " ROWS BETWEEN 2 PRECEDING AND 1 PRECEDING")
			if f == "percent_rank()" {
				g.loose = true
			}
			add(f+w+frame+")", 'o')
		}
		return "SELECT " + sql[2:] + " FROM " + from + where, cols
	case 4:
		for range 1 + g.r.IntN(3) {
			add(g.value(sc, 1))
		}
		return "SELECT DISTINCT " + sql[2:] + " FROM " + from + where, cols
	}
	for range 1 + g.r.IntN(4) {
		add(g.value(sc, 2))
	}
	return "SELECT " + sql[2:] + " FROM " + from + where, cols
}

func kindOf(sc []wcol, name string) byte {
	for _, c := range sc {
		if c.name == name {
			return c.kind
		}
	}
	return 'i'
}

// setop combines branches.
func (g *wide) setop(depth int) (string, []wcol) {
	var kinds []byte
	for range 1 + g.r.IntN(3) {
		kinds = append(kinds, "idstb"[g.r.IntN(5)])
	}
	g.loose = true // scales, and blanks of char
	sql, cols := g.selectOf(depth, kinds)
	for range 1 + g.r.IntN(2) {
		next, _ := g.selectOf(depth, kinds)
		sql = "(" + sql + ")" + g.pick(" UNION ", " UNION ALL ", " INTERSECT ", " EXCEPT ", " INTERSECT ALL ", " EXCEPT ALL ") + "(" + next + ")"
	}
	return sql, cols
}

// usedParams leaves out the parameters that did not get into the statement.
func (g *wide) usedParams(sql string) string {
	var used []string
	for i, p := range g.params {
		name := "$" + strconv.Itoa(i+1) + "::"
		if strings.Contains(sql, name) {
			used = append(used, p)
			sql = strings.ReplaceAll(sql, name, "$"+strconv.Itoa(len(used))+"::")
		}
	}
	g.params = used
	return sql
}

// query is a statement, and whether the order of its rows is given.
func (g *wide) query() (sql string, ordered bool) {
	*g = wide{r: g.r, prepared: g.r.IntN(4) == 0}
	with := ""
	for range g.r.IntN(5) / 3 {
		s, cols := g.selectOf(0, nil)
		name := "w" + strconv.Itoa(len(g.ctes))
		with += ", " + name + " AS " + g.pick("", "MATERIALIZED ", "NOT MATERIALIZED ") + "(" + s + ")"
		g.ctes = append(g.ctes, wfrom{alias: name, cols: cols})
	}
	if with != "" {
		with = "WITH " + with[2:] + " "
	}
	var cols []wcol
	switch g.r.IntN(12) {
	case 0, 1:
		sql, cols = g.setop(g.r.IntN(2))
	case 2:
		t := g.table("x", "y")
		on := g.column(t.cols, "isctb")
		return "SELECT DISTINCT ON (" + on + ") " + on + ", " + t.alias + ".id, " + g.number(t.cols, 1) + " FROM " + t.sql + g.where(t.cols, "") + " ORDER BY " + on + ", " + t.alias + ".id" + g.pick("", " DESC"), false
	case 3:
		t := g.table("x", "y")
		return "SELECT " + t.alias + ".id, " + g.number(t.cols, 2) + ", " + g.text(t.cols, 2) + " FROM " + t.sql + g.where(t.cols, "") + " ORDER BY " + g.pick(g.number(t.cols, 1)+"::numeric", g.text(t.cols, 1)+"::text", g.boolean(t.cols, 1)) +
			g.pick("", " DESC", " NULLS FIRST", " DESC NULLS LAST") + ", " + t.alias + ".id" + g.pick("", " LIMIT 0", " LIMIT 7", " OFFSET 5", " LIMIT 30 OFFSET 11", " LIMIT 1 OFFSET 10000"), true
	default:
		sql, cols = g.selectOf(g.r.IntN(3), nil)
	}
	if g.r.IntN(3) == 0 {
		var by []string
		for i := range cols {
			by = append(by, strconv.Itoa(i+1)+g.pick("", "", " DESC", " NULLS FIRST"))
		}
		g.loose = true // of equal rows, any
		return with + sql + " ORDER BY " + strings.Join(by, ", ") + g.pick("", " LIMIT 5", " LIMIT 20 OFFSET 3", " OFFSET 2", " LIMIT 0"), true
	}
	return with + sql, false
}

// risky is a query with one expression that fails for some values: with which
// SQLSTATE is given.
func (g *wide) risky() string {
	*g = wide{r: g.r}
	g.loose = true
	t := g.table("x", "y", "z")
	c := func(kinds string) string { return g.column(t.cols, kinds) }
	e := g.pick(c("i")+" / "+c("i"), c("i")+" % "+c("i"), c("I")+" + "+c("i"), c("I")+" - "+c("I"), c("I")+" * "+c("i"), c("I")+" * "+c("I"), "- "+c("I"), "abs("+c("I")+")",
		c("I")+"::int", c("i")+"::int * 100000000", c("i")+"::smallint * 3000::smallint", c("d")+" / "+c("d"), c("d")+" % "+c("d"), c("d")+"::int", c("d")+"::bigint", c("d")+"::numeric(6,1)", c("f")+"::int", c("f")+" / "+c("f"), c("f")+"::numeric",
		c("s")+"::int", c("c")+"::numeric", c("f")+" * float8 '1e308'", "sqrt("+c("d")+")", "ln("+c("d")+")", c("t")+" + 2000000000", c("t")+" - "+c("t"), c("t")+"::timestamp", c("I")+"::smallint", "substring("+c("s")+" from 2 for "+c("i")+"::int)",
		c("d")+" ^ 2", "repeat("+c("s")+", 3)::varchar(2)", c("s")+"::date", "sum("+c("I")+")::bigint", "sum("+c("d")+")::int", "sum("+c("i")+") / count("+c("i")+")", "sum("+c("I")+" / "+c("i")+")", "chr("+c("i")+"::int)",
		"sum("+c("i")+") / nullif(count("+c("c")+"), 0)", "avg("+c("d")+")::smallint", "round("+c("d")+", "+c("i")+"::int)", "(SELECT y.k FROM y WHERE y.k = "+c("i")+")", "round("+c("f")+"::numeric, 2)", c("s")+" LIKE '%\\'")
	return "SELECT " + e + " FROM " + t.sql
}

// guarded is a query whose conditions keep away the rows that would fail.
func (g *wide) guarded() string {
	*g = wide{r: g.r}
	g.loose = true
	t := g.table("x", "y")
	a := g.column(t.cols, "id")
	e := g.whole(t.cols, 1) + "::numeric / " + a
	switch g.r.IntN(5) {
	case 0:
		return "SELECT " + e + " FROM " + t.sql + " WHERE " + a + " <> 0" + g.pick("", " ORDER BY 1 LIMIT 5")
	case 1:
		return "SELECT " + g.column(t.cols, "icsb") + ", sum(" + e + ") FROM " + t.sql + " WHERE " + a + " <> 0 GROUP BY 1"
	case 2:
		return "SELECT " + g.column(t.cols, "icsb") + ", count(*), sum(" + e + ") FILTER (WHERE " + a + " <> 0) FROM " + t.sql + " GROUP BY 1"
	case 3:
		u := g.table("y", "z")
		return "SELECT " + e + ", " + u.alias + ".k FROM " + t.sql + " JOIN " + u.sql + " ON " + t.alias + ".k = " + u.alias + ".id AND " + a + " <> 0"
	}
	return "SELECT " + g.column(t.cols, "icsb") + ", 7 / sum(" + a + ") FROM " + t.sql + " GROUP BY 1 HAVING sum(" + a + ") <> 0"
}

// change is a statement that changes rows, and what it does follows from them.
func (g *wide) change() string {
	*g = wide{r: g.r}
	t := g.pick("x", "x", "y", "z")
	m := strconv.Itoa(3 + g.r.IntN(9))
	where := " WHERE id % " + m + " = 0"
	switch g.r.IntN(7) {
	case 0:
		return "UPDATE " + t + " SET k = (k + 7) % 40, d2 = -d2" + where
	case 1:
		return "UPDATE " + t + " SET txt = 'upd' || id % 5, ch = NULL, day = day + 1" + where
	case 2:
		return "UPDATE " + t + " SET d38 = d2, num = NULL, f8 = i2, i8 = k, ok = NOT ok WHERE k = " + m
	case 3:
		return "DELETE FROM " + t + " WHERE id % 41 = " + m
	case 4:
		return "INSERT INTO " + t + " SELECT id + 100000, " + "k, k2, ref, i2, i8, d2, d18, d38, num, f8, f4, txt, vc, ch, long, day, ts, tz, ok FROM " + t + where + " AND id < 100000 ON CONFLICT (id) DO UPDATE SET k2 = NULL, long = 'again'"
	case 5:
		return "UPDATE " + t + " SET k2 = o.k2, vc = o.vc FROM z o WHERE o.id = " + t + ".id AND o.id % " + m + " = 1"
	}
	return "DELETE FROM " + t + " WHERE id >= 100000 AND k > " + m
}
