package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

const membersPath = "/pd/api/v1/members"

// newCtlMember lists and changes the placement drivers.
func newCtlMember(c *ctl) *cobra.Command {
	list := func(cmd *cobra.Command, _ []string) error { return c.run(cmd, membersPath, printMembers) }
	cmd := &cobra.Command{
		Use: "member", Short: "List and change the placement drivers",
		Long: `Lists and changes the placement drivers (PDs).

  copra ctl member                        list them
  copra ctl member add 10.0.0.4:2380      announce one, by the address for the other PDs, before it starts with --join
  copra ctl member remove pd2             remove one for good
  copra ctl member leader transfer pd3    make one lead
  copra ctl member leader resign          make any other lead
  copra ctl member priority pd1 10        prefer one as leader (default 0)`,
		Args: cobra.NoArgs, RunE: list,
	}
	c.register(cmd)
	sub := func(parent *cobra.Command, use, short string, args int, run func(cmd *cobra.Command, args []string) error) {
		child := &cobra.Command{Use: use, Short: short, Args: cobra.ExactArgs(args), RunE: run}
		c.register(child)
		parent.AddCommand(child)
	}
	sub(cmd, "list", "List the placement drivers", 0, list)
	sub(cmd, "add peer-address", "Announce a placement driver that will start with --join", 1, c.memberAdd)
	sub(cmd, "remove name", "Remove a placement driver for good; its data directory is of no more use", 1,
		func(cmd *cobra.Command, args []string) error {
			return c.change(cmd, http.MethodDelete, membersPath+"/name/"+url.PathEscape(args[0]), nil)
		})
	sub(cmd, "priority name number", "Prefer a placement driver as leader: the living one with the highest number leads", 2,
		func(cmd *cobra.Command, args []string) error {
			n, err := strconv.Atoi(args[1])
			if err != nil {
				return fmt.Errorf("priority %q is no whole number", args[1])
			}
			return c.change(cmd, http.MethodPost, membersPath+"/name/"+url.PathEscape(args[0]), map[string]any{"leader-priority": n})
		})
	leader := &cobra.Command{
		Use: "leader", Short: "Show the leader, or make another one lead", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.run(cmd, "/pd/api/v1/leader", printLeader) },
	}
	c.register(leader)
	sub(leader, "transfer name", "Make a placement driver lead", 1, func(cmd *cobra.Command, args []string) error {
		return c.change(cmd, http.MethodPost, "/pd/api/v1/leader/transfer/"+url.PathEscape(args[0]), nil)
	})
	sub(leader, "resign", "Make any other placement driver lead", 0, func(cmd *cobra.Command, _ []string) error {
		return c.change(cmd, http.MethodPost, "/pd/api/v1/leader/resign", nil)
	})
	cmd.AddCommand(leader)
	return cmd
}

func (c *ctl) memberAdd(cmd *cobra.Command, args []string) error {
	peer := args[0]
	if !strings.Contains(peer, "://") {
		peer = "http://" + peer
	}
	if err := c.change(cmd, http.MethodPost, membersPath, map[string]any{"peer-url": peer}); err != nil {
		return err
	}
	if !c.asJSON {
		fmt.Fprintf(cmd.OutOrStdout(), "Now start it there: copra pd --name NAME --join %s --peer-addr %s --client-addr … --data-dir …\n",
			c.pdList, strings.TrimPrefix(peer, "http://"))
	}
	return nil
}

// change asks the placement drivers in turn for a change; the first that can be
// reached decides. The path is escaped and may have a query.
func (c *ctl) change(cmd *cobra.Command, method, path string, body any) error {
	pds, err := endpoints(c.pdList)
	if err != nil {
		return err
	}
	raw := []byte(nil)
	if body != nil {
		if raw, err = json.Marshal(body); err != nil {
			return err
		}
	}
	var last error
	for _, pd := range pds {
		u, err := url.Parse("http://" + pd + path)
		if err != nil {
			return err
		}
		reply, reached, err := sendChange(cmd.Context(), method, *u, raw)
		if err == nil {
			if c.asJSON {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", reply)
			} else {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), "done")
			}
			return err
		}
		last = fmt.Errorf("PD at %s: %w", pd, err)
		if reached {
			break // what one has refused or begun is not tried again
		}
	}
	return last
}

// sendChange makes one request; reached says that the server may have begun with it.
func sendChange(ctx context.Context, method string, u url.URL, body []byte) (reply []byte, reached bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, ctlTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, false, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = resp.Body.Close() }()
	if reply, err = io.ReadAll(io.LimitReader(resp.Body, ctlReplyBytesMax)); err != nil {
		return nil, true, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, resp.StatusCode != http.StatusServiceUnavailable, fmt.Errorf("%s: %s", resp.Status, refusal(reply))
	}
	return reply, true, nil
}

func printLeader(w io.Writer, body []byte) error {
	var m struct {
		Name       string   `json:"name"`
		ClientURLs []string `json:"client_urls"`
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return fmt.Errorf("PD's answer: %w", err)
	}
	_, err := fmt.Fprintf(w, "%s %v\n", m.Name, m.ClientURLs)
	return err
}
