package plan

import (
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront/ast"
)

var setOpNames = map[ast.SetOp]string{ast.SetUnion: "UNION", ast.SetIntersect: "INTERSECT", ast.SetExcept: "EXCEPT"}
var setOpKinds = map[ast.SetOp]setKind{ast.SetUnion: setUnion, ast.SetIntersect: setIntersect, ast.SetExcept: setExcept}

// bindSetOp binds l UNION/INTERSECT/EXCEPT r with the ORDER BY and LIMIT of
// the whole.
func (b *binder) bindSetOp(s *ast.Select, sc *scope, opts selectOpts) (*relation, error) {
	if len(s.Locking) > 0 {
		return nil, pgerror.New(pgerror.FeatureNotSupported, "FOR %s is not allowed with UNION/INTERSECT/EXCEPT", s.Locking[0].Strength)
	}
	rel, err := b.bindSetTree(s, sc, opts.keepUnknown)
	if err != nil {
		return nil, err
	}
	if err := b.orderOutput(rel, s, setOpNames[s.SetOp]); err != nil {
		return nil, err
	}
	if err := b.bindLimit(rel, s, sc); err != nil {
		return nil, err
	}
	return rel, nil
}

func (b *binder) bindSetTree(s *ast.Select, sc *scope, keepUnknown bool) (*relation, error) {
	name := setOpNames[s.SetOp]
	l, err := b.bindSelect(s.L, sc, selectOpts{keepUnknown: true})
	if err != nil {
		return nil, err
	}
	r, err := b.bindSelect(s.R, sc, selectOpts{keepUnknown: true})
	if err != nil {
		return nil, err
	}
	if len(l.cols) != len(r.cols) {
		return nil, pgerror.New(pgerror.SyntaxError, "each %s query must have the same number of columns", name).At(firstTargetPos(s.R))
	}
	types := make([]sqltypes.Type, len(l.cols))
	for i := range l.cols {
		pair := []expr.Expr{l.output(b.q, i), r.output(b.q, i)}
		if keepUnknown && unknownType(pair[0].Type()) && unknownType(pair[1].Type()) {
			types[i] = sqltypes.Unknown
			continue
		}
		if types[i], err = b.commonType(pair, name, targetPos(s.R, i)); err != nil {
			return nil, err
		}
		types[i] = setColumnType(types[i], pair)
	}
	if err := b.coerceOutput(l, types, name); err != nil {
		return nil, err
	}
	if err := b.coerceOutput(r, types, name); err != nil {
		return nil, err
	}
	n := &setNode{kind: setOpKinds[s.SetOp], all: s.SetAll, l: l.plan, r: r.plan, lcols: l.ids(), rcols: r.ids()}
	out := &relation{plan: n}
	for i, c := range l.cols {
		lm, rm := &b.q.cols[c.id], &b.q.cols[r.cols[i].id]
		id := b.q.add(colMeta{name: c.name, typ: types[i], notNull: lm.notNull && rm.notNull &&
			!nulled(l.plan, c.id) && !nulled(r.plan, r.cols[i].id)})
		n.cols = append(n.cols, id)
		out.cols = append(out.cols, outCol{c.name, id})
	}
	return out, nil
}

// setColumnType keeps a modifier (varchar(10), numeric(8,2)) only where both
// sides have it.
func setColumnType(t sqltypes.Type, pair []expr.Expr) sqltypes.Type {
	if pair[0].Type() == pair[1].Type() && pair[0].Type().OID == t.OID {
		return pair[0].Type()
	}
	return t
}

func firstTargetPos(s *ast.Select) int { return targetPos(s, 0) }

func targetPos(s *ast.Select, i int) int {
	for s.L != nil {
		s = s.L
	}
	if i < len(s.Targets) {
		return s.Targets[i].Expr.Position()
	}
	if len(s.Values) > 0 && i < len(s.Values[0]) {
		return s.Values[0][i].Position()
	}
	return 0
}

// output is the expression of the i-th output column as far as it can be seen:
// a literal of unknown type rather than a column of unknown type.
func (r *relation) output(q *query, i int) expr.Expr {
	if p, ok := r.plan.(*projectNode); ok {
		for _, it := range p.items {
			if it.col == r.cols[i].id {
				if unknownType(it.e.Type()) {
					return it.e
				}
				break
			}
		}
	}
	return q.column(r.cols[i].id)
}

// coerceOutput casts the output columns to types, with new ids where a cast is
// needed. Literals of unknown type are coerced where they stand.
func (b *binder) coerceOutput(r *relation, types []sqltypes.Type, clause string) error {
	same := true
	for i, c := range r.cols {
		same = same && b.q.cols[c.id].typ == types[i]
	}
	if same {
		return nil
	}
	var below map[ColID]expr.Expr
	in := r.plan
	if p, ok := r.plan.(*projectNode); ok {
		below = map[ColID]expr.Expr{}
		for _, it := range p.items {
			below[it.col] = it.e
		}
		in = p.in
	}
	items, made := []item{}, map[ColID]bool{}
	for i := range r.cols {
		c := &r.cols[i]
		e := expr.Expr(b.q.column(c.id))
		if x, ok := below[c.id]; ok {
			e = x
		}
		if e.Type() != types[i] {
			x, err := b.implicitCast(e, types[i], b.at[e])
			if err != nil {
				return err
			}
			c.id = b.q.add(colMeta{name: c.name, typ: types[i], notNull: b.q.cols[c.id].notNull && !nulled(in, c.id)})
			e = x
		}
		if !made[c.id] {
			made[c.id] = true
			items = append(items, item{c.id, e})
		}
	}
	r.plan = &projectNode{in: in, items: items}
	return nil
}

// orderOutput sorts by output columns: names and ordinals only, as Postgres
// allows for set operations and VALUES.
func (b *binder) orderOutput(rel *relation, s *ast.Select, what string) error {
	if len(s.OrderBy) == 0 {
		return nil
	}
	sc := newScope(nil)
	for _, c := range rel.cols {
		sc.visible = append(sc.visible, scopeCol(c))
	}
	st := &selectState{b: b, s: s, sc: sc, lv: &level{clause: "ORDER BY", noAgg: true}}
	sc.level = st.lv
	for _, c := range rel.cols {
		st.targets = append(st.targets, target{name: c.name, e: b.q.column(c.id), col: c.id})
	}
	var keys []sortKey
	for _, o := range s.OrderBy {
		i, err := st.findTarget(o.Expr, "ORDER BY", true)
		if err != nil {
			return err
		}
		if st.targets[i].hidden {
			return pgerror.New(pgerror.FeatureNotSupported, "invalid %s ORDER BY clause", what).
				WithDetail("Only result column names can be used, not expressions or functions.").
				WithHint("Add the expression/function to every SELECT, or move the UNION into a FROM clause.").At(o.Expr.Position())
		}
		keys = append(keys, sortKey{b.q.column(st.targets[i].col), o.Desc, nullsFirst(o)})
	}
	rel.plan = &sortNode{in: rel.plan, keys: keys}
	return nil
}
