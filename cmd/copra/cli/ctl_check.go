package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"
)

// checkPollInterval is how often the replicas are asked for their hash.
const checkPollInterval = 200 * time.Millisecond

// newCtlCheck compares the replicas of a region.
func newCtlCheck(c *ctl) *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "check <region id>", Short: "Compare what the replicas of a region hold",
		Long: `Every replica of the region hashes its data at the same place of the Raft log. Hashes
that differ are a bug, or a disk that lies: the command ends with exit code 1.

  copra ctl region check 12`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseID("region", args[0])
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			replicas, err := c.check(ctx, id)
			if err != nil {
				return err
			}
			return c.printCheck(cmd, id, replicas)
		},
	}
	c.register(cmd)
	cmd.Flags().DurationVar(&timeout, "timeout", time.Minute, "how long to wait for the replicas")
	return cmd
}

// checkedReplica is one replica's result; Problem is set if it has none.
type checkedReplica struct {
	Store   uint64 `json:"store"`
	Peer    uint64 `json:"peer"`
	Leader  bool   `json:"leader"`
	Index   uint64 `json:"index"`
	Hash    string `json:"hash"`
	Entries uint64 `json:"entries"`
	Problem string `json:"problem,omitempty"`
	status  string // the store's status address
}

// check starts the comparison at the leader and collects the hashes of its
// place in the log.
func (c *ctl) check(ctx context.Context, region uint64) ([]checkedReplica, error) {
	replicas, leader, err := c.replicas(ctx, region)
	if err != nil {
		return nil, err
	}
	before, err := lastHash(ctx, replicas[leader].status, region)
	if err != nil {
		return nil, err
	}
	start := url.URL{Scheme: "http", Host: replicas[leader].status, Path: fmt.Sprintf("/regions/%d/check", region)}
	if _, err := send(ctx, http.MethodPost, start); err != nil {
		return nil, fmt.Errorf("store %d: %w", replicas[leader].Store, err)
	}
	at, err := waitHash(ctx, replicas[leader].status, region, before.Index+1)
	if err != nil {
		return nil, fmt.Errorf("the leader on store %d: %w", replicas[leader].Store, err)
	}
	for i := range replicas {
		r := &replicas[i]
		h, err := waitHash(ctx, r.status, region, at.Index)
		switch {
		case err != nil:
			r.Problem = err.Error()
		case h.Index != at.Index:
			r.Problem = "another check has taken the place of this one"
		case h.Hash != at.Hash:
			r.Problem = "DIFFERS from the leader's"
		}
		r.Index, r.Hash, r.Entries = h.Index, h.Hash, h.Entries
	}
	return replicas, nil
}

// replicas asks PD who has the region; leader is an index.
func (c *ctl) replicas(ctx context.Context, region uint64) (out []checkedReplica, leader int, err error) {
	pds, err := endpoints(c.pdList)
	if err != nil {
		return nil, 0, err
	}
	var r struct {
		Peers []struct {
			ID      uint64 `json:"id"`
			StoreID uint64 `json:"store_id"`
		} `json:"peers"`
		Leader struct {
			ID uint64 `json:"id"`
		} `json:"leader"`
	}
	if err := fetchInto(ctx, pds, fmt.Sprintf("/pd/api/v1/region/id/%d", region), &r); err != nil {
		return nil, 0, err
	}
	leader = -1
	for i, p := range r.Peers {
		var s struct {
			Store struct {
				StatusAddress string `json:"status_address"`
			} `json:"store"`
		}
		if err := fetchInto(ctx, pds, fmt.Sprintf("/pd/api/v1/store/%d", p.StoreID), &s); err != nil {
			return nil, 0, err
		}
		if s.Store.StatusAddress == "" {
			return nil, 0, fmt.Errorf("store %d has no status address: start it with --status-addr", p.StoreID)
		}
		if p.ID == r.Leader.ID {
			leader = i
		}
		out = append(out, checkedReplica{Store: p.StoreID, Peer: p.ID, Leader: p.ID == r.Leader.ID, status: s.Store.StatusAddress})
	}
	if leader < 0 {
		return nil, 0, fmt.Errorf("region %d has no leader that PD knows, or does not exist", region)
	}
	return out, leader, nil
}

func fetchInto(ctx context.Context, pds []string, path string, v any) error {
	body, err := fetchAny(ctx, pds, path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("PD's answer to %s: %w", path, err)
	}
	return nil
}

type regionHash struct {
	Index   uint64 `json:"index"`
	Hash    string `json:"hash"`
	Entries uint64 `json:"entries"`
}

func lastHash(ctx context.Context, status string, region uint64) (h regionHash, err error) {
	body, err := fetch(ctx, url.URL{Scheme: "http", Host: status, Path: fmt.Sprintf("/regions/%d/hash", region)})
	if err != nil {
		return h, err
	}
	return h, json.Unmarshal(body, &h)
}

// waitHash waits for a replica to come to an index.
func waitHash(ctx context.Context, status string, region, index uint64) (h regionHash, err error) {
	for {
		if h, err = lastHash(ctx, status, region); err != nil || h.Index >= index {
			return h, err
		}
		select {
		case <-ctx.Done():
			return h, fmt.Errorf("no hash at index %d in time: %w", index, ctx.Err())
		case <-time.After(checkPollInterval):
		}
	}
}

func (c *ctl) printCheck(cmd *cobra.Command, region uint64, replicas []checkedReplica) error {
	var err error
	if c.asJSON {
		err = printJSON(cmd.OutOrStdout(), replicas)
	} else {
		err = table(cmd.OutOrStdout(), "STORE\tPEER\tROLE\tINDEX\tHASH\tENTRIES\tRESULT", func(t io.Writer) {
			for _, r := range replicas {
				role, result := "follower", "same"
				if r.Leader {
					role = "leader"
				}
				if r.Problem != "" {
					result = r.Problem
				}
				fmt.Fprintf(t, "%d\t%d\t%s\t%d\t%s\t%d\t%s\n", r.Store, r.Peer, role, r.Index, r.Hash, r.Entries, result)
			}
		})
	}
	for _, r := range replicas {
		if r.Problem != "" {
			return errors.Join(err, fmt.Errorf("region %d: store %d: %s", region, r.Store, r.Problem))
		}
	}
	return err
}
