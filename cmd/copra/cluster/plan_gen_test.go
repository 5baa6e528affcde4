package cluster

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// genColumn is a column that generated queries speak of, kind being one of
// n (whole numbers), d (numeric(12,2)), u (numeric without a scale), s (text),
// c (char(6)), t (date), b (bool).
type genColumn struct {
	name string
	kind byte
}

// genTables have columns of the same names, with a letter of the table's in
// front. key and ref join: few values, NULLs in ref.
var genColumns = []struct {
	name, typ string
	kind      byte
}{
	{"id", "bigint", 'n'}, {"key", "int", 'n'}, {"ref", "int", 'n'}, {"small", "smallint", 'n'}, {"big", "bigint", 'n'},
	{"dec", "numeric(12,2)", 'd'}, {"pct", "numeric(4,2)", 'd'}, {"num", "numeric", 'u'}, {"txt", "text", 's'},
	{"lab", "varchar(10)", 's'}, {"flag", "char(6)", 'c'}, {"day", "date", 't'}, {"ok", "boolean", 'b'},
}

func genDDL(table string) string {
	var defs []string
	for _, c := range genColumns {
		null := ""
		if c.name == "id" {
			null = " NOT NULL"
		}
		defs = append(defs, table+"_"+c.name+" "+c.typ+null)
	}
	return "CREATE TABLE " + table + " (" + strings.Join(defs, ", ") + ", PRIMARY KEY (" + table + "_id))"
}

// genRow is a row as COPY takes it.
func genRow(r *rand.Rand, id int) string {
	word := func() string {
		return pickOf(r, "red", "green", "blue", "dark green", "", "a%b", "x_y", "straße", "special requests", "w"+strconv.Itoa(r.IntN(300)))
	}
	vals := []string{strconv.Itoa(id), strconv.Itoa(r.IntN(40)), strconv.Itoa(r.IntN(60)), strconv.Itoa(r.IntN(200) - 100),
		pickOf(r, strconv.Itoa(r.IntN(1000)), strconv.Itoa(r.IntN(1<<31)-1<<30)),
		fmt.Sprintf("%d.%02d", r.IntN(20000)-10000, r.IntN(100)), fmt.Sprintf("0.%02d", r.IntN(12)),
		pickOf(r, fmt.Sprintf("%d.%d0", r.IntN(50), r.IntN(10)), strconv.Itoa(r.IntN(50)), "-0.0001"), word(), pickOf(r, "MAIL", "SHIP", "AIR", "RAIL", ""),
		pickOf(r, "N", "R", "A", "ab cd"), fmt.Sprintf("19%02d-%02d-%02d", 92+r.IntN(7), 1+r.IntN(12), 1+r.IntN(28)), pickOf(r, "t", "f")}
	for i := 2; i < len(vals); i++ {
		if r.IntN(12) == 0 {
			vals[i] = `\N`
		}
	}
	return strings.Join(vals, "\t") + "\n"
}

// gen makes expressions and queries that cannot fail, whatever the rows are.
type gen struct {
	r    *rand.Rand
	cols []genColumn
	// loose says that equal values with different texts may be in the answer
	// (1.5 and 1.50), of which either may stand for both.
	loose bool
}

func (g *gen) use(tables ...string) {
	g.cols = nil
	for _, t := range tables {
		for _, c := range genColumns {
			g.cols = append(g.cols, genColumn{t + "_" + c.name, c.kind})
		}
	}
}

func (g *gen) column(kinds string) string {
	for {
		c := g.cols[g.r.IntN(len(g.cols))]
		if strings.IndexByte(kinds, c.kind) >= 0 {
			g.loose = g.loose || c.kind == 'u'
			return c.name
		}
	}
}

func (g *gen) number(depth int) string {
	if depth <= 0 || g.r.IntN(3) == 0 {
		switch g.r.IntN(5) {
		case 0:
			return strconv.Itoa(g.r.IntN(100))
		case 1:
			return fmt.Sprintf("%d.%d", g.r.IntN(50), g.r.IntN(100))
		case 2:
			return g.column("d")
		}
		return g.column("nnd")
	}
	n := func() string { return g.number(depth - 1) }
	switch g.r.IntN(10) {
	case 0, 1:
		return "(" + n() + pickOf(g.r, " + ", " - ") + n() + ")"
	case 2:
		return "(" + g.column("d") + " * " + pickOf(g.r, "(1 - "+g.column("d")+")", n()+"::numeric") + ")"
	case 3:
		return "CASE WHEN " + g.boolean(depth-1) + " THEN " + n() + " ELSE " + n() + " END"
	case 4:
		return "CASE WHEN " + g.boolean(depth-1) + " THEN " + g.column("d") + " * 1.00 ELSE 0 END"
	case 5:
		return "coalesce(" + g.column("d") + ", " + g.number(0) + ")"
	case 6:
		return "extract(" + pickOf(g.r, "year", "month", "day") + " FROM " + g.column("t") + ")"
	case 7:
		return "length(" + g.text(depth-1) + ")"
	case 8:
		return "abs(" + n() + ")"
	}
	return "(" + g.column("t") + " - " + g.column("t") + ")"
}

func (g *gen) text(depth int) string {
	if depth <= 0 || g.r.IntN(2) == 0 {
		return g.column("s")
	}
	switch g.r.IntN(4) {
	case 0:
		return fmt.Sprintf("substring(%s from %d for %d)", g.text(depth-1), 1+g.r.IntN(3), g.r.IntN(4))
	case 1:
		return "CASE WHEN " + g.boolean(depth-1) + " THEN " + g.text(depth-1) + " ELSE 'none' END"
	case 2:
		return "(" + g.text(depth-1) + " || " + pickOf(g.r, "'-'", g.column("s")) + ")"
	}
	return "coalesce(" + g.column("s") + ", 'nil')"
}

func (g *gen) date() string {
	return pickOf(g.r, g.column("t"), fmt.Sprintf("date '199%d-0%d-11'", 2+g.r.IntN(7), 1+g.r.IntN(9)),
		fmt.Sprintf("(date '1995-01-01' + interval '%d' month)", g.r.IntN(20)), fmt.Sprintf("(%s + %d)", g.column("t"), g.r.IntN(90)))
}

func (g *gen) boolean(depth int) string {
	if depth > 0 {
		switch g.r.IntN(5) {
		case 0:
			return "(" + g.boolean(depth-1) + " AND " + g.boolean(depth-1) + ")"
		case 1:
			return "(" + g.boolean(depth-1) + " OR " + g.boolean(depth-1) + ")"
		case 2:
			return "NOT (" + g.boolean(depth-1) + ")"
		}
	}
	not := pickOf(g.r, "", "", " NOT")
	cmp := pickOf(g.r, " < ", " <= ", " > ", " >= ", " = ", " <> ")
	switch g.r.IntN(10) {
	case 0, 1:
		return g.number(depth) + cmp + g.number(depth)
	case 2:
		return g.date() + cmp + g.date()
	case 3:
		return g.number(0) + not + " BETWEEN " + g.number(0) + " AND " + g.number(depth)
	case 4:
		return g.column("s") + not + " LIKE '" + pickOf(g.r, "%green%", "w1%", "%e", "_ed", "a\\%%", "%", "", "%e%e%", "special%requests", "x\\_y") + "'"
	case 5:
		return g.column("s") + not + " IN ('MAIL', 'SHIP', 'red', 'w7')"
	case 6:
		return g.column("nd") + not + " IN (1, 2, 3, 5, 8, 13, 21, 0.05)"
	case 7:
		return g.column("ndusctb") + " IS" + not + " NULL"
	case 8:
		return g.column("c") + cmp + pickOf(g.r, "'R'", "'A'", "'ab cd'", g.column("c"))
	}
	return pickOf(g.r, g.column("b"), g.text(depth)+cmp+g.text(depth), g.column("u")+cmp+g.number(0))
}

func (g *gen) aggregate() string {
	switch g.r.IntN(9) {
	case 0:
		return "count(*)"
	case 1:
		return "count(" + g.column("ndusct") + ")"
	case 2:
		return "sum(" + g.number(2) + ")"
	case 3:
		return "avg(" + g.number(1) + ")"
	case 4:
		return pickOf(g.r, "min(", "max(") + g.column("ndst") + ")"
	case 5:
		return "count(DISTINCT " + g.column("ndsct") + ")"
	case 6:
		return "sum(" + g.column("nd") + ") FILTER (WHERE " + g.boolean(1) + ")"
	case 7:
		return pickOf(g.r, "bool_and(", "bool_or(") + g.boolean(1) + ")"
	}
	return "sum(CASE WHEN " + g.boolean(1) + " THEN " + g.column("d") + " * (1 - " + g.column("d") + ") ELSE 0 END)"
}

// from joins one to three tables.
func (g *gen) from() string {
	switch g.r.IntN(6) {
	case 0, 1:
		g.use("f")
		return "f"
	case 2:
		g.use("f", "g")
		return "f, g WHERE f_ref = g_key AND " + g.boolean(1)
	case 3:
		g.use("f", "g")
		on := "f_ref = g_key"
		if g.r.IntN(2) == 0 {
			on += " AND " + g.boolean(0)
		}
		return "f " + pickOf(g.r, "JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN") + " g ON " + on
	case 4:
		g.use("f", "g", "h")
		return "f JOIN g ON f_ref = g_id JOIN h ON g_key = h_id WHERE " + g.boolean(1)
	}
	g.use("f")
	sub := "g_key = " + pickOf(g.r, "f_ref", "f_key", "f_id")
	if g.r.IntN(2) == 0 {
		sub += " AND g_small " + pickOf(g.r, "<>", "<", "<=") + " f_small"
	}
	return "f WHERE " + pickOf(g.r, "EXISTS (SELECT * FROM g WHERE "+sub+")", "NOT EXISTS (SELECT * FROM g WHERE "+sub+")",
		"f_ref IN (SELECT g_key FROM g WHERE g_small > 0)", "f_ref NOT IN (SELECT g_key FROM g WHERE g_key IS NOT NULL)",
		"f_dec > (SELECT avg(g_dec) FROM g WHERE g_key = f_ref)", "f_small < (SELECT max(g_small) FROM g)") + " AND " + g.boolean(1)
}

// query is a statement, and whether the order of its rows is given.
func (g *gen) query() (sql string, ordered bool) {
	g.loose = false
	from := g.from()
	switch g.r.IntN(6) {
	case 0:
		return "SELECT " + g.aggregate() + ", " + g.aggregate() + " FROM " + from, false
	case 1, 2:
		keys := []string{pickOf(g.r, g.column("ndsct"), g.column("c"), g.text(1), "extract(year FROM "+g.column("t")+")")}
		if g.r.IntN(2) == 0 {
			keys = append(keys, g.column("nsctb"))
		}
		k := strings.Join(keys, ", ")
		sql = "SELECT " + k + ", " + g.aggregate() + ", " + g.aggregate() + " FROM " + from + " GROUP BY " + k
		if g.r.IntN(3) == 0 {
			sql += " HAVING count(*) > " + strconv.Itoa(g.r.IntN(4))
		}
		return sql, false
	case 3:
		g.loose = true // of the rows of a join that tie, 0 and 0.00, a LIMIT may leave any
		items := g.number(2) + " AS x, " + g.text(1) + " AS y, " + g.cols[0].name + " AS z"
		return "SELECT " + items + " FROM " + from + " ORDER BY x" + pickOf(g.r, "", " DESC", " NULLS FIRST", " DESC NULLS LAST") + ", y, z" +
			pickOf(g.r, " LIMIT 10", " LIMIT 25 OFFSET 3", ""), !strings.Contains(from, "g")
	case 4:
		return "SELECT DISTINCT " + g.column("nsct") + ", " + g.column("nsb") + " FROM " + from, false
	}
	return "SELECT " + g.number(2) + ", " + g.text(2) + ", " + g.boolean(2) + " FROM " + from, false
}
