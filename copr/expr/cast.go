package expr

import (
	"strings"
	"sync"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// CastContext says how a cast came about; each context allows the casts of
// the ones before it.
type CastContext uint8

// The contexts of pg_cast.
const (
	Implicit CastContext = iota
	Assignment
	Explicit
)

// castContexts is pg_cast: source, then the targets by context.
var castContexts = func() map[[2]uint32]CastContext {
	m := map[[2]uint32]CastContext{}
	regs := "regproc regprocedure regoper regoperator regclass regtype regrole regnamespace"
	add := func(from string, ctx CastContext, to string) {
		for t := range strings.FieldsSeq(to) {
			m[[2]uint32{typeNamed(from).OID, typeNamed(t).OID}] = ctx
		}
	}
	add("bool", Assignment, "bpchar varchar text")
	add("bool", Explicit, "int4")
	add("bpchar", Assignment, "char")
	add("bpchar", Implicit, "text name varchar")
	add("char", Assignment, "varchar bpchar")
	add("char", Explicit, "int4")
	add("char", Implicit, "text")
	add("date", Implicit, "timestamp timestamptz")
	add("float4", Assignment, "int8 int2 int4 numeric")
	add("float4", Implicit, "float8")
	add("float8", Assignment, "numeric int4 int8 float4 int2")
	add("int2", Implicit, "numeric oid int8 float8 float4 int4 "+regs)
	add("int4", Assignment, "int2")
	add("int4", Explicit, "bool char")
	add("int4", Implicit, "numeric float4 int8 float8 oid "+regs)
	add("int8", Assignment, "int4 int2")
	add("int8", Implicit, "float8 numeric oid float4 "+regs)
	add("interval", Assignment, "time")
	add("name", Assignment, "varchar bpchar")
	add("name", Implicit, "text")
	add("numeric", Assignment, "int4 int8 int2")
	add("numeric", Implicit, "float4 float8")
	add("oid", Assignment, "int8 int4")
	add("oid", Implicit, regs)
	add("pg_node_tree", Implicit, "text")
	for r := range strings.FieldsSeq(regs) {
		add(r, Assignment, "int8 int4")
		add(r, Implicit, "oid")
	}
	add("regproc", Implicit, "regprocedure")
	add("regprocedure", Implicit, "regproc")
	add("regoper", Implicit, "regoperator")
	add("regoperator", Implicit, "regoper")
	add("text", Assignment, "char")
	add("text", Implicit, "regclass varchar bpchar name")
	add("time", Implicit, "interval")
	add("timestamp", Assignment, "date time")
	add("timestamp", Implicit, "timestamptz")
	add("timestamptz", Assignment, "time date timestamp")
	add("varchar", Assignment, "char")
	add("varchar", Implicit, "regclass text name bpchar")
	return m
}()

// castContext is the weakest context that allows from → to.
func castContext(from, to sqltypes.Type) (CastContext, bool) {
	if from.OID == to.OID || isUnknown(from) {
		return Implicit, true
	}
	if ctx, ok := castContexts[[2]uint32{from.OID, to.OID}]; ok {
		return ctx, true
	}
	if !from.Known() || !to.Known() {
		return 0, false
	}
	fe, fromArray := from.Elem()
	te, toArray := to.Elem()
	if to.OID == sqltypes.OIDInt2Vector || to.OID == sqltypes.OIDOidVector {
		toArray = false
	}
	if fromArray && toArray && from.OID != sqltypes.OIDName && to.OID != sqltypes.OIDName {
		return castContext(fe, te)
	}
	switch { // conversion through text
	case from.Category() == 'P' || to.Category() == 'P':
		return 0, false
	case to.Category() == 'S':
		return Assignment, true
	case from.Category() == 'S':
		return Explicit, true
	}
	return 0, false
}

// implicitly reports whether a value of type from can stand where to is
// wanted.
func implicitly(from, to sqltypes.Type) bool {
	switch to.OID {
	case sqltypes.OIDAny, sqltypes.OIDAnyElement:
		return true
	case sqltypes.OIDAnyArray:
		return from.IsArray() || isUnknown(from)
	}
	ctx, ok := castContext(from, to)
	return ok && ctx == Implicit
}

// FindCast finds the cast from → to that ctx allows. A nil Func with ok means
// that nothing has to be done.
func FindCast(from, to sqltypes.Type, ctx CastContext) (fn *Func, ok bool) {
	need, ok := castContext(from, to)
	if !ok || need > ctx {
		return nil, false
	}
	if from == to {
		return nil, true
	}
	return castFunc(from, to, ctx == Explicit), true
}

// errCannotCast is 42846.
func errCannotCast(from, to sqltypes.Type) error {
	return pgerror.New(pgerror.CannotCoerce, "cannot cast type %s to %s", from.Base().Name(), to.Base().Name())
}

// NewCast casts e to exactly the type to, its modifiers included. A literal
// without a type is read as to's text at once, unless its meaning depends on
// the session; then FoldConst with the session's Ctx does it.
func NewCast(e Expr, to sqltypes.Type, ctx CastContext) (Expr, error) {
	from := e.Type()
	if from == to {
		return e, nil
	}
	c, isConst := e.(*Const)
	if isConst && c.Value.IsNull() {
		if _, ok := FindCast(from, to, ctx); !ok {
			return nil, errCannotCast(from, to)
		}
		return &Const{Typ: to}, nil
	}
	if isConst && isUnknown(from) && !dependsOnSession(to, c.Value.Str()) {
		v, err := parseLiteral(c.Value.Str(), to, ctx)
		if err != nil {
			return nil, err
		}
		return &Const{Value: v, Typ: to}, nil
	}
	fn, ok := FindCast(from, to, ctx)
	if !ok {
		return nil, errCannotCast(from, to)
	}
	call := &Call{Fn: fn, Args: []Expr{e}, Typ: to}
	if isConst && fn.Volatility == Immutable {
		if v, err := evalConst(nil, call); err == nil {
			return &Const{Value: v, Typ: to}, nil
		}
	}
	return call, nil
}

// dependsOnSession reports whether a literal's value depends on the time zone,
// the clock or the catalog.
func dependsOnSession(t sqltypes.Type, s string) bool {
	switch t.OID {
	case sqltypes.OIDTimestamptz:
		return true
	case sqltypes.OIDDate, sqltypes.OIDTime, sqltypes.OIDTimestamp:
		s = strings.ToLower(s)
		for _, w := range []string{"now", "today", "tomorrow", "yesterday"} {
			if strings.Contains(s, w) {
				return true
			}
		}
	}
	return t.IsReg() && strings.Trim(s, "0123456789-") != ""
}

func parseLiteral(s string, to sqltypes.Type, ctx CastContext) (sqltypes.Datum, error) {
	if ctx != Explicit || !to.IsString() {
		return sqltypes.ParseText(to, s)
	}
	d, err := sqltypes.ParseText(sqltypes.Text, s)
	if err != nil {
		return d, err
	}
	s, err = sqltypes.FitString(d.Str(), to, true)
	return sqltypes.NewString(s), err
}

var casts sync.Map // signature → *Func

// castFunc is the function of a cast between base types; explicit ones cut
// texts too long for their type.
func castFunc(from, to sqltypes.Type, explicit bool) *Func {
	name := "assign"
	if explicit {
		name = "cast"
	}
	sig := name + "(" + from.PgName() + "," + to.PgName() + ")"
	if f, ok := casts.Load(sig); ok {
		return f.(*Func)
	}
	f := &Func{
		Name: name, Sig: sig, ArgTypes: []sqltypes.Type{from.Base()}, ReturnType: to.Base(),
		Strict: true, Kind: KindCast, Volatility: castVolatility(from, to),
		Session: castNeedsSession(from, to), eval: castEval(from, to, explicit),
	}
	actual, _ := casts.LoadOrStore(sig, f)
	return actual.(*Func)
}

func castNeedsSession(from, to sqltypes.Type) bool {
	return to.IsReg() && from.Kind() == sqltypes.KindString || from.IsReg() && to.Kind() == sqltypes.KindString
}

func castVolatility(from, to sqltypes.Type) Volatility {
	clock := func(t sqltypes.Type) bool { return t.IsDateTime() || t.IsReg() }
	str := func(t sqltypes.Type) bool { return t.Kind() == sqltypes.KindString }
	switch {
	case from.OID == to.OID:
		return Immutable
	case from.OID == sqltypes.OIDTimestamptz || to.OID == sqltypes.OIDTimestamptz:
		return Stable
	case str(from) && clock(to), from.IsReg() && str(to):
		return Stable
	}
	return Immutable
}

// castBySig finds the cast that a plan names.
func castBySig(sig string) (*Func, bool) {
	name, rest, ok := strings.Cut(strings.TrimSuffix(sig, ")"), "(")
	if !ok || name != "cast" && name != "assign" {
		return nil, false
	}
	a, b, ok := strings.Cut(rest, ",")
	if !ok {
		return nil, false
	}
	from, err1 := sqltypes.ByName([]string{a}, nil, 0)
	to, err2 := sqltypes.ByName([]string{b}, nil, 0)
	if err1 != nil || err2 != nil {
		return nil, false
	}
	from, to = from.Base(), to.Base()
	if _, ok := castContext(from, to); !ok {
		return nil, false
	}
	f := castFunc(from, to, name == "cast")
	return f, f.Sig == sig
}
