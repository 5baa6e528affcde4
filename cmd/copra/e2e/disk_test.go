package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// numbered is COPY data of rows from..from+n with about 1 KiB each, which no
// compression makes much smaller.
func numbered(from, n int) io.Reader {
	var b bytes.Buffer
	pad := make([]byte, 700)
	for i := range n {
		_, _ = rand.NewChaCha8([32]byte{byte(from), byte(from >> 8), byte(from >> 16), byte(i), byte(i >> 8)}).Read(pad)
		fmt.Fprintf(&b, "%d\t%s\n", from+i, base64.StdEncoding.EncodeToString(pad))
	}
	return &b
}

// metric sums a counter of a process with this label.
func metric(t *testing.T, status, name, label string) (sum float64) {
	t.Helper()
	resp, err := http.Get("http://" + status + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(text), "\n") {
		if rest, ok := strings.CutPrefix(line, name); ok && strings.Contains(line, label) {
			fields := strings.Fields(rest)
			v, err := strconv.ParseFloat(fields[len(fields)-1], 64)
			if err != nil {
				t.Fatal(err)
			}
			sum += v
		}
	}
	return sum
}

// TestSnapshotCatchUp: a store that was away for more than the others keep of
// the log gets snapshots, and then counts for the majority.
func TestSnapshotCatchUp(t *testing.T) {
	c := startProcesses(t)
	c.replicated()
	conn := connect(t, c.sqlAddr)
	exec1(t, conn, "CREATE TABLE big (id int PRIMARY KEY, t text)")
	exec1(t, conn, "INSERT INTO big VALUES (1, 'before')")
	truncations := func() float64 {
		return metric(t, c.statuses[1], "tikv_raftstore_log_truncate_total", "") + metric(t, c.statuses[2], "tikv_raftstore_log_truncate_total", "")
	}
	c.stores[0].kill()
	before := truncations()
	const updates = 160 // of 1 MB: more than the others keep for a store that is away
	for i := range updates {
		exec1(t, conn, "UPDATE big SET t = repeat(chr(65 + $1 % 26), 1000000) WHERE id = 1", i)
	}
	exec1(t, conn, "INSERT INTO big SELECT g, 'more' FROM generate_series(2, 1000) g")
	// Each of the two may truncate once what the absent store has, too. What it
	// needs goes only when it is more than is kept for it.
	poll(t, time.Minute, "the log to be truncated", func() bool { return truncations() > before+2 })
	started := time.Now()
	c.stores[0] = launch(t, c.storeArgs[0]...)
	c.stores[0].waitFor("tikv: ready", 30*time.Second)
	poll(t, time.Minute, "a snapshot", func() bool {
		return metric(t, c.statuses[0], "tikv_raftstore_snapshot_total", `"applied"`) > 0
	})
	c.replicated()
	t.Logf("caught up %s after its start, with %.0f snapshots", time.Since(started).Round(time.Millisecond),
		metric(t, c.statuses[0], "tikv_raftstore_snapshot_total", `"applied"`))

	c.stores[1].kill()
	poll(t, time.Minute, "all rows from the store that caught up", func() bool {
		ctx, cancel := within(30 * time.Second)
		defer cancel()
		var n, ids, size int64
		err := conn.QueryRow(ctx, "SELECT count(*), count(DISTINCT id), max(length(t)) FROM big").Scan(&n, &ids, &size)
		return err == nil && n == 1000 && ids == n && size == 1_000_000
	})
}

// TestFullDisk fills the disk of a store: writes are refused, reads and deletes
// are not, and with room again writes go on in the same process. What was
// acknowledged is there.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	disk := filepath.Join(dir, "disk")
	if err := syscall.Mkdir(disk, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=600m"); err != nil {
		t.Logf("cannot mount a small disk here (%v): only root can", err)
		return
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	// Somebody else's file takes most of it.
	foreign, err := os.Create(filepath.Join(disk, "foreign"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(syscall.Fallocate(int(foreign.Fd()), 0, 0, 250<<20), foreign.Close()); err != nil {
		t.Fatal(err)
	}
	pdAddr, sqlAddr := freeAddr(t), freeAddr(t)
	pd := launch(t, "pd", "--data-dir", filepath.Join(dir, "pd"), "--client-addr", pdAddr, "--peer-addr", freeAddr(t), "--replicas", "1")
	pd.waitFor("pd: ready", time.Minute)
	status := freeAddr(t)
	store := launch(t, "tikv", "--pd", pdAddr, "--data-dir", filepath.Join(disk, "store"), "--addr", freeAddr(t), "--status-addr", status,
		"--block-cache-size", "32MiB", "--reserve-space", "100MiB")
	store.waitFor("tikv: ready", time.Minute)
	sql := launch(t, "sql", "--pd", pdAddr, "--addr", sqlAddr, "--flight-addr", freeAddr(t), "--status-addr", freeAddr(t))
	sql.waitFor("sql: ready", time.Minute)
	conn := connect(t, sqlAddr)
	exec1(t, conn, "CREATE TABLE fill (id int PRIMARY KEY, t text)")
	const rows = 2000
	batches := fillDisk(t, conn, rows)
	if level := metric(t, status, "tikv_store_disk_usage_level", ""); level == 0 {
		t.Error("a write was refused on a disk that counts as normal")
	}
	count := func() (n, more int64, err error) {
		ctx, cancel := within(30 * time.Second)
		defer cancel()
		err = conn.QueryRow(ctx, "SELECT count(*) FILTER (WHERE id < $1), count(*) FROM fill", batches*rows).Scan(&n, &more)
		return n, more, err
	}
	n, more, err := count()
	if err != nil || n != int64(batches*rows) || more != n {
		t.Fatalf("%d rows were acknowledged, %d of them found, %d rows in all: %v", batches*rows, n, more, err)
	}
	exec1(t, conn, "DELETE FROM fill WHERE id < 10")
	if err := os.Remove(foreign.Name()); err != nil {
		t.Fatal(err)
	}
	poll(t, time.Minute, "writes to be taken again", func() bool {
		return metric(t, status, "tikv_store_disk_usage_level", "") == 0
	})
	if _, err := conn.PgConn().CopyFrom(context.Background(), numbered((batches+1)*rows, rows), "COPY fill FROM STDIN"); err != nil {
		t.Errorf("with room again: %v", err)
	}
	if n, _, err := count(); err != nil || n != int64(batches*rows-10) {
		t.Errorf("%d rows, want %d: %v", n, batches*rows-10, err)
	}
	select {
	case <-store.exited:
		t.Errorf("the store has ended: %.2000s", store.text())
	default:
	}
	store.stop()
}

// fillDisk copies rows until they are refused for lack of room and returns how
// many batches were taken. The client library tries for a minute and more, in
// case there is room again.
func fillDisk(t *testing.T, conn *pgx.Conn, rows int) int {
	t.Helper()
	for batches := range 400 {
		ctx, cancel := within(2 * time.Minute)
		_, err := conn.PgConn().CopyFrom(ctx, numbered(batches*rows, rows), "COPY fill FROM STDIN")
		cancel()
		if err == nil {
			continue
		}
		t.Logf("after %d rows: %.300s", batches*rows, err)
		var pg *pgconn.PgError
		if !errors.As(err, &pg) || pg.Code != pgerror.DiskFull || pg.Hint == "" {
			t.Errorf("the refusal is %v, want SQLSTATE %s with a hint", err, pgerror.DiskFull)
		}
		return batches
	}
	t.Fatal("the disk does not fill")
	return 0
}
