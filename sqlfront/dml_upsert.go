package sqlfront

import (
	"bytes"
	"errors"
	"slices"

	tikverr "github.com/tikv/client-go/v2/error"

	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/expr"
	coprplan "github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/internal/tablecodec"
	"github.com/copradb/copra/sqlfront/catalog"
	"github.com/copradb/copra/sqlfront/plan"
)

// upsert runs INSERT … ON CONFLICT: for each row the keys that may conflict are
// locked (in a transaction), then looked up. New rows are inserted with the
// store's own check: if one came in between, the statement is run again.
type upsert struct {
	*execution
	p        *plan.InsertPlan
	arbiters []*catalog.Index
	// mine are the keys of rows that this statement has inserted or updated.
	mine map[string]bool
}

func (e *execution) upsert(p *plan.InsertPlan, batches []*expr.Batch) error {
	u := &upsert{execution: e, p: p, mine: map[string]bool{}}
	if p.Conflict.Index != nil {
		u.arbiters = []*catalog.Index{p.Conflict.Index}
	} else {
		for _, ix := range p.Table.AllIndexes() {
			if ix.Unique && ix.State == catalog.StatePublic {
				u.arbiters = append(u.arbiters, ix)
			}
		}
	}
	e.begin()
	e.conflictRetry = true
	for _, b := range batches {
		if err := u.batch(b); err != nil {
			return err
		}
	}
	return e.end()
}

// candidate is a row with its keys in the arbiters.
type candidate struct {
	row  []sqltypes.Datum
	keys [][]byte // by arbiter; nil where a NULL makes it unique
}

func (u *upsert) batch(b *expr.Batch) error {
	rows := u.rows(b, 0)
	if err := u.checkRows(u.p, b, rows); err != nil {
		return err
	}
	cands, all, err := u.candidates(rows)
	if err != nil {
		return err
	}
	if err := u.lock(u.ctx, u.ts, all, lockWaits); err != nil {
		return err
	}
	values, err := u.st.get(u.ctx, u.dirty(u.desc.ID), all)
	if err != nil {
		return err
	}
	there := make(map[string][]byte, len(all))
	for i, k := range all {
		if values[i] != nil {
			there[string(k)] = values[i]
		}
	}
	handleOf := func(arbiter int, key []byte) []byte {
		if u.arbiters[arbiter].ID == 0 {
			return key[tablecodec.RecordPrefixLen:]
		}
		return bytes.Clone(there[string(key)])
	}
	var fresh [][]sqltypes.Datum
	var conflicts []conflict
	after := make([][]sqltypes.Datum, len(cands)) // rows as they are then, nil = untouched
	for n, c := range cands {
		hit, own := -1, false
		for i, k := range c.keys {
			if k == nil {
				continue
			}
			if _, exists := there[string(k)]; exists || u.mine[string(k)] {
				hit, own = i, u.mine[string(k)]
				break
			}
		}
		switch {
		case hit < 0:
			fresh = append(fresh, c.row)
			after[n] = c.row
			u.own(c.keys)
		case !u.p.Conflict.DoUpdate:
		case own:
			return pgerror.New(pgerror.CardinalityViolation, "ON CONFLICT DO UPDATE command cannot affect row a second time").
				WithHint("Ensure that no rows proposed for insertion within the same command have duplicate constrained values.")
		default:
			conflicts = append(conflicts, conflict{n: n, excluded: c.row, handle: handleOf(hit, c.keys[hit])})
			u.own(c.keys[hit : hit+1])
		}
	}
	if err := u.insertRows(fresh); err != nil {
		return err
	}
	if err := u.updateConflicts(conflicts, after); err != nil {
		return err
	}
	return u.report(after)
}

// report counts the rows touched and returns them, in the order they were given.
func (u *upsert) report(after [][]sqltypes.Datum) error {
	touched := slices.DeleteFunc(after, func(r []sqltypes.Datum) bool { return r == nil })
	u.affected += int64(len(touched))
	if u.ret == nil || len(touched) == 0 {
		return nil
	}
	return u.returnRows(u.batchOf(touched))
}

func (u *upsert) own(keys [][]byte) {
	for _, k := range keys {
		if k != nil {
			u.mine[string(k)] = true
		}
	}
}

func (u *upsert) candidates(rows [][]sqltypes.Datum) (out []candidate, all [][]byte, err error) {
	for _, r := range rows {
		c := candidate{row: r, keys: make([][]byte, len(u.arbiters))}
		for i, ix := range u.arbiters {
			key, ok, err := u.writer.UniqueKey(ix, r)
			if err != nil {
				return nil, nil, err
			}
			if ok {
				c.keys[i] = key
				all = append(all, key)
			}
		}
		out = append(out, c)
	}
	return out, all, nil
}

// conflict is a row that was to be inserted and the one that is there.
type conflict struct {
	n        int // among the candidates
	excluded []sqltypes.Datum
	handle   []byte
}

// updateConflicts applies DO UPDATE.
func (u *upsert) updateConflicts(list []conflict, after [][]sqltypes.Datum) error {
	for len(list) > 0 {
		n := min(len(list), exec.BatchRowsMax)
		if err := u.updateChunk(list[:n], after); err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

func (u *upsert) updateChunk(list []conflict, after [][]sqltypes.Datum) error {
	old, handles, excluded, err := u.existing(list)
	if err != nil {
		return err
	}
	both := &expr.Batch{N: old.N, Cols: slices.Concat(old.Cols, u.batchOf(excluded).Cols)}
	both, handles, list, err = u.where(both, handles, list)
	if err != nil || both.N == 0 {
		return err
	}
	olds := u.rows(both, 0)
	news := u.rows(both, 0)
	evs, err := u.p.Conflict.Set.Compile(u.env)
	if err != nil {
		return err
	}
	for i, ev := range evs {
		col, err := ev.Eval(u.eval, both, nil)
		if err != nil {
			return err
		}
		ord := u.p.Conflict.Columns[i]
		v := colvec.Open(col, u.types[ord])
		for r := range news {
			news[r][ord] = v.At(r, u.types[ord])
		}
	}
	if err := u.checkRows(u.p, u.batchOf(news), news); err != nil {
		return err
	}
	for i, c := range list {
		after[c.n] = news[i]
	}
	return u.writer.Update(olds, news, handles)
}

// where keeps the rows for which DO UPDATE's WHERE is true.
func (u *upsert) where(b *expr.Batch, handles [][]byte, list []conflict) (*expr.Batch, [][]byte, []conflict, error) {
	if u.p.Conflict.Where.Len() == 0 {
		return b, handles, list, nil
	}
	evs, err := u.p.Conflict.Where.Compile(u.env)
	if err != nil {
		return nil, nil, nil, err
	}
	sel, err := expr.Filter(u.eval, evs[0], b, nil, nil)
	if err != nil {
		return nil, nil, nil, err
	}
	keptHandles, keptList := make([][]byte, len(sel)), make([]conflict, len(sel))
	for i, r := range sel {
		keptHandles[i], keptList[i] = handles[r], list[r]
	}
	return expr.TakeBatch(b, sel), keptHandles, keptList, nil
}

// existing reads the rows that conflict.
func (u *upsert) existing(list []conflict) (old *expr.Batch, handles [][]byte, excluded [][]sqltypes.Datum, err error) {
	for _, c := range list {
		handles = append(handles, c.handle)
		excluded = append(excluded, c.excluded)
	}
	key, cols := scanColumns(u.desc)
	b, err := u.st.Rows(&exec.Ctx{Context: u.ctx, Eval: u.eval, Mem: u.st.mem},
		&plan.RowsRequest{Table: u.desc, Handles: handles, Key: key, Columns: cols})
	if err == nil && b.N != len(list) {
		err = pgerror.New(pgerror.DataCorrupted, "index of table \"%s\" has an entry without a row", u.desc.Name).
			WithHint("Drop the index and create it again.")
	}
	return b, handles, excluded, err
}

// scanColumns are a table's key columns and all its columns, as a plan's scan
// wants them.
func scanColumns(t *catalog.Table) (key, all []coprplan.Column) {
	for _, c := range t.Columns {
		all = append(all, coprplan.Column{ID: c.ID, Type: c.Type, Default: c.Missing})
	}
	if t.PrimaryKey == nil {
		return []coprplan.Column{{ID: coprplan.RowIDColumn, Type: sqltypes.Int8}}, all
	}
	for _, c := range t.PrimaryKey.Columns {
		key = append(key, all[c.Column])
	}
	return key, all
}

// isKeyExists reports whether the store found a key that was presumed absent.
func isKeyExists(err error) bool {
	var e *tikverr.ErrKeyExist
	return errors.As(err, &e)
}
