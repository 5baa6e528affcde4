package pgcatalog

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront/catalog"
)

//go:embed tables.txt
var tablesText string

// spec is the shape of a system table.
type spec struct {
	schema, name string
	oid          int64
	columns      []catalog.Column
	index        map[string]int
}

var specs = sync.OnceValue(func() map[string]*spec {
	out := make(map[string]*spec)
	for _, line := range strings.Split(tablesText, "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		s, err := parseSpec(line)
		if err != nil {
			panic(fmt.Sprintf("pgcatalog: tables.txt: %v in %q", err, line)) // embedded at build time
		}
		out[s.schema+"."+s.name] = s
	}
	return out
})

func parseSpec(line string) (*spec, error) {
	parts := strings.SplitN(line, " ", 3)
	if len(parts) != 3 {
		return nil, fmt.Errorf("want name, oid and columns")
	}
	schema, name, _ := strings.Cut(parts[0], ".")
	oid, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil {
		return nil, err
	}
	s := &spec{schema: schema, name: name, oid: oid, index: make(map[string]int)}
	for i, def := range strings.Split(parts[2], ", ") {
		col, typ, ok := strings.Cut(def, " ")
		if !ok {
			return nil, fmt.Errorf("column %q has no type", def)
		}
		s.index[col] = i
		s.columns = append(s.columns, catalog.Column{ID: uint32(i + 1), Name: col, Type: typeOf(typ)})
	}
	return s, nil
}

// typeOf maps PostgreSQL's type names; internal types that copra does not have
// (pg_node_tree, aclitem …) appear as text.
func typeOf(name string) sqltypes.Type {
	switch name {
	case "oid":
		return sqltypes.Oid
	case "name":
		return sqltypes.Name
	case `"char"`:
		return sqltypes.Char
	case "boolean":
		return sqltypes.Bool
	case "smallint":
		return sqltypes.Int2
	case "integer":
		return sqltypes.Int4
	case "bigint", "xid":
		return sqltypes.Int8
	case "real":
		return sqltypes.Float4
	case "double precision":
		return sqltypes.Float8
	case "regproc":
		return sqltypes.TypeOf(sqltypes.OIDRegproc)
	case "regtype":
		return sqltypes.Regtype
	case "int2vector":
		return sqltypes.TypeOf(sqltypes.OIDInt2Vector)
	case "oidvector":
		return sqltypes.TypeOf(sqltypes.OIDOidVector)
	case "smallint[]":
		return sqltypes.TypeOf(sqltypes.OIDInt2Array)
	case "oid[]":
		return sqltypes.TypeOf(sqltypes.OIDOidArray)
	case "name[]":
		return sqltypes.TypeOf(sqltypes.OIDNameArray)
	case `"char"[]`:
		return sqltypes.TypeOf(sqltypes.OIDCharArray)
	case "text[]", "aclitem[]":
		return sqltypes.TextArray
	case "timestamp with time zone":
		return sqltypes.Timestamptz
	case "interval":
		return sqltypes.Interval
	case "bytea":
		return sqltypes.Bytea
	case "character varying":
		return sqltypes.Varchar
	}
	return sqltypes.Text
}

// rowSet collects rows of a table by column name.
type rowSet struct {
	spec *spec
	rows [][]sqltypes.Datum
}

// values are a row's columns that are not NULL.
type values map[string]any

func (r *rowSet) add(v values) {
	row := make([]sqltypes.Datum, len(r.spec.columns))
	for name, value := range v {
		i, ok := r.spec.index[name]
		if !ok {
			panic("pgcatalog: " + r.spec.name + " has no column " + name)
		}
		row[i] = datum(value)
	}
	r.rows = append(r.rows, row)
}

func datum(v any) sqltypes.Datum {
	switch v := v.(type) {
	case nil:
		return sqltypes.Null
	case bool:
		return sqltypes.NewBool(v)
	case int:
		return sqltypes.NewInt(int64(v))
	case int16:
		return sqltypes.NewInt(int64(v))
	case int32:
		return sqltypes.NewInt(int64(v))
	case int64:
		return sqltypes.NewInt(v)
	case uint32:
		return sqltypes.NewInt(int64(v))
	case float64:
		return sqltypes.NewFloat(v)
	case string:
		return sqltypes.NewString(v)
	}
	panic(fmt.Sprintf("pgcatalog: a value of type %T has no datum", v))
}
