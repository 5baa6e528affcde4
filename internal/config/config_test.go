package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func testCommand() (*cobra.Command, *cobra.Command) {
	root := &cobra.Command{Use: "copra"}
	sub := &cobra.Command{Use: "tikv", RunE: func(*cobra.Command, []string) error { return nil }}
	sub.Flags().String(FileFlag, "", "")
	sub.Flags().String("data-dir", "default", "")
	sub.Flags().Int("replicas", 3, "")
	size := Bytes(96 << 20)
	sub.Flags().Var(&size, "region-split-size", "")
	root.AddCommand(sub)
	return root, sub
}

func TestPrecedence(t *testing.T) {
	file := filepath.Join(t.TempDir(), "copra.toml")
	if err := os.WriteFile(file, []byte("data-dir = \"/file\"\nreplicas = 5\nregion-split-size = \"64KiB\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, sub := testCommand()
	if err := sub.Flags().Parse([]string{"--config", file, "--replicas", "7"}); err != nil {
		t.Fatal(err)
	}
	if err := Apply(sub, []string{"COPRA_DATA_DIR=/env", "HOME=/root"}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"data-dir": "/env", "replicas": "7", "region-split-size": "64KiB"} {
		if got := sub.Flags().Lookup(name).Value.String(); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
}

func TestRefusals(t *testing.T) {
	write := func(text string) string {
		file := filepath.Join(t.TempDir(), "copra.toml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	for _, tc := range []struct {
		name, file, want string
		env              []string
	}{
		{"unknown key", write("dta-dir = \"x\""), "unknown setting dta-dir", nil},
		{"bad TOML", write("data-dir = "), "settings file", nil},
		{"bad value", write("replicas = \"many\""), "replicas", nil},
		{"table", write("[data-dir]\na = 1"), "not a setting", nil},
		{"unknown variable", "", "COPRA_DTA_DIR", []string{"COPRA_DTA_DIR=x"}},
		{"bad size", "", "not a size", []string{"COPRA_REGION_SPLIT_SIZE=huge"}},
		{"missing file", "/nowhere/copra.toml", "no such file", nil},
	} {
		_, sub := testCommand()
		if err := sub.Flags().Parse([]string{"--config", tc.file}); err != nil {
			t.Fatal(err)
		}
		err := Apply(sub, tc.env)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got error %v, want one with %q", tc.name, err, tc.want)
		}
	}
}
