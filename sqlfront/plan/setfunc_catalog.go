package plan

import (
	"strings"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// Set-returning functions that catalog queries of clients call. What copra has
// no objects of (partitions, options) gives no rows.

func init() {
	reg := sqltypes.Regclass
	RegisterSetFunc("pg_partition_ancestors", emptySet([]sqltypes.Type{reg}, Column{Name: "relid", Type: reg}))
	RegisterSetFunc("pg_partition_tree", emptySet([]sqltypes.Type{reg}, Column{Name: "relid", Type: reg}, Column{Name: "parentrelid", Type: reg},
		Column{Name: "isleaf", Type: sqltypes.Bool}, Column{Name: "level", Type: sqltypes.Int4}))
	RegisterSetFunc("pg_listening_channels", emptySet(nil, Column{Name: "", Type: sqltypes.Text}))
	RegisterSetFunc("pg_options_to_table", &SetFunc{Match: matchTypes([]sqltypes.Type{sqltypes.TextArray},
		Column{Name: "option_name", Type: sqltypes.Text}, Column{Name: "option_value", Type: sqltypes.Text}), Rows: optionRows})
	RegisterSetFunc("string_to_table", &SetFunc{Match: matchTypes([]sqltypes.Type{sqltypes.Text, sqltypes.Text},
		Column{Type: sqltypes.Text}), Rows: stringRows})
	RegisterSetFunc("_pg_expandarray", &SetFunc{Match: matchExpand, Rows: expandRows})
	RegisterSetFunc("aclexplode", &SetFunc{Match: matchACL, Rows: aclRows})
}

// matchTypes matches arguments that fit want.
func matchTypes(want []sqltypes.Type, cols ...Column) func([]sqltypes.Type) ([]sqltypes.Type, []Column, bool) {
	return func(args []sqltypes.Type) ([]sqltypes.Type, []Column, bool) {
		if len(args) != len(want) {
			return nil, nil, false
		}
		for i, a := range args {
			if !fits(a, want[i]) {
				return nil, nil, false
			}
		}
		return want, cols, true
	}
}

func emptySet(want []sqltypes.Type, cols ...Column) *SetFunc {
	return &SetFunc{Match: matchTypes(want, cols...),
		Rows: func(*expr.Ctx, []sqltypes.Datum, []sqltypes.Type, func([]sqltypes.Datum) bool) error { return nil }}
}

func optionRows(_ *expr.Ctx, args []sqltypes.Datum, types []sqltypes.Type, yield func([]sqltypes.Datum) bool) error {
	if args[0].IsNull() {
		return nil
	}
	return eachElement(types[0], args[0].Str(), func(d sqltypes.Datum) bool {
		name, value, ok := strings.Cut(d.Str(), "=")
		row := []sqltypes.Datum{sqltypes.NewString(name), sqltypes.Null}
		if ok {
			row[1] = sqltypes.NewString(value)
		}
		return yield(row)
	})
}

func stringRows(_ *expr.Ctx, args []sqltypes.Datum, _ []sqltypes.Type, yield func([]sqltypes.Datum) bool) error {
	if args[0].IsNull() || args[0].Str() == "" {
		return nil
	}
	parts := []string{args[0].Str()}
	switch {
	case args[1].IsNull():
		parts = strings.Split(args[0].Str(), "")
	case args[1].Str() != "":
		parts = strings.Split(args[0].Str(), args[1].Str())
	}
	for _, p := range parts {
		if !yield([]sqltypes.Datum{sqltypes.NewString(p)}) {
			return nil
		}
	}
	return nil
}

func matchExpand(args []sqltypes.Type) ([]sqltypes.Type, []Column, bool) {
	if len(args) != 1 {
		return nil, nil, false
	}
	elem, ok := args[0].Elem()
	return args, []Column{{Name: "x", Type: elem}, {Name: "n", Type: sqltypes.Int4}}, ok
}

func expandRows(_ *expr.Ctx, args []sqltypes.Datum, types []sqltypes.Type, yield func([]sqltypes.Datum) bool) error {
	if args[0].IsNull() {
		return nil
	}
	n := int64(0)
	return eachElement(types[0], args[0].Str(), func(d sqltypes.Datum) bool {
		n++
		return yield([]sqltypes.Datum{d, sqltypes.NewInt(n)})
	})
}

func matchACL(args []sqltypes.Type) ([]sqltypes.Type, []Column, bool) {
	if len(args) != 1 || !args[0].IsArray() && !unknownType(args[0]) {
		return nil, nil, false
	}
	want := args
	if unknownType(args[0]) {
		want = []sqltypes.Type{sqltypes.TextArray}
	}
	return want, []Column{{Name: "grantor", Type: sqltypes.Oid}, {Name: "grantee", Type: sqltypes.Oid},
		{Name: "privilege_type", Type: sqltypes.Text}, {Name: "is_grantable", Type: sqltypes.Bool}}, true
}

// aclRows knows that nothing is granted yet: access lists are NULL.
func aclRows(_ *expr.Ctx, args []sqltypes.Datum, _ []sqltypes.Type, _ func([]sqltypes.Datum) bool) error {
	if !args[0].IsNull() {
		return pgerror.Unsupported("aclexplode of an access list")
	}
	return nil
}
