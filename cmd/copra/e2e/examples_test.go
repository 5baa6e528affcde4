package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// runExamples runs the programs of docs/examples, and wants each to print what
// docs/clients.md says that it does.
func runExamples(t *testing.T, p *playground) {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", dir+"/", "github.com/copradb/copra/docs/examples/...").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	doc, err := os.ReadFile("../../../docs/clients.md")
	if err != nil {
		t.Fatal(err)
	}
	programs, err := os.ReadDir(dir)
	if err != nil || len(programs) == 0 {
		t.Fatalf("no programs: %v", err)
	}
	var wg sync.WaitGroup
	for _, program := range programs {
		name := program.Name()
		_, after, ok := strings.Cut(string(doc), "`go run ./docs/examples/"+name+"`:\n\n```\n")
		want, _, _ := strings.Cut(after, "```")
		if !ok || want == "" {
			t.Errorf("docs/clients.md does not say what %s prints", name)
			continue
		}
		wg.Go(func() {
			ctx, cancel := within(soakOpTimeout)
			defer cancel()
			out, err := exec.CommandContext(ctx, filepath.Join(dir, name), p.addr(2379)).CombinedOutput()
			if err != nil || string(out) != want {
				t.Errorf("%s: %v\n%s\nwant\n%s", name, err, out, want)
			}
		})
	}
	wg.Wait()
}
