package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// TestKill9DuringBulkLoad kills the playground at any moment of a COPY that is
// loaded by files, the last ones included: it is there as a whole, if it was
// acknowledged certainly, or not at all, and the table can be written.
func TestKill9DuringBulkLoad(t *testing.T) {
	rounds := 2
	if testSettings["LONG"] != "" {
		rounds = 40
	}
	rng := rand.New(rand.NewPCG(1, 2))
	dir, offset := t.TempDir(), freeOffset(t)
	const lines = 20_000
	var b strings.Builder
	for i := range lines { // not in order: runs are merged
		fmt.Fprintf(&b, "%d\tname %d\t%s\n", i*7919%lines, i, strings.Repeat("x", i%400))
	}
	p := startPlayground(t, dir, offset)
	acknowledged := 0
	var took time.Duration
	for round := range rounds {
		c := p.connect()
		name := fmt.Sprintf("load%d", round)
		exec1(t, c, "CREATE TABLE "+name+" (id int PRIMARY KEY, s text UNIQUE, long text)")
		exec1(t, c, "SET copra.bulk_load_size = 65536")
		done := make(chan error, 1)
		began := time.Now()
		go func() {
			_, err := c.PgConn().CopyFrom(context.Background(), strings.NewReader(b.String()), "COPY "+name+" FROM STDIN")
			done <- err
		}()
		if round == 0 { // how long it takes
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			took = time.Since(began)
			done <- nil
		} else {
			time.Sleep(time.Duration(rng.Int64N(int64(took + took/8))))
		}
		p.kill()
		err := <-done
		p = startPlayground(t, dir, offset)
		c = p.connect()
		n, named := queryInt(t, c, "SELECT count(*) FROM "+name), queryInt(t, c, "SELECT count(*) FROM "+name+" WHERE s >= 'name'")
		switch {
		case err == nil && n != lines, n != 0 && n != lines, n != named:
			t.Errorf("round %d: COPY: %v; there are %d rows, and %d by their names", round, err, n, named)
		case err == nil:
			acknowledged++
		}
		exec1(t, c, fmt.Sprintf("INSERT INTO %s VALUES (-1, 'later', '')", name))
		if n == lines {
			_, err := c.Exec(context.Background(), fmt.Sprintf("INSERT INTO %s VALUES (-2, 'name 1', '')", name))
			var pgErr *pgconn.PgError
			if !errors.As(err, &pgErr) || pgErr.Code != "23505" {
				t.Errorf("round %d: a duplicate: %v", round, err)
			}
		}
		_ = c.Close(context.Background())
	}
	t.Logf("%d of %d loads acknowledged; one takes %s", acknowledged, rounds, took.Round(time.Millisecond))
	p.stop()
}
