package pgcatalog

import (
	"fmt"
	"time"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront/catalog"
)

// loaded is pg_conf_load_time's answer: the configuration is read once.
var loaded = time.Now()

// Functions about the server and about access, for clients that show them.
func init() {
	oid, text, boolean, int4, int8 := sqltypes.Oid, sqltypes.Text, sqltypes.Bool, sqltypes.Int4, sqltypes.Int8
	null := sqltypes.Null

	constant("getdatabaseencoding", sqltypes.Name, sqltypes.NewString("UTF8"), types())
	constant("pg_conf_load_time", sqltypes.Timestamptz, sqltypes.NewInt(loaded.UnixMicro()), types())
	constant("inet_server_port", int4, null, types())
	constant("inet_client_port", int4, null, types())
	constant("pg_stat_get_numscans", int8, sqltypes.NewInt(0), types(oid))
	constant("pg_jit_available", boolean, sqltypes.NewBool(false), types())
	constant("pg_last_wal_receive_lsn", text, null, types())
	constant("pg_last_wal_replay_lsn", text, null, types())
	constant("pg_blocking_pids", sqltypes.TypeOf(sqltypes.OIDInt4Array), sqltypes.NewString("{}"), types(int4))
	constant("has_any_column_privilege", boolean, sqltypes.NewBool(true), types(text, text), types(oid, text))
	constant("has_sequence_privilege", boolean, sqltypes.NewBool(true), types(text, text), types(oid, text))
	constant("has_language_privilege", boolean, sqltypes.NewBool(true), types(text, text), types(oid, text))
	constant("has_type_privilege", boolean, sqltypes.NewBool(true), types(text, text), types(oid, text))
	def("acldefault", sqltypes.TextArray, types(sqltypes.Char, oid), aclDefault)
	def("pg_describe_object", text, types(oid, oid, int4), describeObject)
	def("pg_identify_object_as_address", text, types(oid, oid, int4), func(*expr.Ctx, []sqltypes.Datum) (sqltypes.Datum, error) {
		return null, pgerror.Unsupported("pg_identify_object_as_address")
	})
	advisoryLocks()
}

// advisoryLocks are refused by name: nothing would hold them across nodes.
func advisoryLocks() {
	int4, int8 := sqltypes.Int4, sqltypes.Int8
	for _, f := range []struct {
		name string
		ret  sqltypes.Type
	}{
		{"pg_advisory_lock", sqltypes.Void}, {"pg_advisory_lock_shared", sqltypes.Void},
		{"pg_advisory_xact_lock", sqltypes.Void}, {"pg_advisory_xact_lock_shared", sqltypes.Void},
		{"pg_try_advisory_lock", sqltypes.Bool}, {"pg_try_advisory_lock_shared", sqltypes.Bool},
		{"pg_try_advisory_xact_lock", sqltypes.Bool}, {"pg_try_advisory_xact_lock_shared", sqltypes.Bool},
		{"pg_advisory_unlock", sqltypes.Bool}, {"pg_advisory_unlock_shared", sqltypes.Bool},
	} {
		refuse := func(*expr.Ctx, []sqltypes.Datum) (sqltypes.Datum, error) {
			return sqltypes.Null, pgerror.Unsupported("an advisory lock (" + f.name + ")").
				WithHint("Lock a row of a table instead, with SELECT … FOR UPDATE.")
		}
		for _, args := range [][]sqltypes.Type{{int8}, {int4, int4}} {
			expr.RegisterFunc(expr.Def{Name: f.name, Args: args, Ret: f.ret, Strict: true, Volatility: expr.Volatile, Session: true, Eval: refuse})
		}
	}
}

// ownerRights are what the owner of an object may do, by acldefault's kinds
// (src/backend/utils/adt/acl.c): PUBLIC's rights come before the owner's.
var ownerRights = map[string]struct{ public, owner string }{
	"c": {}, "r": {owner: "arwdDxt"}, "s": {owner: "rwU"}, "d": {public: "Tc", owner: "CTc"}, "f": {public: "X", owner: "X"},
	"l": {public: "U", owner: "U"}, "L": {owner: "rw"}, "n": {owner: "UC"}, "p": {owner: "sA"}, "t": {owner: "C"}, "F": {owner: "U"},
	"S": {owner: "U"}, "T": {public: "U", owner: "U"},
}

func aclDefault(ctx *expr.Ctx, a []sqltypes.Datum) (sqltypes.Datum, error) {
	rights, ok := ownerRights[a[0].Str()]
	if !ok {
		return sqltypes.Null, pgerror.New(pgerror.InternalError, "unrecognized object type abbreviation: %s", a[0].Str())
	}
	owner := itoa(int(a[1].Int()))
	if a[1].Int() == ownerOID {
		owner = ctx.Session.SessionUser()
	}
	var items []sqltypes.ArrayElement
	if rights.public != "" {
		items = append(items, sqltypes.ArrayElement{Text: "=" + rights.public + "/" + owner})
	}
	if rights.owner != "" {
		items = append(items, sqltypes.ArrayElement{Text: owner + "=" + rights.owner + "/" + owner})
	}
	return sqltypes.NewString(sqltypes.JoinArray(sqltypes.TextArray, items)), nil
}

// Catalogs that pg_describe_object's first argument names.
const (
	typeClass      = 1247
	relationClass  = 1259
	namespaceClass = 2615
)

// describeObject words an object as an error message would.
func describeObject(ctx *expr.Ctx, a []sqltypes.Datum) (sqltypes.Datum, error) {
	class, id, sub := a[0].Int(), a[1].Int(), a[2].Int()
	reg := func(kind string, t sqltypes.Type) (sqltypes.Datum, error) {
		if name, ok := ctx.Session.RegName(t, uint32(id)); ok {
			return sqltypes.NewString(kind + " " + name), nil
		}
		return sqltypes.Null, nil
	}
	switch class {
	case typeClass:
		return reg("type", sqltypes.Regtype)
	case namespaceClass:
		return reg("schema", sqltypes.TypeOf(sqltypes.OIDRegnamespace))
	case relationClass:
	default:
		return sqltypes.Null, pgerror.Unsupported(fmt.Sprintf("pg_describe_object of an object of catalog %d", class))
	}
	src, err := source(ctx)
	if err != nil {
		return sqltypes.Null, err
	}
	kind := "table"
	t, ix := tableByID(src, id)
	switch {
	case ix != nil:
		kind = "index"
	case t == nil:
		if schema, _, ok := Name(uint32(id)); ok && schema == catalog.SchemaInfo {
			kind = "view"
		}
	}
	d, err := reg(kind, sqltypes.Regclass)
	if err != nil || d.IsNull() || sub == 0 || t == nil || ix != nil {
		return d, err
	}
	if sub < 1 || sub > int64(len(t.Columns)) {
		return sqltypes.Null, nil
	}
	return sqltypes.NewString("column " + t.Columns[sub-1].Name + " of " + d.Str()), nil
}

// Name is the schema and name of the system table with that OID.
func Name(oid uint32) (schema, name string, ok bool) {
	if s := specsByOID()[int64(oid)]; s != nil {
		return s.schema, s.name, true
	}
	return "", "", false
}
