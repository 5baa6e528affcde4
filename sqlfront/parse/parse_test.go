package parse

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/cockroachdb/datadriven"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/sqlfront/ast"
)

// TestGolden: "parse" prints each statement's tree, "error" the error.
func TestGolden(t *testing.T) {
	datadriven.Walk(t, "testdata/golden", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			stmts, err := Parse(d.Input)
			if err != nil {
				e := pgerror.From(err)
				return fmt.Sprintf("%s: %s @%d\n", e.Code, e.Message, e.Position)
			}
			var b strings.Builder
			for _, s := range stmts {
				fmt.Fprintf(&b, "%q params=%d offset=%d\n%s\n", s.Text, s.Params, s.Offset, dump(s.Stmt))
			}
			return b.String()
		})
	})
}

// refused lists what the captured clients send that copra refuses by name.
var refused = map[string]bool{"LISTEN": true, "NOTIFY": true, "CREATE TYPE": true, "DROP TYPE": true}

// TestClientStatements holds the parser to what real clients send: every
// statement converts, and names stand where their positions say.
func TestClientStatements(t *testing.T) {
	files, err := filepath.Glob("testdata/*/*.sql")
	if err != nil || len(files) < 30 {
		t.Fatalf("found %d files of statements: %v", len(files), err)
	}
	located, total := 0, 0
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		sql := string(data)
		toks, err := scan(sql)
		if err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		for _, seg := range split(toks) {
			st, err := parseOne(sql, seg)
			if err != nil {
				name, _, _ := strings.Cut(err.Error(), " is not supported")
				if !refused[name] {
					t.Errorf("%s: %v\n%s", f, err, sql[seg[0].pos:seg[len(seg)-1].end])
				}
				continue
			}
			l, n := checkPositions(t, st)
			located, total = located+l, total+n
		}
	}
	t.Logf("%d of %d names and calls have a position", located, total)
	if located*100 < total*97 {
		t.Errorf("only %d of %d names and calls have a position", located, total)
	}
}

// checkPositions fails for a column reference or call whose position points at
// something else, and counts those that have one.
func checkPositions(t *testing.T, st *ast.Statement) (located, total int) {
	runes := []rune(st.Text)
	walk(reflect.ValueOf(st.Stmt), func(n any) {
		var pos int
		var want string
		switch x := n.(type) {
		case *ast.ColumnRef:
			if len(x.Parts) == 0 {
				return
			}
			pos, want = x.Position(), x.Parts[0]
		case *ast.Func:
			pos, want = x.Position(), x.Name
			for name, s := range spelled {
				if want == name {
					want = s
				}
			}
			if pos > 0 && strings.HasPrefix(strings.ToLower(string(runes[pos-1:])), "pg_catalog") {
				want = "pg_catalog"
			}
		default:
			return
		}
		total++
		if pos == 0 {
			return
		}
		located++
		at := strings.ToLower(strings.TrimPrefix(string(runes[pos-1:]), `"`))
		if !strings.HasPrefix(at, strings.ToLower(want)) {
			t.Errorf("%s: position %d is not of %s", st.Text, pos, want)
		}
	})
	return located, total
}

func TestLimits(t *testing.T) {
	for _, tc := range []struct{ name, sql, code string }{
		{"parentheses", "select " + strings.Repeat("(", 100000) + "1" + strings.Repeat(")", 100000), pgerror.StatementTooComplex},
		{"operators", "select " + strings.Repeat("- ", 50000) + "a", pgerror.StatementTooComplex},
		{"additions", "select 1" + strings.Repeat("+a", 50000), pgerror.StatementTooComplex},
		{"unions", "select 1" + strings.Repeat(" union select 1", 5000), pgerror.StatementTooComplex},
		{"bytes", "select '" + strings.Repeat("x", QueryBytesMax) + "'", pgerror.ProgramLimitExceeded},
		{"parameter", "select $65536", pgerror.UndefinedParameter},
		{"nul", "select 'a\x00b'", pgerror.CharacterNotInRepertoire},
		{"utf8", "select '\xff'", pgerror.CharacterNotInRepertoire},
	} {
		if _, err := Parse(tc.sql); pgerror.Code(err) != tc.code {
			t.Errorf("%s: got %v, want %s", tc.name, err, tc.code)
		}
	}
	if _, err := Parse("select 1 where true" + strings.Repeat(" or a = 1", 20000)); err != nil {
		t.Errorf("a long chain of OR: %v", err)
	}
}

// TestCopyOptions: the grammar must not leak values of earlier statements.
func TestCopyOptions(t *testing.T) {
	for range 3 {
		for _, sql := range []string{
			"create table t (a serial, b varchar(3) not null check (b <> 'bad'))", "copy t (b) from stdin where b like 'x%'",
			"copy t (b) from stdin with (format csv) where b > 'a'", "copy (select a from t where a = 1) to stdout",
		} {
			stmts, err := Parse(sql)
			if err != nil {
				t.Fatal(err)
			}
			if c, ok := stmts[0].Stmt.(*ast.Copy); ok {
				for _, o := range c.Options {
					if o.Name != "format" {
						t.Errorf("%s has option %q", sql, o.Name)
					}
				}
			}
		}
	}
}

func TestExpr(t *testing.T) {
	e, err := Expr("a > 0 AND b LIKE 'x%'")
	if _, ok := e.(*ast.Logic); !ok || err != nil {
		t.Errorf("%s (%v)", dump(e), err)
	}
	for _, bad := range []string{"", "1) from t where (true", "1; select 2", "a a a"} {
		if e, err := Expr(bad); err == nil {
			t.Errorf("%q gives %s", bad, dump(e))
		}
	}
}

// TestLongInsert: the work grows with the text, not with its square.
func TestLongInsert(t *testing.T) {
	var b strings.Builder
	b.WriteString("insert into t (a, b, c) values ")
	for i := range 100_000 {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "(%d, 'wärt %d', lower($1))", i, i)
	}
	stmts, err := Parse(b.String())
	if err != nil {
		t.Fatal(err)
	}
	rows := stmts[0].Stmt.(*ast.Insert).Source.Values
	last := rows[len(rows)-1][1].(*ast.StringLit)
	if len(rows) != 100_000 || last.Position() < 1 || !strings.HasPrefix(string([]rune(stmts[0].Text)[last.Position()-1:]), "'wärt 99999'") {
		t.Errorf("%d rows, the last one's text at %d", len(rows), last.Position())
	}
}

func TestCache(t *testing.T) {
	var c Cache
	first, err := c.Parse("select 1")
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.Parse("select 1")
	if err != nil || first[0] != again[0] {
		t.Errorf("the second parse made a new tree (%v)", err)
	}
	for i := range CacheEntriesMax + 10 {
		if _, err := c.Parse(fmt.Sprintf("select %d, 2", i)); err != nil {
			t.Fatal(err)
		}
	}
	if c.Len() != CacheEntriesMax {
		t.Errorf("the cache keeps %d entries", c.Len())
	}
	if _, ok := c.get("select 1"); ok {
		t.Error("the oldest entry is still there")
	}
	long := "select '" + strings.Repeat("x", cacheEntryBytesMax) + "'"
	if _, err := c.Parse(long); err != nil {
		t.Fatal(err)
	}
	if _, ok := c.get(long); ok {
		t.Error("a long statement went into the cache")
	}
}

// FuzzParse: no input panics, and every position lies inside the text.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"select a, b from t where a = 1", "insert into t values ($1, default) on conflict do nothing", "select '", "select {", "/* /* */",
		"select 1;;select ü from \"Ü\"", "create table t (a serial primary key, check (a > 1))", "select U&'\\00e9' uescape '!'", "$a$ $a$",
		"begin atomic; end", "copy t from stdin with (format csv)", "select row_number() over (order by a rows 1 preceding)",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		stmts, err := Parse(sql)
		if err != nil {
			if e := pgerror.From(err); e.Code == pgerror.InternalError || e.Position < 0 || e.Position > len([]rune(sql))+1 {
				t.Fatalf("%q: %#v", sql, e)
			}
			return
		}
		for _, st := range stmts {
			n := len([]rune(st.Text))
			walk(reflect.ValueOf(st.Stmt), func(x any) {
				if e, ok := x.(ast.Expr); ok && (e.Position() < 0 || e.Position() > n) {
					t.Fatalf("%q: position %d in %q", sql, e.Position(), st.Text)
				}
			})
		}
	})
}

func BenchmarkParse(b *testing.B) {
	q, err := os.ReadFile("testdata/tpch/21.sql")
	if err != nil {
		b.Fatal(err)
	}
	for _, tc := range []struct{ name, sql string }{{"point", "select c from sbtest1 where id = $1"}, {"q21", string(q)}} {
		b.Run(tc.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(tc.sql); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestByteEscapes: \x and octal escapes are bytes of UTF-8, and positions
// behind them stay.
func TestByteEscapes(t *testing.T) {
	for in, want := range map[string]string{
		`E'\xc3\xa9'`: "é", `e'a\303\251b'`: "aéb", `E'\x41\x4a\101'`: "AJA", `E'\\xc3\xC3\xA9'`: `\xc3é`, `E'\u00e9\''`: "é'",
		`'\xc3'`: `\xc3`, `E'\xe2\x82\xac€'`: "€€", `E'\n\x9'`: "\n\t",
	} {
		e, err := Expr(in)
		if err != nil {
			t.Errorf("%s: %v", in, err)
		} else if s, ok := e.(*ast.StringLit); !ok || s.Value != want {
			t.Errorf("%s is %#v, want %q", in, e, want)
		}
	}
	for in, want := range map[string]string{
		`select E'\xff'`:                   `invalid byte sequence for encoding "UTF8": 0xff`,
		`select E'\xc3('`:                  `invalid byte sequence for encoding "UTF8": 0xc3 0x28`,
		`select 'ü', E'\xc3\xa9', 1 + ) 3`: `syntax error at or near ")"`,
	} {
		_, err := Parse(in)
		e := pgerror.From(err)
		if e == nil || e.Message != want {
			t.Errorf("%s gives %v, want %s", in, err, want)
		}
		if strings.Contains(in, ")") && strings.Contains(in, "ü") && e.Position != utf8.RuneCountInString(in[:strings.IndexByte(in, ')')])+1 {
			t.Errorf("%s has the error at %d", in, e.Position)
		}
	}
}
