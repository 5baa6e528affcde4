package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/copradb/copra/internal/config"
)

const (
	ctlTimeout       = 10 * time.Second
	ctlReplyBytesMax = 256 << 20
)

// ctl reads PD's HTTP API.
type ctl struct {
	configFile string
	pdList     string
	asJSON     bool
}

func newCtl() *cobra.Command {
	c := &ctl{}
	cmd := &cobra.Command{
		Use:   "ctl",
		Short: "Look at a cluster: members, stores, regions, health, operators, configuration",
		Long: `Looks at a cluster through the HTTP API of its placement drivers: tables for people,
--json for programs.

  copra ctl store
  copra ctl region --json
  copra ctl health --pd 127.0.0.1:2379`,
	}
	add := func(name, short, path string, print func(io.Writer, []byte) error) {
		sub := &cobra.Command{
			Use: name, Short: short, Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return c.run(cmd, path, print) },
		}
		c.register(sub)
		cmd.AddCommand(sub)
		if name == "region" {
			sub.AddCommand(newCtlCheck(c))
		}
	}
	add("store", "List the stores", "/pd/api/v1/stores", printStores)
	add("region", "List the regions", "/pd/api/v1/regions", printRegions)
	add("health", "Show the health of the placement drivers", "/pd/api/v1/health", printHealth)
	add("operator", "Show the scheduling operators that are running", "/pd/api/v1/operators", nil)
	add("config", "Show PD's configuration", "/pd/api/v1/config", nil)
	cmd.AddCommand(newCtlMember(c), newCtlGossip(c))
	cmd.AddCommand(newCtlOffline())
	return cmd
}

// register adds the flags that all subcommands have.
func (c *ctl) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&c.configFile, config.FileFlag, "", "TOML file with settings, by flag name")
	f.StringVar(&c.pdList, "pd", "127.0.0.1:2379", "client addresses of the placement drivers, comma separated")
	f.BoolVar(&c.asJSON, "json", false, "print the answer as it is")
}

func (c *ctl) run(cmd *cobra.Command, path string, print func(io.Writer, []byte) error) error {
	pds, err := endpoints(c.pdList)
	if err != nil {
		return err
	}
	body, err := fetchAny(cmd.Context(), pds, path)
	if err != nil {
		return err
	}
	return c.print(cmd, body, print)
}

// print writes an answer as it is wanted.
func (c *ctl) print(cmd *cobra.Command, body []byte, print func(io.Writer, []byte) error) error {
	if c.asJSON || print == nil {
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s\n", body)
		return err
	}
	return print(cmd.OutOrStdout(), body)
}

// fetchAny asks the placement drivers in turn.
func fetchAny(ctx context.Context, pds []string, path string) ([]byte, error) {
	var last error
	for _, pd := range pds {
		body, err := fetch(ctx, url.URL{Scheme: "http", Host: pd, Path: path})
		if err == nil {
			return body, nil
		}
		last = fmt.Errorf("PD at %s: %w", pd, err)
	}
	return nil, last
}

func fetch(ctx context.Context, u url.URL) ([]byte, error) { return send(ctx, http.MethodGet, u) }

func send(ctx context.Context, method string, u url.URL) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, ctlTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, ctlReplyBytesMax))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", resp.Status, body)
	}
	return body, nil
}

func table(w io.Writer, header string, rows func(t io.Writer)) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, header)
	rows(t)
	return t.Flush()
}

func printMembers(w io.Writer, body []byte) error {
	var reply struct {
		Members []struct {
			Name       string   `json:"name"`
			MemberID   uint64   `json:"member_id"`
			ClientURLs []string `json:"client_urls"`
			PeerURLs   []string `json:"peer_urls"`
			Priority   int      `json:"leader_priority"`
		} `json:"members"`
		Leader struct {
			Name string `json:"name"`
		} `json:"leader"`
	}
	if err := json.Unmarshal(body, &reply); err != nil {
		return fmt.Errorf("PD's answer: %w", err)
	}
	return table(w, "NAME\tID\tCLIENT\tPEER\tPRIORITY\tLEADER", func(t io.Writer) {
		for _, m := range reply.Members {
			leader := ""
			if m.Name == reply.Leader.Name {
				leader = "yes"
			}
			fmt.Fprintf(t, "%s\t%x\t%v\t%v\t%d\t%s\n", m.Name, m.MemberID, m.ClientURLs, m.PeerURLs, m.Priority, leader)
		}
	})
}

func printStores(w io.Writer, body []byte) error {
	var reply struct {
		Stores []struct {
			Store struct {
				ID      uint64 `json:"id"`
				Address string `json:"address"`
				State   string `json:"state_name"`
			} `json:"store"`
			Status struct {
				Capacity  string    `json:"capacity"`
				Available string    `json:"available"`
				Leaders   int       `json:"leader_count"`
				Regions   int       `json:"region_count"`
				Heartbeat time.Time `json:"last_heartbeat_ts"`
			} `json:"status"`
		} `json:"stores"`
	}
	if err := json.Unmarshal(body, &reply); err != nil {
		return fmt.Errorf("PD's answer: %w", err)
	}
	return table(w, "STORE\tADDRESS\tSTATE\tREGIONS\tLEADERS\tAVAILABLE\tCAPACITY", func(t io.Writer) {
		for _, s := range reply.Stores {
			fmt.Fprintf(t, "%d\t%s\t%s\t%d\t%d\t%s\t%s\n", s.Store.ID, s.Store.Address, s.Store.State,
				s.Status.Regions, s.Status.Leaders, s.Status.Available, s.Status.Capacity)
		}
	})
}

func printRegions(w io.Writer, body []byte) error {
	type peer struct {
		ID      uint64 `json:"id"`
		StoreID uint64 `json:"store_id"`
	}
	var reply struct {
		Regions []struct {
			ID       uint64 `json:"id"`
			StartKey string `json:"start_key"`
			EndKey   string `json:"end_key"`
			Peers    []peer `json:"peers"`
			Leader   peer   `json:"leader"`
			Size     int64  `json:"approximate_size"`
			Keys     int64  `json:"approximate_keys"`
		} `json:"regions"`
	}
	if err := json.Unmarshal(body, &reply); err != nil {
		return fmt.Errorf("PD's answer: %w", err)
	}
	return table(w, "REGION\tLEADER\tSTORES\tMiB\tKEYS\tSTART\tEND", func(t io.Writer) {
		for _, r := range reply.Regions {
			stores := make([]uint64, len(r.Peers))
			for i, p := range r.Peers {
				stores[i] = p.StoreID
			}
			fmt.Fprintf(t, "%d\t%d\t%v\t%d\t%d\t%s\t%s\n", r.ID, r.Leader.StoreID, stores, r.Size, r.Keys, r.StartKey, r.EndKey)
		}
	})
}

func printHealth(w io.Writer, body []byte) error {
	var reply []struct {
		Name   string `json:"name"`
		Health bool   `json:"health"`
	}
	if err := json.Unmarshal(body, &reply); err != nil {
		return fmt.Errorf("PD's answer: %w", err)
	}
	return table(w, "NAME\tHEALTHY", func(t io.Writer) {
		for _, m := range reply {
			fmt.Fprintf(t, "%s\t%v\n", m.Name, m.Health)
		}
	})
}
