package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"time"

	"github.com/spf13/cobra"
)

// newCtlGossip shows who believes whom to be alive.
func newCtlGossip(c *ctl) *cobra.Command {
	var statusAddr string
	cmd := &cobra.Command{
		Use: "gossip", Short: "List stores and placement drivers as one of them sees them: alive or dead, slow, disk full",
		Long: `Lists stores and placement drivers as one node hears of them in the gossip, which goes on
without PD: as the placement driver at --pd does, or as the store at --status-addr does.

  copra ctl gossip
  copra ctl gossip --status-addr 127.0.0.1:20180`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if statusAddr == "" {
				return c.run(cmd, "/pd/api/v1/gossip", printGossip)
			}
			body, err := fetch(cmd.Context(), url.URL{Scheme: "http", Host: statusAddr, Path: "/gossip"})
			if err != nil {
				return fmt.Errorf("store status at %s: %w", statusAddr, err)
			}
			return c.print(cmd, body, printGossip)
		},
	}
	c.register(cmd)
	cmd.Flags().StringVar(&statusAddr, "status-addr", "", "status address of a store to ask instead of PD")
	return cmd
}

// gossipReply is a node as another one hears of it.
type gossipReply struct {
	Name    string    `json:"name"`
	Address string    `json:"address"`
	Started time.Time `json:"started"`
	Alive   bool      `json:"alive"`
	Since   time.Time `json:"since"`
	Status  struct {
		SlowScore uint32 `json:"slow_score"`
		Disk      string `json:"disk"`
		Note      string `json:"note"`
	} `json:"status"`
}

func printGossip(w io.Writer, body []byte) error {
	var reply []gossipReply
	if err := json.Unmarshal(body, &reply); err != nil {
		return fmt.Errorf("the node's answer: %w", err)
	}
	return table(w, "NODE\tADDRESS\tSTATE\tSINCE\tSTARTED\tSLOW\tDISK\tNOTE", func(t io.Writer) {
		for _, m := range reply {
			state := "alive"
			if !m.Alive {
				state = "dead"
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", m.Name, m.Address, state, m.Since.Format(time.DateTime),
				m.Started.Format(time.DateTime), m.Status.SlowScore, m.Status.Disk, m.Status.Note)
		}
	})
}
