package cli

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

const (
	schedulersPath = "/pd/api/v1/schedulers"
	scatterRange   = "scatter-range"
)

// schedulerNames are those that can be added.
var schedulerNames = []string{"balance-leader", "balance-region", "balance-hot-region", "evict-leader", "evict-slow-store", "grant-leader",
	"shuffle-leader", "shuffle-region", scatterRange}

// schedulerName is the full name of one that was named in short.
func schedulerName(name string) string {
	if name == "all" || strings.HasPrefix(name, scatterRange) || strings.Contains(name, "-scheduler") {
		return name
	}
	return name + "-scheduler"
}

// newCtlScheduler lists and changes schedulers.
func newCtlScheduler(c *ctl) *cobra.Command {
	list := c.shows(schedulersPath+"?object", printSchedulers)
	cmd := c.command(nil, "scheduler", "List, add, pause and configure schedulers: who decides what moves", `  copra ctl scheduler                            list them
  copra ctl scheduler pause balance-region 30m   nothing moves for balance meanwhile
  copra ctl scheduler resume all
  copra ctl scheduler add evict-leader 4         store 4 leads nothing any more
  copra ctl scheduler remove evict-leader-scheduler-4
  copra ctl scheduler config balance-leader batch 8`, cobra.NoArgs, list)
	c.command(cmd, "list", "List the schedulers", "", cobra.NoArgs, list)
	c.command(cmd, "add <name> [store id] | scatter-range <start> <end> <name>", "Start a scheduler: "+strings.Join(schedulerNames, ", "),
		"  copra ctl scheduler add grant-leader 4\n  copra ctl scheduler add scatter-range 7480 7481 orders", cobra.RangeArgs(1, 4), c.schedulerAdd)
	c.command(cmd, "remove <name>", "End a scheduler; name-<store id> only for a store", "", cobra.ExactArgs(1), func(cmd *cobra.Command, args []string) error {
		return c.change(cmd, http.MethodDelete, schedulersPath+"/"+url.PathEscape(schedulerName(args[0])), nil)
	})
	pause := func(cmd *cobra.Command, name string, d time.Duration) error {
		return c.change(cmd, http.MethodPost, schedulersPath+"/"+url.PathEscape(schedulerName(name)), map[string]any{"delay": int64(d / time.Second)})
	}
	c.command(cmd, "pause <name>|all <time>", "Let a scheduler rest", "  copra ctl scheduler pause all 10m", cobra.ExactArgs(2), func(cmd *cobra.Command, args []string) error {
		d, err := time.ParseDuration(args[1])
		if err != nil || d < time.Second {
			return fmt.Errorf("time %q: want one such as 10m", args[1])
		}
		return pause(cmd, args[0], d)
	})
	c.command(cmd, "resume <name>|all", "End a pause", "", cobra.ExactArgs(1), func(cmd *cobra.Command, args []string) error { return pause(cmd, args[0], 0) })
	c.command(cmd, "config <name> [key value]", "Show or change a scheduler's settings", "", cobra.RangeArgs(1, 3), func(cmd *cobra.Command, args []string) error {
		path := "/pd/api/v1/scheduler-config/" + url.PathEscape(schedulerName(args[0]))
		switch len(args) {
		case 1:
			return c.run(cmd, path+"/list", nil)
		case 2:
			return fmt.Errorf("setting %s: its value is missing", args[1])
		}
		return c.change(cmd, http.MethodPost, path+"/config", map[string]any{args[1]: settingValue(args[2])})
	})
	return cmd
}

func (c *ctl) schedulerAdd(cmd *cobra.Command, args []string) error {
	short := strings.TrimSuffix(args[0], "-scheduler")
	body := map[string]any{"name": schedulerName(short)}
	switch {
	case !slices.Contains(schedulerNames, short):
		return fmt.Errorf("scheduler %q: want one of %s", args[0], strings.Join(schedulerNames, ", "))
	case short == scatterRange:
		if len(args) != 4 {
			return fmt.Errorf("%s needs a start key, an end key (hexadecimal) and a name", scatterRange)
		}
		for i, field := range []string{"start_key", "end_key"} {
			key, err := hex.DecodeString(args[1+i])
			if err != nil {
				return fmt.Errorf("key %q is not hexadecimal", args[1+i])
			}
			body[field] = url.QueryEscape(string(key))
		}
		body["range_name"] = args[3]
	case short == "evict-leader" || short == "grant-leader":
		if len(args) != 2 {
			return fmt.Errorf("%s needs a store's id", short)
		}
		id, err := parseID("store", args[1])
		if err != nil {
			return err
		}
		body["store_id"] = id
	case len(args) > 1:
		return fmt.Errorf("%s takes no arguments", short)
	}
	return c.change(cmd, http.MethodPost, schedulersPath, body)
}

// settingValue reads a value as JSON where it is (numbers, true, objects), and as
// text otherwise.
func settingValue(text string) any {
	var v any
	if err := json.Unmarshal([]byte(text), &v); err == nil {
		return v
	}
	return text
}

func printSchedulers(w io.Writer, body []byte) error {
	var reply []struct {
		Name        string    `json:"name"`
		Status      string    `json:"status"`
		PausedUntil time.Time `json:"paused_until"`
	}
	if err := decode(body, &reply); err != nil {
		return err
	}
	return table(w, "SCHEDULER\tSTATUS\tUNTIL", func(t io.Writer) {
		for _, s := range reply {
			until := ""
			if !s.PausedUntil.IsZero() {
				until = s.PausedUntil.Format(time.DateTime)
			}
			fmt.Fprintf(t, "%s\t%s\t%s\n", s.Name, s.Status, until)
		}
	})
}
