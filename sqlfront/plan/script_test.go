package plan

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/sqlfront/ast"
	"github.com/copradb/copra/sqlfront/catalog"
	"github.com/copradb/copra/sqlfront/parse"
)

// TestScripts runs testdata/*.txt:
//
//	ddl, insert      statements
//	stats t rows=N   estimates for the planner; columns as col=N
//	rule             the logical tree as bound, and rewritten
//	plan             EXPLAIN
//	exec             the rows, which must be the same without pushdown
//	error            SQLSTATE, position and message of a SELECT
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/scripts", func(t *testing.T, path string) {
		l := newLab()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			out, err := l.command(d)
			if err != nil {
				return errorText(err)
			}
			return out
		})
	})
}

func errorText(err error) string {
	var e *pgerror.Error
	if !errors.As(err, &e) {
		return "error: " + err.Error() + "\n"
	}
	s := fmt.Sprintf("error %s", e.Code)
	if e.Position > 0 {
		s += fmt.Sprintf(" at %d", e.Position)
	}
	s += ": " + e.Message
	if e.Hint != "" {
		s += "\nhint: " + e.Hint
	}
	return s + "\n"
}

func (l *lab) command(d *datadriven.TestData) (string, error) {
	switch d.Cmd {
	case "ddl":
		return "", l.ddl(d.Input)
	case "insert":
		return "", l.insert(d.Input)
	case "stats":
		return "", l.setStats(d)
	case "rule":
		return l.rule(d.Input)
	case "plan":
		p, err := l.selectPlan(d.Input, !d.HasArg("off"))
		if err != nil {
			return "", err
		}
		return strings.Join(Explain(p, ExplainOptions{Costs: d.HasArg("rows")}, nil), "\n") + "\n", nil
	case "exec":
		return l.both(d.Input, d.HasArg("sort"))
	case "dml":
		return l.dml(d.Input)
	}
	return "", fmt.Errorf("unknown command %s", d.Cmd)
}

func (l *lab) setStats(d *datadriven.TestData) error {
	t := l.tables[d.CmdArgs[0].Key]
	s := catalog.Stats{Distinct: map[uint32]int64{}}
	for _, a := range d.CmdArgs[1:] {
		var n int64
		if _, err := fmt.Sscan(a.Vals[0], &n); err != nil {
			return err
		}
		if a.Key == "rows" {
			s.Rows = n
			continue
		}
		s.Distinct[t.Columns[t.ColumnIndex(a.Key)].ID] = n
	}
	l.stats[t.ID] = s
	return nil
}

// both runs a SELECT with and without pushdown, by one goroutine and by several.
func (l *lab) both(sql string, unordered bool) (string, error) {
	var first []string
	for i, pushdown := range []bool{true, false} {
		p, err := l.selectPlan(sql, pushdown)
		if err != nil {
			return "", err
		}
		rows, _, err := l.run(p, nil)
		if err != nil {
			return "", err
		}
		many, _, err := l.runBy(p, nil, 3)
		if err != nil {
			return "", fmt.Errorf("by several workers: %w", err)
		}
		// Without ORDER BY workers return rows in any order.
		if unordered || !sorted(p.root) {
			sort.Strings(many)
			if alike := slices.Sorted(slices.Values(rows)); !slices.Equal(alike, many) {
				return "", fmt.Errorf("one worker gives\n%s\nseveral give\n%s", strings.Join(alike, "\n"), strings.Join(many, "\n"))
			}
		} else if !slices.Equal(rows, many) {
			return "", fmt.Errorf("one worker gives\n%s\nseveral give\n%s", strings.Join(rows, "\n"), strings.Join(many, "\n"))
		}
		if unordered {
			sort.Strings(rows)
		}
		if i == 0 {
			first = rows
		} else if !slices.Equal(first, rows) {
			return "", fmt.Errorf("pushdown on gives\n%s\noff gives\n%s", strings.Join(first, "\n"), strings.Join(rows, "\n"))
		}
	}
	if len(first) == 0 {
		return "(no rows)\n", nil
	}
	return strings.Join(first, "\n") + "\n", nil
}

// rule prints the logical tree before and after the rules.
func (l *lab) rule(sql string) (string, error) {
	st, err := parse.Parse(sql)
	if err != nil {
		return "", err
	}
	b, err := Bind(l.context(true), st[0].Stmt.(*ast.Select))
	if err != nil {
		return "", err
	}
	var out strings.Builder
	out.WriteString("bound:\n")
	printNode(&out, b.q, b.plan, 1)
	o := &optimizer{q: b.q, cat: l, ectx: b.ectx, settings: b.settings}
	n := o.inlineCTEs(b.plan)
	o.inlineInCTEs()
	n = o.prune(o.rewrite(n), colsOf(b.out))
	out.WriteString("rewritten:\n")
	printNode(&out, b.q, n, 1)
	return out.String(), nil
}

// dml plans an UPDATE, DELETE or INSERT and prints its source and what hangs on
// it.
func (l *lab) dml(sql string) (string, error) {
	st, err := parse.Parse(sql)
	if err != nil {
		return "", err
	}
	var src *Physical
	var tail []string
	exprs := func(name string, r *RowExprs) {
		if r != nil {
			tail = append(tail, name+": "+exprList(r.exprs))
		}
	}
	switch x := st[0].Stmt.(type) {
	case *ast.Update:
		p, err := PlanUpdate(l.context(true), x)
		if err != nil {
			return "", err
		}
		src = p.Source
		exprs("check", p.Checks)
		exprs("returning", p.Returning)
	case *ast.Delete:
		p, err := PlanDelete(l.context(true), x)
		if err != nil {
			return "", err
		}
		src = p.Source
		exprs("returning", p.Returning)
	case *ast.Insert:
		p, err := PlanInsert(l.context(true), x)
		if err != nil {
			return "", err
		}
		src = p.Source
		exprs("check", p.Checks)
		exprs("returning", p.Returning)
		if c := p.Conflict; c != nil {
			name := "any"
			if c.Index != nil {
				name = c.Index.Name
			}
			tail = append(tail, fmt.Sprintf("conflict: %s columns %v", name, c.Columns))
			exprs("set", c.Set)
			exprs("where", c.Where)
		}
	}
	lines := append(Explain(src, ExplainOptions{}, nil), tail...)
	src.Columns = nil
	for _, t := range src.Types {
		src.Columns = append(src.Columns, Column{Type: t})
	}
	rows, _, err := l.run(src, nil)
	if err != nil {
		return "", err
	}
	return strings.Join(append(append(lines, "--"), rows...), "\n") + "\n", nil
}

// printNode renders a logical tree.
func printNode(out *strings.Builder, q *query, n node, depth int) {
	pad := strings.Repeat("  ", depth)
	fmt.Fprintf(out, "%s%s\n", pad, nodeText(q, n))
	nodeSubs(n, func(s *subExpr) {
		fmt.Fprintf(out, "%s  subquery:\n", pad)
		printNode(out, q, s.plan, depth+2)
	})
	for _, c := range n.inputs() {
		printNode(out, q, c, depth+1)
	}
}
