package pgcatalog

import (
	"strconv"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront/catalog"
)

// CatalogSession is what these functions need beyond expr.Session; a SQL
// session's expr.Ctx.Session implements it.
type CatalogSession interface {
	expr.Session
	Catalog() *catalog.View
	BackendID() int64
}

func itoa(n int) string { return strconv.Itoa(n) }

func source(ctx *expr.Ctx) (Source, error) {
	if s, ok := ctx.Session.(CatalogSession); ok {
		return s.Catalog(), nil
	}
	return nil, pgerror.New(pgerror.FeatureNotSupported, "catalog functions need a SQL session")
}

// def registers a function under pg_catalog.
func def(name string, ret sqltypes.Type, args []sqltypes.Type, eval func(ctx *expr.Ctx, args []sqltypes.Datum) (sqltypes.Datum, error)) {
	expr.RegisterFunc(expr.Def{Name: name, Args: args, Ret: ret, Strict: true, Volatility: expr.Stable, Session: true, Eval: eval})
}

// constant registers a function whose answer is the same for all arguments.
func constant(name string, ret sqltypes.Type, value sqltypes.Datum, signatures ...[]sqltypes.Type) {
	for _, args := range signatures {
		def(name, ret, args, func(*expr.Ctx, []sqltypes.Datum) (sqltypes.Datum, error) { return value, nil })
	}
}

func types(t ...sqltypes.Type) []sqltypes.Type { return t }

func init() {
	oid, text, boolean, int4, name := sqltypes.Oid, sqltypes.Text, sqltypes.Bool, sqltypes.Int4, sqltypes.Name
	yes, null := sqltypes.NewBool(true), sqltypes.Null

	def("pg_get_userbyid", name, types(oid), func(ctx *expr.Ctx, a []sqltypes.Datum) (sqltypes.Datum, error) {
		if a[0].Int() == ownerOID {
			return sqltypes.NewString(ctx.Session.SessionUser()), nil
		}
		return sqltypes.NewString("unknown (OID=" + strconv.FormatInt(a[0].Int(), 10) + ")"), nil
	})
	def("pg_table_is_visible", boolean, types(oid), tableIsVisible)
	for _, f := range []string{"pg_type_is_visible", "pg_function_is_visible", "pg_operator_is_visible", "pg_opclass_is_visible",
		"pg_opfamily_is_visible", "pg_collation_is_visible", "pg_conversion_is_visible", "pg_statistics_obj_is_visible",
		"pg_ts_parser_is_visible", "pg_ts_dict_is_visible", "pg_ts_template_is_visible", "pg_ts_config_is_visible"} {
		constant(f, boolean, yes, types(oid))
	}

	getExpr := func(_ *expr.Ctx, a []sqltypes.Datum) (sqltypes.Datum, error) { return a[0], nil }
	def("pg_get_expr", text, types(text, oid), getExpr)
	def("pg_get_expr", text, types(text, oid, boolean), getExpr)
	def("pg_get_indexdef", text, types(oid), indexDef)
	def("pg_get_indexdef", text, types(oid, int4, boolean), indexDef)
	def("pg_get_constraintdef", text, types(oid), constraintDefOf)
	def("pg_get_constraintdef", text, types(oid, boolean), constraintDefOf)
	def("obj_description", text, types(oid, name), description)
	def("obj_description", text, types(oid), description)
	def("col_description", text, types(oid, int4), columnDescription)
	constant("shobj_description", text, null, types(oid, name))
	for _, f := range []string{"pg_get_viewdef", "pg_get_triggerdef", "pg_get_ruledef"} {
		constant(f, text, null, types(oid), types(oid, boolean))
	}
	for _, f := range []string{"pg_get_functiondef", "pg_get_function_arguments", "pg_get_function_identity_arguments", "pg_get_function_result",
		"pg_get_function_sqlbody", "pg_get_partkeydef", "pg_get_statisticsobjdef_columns", "pg_get_statisticsobjdef", "pg_tablespace_location"} {
		constant(f, text, null, types(oid))
	}

	for _, f := range []string{"pg_table_size", "pg_total_relation_size", "pg_relation_size", "pg_indexes_size", "pg_database_size", "pg_tablespace_size"} {
		constant(f, sqltypes.Int8, sqltypes.NewInt(0), types(oid))
	}
	constant("pg_database_size", sqltypes.Int8, sqltypes.NewInt(0), types(name))
	for _, f := range []string{"has_database_privilege", "has_schema_privilege", "has_table_privilege", "has_tablespace_privilege", "has_function_privilege"} {
		constant(f, boolean, yes, types(text, text), types(oid, text), types(name, text, text), types(name, oid, text))
	}
	constant("has_column_privilege", boolean, yes, types(oid, text, text), types(text, text, text))
	constant("pg_has_role", boolean, yes, types(name, text), types(oid, text), types(name, name, text), types(name, oid, text))
	constant("pg_relation_is_publishable", boolean, sqltypes.NewBool(false), types(sqltypes.Regclass))
	constant("pg_relation_is_updatable", int4, sqltypes.NewInt(28), types(sqltypes.Regclass, boolean))
	constant("pg_is_in_recovery", boolean, sqltypes.NewBool(false), types())
	constant("pg_is_wal_replay_paused", boolean, sqltypes.NewBool(false), types())
	constant("pg_advisory_unlock_all", sqltypes.Void, null, types())
	constant("inet_server_addr", text, null, types())
	constant("inet_client_addr", text, null, types())
	def("pg_backend_pid", int4, types(), func(ctx *expr.Ctx, _ []sqltypes.Datum) (sqltypes.Datum, error) {
		if s, ok := ctx.Session.(CatalogSession); ok {
			return sqltypes.NewInt(s.BackendID()), nil
		}
		return sqltypes.NewInt(0), nil
	})
}

// tableByID finds a user table, or the table that owns the index of this OID.
func tableByID(src Source, oid int64) (*catalog.Table, *catalog.Index) {
	for _, t := range src.Tables() {
		if t.ID == oid {
			return t, nil
		}
		for _, ix := range t.AllIndexes() {
			if ix.OID == oid {
				return t, ix
			}
		}
	}
	return nil, nil
}

// tableIsVisible: a relation is visible if its schema is on the search path.
func tableIsVisible(ctx *expr.Ctx, a []sqltypes.Datum) (sqltypes.Datum, error) {
	src, err := source(ctx)
	if err != nil {
		return sqltypes.Null, err
	}
	schema := ""
	if t, _ := tableByID(src, a[0].Int()); t != nil {
		schema = t.Schema
	} else {
		for _, s := range sortedSpecs() {
			if s.oid == a[0].Int() {
				schema = s.schema
			}
		}
	}
	if schema == "" {
		return sqltypes.Null, nil
	}
	for _, s := range ctx.Session.SearchPath(true) {
		if s == schema {
			return sqltypes.NewBool(true), nil
		}
	}
	return sqltypes.NewBool(false), nil
}

func indexDef(ctx *expr.Ctx, a []sqltypes.Datum) (sqltypes.Datum, error) {
	src, err := source(ctx)
	if err != nil {
		return sqltypes.Null, err
	}
	t, ix := tableByID(src, a[0].Int())
	if ix == nil {
		return sqltypes.Null, nil
	}
	if len(a) == 3 && a[1].Int() != 0 {
		n := a[1].Int()
		if n < 1 || n > int64(len(ix.Columns)) {
			return sqltypes.NewString(""), nil
		}
		return sqltypes.NewString(quoteIdent(t.Columns[ix.Columns[n-1].Column].Name)), nil
	}
	return sqltypes.NewString(IndexDef(t, ix)), nil
}

func constraintDefOf(ctx *expr.Ctx, a []sqltypes.Datum) (sqltypes.Datum, error) {
	src, err := source(ctx)
	if err != nil {
		return sqltypes.Null, err
	}
	if t, ix := tableByID(src, a[0].Int()); ix != nil {
		return sqltypes.NewString(constraintDef(t, ix)), nil
	}
	for _, t := range src.Tables() {
		for i, c := range t.Checks {
			if checkOID(t, i) == a[0].Int() {
				return sqltypes.NewString("CHECK (" + c.Expr + ")"), nil
			}
		}
	}
	return sqltypes.Null, nil
}

func description(ctx *expr.Ctx, a []sqltypes.Datum) (sqltypes.Datum, error) {
	src, err := source(ctx)
	if err != nil {
		return sqltypes.Null, err
	}
	if t, ix := tableByID(src, a[0].Int()); t != nil && ix == nil && t.Comment != "" {
		return sqltypes.NewString(t.Comment), nil
	}
	return sqltypes.Null, nil
}

func columnDescription(ctx *expr.Ctx, a []sqltypes.Datum) (sqltypes.Datum, error) {
	src, err := source(ctx)
	if err != nil {
		return sqltypes.Null, err
	}
	n := a[1].Int()
	if t, ix := tableByID(src, a[0].Int()); t != nil && ix == nil && n >= 1 && n <= int64(len(t.Columns)) {
		if c := t.Columns[n-1].Comment; c != "" {
			return sqltypes.NewString(c), nil
		}
	}
	return sqltypes.Null, nil
}
