package sqlfront

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tikv/client-go/v2/oracle"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/tablecodec"
	"github.com/copradb/copra/sqlfront/catalog"
)

// The end of a bulk load, in two schema changes:
//
//	fence   the table may not be written by transactions that began before
//	        a timestamp some seconds ahead
//	        wait until nobody can commit who has not heard of that; look: is
//	        the table still empty?
//	adopt   its descriptor gets the new id; committed before the fence ends, or not
//
// Whoever writes the table between the two commits behind the fence's timestamp,
// and so behind the second change, of which the check before his commit hears: he
// runs again, on the new table. If this node dies in between, writers wait until
// the fence is over.
const (
	// bulkFence is how long a fence lasts.
	bulkFence = 10 * time.Second
	// bulkFenceTriesMax is how often a load tries to end within its fence.
	bulkFenceTriesMax = 3
	// fencePollInterval is how often who waits at a fence looks at it.
	fencePollInterval = 10 * time.Millisecond
)

// errFenceOver says that a fence ended before its load.
var errFenceOver = errors.New("the end of a bulk load took too long")

// reserveBulk takes an id whose range is queued for deletion.
func (s *session) reserveBulk(ctx context.Context, t *catalog.Table) (target bulkTarget, err error) {
	err = s.changeSchema(ctx, func(d *ddl) error {
		id, err := d.change.NewID()
		if err != nil {
			return err
		}
		r := tablecodec.TableRange(id)
		drop, err := d.change.QueueDropRange(catalog.DropRange{Start: r.Start, End: r.End, What: "a COPY into " + t.Schema + "." + t.Name + " that did not end"})
		target = bulkTarget{tableID: id, drop: drop, reservedTS: d.kv.StartTS()}
		return err
	})
	return target, err
}

// adoptBulk makes what was loaded the content of a table, if that is still as it
// was, and empty.
func (s *session) adoptBulk(ctx context.Context, target bulkTarget, t *catalog.Table, rows int64) error {
	version := t.Version
	for try := 1; ; try++ {
		fence, fenced, err := s.fence(ctx, t, version)
		if err != nil {
			return err
		}
		if err = s.adoptFenced(ctx, target, t, fence, fenced, rows); err == nil {
			return nil
		}
		version = s.unfence(ctx, t.ID, fenced)
		if !errors.Is(err, errFenceOver) || try == bulkFenceTriesMax {
			return err
		}
	}
}

// fence keeps others from writing t, if it still has this version, and returns
// until when, and the version of the descriptor that says so.
func (s *session) fence(ctx context.Context, t *catalog.Table, was int64) (fence uint64, version int64, err error) {
	err = s.changeSchema(ctx, func(d *ddl) error {
		now := d.change.Snapshot().TableByID(t.ID)
		if now == nil || now.Version != was {
			return pgerror.New(pgerror.SerializationFailure, "could not serialize access: %s", (&errSchemaChanged{t.Name}).Error()).
				WithHint("Run the COPY again.")
		}
		fence = oracle.ComposeTS(oracle.ExtractPhysical(d.kv.StartTS())+bulkFence.Milliseconds(), 0)
		fenced := now.Clone()
		fenced.FencedUntil = fence
		if err := d.change.PutTable(fenced); err != nil {
			return err
		}
		version = fenced.Version
		return nil
	})
	return fence, version, err
}

// adoptFenced ends a load within its fence.
func (s *session) adoptFenced(ctx context.Context, target bulkTarget, t *catalog.Table, fence uint64, version, rows int64) error {
	if err := waitStep(ctx); err != nil {
		return err
	}
	ts, err := s.db.timestamp(ctx)
	if err != nil {
		return err
	}
	if ts >= fence {
		return errFenceOver
	}
	empty, err := s.db.tableEmpty(t.ID, ts)
	if err != nil {
		return err
	}
	if !empty {
		return pgerror.New(pgerror.SerializationFailure, "could not serialize access: table \"%s\" was empty when COPY began, and others have written it since", t.Name).
			WithHint("Run the COPY again, or load with SET copra.bulk_load = off.")
	}
	return s.changeSchema(ctx, func(d *ddl) error { return d.adopt(target, t.ID, fence, version, rows) })
}

// adopt is the change that ends a load.
func (d *ddl) adopt(target bulkTarget, tableID int64, fence uint64, version, rows int64) error {
	d.kv.SetEnableAsyncCommit(false) // the commit timestamp is to be known before
	d.kv.SetEnable1PC(false)
	d.commitBefore = fence
	now := d.change.Snapshot().TableByID(tableID)
	if now == nil || now.Version != version {
		return pgerror.New(pgerror.SerializationFailure, "could not serialize access: the table was changed or dropped while COPY loaded it").
			WithHint("Run the COPY again.")
	}
	err := d.change.TakeBack(d.ctx, target.drop, func(key []byte) error { return d.lock(d.ctx, d.ts, [][]byte{key}, lockWaits) })
	if err != nil {
		return err
	}
	if err := d.reserved(target); err != nil {
		return err
	}
	fresh, old := now.Clone(), now.Clone()
	fresh.ID, fresh.FencedUntil = target.tableID, 0
	for i := range old.Columns {
		old.Columns[i].SequenceID = 0 // sequences go on
	}
	if err := d.change.CopyRowIDs(d.ctx, tableID, target.tableID); err != nil {
		return err
	}
	if err := d.dropTable(old); err != nil {
		return err
	}
	if err := d.change.PutTable(fresh); err != nil {
		return err
	}
	return d.change.PutStats(target.tableID, catalog.Stats{Rows: rows})
}

// reserved fails if somebody may have begun to delete what was loaded.
func (d *ddl) reserved(target bulkTarget) error {
	st, err := d.s.db.gc.GetGCState(d.ctx)
	if err != nil {
		return fmt.Errorf("get the GC safe points: %w", err)
	}
	if st.TxnSafePoint >= target.reservedTS {
		return pgerror.New(pgerror.ObjectNotInPrerequisiteState, "garbage collection has overtaken a COPY that took since %s", tsTime(target.reservedTS).Format(time.RFC3339)).
			WithHint("Load in smaller parts.")
	}
	return nil
}

// unfence takes a fence away before it ends by itself, and returns the version
// of the descriptor without it.
func (s *session) unfence(ctx context.Context, tableID, version int64) (open int64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), bulkFence)
	defer cancel()
	err := s.changeSchema(ctx, func(d *ddl) error {
		now := d.change.Snapshot().TableByID(tableID)
		if now == nil || now.Version != version {
			return nil
		}
		fresh := now.Clone()
		fresh.FencedUntil = 0
		err := d.change.PutTable(fresh)
		open = fresh.Version
		return err
	})
	if err != nil {
		s.db.log.Warn("writers of a table wait until the fence of a COPY that failed is over", "table", tableID, "for", bulkFence, "error", err)
	}
	return open
}

// awaitFence waits, before a statement that writes t at ts, while a bulk load
// puts its content in place. The statement is then to be run again.
func (s *session) awaitFence(ctx context.Context, t *catalog.Table, ts uint64) error {
	if ts >= t.FencedUntil {
		return nil
	}
	tick := time.NewTicker(fencePollInterval)
	defer tick.Stop()
	for {
		snap, err := s.db.catalog.Latest(ctx)
		if err != nil {
			return err
		}
		if now := snap.TableByID(t.ID); now == nil || now.Version != t.Version {
			return &errSchemaChanged{t.Name}
		}
		if ts, err := s.db.timestamp(ctx); err != nil || ts >= t.FencedUntil {
			return errors.Join(err, &errSchemaChanged{t.Name})
		}
		select {
		case <-ctx.Done():
			return cancelError(ctx)
		case <-tick.C:
		}
	}
}
