package plan

import (
	"strconv"
	"strings"

	"github.com/copradb/copra/copr/agg"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront/ast"
)

// windowDef is a window call found at a query level.
type windowDef struct {
	partition []expr.Expr
	order     []sortKey
	item      windowItem
}

// windowCall is a window function over its windowNode's input.
type windowCall struct {
	name  string
	args  []expr.Expr
	typ   sqltypes.Type
	frame frame
	agg   bool
}

// boundKind is where a frame starts or ends.
type boundKind int

const (
	unboundedPreceding boundKind = iota
	offsetPreceding
	currentRow
	offsetFollowing
	unboundedFollowing
)

type frameBound struct {
	kind boundKind
	n    int
}

// frame is the rows an aggregate sees: counted in rows, or up to the peers of
// the current row (RANGE).
type frame struct {
	rows       bool
	start, end frameBound
}

var windowFunctions = map[string]bool{
	"row_number": true, "rank": true, "dense_rank": true, "percent_rank": true, "cume_dist": true, "ntile": true,
	"lag": true, "lead": true, "first_value": true, "last_value": true, "nth_value": true,
}

func windowFunction(name string) bool { return windowFunctions[name] }

func (b *binder) bindWindow(f *ast.Func, sc *scope) (expr.Expr, error) {
	lv := sc.level
	switch {
	case lv == nil || lv.noAgg:
		where := "this context"
		if lv != nil {
			where = lv.clause
		}
		return nil, pgerror.New(pgerror.WindowingError, "window functions are not allowed in %s", where).At(f.Position())
	case lv.inWin:
		return nil, pgerror.New(pgerror.WindowingError, "window function calls cannot be nested").At(f.Position())
	case lv.inAgg:
		return nil, pgerror.New(pgerror.GroupingError, "aggregate function calls cannot contain window function calls").At(f.Position())
	case f.Distinct:
		return nil, pgerror.New(pgerror.FeatureNotSupported, "DISTINCT is not implemented for window functions").At(f.Position())
	case f.Filter != nil:
		return nil, pgerror.Unsupported("FILTER of a window function").At(f.Position())
	case len(f.OrderBy) > 0:
		return nil, pgerror.New(pgerror.FeatureNotSupported, "aggregate ORDER BY is not implemented for window functions").At(f.Position())
	}
	lv.inWin = true
	defer func() { lv.inWin = false }()
	def := windowDef{}
	call := &def.item.call
	call.name = f.Name
	var err error
	if call.args, err = b.bindAll(f.Args, sc); err != nil {
		return nil, err
	}
	if err := b.windowTypes(f, call); err != nil {
		return nil, err
	}
	if err := b.windowSpec(f.Over, sc, &def); err != nil {
		return nil, err
	}
	for _, d := range lv.windows {
		if sameWindow(&d, &def) {
			return b.q.column(d.item.col), nil
		}
	}
	def.item.col = b.q.add(colMeta{name: f.Name, typ: call.typ})
	lv.windows = append(lv.windows, def)
	return b.q.column(def.item.col), nil
}

// windowTypes finds the result type and coerces the arguments.
func (b *binder) windowTypes(f *ast.Func, call *windowCall) error {
	noFunc := pgerror.New(pgerror.UndefinedFunction, "function %s with %d arguments does not exist", f.Name, len(call.args)).At(f.Position())
	arity := func(lo, hi int) bool { return len(call.args) >= lo && len(call.args) <= hi }
	ok := true
	switch f.Name {
	case "row_number", "rank", "dense_rank":
		call.typ, ok = sqltypes.Int8, arity(0, 0)
	case "percent_rank", "cume_dist":
		call.typ, ok = sqltypes.Float8, arity(0, 0)
	case "ntile":
		if call.typ, ok = sqltypes.Int4, arity(1, 1); ok {
			return b.castArg(call, 0, sqltypes.Int4, f)
		}
	case "lag", "lead":
		if ok = arity(1, 3); ok {
			return b.lagTypes(f, call)
		}
	case "first_value", "last_value", "nth_value":
		n := 1
		if f.Name == "nth_value" {
			n = 2
		}
		if ok = arity(n, n); ok {
			x, err := b.unknownToText(call.args[0])
			if err != nil {
				return err
			}
			call.args[0], call.typ = x, x.Type()
			if n == 2 {
				return b.castArg(call, 1, sqltypes.Int4, f)
			}
		}
	default:
		if !agg.IsAggregate(f.Name) {
			return pgerror.New(pgerror.WrongObjectType, "OVER specified, but %s is not a window function nor an aggregate function", f.Name).At(f.Position())
		}
		call.agg = true
		a := &aggCall{name: f.Name}
		if err := b.resolveAggregate(f, a, call.args); err != nil {
			return err
		}
		call.args, call.typ = a.args, a.typ
	}
	if !ok {
		return noFunc
	}
	return nil
}

func (b *binder) castArg(call *windowCall, i int, to sqltypes.Type, f *ast.Func) (err error) {
	call.args[i], err = b.implicitCast(call.args[i], to, f.Args[i].Position())
	return err
}

func (b *binder) lagTypes(f *ast.Func, call *windowCall) error {
	pick := []expr.Expr{call.args[0]}
	if len(call.args) == 3 {
		pick = append(pick, call.args[2])
	}
	typ, err := b.commonType(pick, "LAG", f.Position())
	if err != nil {
		return err
	}
	call.typ = typ
	if err := b.castArg(call, 0, typ, f); err != nil {
		return err
	}
	if len(call.args) > 1 {
		if err := b.castArg(call, 1, sqltypes.Int4, f); err != nil {
			return err
		}
	}
	if len(call.args) == 3 {
		return b.castArg(call, 2, typ, f)
	}
	return nil
}

// windowSpec binds OVER, looking names up in the WINDOW clause.
func (b *binder) windowSpec(w *ast.Window, sc *scope, def *windowDef) error {
	frameText := w.Frame
	if w.Name != "" {
		base := sc.level.named[w.Name]
		if base == nil {
			return pgerror.New(pgerror.UndefinedObject, "window %q does not exist", w.Name).At(w.Position())
		}
		if err := b.windowSpec(base, sc, def); err != nil {
			return err
		}
		if frameText == "" {
			frameText = base.Frame
		}
	}
	for _, p := range w.PartitionBy {
		x, err := b.bindExpr(p, sc)
		if err != nil {
			return err
		}
		if x, err = b.unknownToText(x); err != nil {
			return err
		}
		def.partition = append(def.partition, x)
	}
	for _, o := range w.OrderBy {
		x, err := b.bindExpr(o.Expr, sc)
		if err != nil {
			return err
		}
		if x, err = b.unknownToText(x); err != nil {
			return err
		}
		def.order = append(def.order, sortKey{x, o.Desc, nullsFirst(o)})
	}
	fr, err := parseFrame(frameText)
	if err != nil {
		return at(err, w.Position())
	}
	def.item.call.frame = fr
	return nil
}

// parseFrame reads the frame as the parser writes it.
func parseFrame(text string) (frame, error) {
	fr := frame{start: frameBound{unboundedPreceding, 0}, end: frameBound{currentRow, 0}}
	if text == "" {
		return fr, nil
	}
	mode, rest, _ := strings.Cut(text, " ")
	if mode == "GROUPS" || strings.Contains(rest, "EXCLUDE") {
		return fr, pgerror.Unsupported("window frame " + text)
	}
	fr.rows = mode == "ROWS"
	first, last := rest, "CURRENT ROW"
	if b, ok := strings.CutPrefix(rest, "BETWEEN "); ok {
		first, last, _ = strings.Cut(b, " AND ")
	}
	var err error
	if fr.start, err = parseFrameBound(first); err != nil {
		return fr, err
	}
	if fr.end, err = parseFrameBound(last); err != nil {
		return fr, err
	}
	offset := func(b frameBound) bool { return b.kind == offsetPreceding || b.kind == offsetFollowing }
	if !fr.rows && (offset(fr.start) || offset(fr.end)) {
		return fr, pgerror.Unsupported("RANGE with an offset")
	}
	if fr.start.kind == unboundedFollowing {
		return fr, pgerror.New(pgerror.WindowingError, "frame start cannot be UNBOUNDED FOLLOWING")
	}
	if fr.end.kind == unboundedPreceding {
		return fr, pgerror.New(pgerror.WindowingError, "frame end cannot be UNBOUNDED PRECEDING")
	}
	return fr, nil
}

func parseFrameBound(s string) (frameBound, error) {
	switch s {
	case "UNBOUNDED PRECEDING":
		return frameBound{unboundedPreceding, 0}, nil
	case "UNBOUNDED FOLLOWING":
		return frameBound{unboundedFollowing, 0}, nil
	case "CURRENT ROW":
		return frameBound{currentRow, 0}, nil
	}
	num, dir, _ := strings.Cut(s, " ")
	n, err := strconv.Atoi(num)
	if err != nil || n < 0 {
		return frameBound{}, pgerror.Unsupported("window frame offset " + num + " (only constants)")
	}
	if dir == "PRECEDING" {
		return frameBound{offsetPreceding, n}, nil
	}
	return frameBound{offsetFollowing, n}, nil
}

func sameWindow(a, b *windowDef) bool {
	x, y := &a.item.call, &b.item.call
	return x.name == y.name && x.frame == y.frame && equalExprs(x.args, y.args) && sameSpec(a, b)
}

func sameSpec(a, b *windowDef) bool {
	return equalExprs(a.partition, b.partition) && equalKeys(a.order, b.order)
}

func equalKeys(a, b []sortKey) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].desc != b[i].desc || a[i].nullsFirst != b[i].nullsFirst || !equalExpr(a[i].e, b[i].e) {
			return false
		}
	}
	return true
}

// rewriteWindows puts the window calls in terms of the aggregation's output.
func (g *grouping) rewriteWindows(windows []windowDef) error {
	for _, w := range windows {
		g.made.add(w.item.col)
	}
	for i := range windows {
		w := &windows[i]
		for _, list := range [][]expr.Expr{w.partition, w.item.call.args} {
			for j, e := range list {
				x, err := g.rewrite(e)
				if err != nil {
					return err
				}
				list[j] = x
			}
		}
		for j, k := range w.order {
			x, err := g.rewrite(k.e)
			if err != nil {
				return err
			}
			w.order[j].e = x
		}
	}
	return nil
}

// applyWindows stacks one node for each different window.
func (st *selectState) applyWindows() error {
	rest := st.lv.windows
	for len(rest) > 0 {
		n := &windowNode{in: st.plan, partition: rest[0].partition, order: rest[0].order}
		var later []windowDef
		for i := range rest {
			if sameSpec(&rest[0], &rest[i]) {
				n.funcs = append(n.funcs, rest[i].item)
			} else {
				later = append(later, rest[i])
			}
		}
		st.plan, rest = n, later
	}
	return nil
}
