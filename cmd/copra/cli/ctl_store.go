package cli

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

const storesPath = "/pd/api/v1/stores"

func storePath(id uint64) string { return fmt.Sprintf("/pd/api/v1/store/%d", id) }

// newCtlStore lists and changes stores.
func newCtlStore(c *ctl) *cobra.Command {
	list := c.shows(storesPath, printStores)
	cmd := c.command(nil, "store", "List, drain and label stores", `  copra ctl store                         list them
  copra ctl store show 4                  all about one
  copra ctl store delete 4                drain it: its replicas go to other stores, then it is a tombstone
  copra ctl store up 4                    take it back while it is being drained
  copra ctl store delete 4 --force        its disk is lost for good: it never comes back
  copra ctl store label 4 zone=z1 disk=   set one label, remove another
  copra ctl store weight 4 1 0.5          half as much data as others
  copra ctl store limit 4 30              30 replicas a minute in and out`, cobra.NoArgs, list)
	c.command(cmd, "list", "List the stores", "", cobra.NoArgs, list)
	c.command(cmd, "show <id>", "Show all about a store", "", cobra.ExactArgs(1), func(cmd *cobra.Command, args []string) error {
		id, err := parseID("store", args[0])
		if err != nil {
			return err
		}
		return c.run(cmd, storePath(id), printStore)
	})
	force := false
	del := c.command(cmd, "delete <id>", "Drain a store and remove it", "", cobra.ExactArgs(1), func(cmd *cobra.Command, args []string) error {
		id, err := parseID("store", args[0])
		if err != nil {
			return err
		}
		path := storePath(id)
		if force {
			path += "?force=true"
		}
		return c.change(cmd, http.MethodDelete, path, nil)
	})
	del.Flags().BoolVar(&force, "force", false, "the store's data is lost for good: its address is free at once, and it never comes back")
	c.command(cmd, "up <id>", "Take a store back that is being drained", "", cobra.ExactArgs(1), func(cmd *cobra.Command, args []string) error {
		id, err := parseID("store", args[0])
		if err != nil {
			return err
		}
		return c.change(cmd, http.MethodPost, storePath(id)+"/state?state=Up", nil)
	})
	c.command(cmd, "remove-tombstone", "Forget the stores that are gone for good", "", cobra.NoArgs, func(cmd *cobra.Command, _ []string) error {
		return c.change(cmd, http.MethodDelete, storesPath+"/remove-tombstone", nil)
	})
	c.storeSettings(cmd)
	return cmd
}

// storeSettings adds label, weight and limit.
func (c *ctl) storeSettings(cmd *cobra.Command) {
	replace := false
	label := c.command(cmd, "label <id> key=value…", "Set labels of a store; an empty value removes one", "  copra ctl store label 4 zone=z1 host=h7",
		cobra.MinimumNArgs(2), func(cmd *cobra.Command, args []string) error {
			id, err := parseID("store", args[0])
			if err != nil {
				return err
			}
			labels := map[string]string{}
			for _, arg := range args[1:] {
				k, v, ok := strings.Cut(arg, "=")
				if !ok || k == "" {
					return fmt.Errorf("label %q: want key=value", arg)
				}
				labels[k] = v
			}
			path := storePath(id) + "/label"
			if replace {
				path += "?force=true"
			}
			return c.change(cmd, http.MethodPost, path, labels)
		})
	label.Flags().BoolVar(&replace, "replace", false, "the store has no other labels from now on")
	c.command(cmd, "weight <id> <leaders> <regions>", "Set how much a store shall have beside others (1 each)",
		"  copra ctl store weight 4 0.5 1", cobra.ExactArgs(3), func(cmd *cobra.Command, args []string) error {
			id, err := parseID("store", args[0])
			if err != nil {
				return err
			}
			leader, err1 := strconv.ParseFloat(args[1], 64)
			region, err2 := strconv.ParseFloat(args[2], 64)
			if errors.Join(err1, err2) != nil || !(leader >= 0 && region >= 0) {
				return fmt.Errorf("weights %q and %q: want numbers from 0 on", args[1], args[2])
			}
			return c.change(cmd, http.MethodPost, storePath(id)+"/weight", map[string]any{"leader": leader, "region": region})
		})
	kind := ""
	limit := c.command(cmd, "limit [<id>|all <replicas a minute>]", "Show or set how fast stores get and lose replicas",
		"  copra ctl store limit\n  copra ctl store limit all 60\n  copra ctl store limit 4 5 --type add-peer", cobra.MaximumNArgs(2),
		func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return c.run(cmd, storesPath+"/limit", printLimits)
			}
			return c.setLimit(cmd, args, kind)
		})
	limit.Flags().StringVar(&kind, "type", "", "only add-peer, or only remove-peer (default: both)")
}

func (c *ctl) setLimit(cmd *cobra.Command, args []string, kind string) error {
	if len(args) != 2 {
		return errors.New("want a store's id, or all, and a number of replicas a minute")
	}
	rate, err := strconv.ParseFloat(args[1], 64)
	if err != nil || !(rate > 0) {
		return fmt.Errorf("limit %q: want a number of replicas a minute, above 0", args[1])
	}
	if kind != "" && kind != "add-peer" && kind != "remove-peer" {
		return fmt.Errorf("--type %q: want add-peer or remove-peer", kind)
	}
	body := map[string]any{"rate": rate}
	if kind != "" {
		body["type"] = kind
	}
	if args[0] == "all" {
		return c.change(cmd, http.MethodPost, storesPath+"/limit", body)
	}
	id, err := parseID("store", args[0])
	if err != nil {
		return err
	}
	return c.change(cmd, http.MethodPost, storePath(id)+"/limit", body)
}

// storeReply is a store in PD's answers.
type storeReply struct {
	Store struct {
		ID      uint64 `json:"id"`
		Address string `json:"address"`
		Version string `json:"version"`
		State   string `json:"state_name"`
		Labels  []struct {
			Key   string `json:"key"`
			Value string `json:"value"`
		} `json:"labels"`
	} `json:"store"`
	Status struct {
		Capacity     string    `json:"capacity"`
		Available    string    `json:"available"`
		Leaders      int       `json:"leader_count"`
		Regions      int       `json:"region_count"`
		LeaderWeight float64   `json:"leader_weight"`
		RegionWeight float64   `json:"region_weight"`
		RegionMiB    int64     `json:"region_size"`
		Learners     int       `json:"learner_count"`
		Pending      int       `json:"pending_peer_count"`
		Slow         int       `json:"slow_score"`
		Busy         bool      `json:"is_busy"`
		Uptime       string    `json:"uptime"`
		Heartbeat    time.Time `json:"last_heartbeat_ts"`
	} `json:"status"`
}

func (s *storeReply) labels() string {
	out := make([]string, len(s.Store.Labels))
	for i, l := range s.Store.Labels {
		out[i] = l.Key + "=" + l.Value
	}
	return strings.Join(out, ",")
}

type storesReply struct {
	Stores []storeReply `json:"stores"`
}

func printStores(w io.Writer, body []byte) error {
	var reply storesReply
	if err := decode(body, &reply); err != nil {
		return err
	}
	return table(w, "STORE\tADDRESS\tSTATE\tREGIONS\tLEADERS\tAVAILABLE\tCAPACITY\tSLOW\tLABELS", func(t io.Writer) {
		for _, s := range reply.Stores {
			fmt.Fprintf(t, "%d\t%s\t%s\t%d\t%d\t%s\t%s\t%d\t%s\n", s.Store.ID, s.Store.Address, s.Store.State,
				s.Status.Regions, s.Status.Leaders, s.Status.Available, s.Status.Capacity, s.Status.Slow, s.labels())
		}
	})
}

func printStore(w io.Writer, body []byte) error {
	var s storeReply
	if err := decode(body, &s); err != nil {
		return err
	}
	return table(w, fmt.Sprintf("STORE\t%d", s.Store.ID), func(t io.Writer) {
		fmt.Fprintf(t, "address\t%s\nversion\t%s\nstate\t%s\nlabels\t%s\n", s.Store.Address, s.Store.Version, s.Store.State, s.labels())
		fmt.Fprintf(t, "regions\t%d (%d MiB, weight %v)\nleaders\t%d (weight %v)\nlearners\t%d\npending\t%d\n", s.Status.Regions,
			s.Status.RegionMiB, s.Status.RegionWeight, s.Status.Leaders, s.Status.LeaderWeight, s.Status.Learners, s.Status.Pending)
		fmt.Fprintf(t, "available\t%s of %s\nslow score\t%d\nbusy\t%v\nuptime\t%s\nlast heartbeat\t%s\n", s.Status.Available, s.Status.Capacity,
			s.Status.Slow, s.Status.Busy, s.Status.Uptime, s.Status.Heartbeat.Format(time.DateTime))
	})
}

func printLimits(w io.Writer, body []byte) error {
	var reply map[uint64]struct {
		Add    float64 `json:"add-peer"`
		Remove float64 `json:"remove-peer"`
	}
	if err := decode(body, &reply); err != nil {
		return err
	}
	return table(w, "STORE\tADD A MINUTE\tREMOVE A MINUTE", func(t io.Writer) {
		for _, id := range slices.Sorted(maps.Keys(reply)) {
			fmt.Fprintf(t, "%d\t%v\t%v\n", id, reply[id].Add, reply[id].Remove)
		}
	})
}
