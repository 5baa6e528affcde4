package expr

import (
	"sync"
	"sync/atomic"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/bitutil"

	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
)

// dictCacheMax is the number of dictionaries whose values of an expression an
// evaluator remembers.
const dictCacheMax = 8

// dictNode is an immutable expression of one column of byte strings. Where the
// column comes as codes of a dictionary, the expression is computed for each
// entry of the dictionary, and a row looks its value up.
type dictNode struct {
	node  // the expression
	typ   sqltypes.Type
	index int // of the column
	cache *dictCache
}

// dictCache remembers what an expression is for the entries of dictionaries.
// Reading takes no lock: the list is replaced, never changed.
type dictCache struct {
	mu   sync.Mutex
	list atomic.Pointer[[]*dictValues]
}

// dictValues is an expression over one dictionary. Before it is computed, the
// rows that asked for it are counted: a dictionary with more entries than rows
// is not worth it.
type dictValues struct {
	id    arrow.ArrayData
	rows  atomic.Int64
	once  sync.Once
	ready atomic.Bool // what follows is set
	ok    bool        // false: it fails for an entry, which may be in no row

	vals vec     // for each entry, and at the end for NULL
	pass []uint8 // of a boolean: 1 where true
	// Of a byte string: the distinct values as a dictionary, the code of each
	// entry in it, -1 for NULL.
	dict  arrow.Array
	codes []int32
}

// dictable reports whether e should be computed by dictionary, and its column:
// it has one, of byte strings, and depends on nothing else.
func dictable(e Expr) (col *Column, ok bool) {
	switch e.(type) {
	case *Column, *Const, *Param:
		return nil, false
	}
	ok = true
	Walk(e, func(x Expr) bool {
		switch x := x.(type) {
		case *Column:
			ok = ok && (col == nil || col.Index == x.Index)
			col = x
		case *Call:
			ok = ok && x.Fn.Volatility == Immutable && !x.Fn.Session
		case *Param, External:
			ok = false
		}
		return ok
	})
	if !ok || col == nil {
		return nil, false
	}
	k := colvec.KindOf(col.Typ)
	return col, k == colvec.String || k == colvec.Binary
}

// codesOf is the column of the expression, if it is encoded and the expression
// is known, or worth computing, for its dictionary.
func (d dictNode) codesOf(ctx *Ctx, b *Batch, sel []int32) (evec, *dictValues) {
	a, ok := b.Cols[d.index].(*array.Dictionary)
	if !ok {
		return evec{}, nil
	}
	v := d.cache.of(a.Data().Dictionary())
	if !v.ready.Load() {
		n := a.Data().Dictionary().Len()
		if v.rows.Add(int64(restLen(b.N, sel))) < int64(n) {
			return evec{}, nil
		}
		v.once.Do(func() {
			v.compute(d, ctx, colvec.Dictionary(a), b)
			v.ready.Store(true)
		})
	}
	if !v.ok {
		return evec{}, nil
	}
	return openCodes(a), v
}

// openCodes opens a dictionary column for its codes.
func openCodes(a *array.Dictionary) evec {
	v := evec{enc: encDict, src: a}
	d := a.Data()
	if d.Len() > 0 {
		v.codes = arrow.Int32Traits.CastFromBytes(d.Buffers()[1].Bytes())[d.Offset() : d.Offset()+d.Len()]
	}
	if a.NullN() > 0 {
		v.valid = bitmap{a.NullBitmapBytes(), d.Offset()}
	}
	return v
}

// of finds or makes the entry of a dictionary; the oldest one goes.
func (c *dictCache) of(id arrow.ArrayData) *dictValues {
	if v := c.find(id); v != nil {
		return v
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if v := c.find(id); v != nil {
		return v
	}
	list := []*dictValues{{id: id}}
	if old := c.list.Load(); old != nil {
		list = append(list, (*old)[:min(len(*old), dictCacheMax-1)]...)
	}
	c.list.Store(&list)
	return list[0]
}

func (c *dictCache) find(id arrow.ArrayData) *dictValues {
	if list := c.list.Load(); list != nil {
		for _, v := range *list {
			if v.id == id {
				return v
			}
		}
	}
	return nil
}

// compute evaluates the expression for every entry and NULL.
func (v *dictValues) compute(d dictNode, ctx *Ctx, dict arrow.Array, b *Batch) {
	n := dict.Len()
	rows := make([]int32, n+1)
	for i := range rows {
		rows[i] = int32(i)
	}
	rows[n] = -1
	in := &Batch{N: n + 1, Cols: make([]arrow.Array, len(b.Cols))}
	in.Cols[d.index] = Take(dict, rows)
	out, err := d.node.eval(ctx, in, nil)
	if err != nil {
		return
	}
	v.vals = vec{arr: out.expand(n + 1)}
	switch v.vals.arr.(type) {
	case *array.Boolean:
		v.pass = make([]uint8, n+1)
		for _, i := range trueRows(v.vals, n+1, nil, nil) {
			v.pass[i] = 1
		}
	case *array.String, *array.Binary:
		v.distinct(d.typ)
	}
	v.ok = true
}

// distinct makes a dictionary of the expression's values.
func (v *dictValues) distinct(t sqltypes.Type) {
	if k := colvec.KindOf(t); k != colvec.String && k != colvec.Binary {
		return
	}
	s := stringsOf(v.vals.arr)
	seen := map[string]int32{}
	var first []int32
	v.codes = make([]int32, v.vals.arr.Len())
	for i := range v.codes {
		if v.vals.arr.IsNull(i) {
			v.codes[i] = -1
			continue
		}
		c, ok := seen[s.get(i)]
		if !ok {
			c = int32(len(first))
			seen[s.get(i)] = c
			first = append(first, int32(i))
		}
		v.codes[i] = c
	}
	v.dict = Take(v.vals.arr, first)
}

// entries is the entry of each row of sel, that of NULL behind the last one.
func (v *dictValues) entries(in evec, n int, sel []int32) (rows []int32, mem *[]int32) {
	mem = getRows(n)
	rows = (*mem)[:n]
	if in.valid.bits == nil && sel == nil {
		copy(rows, in.codes)
		return rows, mem
	}
	null := int32(v.vals.arr.Len() - 1)
	clear(rows)
	rowsOf(n, sel, func(i int) {
		if rows[i] = null; in.valid.set(i) {
			rows[i] = in.codes[i]
		}
	})
	return rows, mem
}

func (d dictNode) eval(ctx *Ctx, b *Batch, sel []int32) (vec, error) {
	in, v := d.codesOf(ctx, b, sel)
	if v == nil {
		return d.node.eval(ctx, b, sel)
	}
	rows, mem := v.entries(in, b.N, sel)
	defer putRows(mem)
	return vec{arr: Take(v.vals.arr, rows)}, nil
}

func (d dictNode) evalEnc(ctx *Ctx, b *Batch, sel []int32) (evec, error) {
	in, v := d.codesOf(ctx, b, sel)
	if v == nil || v.dict == nil {
		plain, err := d.eval(ctx, b, sel)
		return evec{vec: plain}, err
	}
	rows, mem := v.entries(in, b.N, sel)
	defer putRows(mem)
	out := evec{enc: encDict, dict: v.dict, codes: make([]int32, b.N)}
	null := false
	for i, r := range rows {
		c := v.codes[r]
		out.codes[i] = c
		null = null || c < 0
	}
	if null {
		out.valid = bitmap{bits: newBits(b.N)}
		for i, c := range out.codes {
			if c >= 0 {
				bitutil.SetBit(out.valid.bits, i)
			}
		}
	}
	return out, nil
}

func (d dictNode) filter(ctx *Ctx, b *Batch, sel, out []int32) ([]int32, error) {
	in, v := d.codesOf(ctx, b, sel)
	if v == nil {
		return filter(ctx, d.node, b, sel, out)
	}
	if in.valid.bits != nil {
		null := int32(len(v.pass) - 1)
		return pick(b.N, sel, out, func(i int) bool {
			c := null
			if in.valid.get(i) {
				c = in.codes[i]
			}
			return v.pass[c] != 0
		}), nil
	}
	return passRows(v.pass, in.codes, sel, out), nil
}

// passRows appends the rows whose code has a 1 in the table.
func passRows(pass []uint8, codes, sel, out []int32) []int32 {
	k := 0
	if sel == nil {
		out, buf := growRows(out, len(codes))
		for i, c := range codes {
			buf[k] = int32(i)
			k += int(pass[c])
		}
		return out[:len(out)+k]
	}
	out, buf := growRows(out, len(sel))
	for _, i := range sel {
		buf[k] = i
		k += int(pass[codes[i]])
	}
	return out[:len(out)+k]
}
