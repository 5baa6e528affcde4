package tpch

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// texts are the schema, the indexes on foreign keys, and the queries with the
// parameters that the specification gives for validation.
//
//go:embed schema.sql indexes.sql queries/*.sql
var texts embed.FS

// text is a file of the data folder, or, where the folder lacks it, the one that
// belongs to the benchmark.
func text(dir, name string) (string, error) {
	b, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
	if errors.Is(err, fs.ErrNotExist) {
		b, err = texts.ReadFile(name)
	}
	return string(b), err
}

// statements are those of one such file.
func statements(dir, name string) ([]string, error) {
	all, err := text(dir, name)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, s := range strings.Split(all, ";") {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out, nil
}

// queryText is query q.
func queryText(dir string, q int) (string, error) {
	return text(dir, fmt.Sprintf("queries/%02d.sql", q))
}
