package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
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
		Short: "Look at a cluster and change it: stores, regions, operators, schedulers, rules, settings",
		Long: `Looks at a cluster and changes it through the HTTP API of its placement drivers (PDs): tables
for people, --json for programs.

Is all well?          copra ctl doctor
Who is there?         copra ctl store            copra ctl member         copra ctl gossip
Drain a store         copra ctl store delete 4   (copra ctl store up 4 takes it back)
What moves?           copra ctl operator         copra ctl operator history
What is hot?          copra ctl hot write        copra ctl region top write
Who decides?          copra ctl scheduler        copra ctl rules          copra ctl config show
What is in a key?     copra ctl mvcc --key user1

All take --pd (default 127.0.0.1:2379); any member of PD will do.`,
	}
	cmd.AddCommand(newCtlStore(c), newCtlRegion(c), newCtlOperator(c), newCtlScheduler(c), newCtlRules(c), newCtlLabelRule(c),
		newCtlConfig(c), newCtlHot(c), newCtlGC(c), newCtlMember(c), newCtlGossip(c), newCtlOffline(), newCtlDoctor(c), newCtlMvcc(c))
	c.command(cmd, "health", "Show which placement drivers are up", "", cobra.NoArgs, c.shows("/pd/api/v1/health", printHealth))
	return cmd
}

// command makes a subcommand of parent.
func (c *ctl) command(parent *cobra.Command, use, short, example string, args cobra.PositionalArgs,
	run func(cmd *cobra.Command, args []string) error) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Example: example, RunE: run, Args: func(cmd *cobra.Command, given []string) error {
		if err := args(cmd, given); err != nil {
			return fmt.Errorf("%w (want: %s)", err, strings.TrimSuffix(cmd.UseLine(), " [flags]"))
		}
		return nil
	}}
	c.register(cmd)
	if parent != nil {
		parent.AddCommand(cmd)
	}
	return cmd
}

// shows is a command that shows what is at a path.
func (c *ctl) shows(path string, print func(io.Writer, []byte) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error { return c.run(cmd, path, print) }
}

// ids reads arguments that are ids, named for the error.
func ids(args []string, names ...string) ([]uint64, error) {
	out := make([]uint64, len(args))
	for i, arg := range args {
		id, err := parseID(names[min(i, len(names)-1)], arg)
		if err != nil {
			return nil, err
		}
		out[i] = id
	}
	return out, nil
}

// decode reads an answer.
func decode(body []byte, v any) error {
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("PD's answer: %w", err)
	}
	return nil
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

// fetchAny asks the placement drivers in turn. The path is escaped and may have a
// query.
func fetchAny(ctx context.Context, pds []string, path string) ([]byte, error) {
	var last error
	for _, pd := range pds {
		u, err := url.Parse("http://" + pd + path)
		if err != nil {
			return nil, err
		}
		body, err := fetch(ctx, *u)
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
		return nil, fmt.Errorf("%s: %s", resp.Status, refusal(body))
	}
	return body, nil
}

// refusal is the text of an error: PD sends it as a JSON string.
func refusal(body []byte) string {
	var text string
	if json.Unmarshal(body, &text) == nil {
		return text
	}
	return strings.TrimSpace(string(body))
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
