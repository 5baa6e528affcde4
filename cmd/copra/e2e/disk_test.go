package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// numbered is COPY data of rows from..from+n with about 1 KiB each.
func numbered(from, n int) io.Reader {
	var b bytes.Buffer
	pad := strings.Repeat("p", 1000)
	for i := range n {
		fmt.Fprintf(&b, "%d\t%s%d\n", from+i, pad, i)
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

// TestFullDisk fills the disk of a store. What was acknowledged survives, the
// store says why it stops, and it comes back when there is room.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	disk := filepath.Join(dir, "disk")
	if err := syscall.Mkdir(disk, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=160m"); err != nil {
		t.Logf("cannot mount a small disk here (%v): only root can", err)
		return
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	pdAddr, sqlAddr := freeAddr(t), freeAddr(t)
	pd := launch(t, "pd", "--data-dir", filepath.Join(dir, "pd"), "--client-addr", pdAddr, "--peer-addr", freeAddr(t), "--replicas", "1")
	pd.waitFor("pd: ready", time.Minute)
	args := []string{"tikv", "--pd", pdAddr, "--data-dir", filepath.Join(disk, "store"), "--addr", freeAddr(t), "--status-addr", freeAddr(t), "--block-cache-size", "32MiB"}
	store := launch(t, args...)
	store.waitFor("tikv: ready", time.Minute)
	sql := launch(t, "sql", "--pd", pdAddr, "--addr", sqlAddr, "--flight-addr", freeAddr(t), "--status-addr", freeAddr(t))
	sql.waitFor("sql: ready", time.Minute)
	conn := connect(t, sqlAddr)
	exec1(t, conn, "CREATE TABLE fill (id int PRIMARY KEY, t text)")
	const rows = 2000
	batches := 0
	for ; ; batches++ {
		if batches > 400 {
			t.Fatal("the disk does not fill")
		}
		ctx, cancel := within(20 * time.Second)
		_, err := conn.PgConn().CopyFrom(ctx, numbered(batches*rows, rows), "COPY fill FROM STDIN")
		cancel()
		if err != nil {
			t.Logf("after %d rows: %.300s", batches*rows, err)
			break
		}
	}
	select {
	case <-store.exited:
		lines := strings.Split(strings.TrimSpace(store.text()), "\n")
		if last := lines[len(lines)-1]; !strings.Contains(last, "no space left on device") || strings.Contains(store.text(), "goroutine ") {
			t.Errorf("the store ended with: %.2000s", last)
		}
	case <-time.After(5 * time.Second): // it may go on and refuse writes
		t.Logf("the store goes on: %.3000s", store.text()[max(0, len(store.text())-3000):])
		store.kill()
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", syscall.MS_REMOUNT, "size=600m"); err != nil {
		t.Fatal(err)
	}
	store = launch(t, args...)
	store.waitFor("tikv: ready", time.Minute)
	conn = connect(t, sqlAddr)
	poll(t, time.Minute, "the rows to be read", func() bool {
		ctx, cancel := within(30 * time.Second)
		defer cancel()
		var n, more int64
		err := conn.QueryRow(ctx, "SELECT count(*) FILTER (WHERE id < $1), count(*) FROM fill", batches*rows).Scan(&n, &more)
		if err != nil {
			conn = connect(t, sqlAddr)
			return false
		}
		if n != int64(batches*rows) || more != n && more != n+rows {
			t.Fatalf("%d rows were acknowledged, %d of them found, %d rows in all", batches*rows, n, more)
		}
		return true
	})
	if _, err := conn.PgConn().CopyFrom(context.Background(), numbered((batches+1)*rows, rows), "COPY fill FROM STDIN"); err != nil {
		t.Errorf("with room again: %v", err)
	}
	store.stop()
}
