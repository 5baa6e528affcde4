package sqlfront

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/copradb/copra/sqlfront/ast"
	"github.com/copradb/copra/sqlfront/copyfmt"
)

// TestDirectConversion: a chunk that is converted directly gives the keys and
// values that the usual way gives, and what that refuses is not taken.
func TestDirectConversion(t *testing.T) {
	db := newTestDB(t, Options{})
	c := db.client(t)
	for _, sql := range []string{
		"CREATE TABLE d (a bigint, b numeric(8,2), c text, d date, e char(4), f varchar(5), g bool, h float8, k int NOT NULL, PRIMARY KEY (a, c))",
		"CREATE UNIQUE INDEX ON d (b)", "CREATE INDEX ON d (f, d)",
	} {
		if out := c.simple(sql, ""); strings.Contains(out, "ERROR") {
			t.Fatal(out)
		}
	}
	s := c.s.(*session)
	snap, err := s.bindSnapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	table, err := resolveTable(snap.View(s.env()), ast.TableName{Name: "d"})
	if err != nil {
		t.Fatal(err)
	}
	converter := func(columns []string) *copyConverter {
		ords, names, err := copyColumns(table, columns)
		if err != nil {
			t.Fatal(err)
		}
		o, err := copyfmt.ParseOptions(nil, names, true)
		if err != nil {
			t.Fatal(err)
		}
		v, err := (&copyIn{s: s, ctx: t.Context(), st: &ast.Copy{}, snap: snap, table: table, ords: ords, names: names, options: o}).newConverter()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	layouts := []*copyConverter{converter(nil), converter([]string{"k", "c", "a"}), converter([]string{"h", "f", "e", "d", "c", "b", "a", "k"})}
	taken := 0
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.SampledFrom(layouts).Draw(t, "layout")
		var text strings.Builder
		for range rapid.IntRange(1, 5).Draw(t, "rows") {
			var fields []string
			for _, o := range v.c.ords {
				fields = append(fields, drawField(t, table.Columns[o].Name))
			}
			fmt.Fprintln(&text, strings.Join(fields, "\t"))
		}
		chunk := copyfmt.Chunk{Data: []byte(text.String()), Line: 7}
		got, ok := v.convertDirect(context.Background(), chunk)
		if !ok {
			return
		}
		v.direct = false
		want := v.convert(context.Background(), chunk)
		v.direct = true
		if want.err != nil || got.rows != want.rows || !reflect.DeepEqual(got.entries, want.entries) {
			t.Fatalf("%q gives %v, in the usual way %v (%v)", text.String(), got.entries, want.entries, want.err)
		}
		taken++
	})
	if taken == 0 {
		t.Error("no chunk was converted directly")
	}
	if v := converter([]string{"a", "c"}); v.direct {
		t.Error("a column that must not be NULL is missing, and rows are converted directly")
	}
}

func drawField(t *rapid.T, column string) string {
	plain := map[string]string{"a": "12", "b": "3.50", "c": "x", "d": "2024-02-29", "e": "ab", "f": "vwxyz", "g": "t", "h": "1.5", "k": "4"}[column]
	if rapid.IntRange(0, 9).Draw(t, "plain") > 0 {
		return rapid.SampledFrom([]string{plain, plain, "7", "-8"}).Filter(func(s string) bool {
			return s == plain || strings.Contains("abckh", column)
		}).Draw(t, column)
	}
	return rapid.SampledFrom([]string{`\N`, "", "99999999999", "1234567.891", `a\tb`, `\xff`, "2024-02-30", "toolong", "ab   ", "ä", "nan"}).Draw(t, column)
}
