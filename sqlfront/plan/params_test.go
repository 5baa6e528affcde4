package plan

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront/ast"
	"github.com/copradb/copra/sqlfront/parse"
)

func paramsLab(t *testing.T) *lab {
	t.Helper()
	l := newLab()
	if err := l.ddl("create table t (a int primary key, b varchar(10), d numeric(8,2), e timestamptz); create table u (x bigint, y int)"); err != nil {
		t.Fatal(err)
	}
	if err := l.insert("insert into t values (1, 'x', 1.5, '2026-01-01'), (2, 'y', 2.5, null), (3, 'y', 3, null); insert into u values (1, 1), (2, 3)"); err != nil {
		t.Fatal(err)
	}
	return l
}

// TestParameterTypes holds what is inferred for parameters without a type.
func TestParameterTypes(t *testing.T) {
	l := paramsLab(t)
	for _, c := range []struct {
		sql, types string
	}{
		{"select * from t where a = $1", "integer"},
		{"select * from t where b = $1 and d > $2 and e < $3", "text, numeric, timestamp with time zone"},
		{"select $1", "text"},
		{"select $1::int, $1", "integer"},
		{"select $1, $1::int", "integer"},
		{"select $1 + 1, $2 || 'x'", "integer, text"},
		{"select a from t limit $1 offset $2", "bigint, bigint"},
		{"select coalesce($1, d) from t", "numeric"},
		{"select case when $1 then a else $2 end from t", "boolean, integer"},
		{"select a from t where a in ($1, $2, 3)", "integer, integer"},
		{"select a from t where a between $1 and $2", "integer, integer"},
		{"select a from t where a = any($1)", "integer[]"},
		{"select a from t union select $1", "integer"},
		{"values ($1, 1), (2, $2)", "integer, integer"},
		{"select a from t where ($1 = 'x') and (b, a) = ($2, $3)", "text, text, integer"},
		{"insert into t values ($1, $2, $3, $4)", "integer, character varying, numeric, timestamp with time zone"},
		{"insert into t (d, a) select $1, $2", "numeric, integer"},
		{"update t set d = $1, b = $2 where a = $3", "numeric, character varying, integer"},
		{"delete from t where a = $1", "integer"},
		{"select $2::int", "42P18: could not determine data type of parameter $1"},
		{"select $1::int, $1::text", "integer"},
		{"select $1 = any(array[$1::int, 2])", "integer"},
	} {
		got, err := l.paramTypes(c.sql)
		if err != nil {
			got = pgerror.Code(err) + ": " + pgerror.From(err).Message
		}
		if got != c.types {
			t.Errorf("%s: %s, want %s", c.sql, got, c.types)
		}
	}
}

func (l *lab) paramTypes(sql string) (string, error) {
	st, err := parse.Parse(sql)
	if err != nil {
		return "", err
	}
	var types []sqltypes.Type
	switch x := st[0].Stmt.(type) {
	case *ast.Select:
		b, err := Bind(l.context(true), x)
		if err != nil {
			return "", err
		}
		types = b.Params
	case *ast.Insert:
		p, err := PlanInsert(l.context(true), x)
		if err != nil {
			return "", err
		}
		types = p.Params
	case *ast.Update:
		p, err := PlanUpdate(l.context(true), x)
		if err != nil {
			return "", err
		}
		types = p.Params
	case *ast.Delete:
		p, err := PlanDelete(l.context(true), x)
		if err != nil {
			return "", err
		}
		types = p.Params
	}
	names := make([]string, len(types))
	for i, typ := range types {
		names[i] = typ.Name()
	}
	return strings.Join(names, ", "), nil
}

// TestPlanIsReused runs one plan with several parameters, from several
// goroutines at once: a Physical is immutable.
func TestPlanIsReused(t *testing.T) {
	l := paramsLab(t)
	point, err := l.selectPlan("select b, d from t where a = $1", true)
	if err != nil {
		t.Fatal(err)
	}
	if got := Explain(point, ExplainOptions{}, nil); got[0] != "Point Get on t" {
		t.Fatalf("a select by primary key is planned as %s", got)
	}
	nested, err := l.selectPlan("select a, (select max(x) from u where u.y >= t.a and u.x <> $1 limit 1) from t where a < $2 order by 1", true)
	if err != nil {
		t.Fatal(err)
	}
	l.keysIn(nil, false) // sort the store's keys before it is shared
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			v := int64(1 + i%3)
			rows, _, err := l.run(point, []sqltypes.Datum{sqltypes.NewInt(v)})
			want := []string{[]string{"x|1.50", "y|2.50", "y|3.00"}[v-1]}
			if err != nil || !slices.Equal(rows, want) {
				t.Errorf("a = %d: %v, %v, want %v", v, rows, err, want)
			}
			rows, _, err = l.run(nested, []sqltypes.Datum{sqltypes.NewInt(v), sqltypes.NewInt(3)})
			want = []string{"1|2", "2|2"}
			if v == 2 {
				want = []string{"1|1", "2|NULL"}
			}
			if err != nil || !slices.Equal(rows, want) {
				t.Errorf("nested %d: %v, %v, want %v", v, rows, err, want)
			}
		}()
	}
	wg.Wait()
}

// TestSubqueriesRunOnce counts scans: a subquery that depends on nothing is
// evaluated once, a correlated one once per distinct outer value, and EXPLAIN
// ANALYZE has the numbers.
func TestSubqueriesRunOnce(t *testing.T) {
	l := paramsLab(t)
	for _, c := range []struct {
		sql   string
		scans int64
	}{
		{"select a from t where a > (select min(y) from u)", 2},
		{"select b, (select x from u where u.y > length(t.b) limit 1) from t", 3},
		{"with w as (select x from u) select * from w l, w r", 1},
		{"with w as (select 1 k, sum(y) s from u where x >= 1 group by 1) select * from w where s = (select max(s) from w)", 1},
		{"with w as (select y, sum(x) s from u group by y) select * from w where s = (select max(s) from w)", 1},
		{"with w as (select y, sum(x) s from u group by y) select * from t, w where a = y and s = (select max(s) from w) order by a", 1},
	} {
		p, err := l.selectPlan(c.sql, true)
		if err != nil {
			t.Fatal(err)
		}
		before := l.scans.Load()
		_, r, err := l.run(p, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := l.scans.Load() - before; got != c.scans {
			t.Errorf("%s: %d scans, want %d", c.sql, got, c.scans)
		}
		if text := strings.Join(Explain(p, ExplainOptions{}, r), "\n"); !strings.Contains(text, "actual rows=") {
			t.Errorf("no actual rows in\n%s", text)
		}
	}
}

// TestDepthIsLimited: nesting ends in an error, not in an exhausted stack.
func TestDepthIsLimited(t *testing.T) {
	l := paramsLab(t)
	var e ast.Expr = &ast.IntLit{Value: 1}
	for range ExprDepthMax * 2 {
		e = &ast.Unary{Op: "+", X: e}
	}
	_, err := Bind(l.context(true), &ast.Select{Targets: []ast.Target{{Expr: e}}})
	if pgerror.Code(err) != pgerror.StatementTooComplex {
		t.Fatalf("%v", err)
	}
}

// TestManyTables orders a join of more relations than a set has bits.
func TestManyTables(t *testing.T) {
	l := paramsLab(t)
	var from, where []string
	for i := range 70 {
		from = append(from, fmt.Sprintf("t t%d", i))
		if i > 0 {
			where = append(where, fmt.Sprintf("t%d.a = t%d.a", i-1, i))
		}
	}
	p, err := l.selectPlan("select t0.a from "+strings.Join(from, ", ")+" where "+strings.Join(where, " and "), true)
	if err != nil {
		t.Fatal(err)
	}
	rows, _, err := l.run(p, nil)
	if err != nil || len(rows) != 3 {
		t.Fatalf("%v, %v", rows, err)
	}
}

func BenchmarkPreparedPointSelect(b *testing.B) {
	l := newLab()
	if err := l.ddl("create table t (a int primary key, b int)"); err != nil {
		b.Fatal(err)
	}
	if err := l.insert("insert into t values (1, 2)"); err != nil {
		b.Fatal(err)
	}
	p, err := l.selectPlan("select b from t where a = $1", true)
	if err != nil {
		b.Fatal(err)
	}
	params := []sqltypes.Datum{sqltypes.NewInt(1)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Build(p, &ExecEnv{Eval: l.eval(params), Storage: l}); err != nil {
			b.Fatal(err)
		}
	}
}
