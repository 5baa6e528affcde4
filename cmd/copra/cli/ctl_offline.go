package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/spf13/cobra"

	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/tikv"
)

// acceptLossFlag is what a recovery must be given.
const acceptLossFlag = "accept-data-loss"

// ctlOffline looks into the data directory of a store that is stopped.
type ctlOffline struct {
	dataDir string
	asJSON  bool
}

func newCtlOffline() *cobra.Command {
	c := &ctlOffline{}
	cmd := &cobra.Command{
		Use:   "offline",
		Short: "Look into the data directory of a stopped store, and recover a lost quorum",
		Long: `Works on the data directory of a store that is stopped; it takes the directory's
lock, so the store cannot start meanwhile.

  copra ctl offline regions --data-dir ./s1
  copra ctl offline raft-log 12 --data-dir ./s1
  copra ctl offline unsafe-recover --failed-stores 4,5 --data-dir ./s1`,
	}
	cmd.PersistentFlags().StringVar(&c.dataDir, "data-dir", "", "data directory of the stopped store (required)")
	cmd.PersistentFlags().BoolVar(&c.asJSON, "json", false, "print JSON")
	cmd.AddCommand(c.regions(), c.raftLog(), c.unsafeRecover())
	return cmd
}

// with opens the directory for fn.
func (c *ctlOffline) with(fn func(o *tikv.Offline) error) error {
	if c.dataDir == "" {
		return errors.New("--data-dir is missing: name the data directory of the stopped store")
	}
	o, err := tikv.OpenOffline(c.dataDir)
	if err != nil {
		return err
	}
	return errors.Join(fn(o), o.Close())
}

func (c *ctlOffline) regions() *cobra.Command {
	var all, replay bool
	cmd := &cobra.Command{
		Use: "regions [region id]", Short: "List the regions that the store holds, or show one", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.with(func(o *tikv.Offline) error {
				if replay {
					if err := o.Replay(cmd.Context()); err != nil {
						return err
					}
				}
				regions, err := o.Regions()
				if err != nil {
					return err
				}
				regions, err = pick(regions, args, all)
				if err != nil {
					return err
				}
				return c.printRegions(cmd.OutOrStdout(), regions)
			})
		},
	}
	cmd.Flags().BoolVar(&all, "tombstones", false, "also those that have left the store")
	cmd.Flags().BoolVar(&replay, "replay", false, "first apply what the Raft log knows to be committed, as a start would (after a crash the newest changes are in the log only)")
	return cmd
}

// pick returns the region that args name, or the living ones, or all.
func pick(regions []raftstore.OfflineRegion, args []string, all bool) (out []raftstore.OfflineRegion, err error) {
	var id uint64
	if len(args) > 0 {
		if id, err = parseID("region", args[0]); err != nil {
			return nil, err
		}
	}
	for _, r := range regions {
		if id == r.Region.Id || (id == 0 && (all || r.PeerID != 0)) {
			out = append(out, r)
		}
	}
	if id != 0 && len(out) == 0 {
		return nil, fmt.Errorf("the store has no region %d", id)
	}
	return out, nil
}

func parseID(what, s string) (uint64, error) {
	id, err := strconv.ParseUint(s, 10, 64)
	if err != nil || id == 0 {
		return 0, fmt.Errorf("%s %q: want a number above 0", what, s)
	}
	return id, nil
}

func parseIDs(what, list string) (ids []uint64, err error) {
	for _, s := range splitList(list) {
		id, err := parseID(what, s)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func (c *ctlOffline) printRegions(w io.Writer, regions []raftstore.OfflineRegion) error {
	if c.asJSON {
		return printJSON(w, regions)
	}
	return table(w, "REGION\tSTATE\tEPOCH\tSTART\tEND\tPEERS\tTERM\tAPPLIED\tCOMMIT\tLOG\tSIZE\tPROBLEM", func(t io.Writer) {
		for _, r := range regions {
			problem := r.Problem
			if len(r.FailedStores) > 0 {
				problem = fmt.Sprintf("recovers without stores %v %s", r.FailedStores, problem)
			}
			fmt.Fprintf(t, "%d\t%s\t%d/%d\t%X\t%X\t%s\t%d\t%d\t%d\t(%d, %d]\t%d\t%s\n", r.Region.Id, r.State,
				r.Region.RegionEpoch.GetVersion(), r.Region.RegionEpoch.GetConfVer(), r.Region.StartKey, r.Region.EndKey, peerList(r.Region.Peers),
				r.Term, r.AppliedIndex, r.Commit, r.TruncatedIndex, r.LastIndex, r.ApproxBytes, problem)
		}
	})
}

// peerList shows peers as id@store, with the role of those that are no voters.
func peerList(peers []*metapb.Peer) string {
	out := ""
	for i, p := range peers {
		if i > 0 {
			out += " "
		}
		out += fmt.Sprintf("%d@%d", p.Id, p.StoreId)
		if p.Role != metapb.PeerRole_Voter {
			out += "(" + p.Role.String() + ")"
		}
	}
	return out
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func (c *ctlOffline) raftLog() *cobra.Command {
	var from, to uint64
	cmd := &cobra.Command{
		Use: "raft-log <region id>", Short: "Show the entries of a region's Raft log", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseID("region", args[0])
			if err != nil {
				return err
			}
			return c.with(func(o *tikv.Offline) error { return c.printLog(cmd.OutOrStdout(), o, id, from, to) })
		},
	}
	cmd.Flags().Uint64Var(&from, "from", 0, "first index (0: the log's first)")
	cmd.Flags().Uint64Var(&to, "to", 0, "last index (0: the log's last)")
	return cmd
}

func (c *ctlOffline) printLog(w io.Writer, o *tikv.Offline, id, from, to uint64) error {
	if c.asJSON {
		enc := json.NewEncoder(w) // one object a line: a log may be long
		return o.Entries(id, from, to, func(e raftstore.OfflineEntry) error { return enc.Encode(e) })
	}
	var inner error
	err := table(w, "INDEX\tTERM\tBYTES\tKIND\tDETAIL", func(t io.Writer) {
		inner = o.Entries(id, from, to, func(e raftstore.OfflineEntry) error {
			_, err := fmt.Fprintf(t, "%d\t%d\t%d\t%s\t%s\n", e.Index, e.Term, e.Bytes, e.Kind, e.Detail)
			return err
		})
	})
	return errors.Join(inner, err)
}

func (c *ctlOffline) unsafeRecover() *cobra.Command {
	var failedList, regionList string
	var accept bool
	cmd := &cobra.Command{
		Use: "unsafe-recover", Short: "Let regions that have lost their quorum go on without the failed stores", Args: cobra.NoArgs,
		Long: `Lists the regions of this store that have lost the majority of their replicas, if the
failed stores are gone for good, after it has replayed the Raft log as a start would. With --` + acceptLossFlag + ` it marks them: from the next start
on, the replicas that are left decide without the failed stores.

What only the failed stores had is lost. Do it on every store that is left, with the
same list, before you start any of them, and never start a failed store again. Then
delete the failed stores: copra ctl store delete <id>.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			failed, err := parseIDs("store", failedList)
			if err != nil {
				return err
			}
			only, err := parseIDs("region", regionList)
			if err != nil {
				return err
			}
			return c.with(func(o *tikv.Offline) error {
				if err := o.Replay(cmd.Context()); err != nil {
					return err
				}
				return c.recover(cmd.OutOrStdout(), o, failed, only, accept)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&failedList, "failed-stores", "", "ids of the stores that are gone for good, comma separated (required)")
	f.StringVar(&regionList, "regions", "", "only these regions (default: all that have lost their quorum)")
	f.BoolVar(&accept, acceptLossFlag, false, "do it: writes that only the failed stores had are lost")
	return cmd
}

func (c *ctlOffline) recover(w io.Writer, o *tikv.Offline, failed, only []uint64, accept bool) error {
	plan, err := o.PlanRecovery(failed, only)
	if err != nil {
		return err
	}
	if len(plan) == 0 {
		_, err := fmt.Fprintf(w, "No region of store %d has lost its quorum.\n", o.StoreID)
		return err
	}
	err = table(w, "REGION\tLOST\tLEFT\tREFUSED", func(t io.Writer) {
		for _, step := range plan {
			refused := ""
			if step.Refused != nil {
				refused = step.Refused.Error()
			}
			fmt.Fprintf(t, "%d\t%s\t%s\t%s\n", step.Region.Id, peerList(step.Removed), peerList(step.Left), refused)
		}
	})
	if err != nil {
		return err
	}
	if !accept {
		return fmt.Errorf("nothing was changed: pass --%s to let these regions go on without stores %v", acceptLossFlag, failed)
	}
	marked, err := o.Recover(plan, failed)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%d regions of store %d will go on without stores %v. Do the same on every other store that is left, then start them.\n",
		marked, o.StoreID, failed)
	return err
}
