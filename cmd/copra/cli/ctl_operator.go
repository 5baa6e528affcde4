package cli

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

const operatorsPath = "/pd/api/v1/operators"

// newCtlOperator lists, adds and cancels operators.
func newCtlOperator(c *ctl) *cobra.Command {
	list := c.shows(operatorsPath+"?object", printOperators)
	cmd := c.command(nil, "operator", "List what is being moved, move something, cancel it", `  copra ctl operator                              what is under way
  copra ctl operator history --since 1h           what ended
  copra ctl operator add transfer-leader 12 4     region 12 is led by store 4
  copra ctl operator cancel 12                    stop what is done to region 12`, cobra.NoArgs, list)
	c.command(cmd, "list", "List the operators under way", "", cobra.NoArgs, list)
	since := time.Hour
	history := c.command(cmd, "history", "List the operators that ended", "", cobra.NoArgs, func(cmd *cobra.Command, _ []string) error {
		if since <= 0 {
			return fmt.Errorf("--since %v: want a time such as 1h", since)
		}
		return c.run(cmd, fmt.Sprintf("%s/records?object&from=%d", operatorsPath, time.Now().Add(-since).Unix()), printOperators)
	})
	history.Flags().DurationVar(&since, "since", time.Hour, "how far back")
	c.command(cmd, "cancel <region id>|all", "Cancel the operator of a region", "", cobra.ExactArgs(1), func(cmd *cobra.Command, args []string) error {
		if args[0] == "all" {
			return c.change(cmd, http.MethodDelete, operatorsPath, nil)
		}
		id, err := parseID("region", args[0])
		if err != nil {
			return err
		}
		return c.change(cmd, http.MethodDelete, fmt.Sprintf("%s/%d", operatorsPath, id), nil)
	})
	cmd.AddCommand(newCtlOperatorAdd(c))
	return cmd
}

// adminOperators are the operators of fixed arguments: their names in requests.
var adminOperators = []struct {
	name, use, short string
	fields           []string
}{
	{"add-peer", "<region> <store>", "Give a region a replica on a store", []string{"region_id", "store_id"}},
	{"add-learner", "<region> <store>", "Give a region a replica that does not vote", []string{"region_id", "store_id"}},
	{"remove-peer", "<region> <store>", "Take the replica off a store", []string{"region_id", "store_id"}},
	{"transfer-leader", "<region> <store>", "Make a store's replica lead", []string{"region_id", "to_store_id"}},
	{"transfer-peer", "<region> <from> <to>", "Move a replica", []string{"region_id", "from_store_id", "to_store_id"}},
	{"merge-region", "<source> <target>", "Merge a region into its neighbour", []string{"source_region_id", "target_region_id"}},
	{"scatter-region", "<region>", "Put a region's replicas and leader where there are few", []string{"region_id"}},
}

func newCtlOperatorAdd(c *ctl) *cobra.Command {
	cmd := &cobra.Command{Use: "add", Short: "Have something done to a region, before all that PD wants itself",
		Example: "  copra ctl operator add transfer-peer 12 4 5\n  copra ctl operator add split-region 12 --policy approximate"}
	for _, op := range adminOperators {
		c.command(cmd, op.name+" "+op.use, op.short, "", cobra.ExactArgs(len(op.fields)), func(cmd *cobra.Command, args []string) error {
			values, err := ids(args, op.fields...)
			if err != nil {
				return err
			}
			body := map[string]any{"name": op.name}
			for i, field := range op.fields {
				body[field] = values[i]
			}
			return c.change(cmd, http.MethodPost, operatorsPath, body)
		})
	}
	var roles, keys, policy string
	move := c.command(cmd, "transfer-region <region> <store>…", "Make a region have its replicas on just these stores",
		"  copra ctl operator add transfer-region 12 4 5 6 --roles leader,voter,learner", cobra.MinimumNArgs(2), func(cmd *cobra.Command, args []string) error {
			values, err := ids(args, "region", "store")
			if err != nil {
				return err
			}
			body := map[string]any{"name": "transfer-region", "region_id": values[0], "to_store_ids": values[1:]}
			if list := splitList(roles); len(list) > 0 {
				if len(list) != len(values)-1 {
					return fmt.Errorf("--roles: %d roles for %d stores", len(list), len(values)-1)
				}
				for _, role := range list {
					if !slices.Contains([]string{"leader", "follower", "voter", "learner"}, role) {
						return fmt.Errorf("--roles: %q is none of leader, follower, voter, learner", role)
					}
				}
				body["peer_roles"] = list
			}
			return c.change(cmd, http.MethodPost, operatorsPath, body)
		})
	move.Flags().StringVar(&roles, "roles", "", "a role for each store: leader, follower, voter, learner")
	split := c.command(cmd, "split-region <region>", "Split a region", "  copra ctl operator add split-region 12 --policy usekey --keys 61,62",
		cobra.ExactArgs(1), func(cmd *cobra.Command, args []string) error {
			id, err := parseID("region", args[0])
			if err != nil {
				return err
			}
			body, err := splitBody(id, policy, splitList(keys))
			if err != nil {
				return err
			}
			return c.change(cmd, http.MethodPost, operatorsPath, body)
		})
	split.Flags().StringVar(&policy, "policy", "approximate", "scan (exact middle), approximate (middle by statistics) or usekey (at --keys)")
	split.Flags().StringVar(&keys, "keys", "", "for usekey: keys in hexadecimal, comma separated")
	return cmd
}

func splitBody(region uint64, policy string, keys []string) (map[string]any, error) {
	body := map[string]any{"name": "split-region", "region_id": region, "policy": policy}
	switch {
	case policy != "scan" && policy != "approximate" && policy != "usekey":
		return nil, fmt.Errorf("--policy %q: want scan, approximate or usekey", policy)
	case policy == "usekey" && len(keys) == 0:
		return nil, errors.New("--policy usekey needs --keys")
	case policy != "usekey" && len(keys) > 0:
		return nil, errors.New("--keys needs --policy usekey")
	}
	for _, key := range keys {
		if _, err := hex.DecodeString(key); err != nil {
			return nil, fmt.Errorf("--keys: %q is not hexadecimal", key)
		}
	}
	if len(keys) > 0 {
		body["keys"] = keys
	}
	return body, nil
}

func printOperators(w io.Writer, body []byte) error {
	var reply []struct {
		Desc       string     `json:"desc"`
		RegionID   uint64     `json:"region_id"`
		Kind       string     `json:"kind"`
		Steps      []string   `json:"steps"`
		At         int        `json:"at"`
		Status     string     `json:"status"`
		Reason     string     `json:"reason"`
		CreatedAt  time.Time  `json:"created_at"`
		FinishedAt *time.Time `json:"finished_at"`
	}
	if err := decode(body, &reply); err != nil {
		return err
	}
	return table(w, "REGION\tOPERATOR\tKIND\tSTATUS\tSTARTED\tTOOK\tDONE\tSTEPS", func(t io.Writer) {
		for _, op := range reply {
			status, took := strings.ToLower(op.Status), ""
			if op.FinishedAt != nil {
				took = op.FinishedAt.Sub(op.CreatedAt).Round(time.Millisecond).String()
			}
			if op.Reason != "" {
				status += " (" + op.Reason + ")"
			}
			fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%s\t%d/%d\t%s\n", op.RegionID, op.Desc, op.Kind, status, op.CreatedAt.Format(time.DateTime), took,
				op.At, len(op.Steps), strings.Join(op.Steps, ", "))
		}
	})
}
