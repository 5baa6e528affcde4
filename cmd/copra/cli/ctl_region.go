package cli

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/copradb/copra/internal/codec"
)

const (
	regionsPath = "/pd/api/v1/regions"
	// topDefault is how many regions region top lists.
	topDefault = 16
)

var (
	regionStates = []string{"miss-peer", "extra-peer", "down-peer", "pending-peer", "offline-peer", "learner-peer", "empty-region", "oversized-region", "undersized-region"}
	// regionTops are what regions can be sorted by, and PD's name for it.
	regionTops = map[string]string{"read": "readflow", "write": "writeflow", "size": "size", "keys": "keys",
		"read-query": "readquery", "write-query": "writequery", "version": "version", "confver": "confver"}
)

// newCtlRegion lists regions.
func newCtlRegion(c *ctl) *cobra.Command {
	state, store := "", uint64(0)
	cmd := c.command(nil, "region", "List, find and check regions", `  copra ctl region                        list all
  copra ctl region --state down-peer      those with something the matter
  copra ctl region --store 4              those with a replica on store 4
  copra ctl region show 12                one
  copra ctl region key 7480000000000000FF… --format hex
  copra ctl region top write              the most written
  copra ctl region check 12               are its replicas the same?`, cobra.NoArgs, func(cmd *cobra.Command, _ []string) error {
		switch {
		case state != "" && store != 0:
			return fmt.Errorf("--state and --store do not go together")
		case state != "" && !slices.Contains(regionStates, state):
			return fmt.Errorf("--state %q: want one of %s", state, strings.Join(regionStates, ", "))
		case state != "":
			return c.run(cmd, regionsPath+"/check/"+state, printRegions)
		case store != 0:
			return c.run(cmd, fmt.Sprintf("%s/store/%d", regionsPath, store), printRegions)
		}
		return c.run(cmd, regionsPath, printRegions)
	})
	cmd.Flags().StringVar(&state, "state", "", "only those with something the matter: "+strings.Join(regionStates, ", "))
	cmd.Flags().Uint64Var(&store, "store", 0, "only those with a replica on this store")
	c.command(cmd, "list", "List all regions", "", cobra.NoArgs, c.shows(regionsPath, printRegions))
	c.command(cmd, "show <id>", "Show a region", "", cobra.ExactArgs(1), func(cmd *cobra.Command, args []string) error {
		id, err := parseID("region", args[0])
		if err != nil {
			return err
		}
		return c.run(cmd, fmt.Sprintf("/pd/api/v1/region/id/%d", id), printRegion)
	})
	c.regionKey(cmd)
	limit := topDefault
	names := make([]string, 0, len(regionTops))
	for name := range regionTops {
		names = append(names, name)
	}
	slices.Sort(names)
	top := c.command(cmd, "top "+strings.Join(names, "|"), "List the regions with the most of something, since their last report",
		"  copra ctl region top write --limit 5", cobra.ExactArgs(1), func(cmd *cobra.Command, args []string) error {
			path, ok := regionTops[args[0]]
			if !ok {
				return fmt.Errorf("%q: want one of %s", args[0], strings.Join(names, ", "))
			}
			if limit < 1 {
				return fmt.Errorf("--limit %d: want a number above 0", limit)
			}
			return c.run(cmd, fmt.Sprintf("%s/%s?limit=%d", regionsPath, path, limit), printTopRegions)
		})
	top.Flags().IntVar(&limit, "limit", topDefault, "how many")
	cmd.AddCommand(newCtlCheck(c))
	return cmd
}

func (c *ctl) regionKey(parent *cobra.Command) {
	format := ""
	cmd := c.command(parent, "key <key>", "Show the region that holds a key", `  copra ctl region key 7480000000000000FF2B00000000000000F8
  copra ctl region key user1 --format raw`, cobra.ExactArgs(1), func(cmd *cobra.Command, args []string) error {
		key, err := parseKey(args[0], format)
		if err != nil {
			return err
		}
		return c.run(cmd, "/pd/api/v1/region/key/"+url.PathEscape(key)+"?format=hex", printRegion)
	})
	cmd.Flags().StringVar(&format, "format", "hex", "hex: as tables show keys; raw: as a transaction's client writes it")
}

// parseKey returns a key in hexadecimal.
func parseKey(text, format string) (string, error) {
	switch format {
	case "hex":
		if _, err := hex.DecodeString(text); err != nil {
			return "", fmt.Errorf("key %q is not hexadecimal; --format raw takes it as it is", text)
		}
		return text, nil
	case "raw":
		return hex.EncodeToString(codec.EncodeBytes(nil, []byte(text))), nil
	}
	return "", fmt.Errorf("--format %q: want hex or raw", format)
}

type peerReply struct {
	ID      uint64 `json:"id"`
	StoreID uint64 `json:"store_id"`
	Role    string `json:"role_name"`
}

type regionReply struct {
	ID       uint64      `json:"id"`
	StartKey string      `json:"start_key"`
	EndKey   string      `json:"end_key"`
	Peers    []peerReply `json:"peers"`
	Leader   peerReply   `json:"leader"`
	Epoch    struct {
		ConfVer uint64 `json:"conf_ver"`
		Version uint64 `json:"version"`
	} `json:"epoch"`
	Down []struct {
		Peer    peerReply `json:"peer"`
		Seconds uint64    `json:"down_seconds"`
	} `json:"down_peers"`
	Pending      []peerReply `json:"pending_peers"`
	SizeMiB      int64       `json:"approximate_size"`
	Keys         int64       `json:"approximate_keys"`
	WrittenBytes uint64      `json:"written_bytes"`
	ReadBytes    uint64      `json:"read_bytes"`
	WrittenKeys  uint64      `json:"written_keys"`
	ReadKeys     uint64      `json:"read_keys"`
}

type regionsReply struct {
	Count   int           `json:"count"`
	Regions []regionReply `json:"regions"`
}

func (r *regionReply) stores() []uint64 {
	out := make([]uint64, len(r.Peers))
	for i, p := range r.Peers {
		out[i] = p.StoreID
	}
	return out
}

func printRegions(w io.Writer, body []byte) error {
	var reply regionsReply
	if err := decode(body, &reply); err != nil {
		return err
	}
	return table(w, "REGION\tLEADER\tSTORES\tMiB\tKEYS\tSTART\tEND", func(t io.Writer) {
		for _, r := range reply.Regions {
			fmt.Fprintf(t, "%d\t%d\t%v\t%d\t%d\t%s\t%s\n", r.ID, r.Leader.StoreID, r.stores(), r.SizeMiB, r.Keys, r.StartKey, r.EndKey)
		}
	})
}

func printTopRegions(w io.Writer, body []byte) error {
	var reply regionsReply
	if err := decode(body, &reply); err != nil {
		return err
	}
	return table(w, "REGION\tLEADER\tMiB\tKEYS\tWRITTEN\tWRITTEN KEYS\tREAD\tREAD KEYS\tEPOCH\tSTART", func(t io.Writer) {
		for _, r := range reply.Regions {
			fmt.Fprintf(t, "%d\t%d\t%d\t%d\t%s\t%d\t%s\t%d\t%d/%d\t%s\n", r.ID, r.Leader.StoreID, r.SizeMiB, r.Keys, bytesText(float64(r.WrittenBytes)),
				r.WrittenKeys, bytesText(float64(r.ReadBytes)), r.ReadKeys, r.Epoch.Version, r.Epoch.ConfVer, r.StartKey)
		}
	})
}

func printRegion(w io.Writer, body []byte) error {
	var r regionReply
	if err := decode(body, &r); err != nil {
		return err
	}
	return table(w, fmt.Sprintf("REGION\t%d", r.ID), func(t io.Writer) {
		fmt.Fprintf(t, "start\t%s\nend\t%s\nepoch\t%d/%d\nsize\t%d MiB, %d keys\n", r.StartKey, r.EndKey, r.Epoch.Version, r.Epoch.ConfVer, r.SizeMiB, r.Keys)
		for _, p := range r.Peers {
			state := strings.ToLower(p.Role)
			if p.ID == r.Leader.ID {
				state = "leader"
			}
			for _, d := range r.Down {
				if d.Peer.ID == p.ID {
					state += fmt.Sprintf(", not heard of for %d s", d.Seconds)
				}
			}
			if slices.ContainsFunc(r.Pending, func(o peerReply) bool { return o.ID == p.ID }) {
				state += ", not caught up"
			}
			fmt.Fprintf(t, "peer %d\tstore %d, %s\n", p.ID, p.StoreID, state)
		}
	})
}

// bytesText is a size for people.
func bytesText(n float64) string {
	units, i := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}, 0
	for n >= 1024 && i < len(units)-1 {
		n, i = n/1024, i+1
	}
	return fmt.Sprintf("%.4g%s", n, units[i])
}
