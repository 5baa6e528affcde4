package disk

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestNewDirectorySurvivesCrash: the format file and every new directory above
// it are durable as soon as CheckFormat returns.
func TestNewDirectorySurvivesCrash(t *testing.T) {
	fs := vfs.NewCrashableMem()
	for _, dir := range []string{"plain", "a/b/c", "/abs/d"} {
		if _, err := CheckFormat(fs, dir, "kind", 3); err != nil {
			t.Fatal(err)
		}
		crashed := fs.CrashClone(vfs.CrashCloneCfg{})
		if _, err := crashed.Stat(fs.PathJoin(dir, FormatFile)); err != nil {
			t.Errorf("%s after a crash: %v", dir, err)
		}
		if v, err := CheckFormat(crashed, dir, "kind", 4); err != nil || v != 3 {
			t.Errorf("%s has format %d: %v", dir, v, err)
		}
	}
}

// TestWriteFileAtomic crashes at random moments of a series of writes: the file
// has the last content or the one before.
func TestWriteFileAtomic(t *testing.T) {
	fs := vfs.NewCrashableMem()
	if err := MkdirAll(fs, "d"); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		want := string(rune('a' + i))
		if err := WriteFileAtomic(fs, "d", "d/f", []byte(want)); err != nil {
			t.Fatal(err)
		}
		if got, err := readFile(fs.CrashClone(vfs.CrashCloneCfg{}), "d/f"); err != nil || got != want {
			t.Fatalf("after a crash: %q %v, want %q", got, err, want)
		}
	}
}
