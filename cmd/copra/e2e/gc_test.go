package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// collect asks PD for a round of garbage collection that keeps versions of
// lifeTime, and waits for it.
func (p *playground) collect(lifeTime string) {
	p.t.Helper()
	before := p.rounds().Ended
	resp, err := http.Post("http://"+p.addr(2379)+"/pd/api/v1/gc/run", "application/json", strings.NewReader(fmt.Sprintf(`{"life_time":%q}`, lifeTime)))
	if err != nil {
		p.t.Fatal(err)
	}
	_ = resp.Body.Close()
	poll(p.t, time.Minute, "a round of garbage collection", func() bool { return p.rounds().Ended.After(before) })
	for i := range 3 { // the stores need not wait for their next look
		resp, err := http.Post("http://"+p.addr(20180+i)+"/gc", "", nil)
		if err != nil {
			p.t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	if r := p.rounds(); r.Error != "" || r.Skipped != "" {
		p.t.Fatalf("round: %+v", r)
	}
}

type gcRound struct {
	Ended        time.Time `json:"ended"`
	TxnSafePoint uint64    `json:"txn_safe_point"`
	GCSafePoint  uint64    `json:"gc_safe_point"`
	Blocker      string    `json:"blocker"`
	Skipped      string    `json:"skipped"`
	Error        string    `json:"error"`
}

func (p *playground) rounds() gcRound {
	p.t.Helper()
	var st struct {
		Rounds []gcRound `json:"rounds"`
	}
	p.getJSON("/pd/api/v1/gc/worker", &st)
	if len(st.Rounds) == 0 {
		return gcRound{}
	}
	return st.Rounds[0]
}

func (p *playground) getJSON(path string, out any) {
	p.t.Helper()
	resp, err := http.Get("http://" + p.addr(2379) + path)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var body bytes.Buffer
	if _, err := body.ReadFrom(resp.Body); err != nil || json.Unmarshal(body.Bytes(), out) != nil {
		p.t.Fatalf("GET %s: %s %s %v", path, resp.Status, body.String(), err)
	}
}

// dropped counts the records that all stores have dropped from a family.
func (p *playground) dropped(cf string) float64 {
	return metric(p.t, p.addr(10080), "tikv_gcworker_gc_keys", `cf="`+cf+`",`)
}

// TestGarbageCollection has one cluster for its parts: they wait for intervals,
// of stores and SQL nodes, of some seconds.
func TestGarbageCollection(t *testing.T) {
	p := startPlayground(t, t.TempDir(), freeOffset(t))
	t.Run("snapshot too old", p.snapshotTooOld)
	t.Run("open transaction", p.openTransactionHolds)
	t.Run("room", p.garbageIsCollected)
}

// garbageIsCollected: rows that were updated again and again take the room
// of one version, on all three stores, by the engines' own figures; a dropped
// table takes none.
func (p *playground) garbageIsCollected(t *testing.T) {
	c := p.connect()
	before := p.dropped("write")
	const rows, updates = 300, 100
	exec1(t, c, "CREATE TABLE busy (id int PRIMARY KEY, v text NOT NULL)")
	exec1(t, c, "INSERT INTO busy SELECT g, 'v' FROM generate_series(1, 300) g")
	for i := range updates {
		exec1(t, c, fmt.Sprintf("UPDATE busy SET v = repeat(md5(id || '%d'), 20)", i))
	}
	full := 0.0
	poll(t, time.Minute, "the versions to come to disk", func() bool { full = max(full, p.tableBytes()); return full > 12<<20 })
	p.collect("1ms")
	poll(t, 2*time.Minute, "old versions to go", func() bool { return p.dropped("write")-before >= rows*updates })
	if n := queryInt(t, c, fmt.Sprintf("SELECT count(*) FROM busy WHERE v = repeat(md5(id || '%d'), 20)", updates-1)); n != rows {
		t.Errorf("%d rows are as they were last written, want %d", n, rows)
	}
	poll(t, 2*time.Minute, "their room to come back", func() bool { return p.tableBytes() < full/10 })
	t.Logf("the stores took %.0f KB before the collection, %.0f KB behind it", full/1024, p.tableBytes()/1024)

	exec1(t, c, "DROP TABLE busy")
	time.Sleep(10 * time.Millisecond) // the safe point must pass the drop
	p.collect("1ms")
	poll(t, 3*time.Minute, "the dropped table's data to go on all stores", func() bool {
		return metric(t, p.addr(10080), "tikv_gcworker_gc_tasks_vec", `task="unsafe_destroy_range"`) >= 3
	})
}

// tableBytes is what the data engines' tables take.
func (p *playground) tableBytes() float64 {
	return metric(p.t, p.addr(10080), "tikv_engine_size_bytes", `db="kv"`)
}

// A transaction that is open holds the safe point, and reads on as if nothing
// had been collected.
func (p *playground) openTransactionHolds(t *testing.T) {
	c, old := p.connect(), p.connect()
	before := p.dropped("write")
	exec1(t, c, "CREATE TABLE kept (id int PRIMARY KEY, v text NOT NULL)")
	exec1(t, c, "INSERT INTO kept VALUES (1, 'first'), (2, 'theirs')")
	tx, err := old.BeginTx(context.Background(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		t.Fatal(err)
	}
	read := func() (v string, err error) {
		err = tx.QueryRow(context.Background(), "SELECT v FROM kept WHERE id = 1").Scan(&v)
		return v, err
	}
	if v, err := read(); v != "first" || err != nil {
		t.Fatal(v, err)
	}
	// What it has locked stays locked: the safe point comes to its start, not past it.
	if _, err := tx.Exec(context.Background(), "UPDATE kept SET v = 'mine' WHERE id = 2"); err != nil {
		t.Fatal(err)
	}
	poll(t, time.Minute, "the SQL node to hold the safe point", func() bool {
		var st struct {
			Barriers []struct {
				ID string `json:"barrier_id"`
			} `json:"gc_barriers"`
		}
		p.getJSON("/pd/api/v1/gc/state", &st)
		return len(st.Barriers) == 1 && strings.HasPrefix(st.Barriers[0].ID, "copra-sql-")
	})
	for range 5 {
		exec1(t, c, "UPDATE kept SET v = v || 'x' WHERE id = 1")
	}
	p.collect("1ms")
	if r := p.rounds(); !strings.Contains(r.Blocker, "copra-sql-") {
		t.Errorf("nobody held the safe point: %+v", r)
	}
	if v, err := read(); v != "first" || err != nil {
		t.Errorf("behind a round of collection: %q, %v", v, err)
	}
	exec1(t, c, "SET lock_timeout = '200ms'")
	var pgErr *pgconn.PgError
	if _, err := c.Exec(context.Background(), "UPDATE kept SET v = 'stolen' WHERE id = 2"); !errors.As(err, &pgErr) || pgErr.Code != "55P03" {
		t.Errorf("a row that the transaction has locked: %v", err)
	}
	exec1(t, c, "SET lock_timeout = 0")
	if err := tx.Commit(context.Background()); err != nil {
		t.Fatal(err)
	}
	poll(t, time.Minute, "the barrier to go", func() bool {
		p.collect("1ms")
		return p.rounds().Blocker == ""
	})
	poll(t, time.Minute, "old versions to go", func() bool { return p.dropped("write")-before >= 5 })
	if n := queryInt(t, c, "SELECT length(v) FROM kept WHERE id = 1"); n != 10 {
		t.Errorf("the row has %d letters", n)
	}
}

// Who reads below the safe point all the same is told so: here a transaction
// whose barrier was deleted by hand.
func (p *playground) snapshotTooOld(t *testing.T) {
	c, old := p.connect(), p.connect()
	exec1(t, c, "CREATE TABLE gone (id int PRIMARY KEY, v text NOT NULL)")
	exec1(t, c, "INSERT INTO gone SELECT g, 'first' FROM generate_series(1, 50) g")
	tx, err := old.BeginTx(context.Background(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(context.Background(), "SELECT count(*) FROM gone"); err != nil {
		t.Fatal(err)
	}
	exec1(t, c, "UPDATE gone SET v = 'second'")
	time.Sleep(10 * time.Millisecond)
	p.collect("1ms") // before the node has published that it reads
	poll(t, 2*time.Minute, "old versions to go", func() bool { return p.dropped("write") >= 50 })
	for _, sql := range []string{"SELECT sum(length(v)) FROM gone", "SELECT v FROM gone WHERE id = 7", "UPDATE gone SET v = 'x'"} {
		_, err := tx.Exec(context.Background(), "SAVEPOINT s")
		if err == nil {
			_, err = tx.Exec(context.Background(), sql)
		}
		var pgErr *pgconn.PgError
		if !errors.As(err, &pgErr) || pgErr.Code != "72000" {
			t.Errorf("%s, below the safe point: %v", sql, err)
		}
		if _, err := tx.Exec(context.Background(), "ROLLBACK TO s"); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Rollback(context.Background()); err != nil {
		t.Fatal(err)
	}
	if n := queryInt(t, c, "SELECT sum(length(v))::bigint FROM gone"); n != 50*6 {
		t.Errorf("a new transaction reads %d letters", n)
	}
}
