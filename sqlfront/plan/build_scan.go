package plan

import (
	"bytes"
	"slices"

	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/expr"
	coprplan "github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/internal/tablecodec"
	"github.com/copradb/copra/sqlfront/catalog"
)

// lookupRowsMax is how many handles one block of an index lookup fetches.
const lookupRowsMax = 1024

func (n *physScan) build(b *builder) (exec.Operator, error) {
	req, err := b.scanRequest(n)
	if err != nil {
		return nil, err
	}
	return b.env.Storage.Scan(req)
}

// scanRequest fills parameters into a scan's chain and ranges.
func (b *builder) scanRequest(n *physScan) (*ScanRequest, error) {
	req := &ScanRequest{Filters: b.filters.on(n), Table: n.table, Types: n.types, KeepOrder: n.keepOrder, Desc: n.desc,
		Plan: &coprplan.Plan{TimeZone: b.p.tz, Nodes: make([]coprplan.Node, 0, len(n.chain)+1)}}
	req.Plan.Nodes = append(req.Plan.Nodes, n.head)
	for _, p := range n.chain {
		node, err := b.pushedNode(p)
		if err != nil {
			return nil, err
		}
		if l, ok := node.(*coprplan.Limit); ok {
			req.LimitHint = l.N
			if l.N == exec.NoLimit {
				continue
			}
		}
		if t, ok := node.(*coprplan.TopN); ok && t.N > topNRowsMax {
			continue // the sort above does it
		}
		req.Plan.Nodes = append(req.Plan.Nodes, node)
	}
	if req.LimitHint == exec.NoLimit {
		req.LimitHint = 0
	}
	var err error
	req.Ranges, err = b.ranges(n.table, n.acc)
	return req, err
}

func (b *builder) pushedNode(p pushed) (coprplan.Node, error) {
	n := uint64(0)
	if p.count != nil {
		count, off, err := b.limits(p.count, p.offset)
		if err != nil {
			return nil, err
		}
		if n = count + off; n < count {
			n = exec.NoLimit
		}
	}
	switch x := p.node.(type) {
	case *coprplan.Selection:
		return &coprplan.Selection{Conds: b.pushAll(x.Conds)}, nil
	case *coprplan.Projection:
		return &coprplan.Projection{Exprs: b.pushAll(x.Exprs)}, nil
	case *coprplan.Aggregation:
		a := &coprplan.Aggregation{GroupBy: b.pushAll(x.GroupBy), Aggs: slices.Clone(x.Aggs)}
		for i := range a.Aggs {
			a.Aggs[i].Args = b.pushAll(a.Aggs[i].Args)
			if a.Aggs[i].Filter != nil {
				a.Aggs[i].Filter = b.push(a.Aggs[i].Filter)
			}
		}
		return a, nil
	case *coprplan.TopN:
		t := &coprplan.TopN{N: n, Keys: slices.Clone(x.Keys)}
		for i := range t.Keys {
			t.Keys[i].Expr = b.push(t.Keys[i].Expr)
		}
		return t, nil
	case *coprplan.Limit:
		return &coprplan.Limit{N: n}, nil
	}
	return p.node, nil
}

// push makes an expression that travels: parameters become constants, and so
// do fixed calls of stable functions.
func (b *builder) push(e expr.Expr) expr.Expr { return expr.FoldConst(b.eval, e) }

func (b *builder) pushAll(list []expr.Expr) []expr.Expr {
	out := make([]expr.Expr, len(list))
	for i, e := range list {
		out[i] = b.push(e)
	}
	return out
}

// ranges are the key ranges of an access path, ascending.
func (b *builder) ranges(t *catalog.Table, a *access) ([]kv.KeyRange, error) {
	var prefix []byte
	if a.index == nil {
		prefix = tablecodec.AppendRecordPrefix(nil, t.ID)
	} else {
		prefix = tablecodec.AppendIndexPrefix(nil, t.ID, a.index.ID)
	}
	if !a.ranged() {
		return []kv.KeyRange{tablecodec.PrefixRange(prefix)}, nil
	}
	tuples, err := b.tuples(a)
	if err != nil {
		return nil, err
	}
	iv := tablecodec.Interval{}
	ok := true
	if next := a.prefixLen(); a.low != nil || a.high != nil {
		if iv.Low, ok, err = b.bound(a.low, a.types[next]); err != nil || !ok {
			return nil, err
		}
		if iv.High, ok, err = b.bound(a.high, a.types[next]); err != nil || !ok {
			return nil, err
		}
	}
	var out []kv.KeyRange
	for _, tuple := range tuples {
		iv.Equal = tuple
		r, ok, err := iv.Range(prefix, a.codec)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, r)
		}
	}
	return tablecodec.MergeRanges(out), nil
}

// tuples are the combinations of values of the leading columns; one that has a
// NULL or a value that the column cannot hold matches nothing.
func (b *builder) tuples(a *access) ([][]sqltypes.Datum, error) {
	if a.tuples != nil {
		var out [][]sqltypes.Datum
		for _, t := range a.tuples {
			row := make([]sqltypes.Datum, len(t))
			all := true
			for i, e := range t {
				d, ok, err := b.keyValue(e, a.types[i])
				if err != nil {
					return nil, err
				}
				row[i], all = d, all && ok
			}
			if all {
				out = append(out, row)
			}
		}
		return out, nil
	}
	out := [][]sqltypes.Datum{nil}
	for i, list := range a.eq {
		var next [][]sqltypes.Datum
		for _, e := range list {
			d, ok, err := b.keyValue(e, a.types[i])
			if err != nil {
				return nil, err
			}
			if !ok {
				continue
			}
			for _, row := range out {
				next = append(next, append(row[:len(row):len(row)], d))
			}
		}
		out = next
	}
	return out, nil
}

// keyValue computes a value to compare a key column with; ok is false if no
// stored value equals it.
func (b *builder) keyValue(e expr.Expr, typ sqltypes.Type) (sqltypes.Datum, bool, error) {
	d, err := b.constant(e)
	if err != nil || d.IsNull() {
		return d, false, err
	}
	if typ.FixedScale() && d.Kind() == sqltypes.KindDecimal {
		fit, err := sqltypes.FitNumeric(d.Decimal(), typ)
		if err != nil || fit.Cmp(d.Decimal()) != 0 {
			return d, false, nil
		}
		d = sqltypes.NewDecimal(fit)
	}
	return d, true, nil
}

// bound computes one end of a range; ok is false if nothing lies within. A
// numeric that the column would round becomes an open end: the condition is
// tested again on the rows.
func (b *builder) bound(k *keyBound, typ sqltypes.Type) (tablecodec.Bound, bool, error) {
	if k == nil {
		return tablecodec.Bound{}, true, nil
	}
	d, err := b.constant(k.e)
	if err != nil || d.IsNull() {
		return tablecodec.Bound{}, false, err
	}
	if typ.FixedScale() && d.Kind() == sqltypes.KindDecimal {
		fit, err := sqltypes.FitNumeric(d.Decimal(), typ)
		if err != nil || fit.Cmp(d.Decimal()) != 0 {
			return tablecodec.Bound{}, true, nil
		}
		d = sqltypes.NewDecimal(fit)
	}
	if k.prefixEnd {
		next := []byte(d.Str())
		for len(next) > 0 && next[len(next)-1] == 0xff {
			next = next[:len(next)-1]
		}
		if len(next) == 0 {
			return tablecodec.Bound{}, true, nil
		}
		next[len(next)-1]++
		d = sqltypes.NewString(string(next))
	}
	return tablecodec.Bound{Set: true, Value: d, Exclusive: k.exclusive}, true, nil
}

// handles are the row handles that a full key's values name.
func (b *builder) handles(a *access) ([][]byte, error) {
	tuples, err := b.tuples(a)
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for _, row := range tuples {
		h, err := tablecodec.AppendHandle(nil, a.types, row)
		if err != nil {
			return nil, err
		}
		out = append(out, h)
	}
	return dedupeKeys(out), nil
}

// dedupeKeys sorts keys and drops repeated ones.
func dedupeKeys(keys [][]byte) [][]byte {
	slices.SortFunc(keys, bytes.Compare)
	return slices.CompactFunc(keys, bytes.Equal)
}

func (n *physPoint) build(b *builder) (exec.Operator, error) {
	return exec.NewSource(n.title(), n.types, func(ctx *exec.Ctx) (exec.Source, error) {
		return &onceSource{f: func() (*expr.Batch, error) { return n.read1(ctx, b) }}, nil
	}), nil
}

func (n *physPoint) title() string {
	if n.acc.index != nil {
		return "Index Point Get"
	}
	return "Point Get"
}

func (n *physPoint) read1(ctx *exec.Ctx, b *builder) (*expr.Batch, error) {
	handles, err := n.rowHandles(ctx, b)
	if err != nil || len(handles) == 0 {
		return nil, err
	}
	return b.env.Storage.Rows(ctx, &RowsRequest{Table: n.table, Handles: handles, Key: keyColumns(n.table), Columns: n.read, Handle: n.handle})
}

func (n *physPoint) rowHandles(ctx *exec.Ctx, b *builder) ([][]byte, error) {
	if n.acc.index == nil {
		return b.handles(n.acc)
	}
	tuples, err := b.tuples(n.acc)
	if err != nil {
		return nil, err
	}
	var keys [][]byte
	for _, row := range tuples {
		key, _, err := tablecodec.AppendIndexKey(nil, n.table.ID, n.acc.index.ID, true, n.acc.codec, row, nil)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, nil
	}
	found, err := b.env.Storage.UniqueGet(ctx, n.table, n.acc.index, dedupeKeys(keys))
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(found, func(h []byte) bool { return h == nil }), nil
}

// fetch reads rows by handle.
func (b *builder) fetch(ctx *exec.Ctx, req *RowsRequest) (rows *expr.Batch, err error) {
	err = ctx.Waiting(func() error {
		rows, err = b.env.Storage.Rows(ctx, req)
		return err
	})
	return rows, err
}

func (n *physRows) build(b *builder) (exec.Operator, error) {
	in, err := b.build(n.in)
	if err != nil {
		return nil, err
	}
	at := n.in.position(n.in.handle)
	return newUnary("Index Lookup", n.types, in, func(ctx *exec.Ctx, batch *expr.Batch, emit func(*expr.Batch) error) error {
		h := colvec.Open(batch.Cols[at], handleType)
		for lo := 0; lo < batch.N; lo += lookupRowsMax {
			var handles [][]byte
			for i := lo; i < min(batch.N, lo+lookupRowsMax); i++ {
				handles = append(handles, h.BytesAt(i))
			}
			rows, err := b.fetch(ctx, &RowsRequest{Table: n.table, Handles: handles, Key: keyColumns(n.table), Columns: n.read, Handle: n.handle})
			if err != nil {
				return err
			}
			if err := emit(rows); err != nil {
				return err
			}
		}
		return nil
	}), nil
}

func (n *physLookup) build(b *builder) (exec.Operator, error) {
	outer, err := b.build(n.outer)
	if err != nil {
		return nil, err
	}
	parts := make([][]expr.Expr, 0, 5)
	for _, l := range [][]expr.Expr{n.keys, n.filter, n.lkeys, n.rkeys, n.residual} {
		r, err := b.readyAll(l)
		if err != nil {
			return nil, err
		}
		parts = append(parts, r)
	}
	keys, err := expr.CompileAll(parts[0])
	if err != nil {
		return nil, err
	}
	ltypes := outer.Types()
	return newUnary(n.title(), n.types, outer, func(ctx *exec.Ctx, whole *expr.Batch, emit func(*expr.Batch) error) error {
		for lo := 0; lo < whole.N; lo += lookupRowsMax {
			batch := expr.SliceBatch(whole, lo, min(whole.N, lo+lookupRowsMax))
			handles, err := n.innerHandles(ctx, keys, batch)
			if err != nil {
				return err
			}
			right, err := n.inner1(ctx, b, handles, parts[1])
			if err != nil {
				return err
			}
			join, err := exec.NewHashJoin(exec.HashJoinSpec{Kind: n.kind, Left: exec.NewBatches(ltypes, batch), Right: right,
				LeftKeys: parts[2], RightKeys: parts[3], Residual: parts[4]})
			if err != nil {
				return err
			}
			out, err := exec.Collect(ctx, join)
			if err != nil {
				return err
			}
			for _, o := range out {
				if err := emit(o); err != nil {
					return err
				}
			}
		}
		return nil
	}), nil
}

// inner1 reads the inner rows of one block of outer rows.
func (n *physLookup) inner1(ctx *exec.Ctx, b *builder, handles [][]byte, filter []expr.Expr) (exec.Operator, error) {
	if len(n.keys) < len(n.codec) && len(handles) > 0 {
		req := &ScanRequest{Table: n.table, Types: n.inner.types, Plan: &coprplan.Plan{TimeZone: b.p.tz, Nodes: []coprplan.Node{
			&coprplan.TableScan{TableID: n.table.ID, KeyColumns: keyColumns(n.table), Columns: n.read}}}}
		for _, h := range handles {
			req.Ranges = append(req.Ranges, tablecodec.PrefixRange(tablecodec.AppendRowKey(nil, n.table.ID, h)))
		}
		if n.pushFilter && len(filter) > 0 {
			req.Plan.Nodes = append(req.Plan.Nodes, &coprplan.Selection{Conds: b.pushAll(n.filter)})
			filter = nil
		}
		op, err := b.env.Storage.Scan(req)
		if err != nil || len(filter) == 0 {
			return op, err
		}
		return exec.NewFilter(op, filter)
	}
	var inner []*expr.Batch
	if len(handles) > 0 {
		rows, err := b.fetch(ctx, &RowsRequest{Table: n.table, Handles: handles, Key: keyColumns(n.table), Columns: n.read})
		if err != nil {
			return nil, err
		}
		if rows != nil && rows.N > 0 {
			inner = append(inner, rows)
		}
	}
	op := exec.NewBatches(n.inner.types, inner...)
	if len(filter) == 0 {
		return op, nil
	}
	return exec.NewFilter(op, filter)
}

func (n *physLookup) title() string { return "Lookup" + n.kind.String() + " Join" }

// innerHandles are the primary keys that the outer rows ask for.
func (n *physLookup) innerHandles(ctx *exec.Ctx, keys []expr.Evaluator, batch *expr.Batch) ([][]byte, error) {
	types := make([]sqltypes.Type, len(keys))
	vecs := make([]colvec.Vec, len(keys))
	for i, k := range keys {
		a, err := k.Eval(ctx.Eval, batch, nil)
		if err != nil {
			return nil, err
		}
		types[i] = k.Expr().Type()
		vecs[i] = colvec.Open(a, types[i])
	}
	var out [][]byte
rows:
	for i := range batch.N {
		row := make([]sqltypes.Datum, len(keys))
		for k := range vecs {
			if vecs[k].IsNull(i) {
				continue rows
			}
			row[k] = vecs[k].At(i, types[k])
		}
		h := []byte(nil)
		for k, d := range row {
			var err error
			if h, err = tablecodec.AppendDatum(h, n.codec[k], d); err != nil {
				return nil, err
			}
		}
		out = append(out, h)
	}
	return dedupeKeys(out), nil
}
