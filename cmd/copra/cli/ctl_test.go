package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
)

// fakePD answers as the script says, with 404 otherwise, and notes changes.
type fakePD struct {
	mu      sync.Mutex
	answers map[string]string // by path, or by method and path
	asked   []string          // all but plain GETs
}

func (f *fakePD) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(err)
	}
	if r.Method != http.MethodGet {
		f.asked = append(f.asked, strings.TrimSpace(fmt.Sprintf("%s %s %s", r.Method, r.RequestURI, body)))
	}
	uri := r.RequestURI
	if strings.Contains(uri, "&from=") { // of the time
		uri, _, _ = strings.Cut(uri, "&from=")
	}
	answer, ok := f.answers[uri]
	w.Header().Set("Date", f.date().UTC().Format(http.TimeFormat))
	switch {
	case ok && strings.HasPrefix(answer, "error "):
		w.WriteHeader(http.StatusBadRequest)
		answer = strings.TrimPrefix(answer, "error ")
	case !ok && r.Method != http.MethodGet:
		answer = `"done by the script"`
	case !ok:
		w.WriteHeader(http.StatusNotFound)
		answer = `"the script has nothing there"`
	}
	now := fmt.Sprint(uint64(f.date().UnixMilli()) << 18)
	_, _ = io.WriteString(w, strings.ReplaceAll(answer, "NOW", now))
}

func (f *fakePD) date() time.Time {
	if _, ahead := f.answers["clock"]; ahead {
		return time.Now().Add(time.Hour)
	}
	return time.Now()
}

// TestCtl runs commands against what the scripts let PD answer.
func TestCtl(t *testing.T) {
	datadriven.Walk(t, "testdata/ctl", func(t *testing.T, path string) {
		pd := &fakePD{answers: map[string]string{}}
		srv := httptest.NewServer(pd)
		t.Cleanup(srv.Close)
		addr := strings.TrimPrefix(srv.URL, "http://")
		dir := t.TempDir()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "serve": // a path, then what is there
				uri, answer, _ := strings.Cut(d.Input, "\n")
				pd.mu.Lock()
				defer pd.mu.Unlock()
				pd.answers[uri] = strings.ReplaceAll(answer, "SELF", srv.URL)
				return ""
			case "file": // a name, then what is in it
				name, content, _ := strings.Cut(d.Input, "\n")
				if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
				return ""
			case "ctl": // a command a line: what it prints, and what it asks for
				var out bytes.Buffer
				for _, line := range strings.Split(d.Input, "\n") {
					args := strings.Fields(strings.ReplaceAll(line, "DIR", dir))
					if !strings.Contains(line, "--help") {
						args = append([]string{args[0], "--pd", addr}, args[1:]...)
					}
					code := Main("test", append([]string{"ctl"}, args...), &out, &out)
					for _, asked := range pd.asked {
						fmt.Fprintf(&out, "→ %s\n", asked)
					}
					pd.asked = nil
					if code != 0 {
						fmt.Fprintf(&out, "exit code %d\n", code)
					}
				}
				text := strings.ReplaceAll(strings.ReplaceAll(out.String(), addr, "PD"), dir, "DIR")
				lines := strings.Split(text, "\n")
				for i := range lines { // tables are padded
					lines[i] = strings.TrimRight(lines[i], " ")
				}
				return strings.Join(lines, "\n")
			}
			d.Fatalf(t, "unknown command %s", d.Cmd)
			return ""
		})
	})
}

// TestCtlCommandsAreShown looks that each command says what it is for, and that
// each leaf takes --json.
func TestCtlCommandsAreShown(t *testing.T) {
	cmd := newCtl()
	queue := cmd.Commands()
	for len(queue) > 0 {
		c := queue[0]
		queue = append(queue[1:], c.Commands()...)
		if c.Short == "" {
			t.Errorf("%s says nothing of itself", c.CommandPath())
		}
		if c.RunE != nil && c.Flag("json") == nil {
			t.Errorf("%s has no --json", c.CommandPath())
		}
	}
}

func TestSettingValue(t *testing.T) {
	for text, want := range map[string]string{"5": "5", "true": "true", "0.5": "0.5", "30m": `"30m"`, "zone,host": `"zone,host"`, `{"a":1}`: `{"a":1}`, "": `""`} {
		if got, err := json.Marshal(settingValue(text)); err != nil || string(got) != want {
			t.Errorf("%q: %s %v, want %s", text, got, err, want)
		}
	}
}
