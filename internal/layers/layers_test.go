package layers

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/copradb/copra/"

// allowed says which top-level folders a folder's packages may import (tests
// aside). "internal" and "proto" are leaves that everything may use.
var allowed = map[string][]string{
	"internal":    {"proto"},
	"proto":       {},
	"raftstore":   {"internal", "proto"},
	"txn":         {"internal"},
	"copr":        {"internal", "proto", "txn"},
	"tikv":        {"internal", "proto", "raftstore", "txn", "copr"},
	"pd":          {"internal", "proto"},
	"sqlfront":    {"internal", "copr"},
	"pgwire":      {"internal", "sqlfront"},
	"arrowflight": {"internal", "sqlfront"},
	"benchmarks":  {"internal"},
	"docs":        {}, // programs on TiKV's client
	"cmd":         {"internal", "proto", "raftstore", "txn", "copr", "tikv", "pd", "sqlfront", "pgwire", "arrowflight", "benchmarks"},
}

// rootOnly are folders of which outsiders see the root package (and what is
// listed), not the packages below.
var rootOnly = map[string][]string{
	"pgwire":      {"sqlfront", "sqlfront/ast"},
	"arrowflight": {"sqlfront", "sqlfront/ast"},
}

// never are imports that a folder must not have, directly.
var never = map[string][]string{
	"tikv":      {"github.com/tikv/client-go", "github.com/tikv/pd/client"},
	"raftstore": {"github.com/tikv/client-go", "github.com/tikv/pd/client", "google.golang.org/grpc/server"},
	"txn":       {"github.com/tikv/client-go", "google.golang.org/grpc", "go.etcd.io/raft"},
	"pd":        {"github.com/tikv/client-go", "github.com/tikv/pd/client"},
	"internal":  {"github.com/tikv/client-go"},
}

type pkg struct {
	ImportPath string
	Imports    []string
}

func top(path string) (folder, rel string, ok bool) {
	rel, ok = strings.CutPrefix(path, module)
	if !ok {
		return "", "", false
	}
	folder, _, _ = strings.Cut(rel, "/")
	return folder, rel, true
}

func packages(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", module+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var list []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
}

func contains(list []string, s string) bool {
	for _, item := range list {
		if item == s {
			return true
		}
	}
	return false
}

func TestLayers(t *testing.T) {
	list := packages(t)
	if len(list) < 10 {
		t.Fatalf("go list found only %d packages", len(list))
	}
	for _, p := range list {
		folder, rel, _ := top(p.ImportPath)
		may, known := allowed[folder]
		if !known {
			t.Errorf("%s: the folder %s has no place in the layers", p.ImportPath, folder)
			continue
		}
		for _, imp := range p.Imports {
			for _, banned := range never[folder] {
				if strings.HasPrefix(imp, banned) {
					t.Errorf("%s must not import %s", rel, imp)
				}
			}
			to, toRel, ours := top(imp)
			if !ours || to == folder {
				continue
			}
			if !contains(may, to) {
				t.Errorf("%s must not import %s: %s may import %v", rel, toRel, folder, may)
			}
			if only := rootOnly[folder]; only != nil && to == "sqlfront" && !contains(only, toRel) {
				t.Errorf("%s must not import %s: it sees only %v of sqlfront", rel, toRel, only)
			}
		}
	}
}
