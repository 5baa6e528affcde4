package sqlfront

import (
	"context"
	"time"

	"github.com/tikv/client-go/v2/oracle"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/tablecodec"
	"github.com/copradb/copra/sqlfront/catalog"
)

// The end of a bulk load, in two schema changes:
//
//	fence   nobody may write the table, or commit what he wrote to it
//	        wait until everybody has heard of that, and what was on its way to be
//	        committed is; look: is the table still empty?
//	adopt   its descriptor gets the new id, if the fence still stands
//
// A fence ends by a schema change, never by itself: clocks and caches of the
// catalog don't come into it, and there is one order of adoption and of what is
// written to the old id. Any change of the table ends it, and so does a writer who
// has waited for longer than bulkFence, since the load's node may be dead.

// bulkFence is how long writers wait at a fence.
const bulkFence = 10 * time.Second

// fencePollInterval is how often who waits at a fence looks at it.
const fencePollInterval = 10 * time.Millisecond

// reserveBulk takes an id whose range is queued for deletion.
func (s *session) reserveBulk(ctx context.Context, t *catalog.Table) (target bulkTarget, err error) {
	err = s.changeSchema(ctx, func(d *ddl) error {
		id, err := d.change.NewID()
		if err != nil {
			return err
		}
		r := tablecodec.TableRange(id)
		drop, err := d.change.QueueDropRange(catalog.DropRange{Start: r.Start, End: r.End, What: "a COPY into " + t.Schema + "." + t.Name + " that did not end"})
		target = bulkTarget{tableID: id, drop: drop}
		return err
	})
	return target, err
}

// adoptBulk makes what was loaded the content of a table, if that is still as it
// was, and empty.
func (s *session) adoptBulk(ctx context.Context, target bulkTarget, t *catalog.Table, rows int64) error {
	fence, version, err := s.fence(ctx, t, bulkFence)
	if err != nil {
		return err
	}
	if err = s.adoptFenced(ctx, target, t, version, rows); err != nil {
		s.unfence(ctx, t.ID, fence)
	}
	return err
}

// fence keeps others from writing t, if it is still as it was, for at least so
// long, and returns until when, and the version of the descriptor that says so.
func (s *session) fence(ctx context.Context, t *catalog.Table, long time.Duration) (fence uint64, version int64, err error) {
	err = s.changeSchema(ctx, func(d *ddl) error {
		now := d.change.Snapshot().TableByID(t.ID)
		if now == nil || now.Version != t.Version {
			return pgerror.New(pgerror.SerializationFailure, "could not serialize access: %s", (&errSchemaChanged{t.Name}).Error()).
				WithHint("Run the COPY again.")
		}
		fence = oracle.ComposeTS(oracle.ExtractPhysical(d.kv.StartTS())+long.Milliseconds(), 0)
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
func (s *session) adoptFenced(ctx context.Context, target bulkTarget, t *catalog.Table, version, rows int64) error {
	if err := waitStep(ctx); err != nil {
		return err
	}
	ts, err := s.db.timestamp(ctx)
	if err != nil {
		return err
	}
	empty, err := s.db.tableEmpty(t.ID, ts)
	if err != nil {
		return err
	}
	if !empty {
		return pgerror.New(pgerror.SerializationFailure, "could not serialize access: table \"%s\" was empty when COPY began, and others have written it since", t.Name).
			WithHint("Run the COPY again, or load with SET copra.bulk_load = off.")
	}
	return s.changeSchema(ctx, func(d *ddl) error { return d.adopt(target, t.ID, version, rows) })
}

// adopt is the change that ends a load.
func (d *ddl) adopt(target bulkTarget, tableID, version, rows int64) error {
	now := d.change.Snapshot().TableByID(tableID)
	if now == nil || now.Version != version {
		return pgerror.New(pgerror.SerializationFailure, "could not serialize access: the table was changed or dropped while COPY loaded it").
			WithHint("Run the COPY again.")
	}
	err := d.change.TakeBack(d.ctx, target.drop, func(key []byte) error { return d.lock(d.ctx, d.ts, [][]byte{key}, lockWaits) })
	if err != nil {
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

// unfence takes a fence away that nobody needs.
func (s *session) unfence(ctx context.Context, tableID int64, fence uint64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), bulkFence)
	defer cancel()
	if err := s.endFence(ctx, tableID, fence); err != nil {
		s.db.log.Warn("writers of a table wait until the fence of a COPY that failed is over", "table", tableID, "for", bulkFence, "error", err)
	}
}

// endFence takes a fence away, in a transaction of its own, if it is there.
func (s *session) endFence(ctx context.Context, tableID int64, fence uint64) error {
	return s.changeAlone(ctx, func(d *ddl) error {
		now := d.change.Snapshot().TableByID(tableID)
		if now == nil || now.FencedUntil != fence {
			return nil
		}
		return d.change.PutTable(now.Clone()) // see there
	})
}

// awaitFence waits, before a statement that writes t, while a bulk load puts its
// content in place. The statement is then to be run again.
func (s *session) awaitFence(ctx context.Context, t *catalog.Table) error {
	if t.FencedUntil == 0 {
		return nil
	}
	if s.changingSchema() { // the load waits for this very transaction
		return &errSchemaChanged{t.Name}
	}
	tick := time.NewTicker(fencePollInterval)
	defer tick.Stop()
	for {
		snap, err := s.db.catalog.Latest(ctx)
		if err != nil {
			return err
		}
		if now := snap.TableByID(t.ID); now == nil || now.FencedUntil != t.FencedUntil {
			return &errSchemaChanged{t.Name}
		}
		ts, err := s.db.timestamp(ctx)
		if err != nil {
			return err
		}
		if ts >= t.FencedUntil {
			if err := s.endFence(ctx, t.ID, t.FencedUntil); err != nil {
				return err
			}
			return &errSchemaChanged{t.Name}
		}
		select {
		case <-ctx.Done():
			return cancelError(ctx)
		case <-tick.C:
		}
	}
}
