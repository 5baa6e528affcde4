package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// refused runs a playground that cannot start: it must say why in one line.
func refused(t *testing.T, dir, want string) {
	t.Helper()
	cmd := exec.Command(binary, "playground", "--data-dir", dir, "--port-offset", strconv.Itoa(freeOffset(t)))
	timer := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	out, err := cmd.CombinedOutput()
	timer.Stop()
	text := strings.TrimSpace(string(out))
	if err == nil || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(text, want) || strings.Contains(text, "\n") {
		t.Errorf("exit %v, want one line with %q:\n%.3000s", err, want, text)
	}
}

// TestTwoPlaygroundsOneDirectory: the second gets a clear line and not a wait.
func TestTwoPlaygroundsOneDirectory(t *testing.T) {
	dir := t.TempDir()
	p := startPlayground(t, dir, freeOffset(t))
	refused(t, dir, "lock the data directory")
	exec1(t, p.connect(), "CREATE TABLE undisturbed (a int PRIMARY KEY)")
	p.stop()
}

// TestDamagedFiles: what is broken in a data directory is named, by the first
// who reads it.
func TestDamagedFiles(t *testing.T) {
	dir := t.TempDir()
	p := startPlayground(t, dir, freeOffset(t))
	(&processCluster{t: t, pdAddr: p.addr(2379)}).replicated()
	exec1(t, p.connect(), "CREATE TABLE t (a int PRIMARY KEY)")
	exec1(t, p.connect(), "INSERT INTO t SELECT g FROM generate_series(1, 10000) g")
	p.stop()
	for _, tc := range []struct {
		pattern string
		damage  func(data []byte) []byte
		want    string
	}{
		{"store1/STORE", truncated, "is damaged"},
		{"store2/COPRA-FORMAT", truncated, "is damaged"},
		{"store1/COPRA-FORMAT", func([]byte) []byte { return []byte("copra-store 99\n") }, "start a newer copra"},
		{"pd/copra-pd.json", truncated, "is damaged"},
		{"store1/kv/MANIFEST-*", zeroed, "store1/kv"},
		{"store2/raft/MANIFEST-*", zeroed, "store2/raft"},
		{"store3/raft/*.sst", nil, "store3/raft"},
		{"store1/kv/*.sst", nil, "store1/kv"},
		{"pd/etcd/member/snap/db", zeroed, "pd"},
		{"pd/etcd/member/wal/*.wal", zeroed, "pd"},
	} {
		matches, err := filepath.Glob(filepath.Join(dir, tc.pattern))
		if err != nil || len(matches) == 0 {
			t.Fatalf("%s: %v, %v", tc.pattern, matches, err)
		}
		path := matches[len(matches)-1]
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if tc.damage == nil {
			err = os.Remove(path)
		} else {
			err = os.WriteFile(path, tc.damage(append([]byte(nil), good...)), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Run(tc.pattern, func(t *testing.T) { refused(t, dir, tc.want) })
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p = startPlayground(t, dir, freeOffset(t))
	if n := queryInt(t, p.connect(), "SELECT count(*) FROM t"); n != 10000 {
		t.Errorf("with the files back there are %d rows", n)
	}
	p.stop()
}

func truncated(data []byte) []byte { return data[:len(data)/2] }

// zeroed is what some file systems leave of a file after a power failure.
func zeroed(data []byte) []byte {
	clear(data)
	return data
}
