package cli

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// newCtlConfig shows and changes PD's settings.
func newCtlConfig(c *ctl) *cobra.Command {
	show := func(cmd *cobra.Command, args []string) error {
		path := ruleConfigPath
		if len(args) > 0 {
			if args[0] != "schedule" && args[0] != "replicate" {
				return fmt.Errorf("settings %q: want schedule or replicate, or nothing for all", args[0])
			}
			path += "/" + args[0]
		}
		return c.run(cmd, path, printConfig)
	}
	cmd := c.command(nil, "config", "Show and change PD's settings", `  copra ctl config show
  copra ctl config set max-replicas 5
  copra ctl config set location-labels zone,host
  copra ctl config set max-store-down-time 1h`, cobra.NoArgs, show)
	c.command(cmd, "show [schedule|replicate]", "Show PD's settings", "", cobra.MaximumNArgs(1), show)
	c.command(cmd, "set <key> <value>", "Change a setting, at once and for good", "", cobra.ExactArgs(2), func(cmd *cobra.Command, args []string) error {
		if args[0] == "" {
			return fmt.Errorf("the setting's name is empty; see copra ctl config show")
		}
		return c.change(cmd, http.MethodPost, ruleConfigPath, map[string]any{args[0]: settingValue(args[1])})
	})
	return cmd
}

func printConfig(w io.Writer, body []byte) error {
	var reply map[string]any
	if err := decode(body, &reply); err != nil {
		return err
	}
	return table(w, "SETTING\tVALUE", func(t io.Writer) { printSettings(t, "", reply) })
}

func printSettings(t io.Writer, prefix string, settings map[string]any) {
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		switch v := settings[name].(type) {
		case map[string]any:
			printSettings(t, prefix+name+".", v)
		case nil:
			fmt.Fprintf(t, "%s\t\n", prefix+name)
		default:
			fmt.Fprintf(t, "%s\t%v\n", prefix+name, v)
		}
	}
}

// newCtlHot shows hot regions and stores.
func newCtlHot(c *ctl) *cobra.Command {
	cmd := &cobra.Command{Use: "hot", Short: "Show what is read and written most: regions and stores",
		Example: "  copra ctl hot write\n  copra ctl hot read\n  copra ctl hot store"}
	for _, kind := range []string{"read", "write"} {
		c.command(cmd, kind, "List the regions with much "+kind+" load, by the store that bears it", "", cobra.NoArgs,
			c.shows("/pd/api/v1/hotspot/regions/"+kind, printHot))
	}
	c.command(cmd, "store", "Show how much each store reads and writes in a second", "", cobra.NoArgs, c.shows("/pd/api/v1/hotspot/stores", printHotStores))
	return cmd
}

func printHot(w io.Writer, body []byte) error {
	type peer struct {
		RegionID uint64  `json:"region_id"`
		IsLeader bool    `json:"is_leader"`
		Degree   int     `json:"hot_degree"`
		Bytes    float64 `json:"flow_bytes"`
		Keys     float64 `json:"flow_keys"`
		Queries  float64 `json:"flow_query"`
	}
	var reply struct {
		AsPeer map[uint64]struct {
			Stats []peer `json:"statistics"`
		} `json:"as_peer"`
	}
	if err := decode(body, &reply); err != nil {
		return err
	}
	return table(w, "STORE\tREGION\tLEADER\tBYTES/S\tKEYS/S\tQUERIES/S\tDEGREE", func(t io.Writer) {
		for _, store := range slices.Sorted(maps.Keys(reply.AsPeer)) {
			for _, p := range reply.AsPeer[store].Stats {
				leader := ""
				if p.IsLeader {
					leader = "yes"
				}
				fmt.Fprintf(t, "%d\t%d\t%s\t%s\t%.0f\t%.0f\t%d\n", store, p.RegionID, leader, bytesText(p.Bytes), p.Keys, p.Queries, p.Degree)
			}
		}
	})
}

func printHotStores(w io.Writer, body []byte) error {
	var reply map[string]map[uint64]float64
	if err := decode(body, &reply); err != nil {
		return err
	}
	return table(w, "STORE\tREAD/S\tKEYS\tQUERIES\tWRITTEN/S\tKEYS\tQUERIES", func(t io.Writer) {
		for _, id := range slices.Sorted(maps.Keys(reply["bytes-write-rate"])) {
			rate := func(what string) float64 { return reply[what+"-rate"][id] }
			fmt.Fprintf(t, "%d\t%s\t%.0f\t%.0f\t%s\t%.0f\t%.0f\n", id, bytesText(rate("bytes-read")), rate("keys-read"), rate("query-read"),
				bytesText(rate("bytes-write")), rate("keys-write"), rate("query-write"))
		}
	})
}

// newCtlGC shows and drives garbage collection; see ctl_gc.go for its parts.
func newCtlGC(c *ctl) *cobra.Command {
	state := c.shows("/pd/api/v1/gc/state", printGCState)
	cmd := c.command(nil, "gc", "Show up to where old versions may be removed, and who holds that back", `  copra ctl gc                     safe points, the last round, settings
  copra ctl gc barriers            who holds the safe point back
  copra ctl gc stores              what each store has dropped in its last round
  copra ctl gc run                 do not wait for the next round
  copra ctl gc delete backup7      the service backup7 is gone: do not wait for it
  copra ctl config set gc-life-time 1h`, cobra.NoArgs, c.showGC)
	c.command(cmd, "state", "Show the safe points", "", cobra.NoArgs, state)
	c.command(cmd, "worker", "Show the last rounds of garbage collection and its settings", "", cobra.NoArgs, c.shows(gcWorkerPath, printGCWorker))
	c.command(cmd, "stores", "Show what each store has dropped in its last round", "", cobra.NoArgs, c.showGCStores)
	newCtlGCRun(c, cmd)
	c.command(cmd, "safepoint", "Show the safe point of each service", "", cobra.NoArgs, c.shows("/pd/api/v1/gc/safepoint", nil))
	c.command(cmd, "barriers", "List who holds the safe point back", "", cobra.NoArgs, c.shows("/pd/api/v1/gc/state", printBarriers))
	c.command(cmd, "delete <service>", "Delete the safe point of a service", "", cobra.ExactArgs(1), func(cmd *cobra.Command, args []string) error {
		if strings.TrimSpace(args[0]) == "" {
			return fmt.Errorf("the service's name is empty")
		}
		return c.change(cmd, http.MethodDelete, "/pd/api/v1/gc/safepoint/"+url.PathEscape(args[0]), nil)
	})
	return cmd
}

type barrierReply struct {
	ID         string `json:"barrier_id"`
	TS         uint64 `json:"barrier_ts"`
	TTLSeconds int64  `json:"ttl_seconds"`
}

type gcReply struct {
	TxnSafePoint uint64         `json:"txn_safe_point"`
	GCSafePoint  uint64         `json:"gc_safe_point"`
	Barriers     []barrierReply `json:"gc_barriers"`
	Global       []barrierReply `json:"global_gc_barriers"`
}

// tsText is a timestamp with its time.
func tsText(ts uint64) string {
	if ts == 0 {
		return "0 (never set)"
	}
	return fmt.Sprintf("%d (%s)", ts, tsTime(ts).UTC().Format(time.RFC3339))
}

// tsTime is the physical part of a timestamp.
func tsTime(ts uint64) time.Time { return time.UnixMilli(int64(ts >> 18)) }

func printGCState(w io.Writer, body []byte) error {
	var r gcReply
	if err := decode(body, &r); err != nil {
		return err
	}
	return table(w, "SAFE POINT\tTIMESTAMP", func(t io.Writer) {
		fmt.Fprintf(t, "transactions\t%s\ngc\t%s\nbarriers\t%d\n", tsText(r.TxnSafePoint), tsText(r.GCSafePoint), len(r.Barriers)+len(r.Global))
	})
}

func printBarriers(w io.Writer, body []byte) error {
	var r gcReply
	if err := decode(body, &r); err != nil {
		return err
	}
	return table(w, "BARRIER\tTIMESTAMP\tENDS IN\tSCOPE", func(t io.Writer) {
		for i, list := range [][]barrierReply{r.Barriers, r.Global} {
			scope := []string{"keyspace", "all keyspaces"}[i]
			for _, b := range list {
				ends := "never"
				if b.TTLSeconds >= 0 {
					ends = (time.Duration(b.TTLSeconds) * time.Second).String()
				}
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", b.ID, tsText(b.TS), ends, scope)
			}
		}
	})
}
