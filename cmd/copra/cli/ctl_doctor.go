package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/copradb/copra/internal/gossip"
)

const (
	// clockOffMax is by how much a member's clock may differ from this
	// machine's: answers carry whole seconds.
	clockOffMax = 3 * time.Second
	// resolvedLagMax is how far the oldest resolved timestamp may lie back.
	resolvedLagMax = time.Minute
	// diskLowShare is the free part of a disk below which it is called low.
	diskLowShare = 0.1
	// doctorIDsMax is how many regions a finding names.
	doctorIDsMax = 5
)

// finding is one line of the doctor's.
type finding struct {
	Check  string `json:"check"`
	OK     bool   `json:"ok"`
	What   string `json:"what"`
	Advice string `json:"advice,omitempty"`
}

// doctor asks the cluster and collects what it finds.
type doctor struct {
	ctx      context.Context
	pds      []string
	now      func() time.Time
	findings []finding
}

// newCtlDoctor looks at everything.
func newCtlDoctor(c *ctl) *cobra.Command {
	cmd := c.command(nil, "doctor", "Is all well? Looks at members, stores, regions, clocks and versions",
		"  copra ctl doctor\n  copra ctl doctor --pd 10.0.0.1:2379,10.0.0.2:2379 || page-somebody", cobra.NoArgs, func(cmd *cobra.Command, _ []string) error {
			pds, err := endpoints(c.pdList)
			if err != nil {
				return err
			}
			d := &doctor{ctx: cmd.Context(), pds: pds, now: time.Now}
			d.examine()
			return d.report(cmd.OutOrStdout(), c.asJSON)
		})
	cmd.Long = `Looks at the members of PD and their quorum, at stores (up, slow, full, disconnected; by PD and
by gossip), at regions (without a leader, with replicas missing, down or behind), at clocks
and versions. Each finding is one line that says what to do.

The exit code is 1 when something is wrong, so that scripts can use it.`
	return cmd
}

func (d *doctor) good(check, format string, args ...any) {
	d.findings = append(d.findings, finding{Check: check, OK: true, What: fmt.Sprintf(format, args...)})
}

func (d *doctor) bad(check, advice, format string, args ...any) {
	d.findings = append(d.findings, finding{Check: check, What: fmt.Sprintf(format, args...), Advice: advice})
}

// report prints the findings; it is an error that something is wrong.
func (d *doctor) report(w io.Writer, asJSON bool) error {
	var err error
	if asJSON {
		err = printJSON(w, d.findings)
	} else {
		for _, f := range d.findings {
			mark, advice := "ok ", ""
			if !f.OK {
				mark, advice = "BAD", ": "+f.Advice
			}
			_, werr := fmt.Fprintf(w, "%s  %-8s %s%s\n", mark, f.Check, f.What, advice)
			err = errors.Join(err, werr)
		}
	}
	for _, f := range d.findings {
		if !f.OK {
			return errors.Join(err, errReported)
		}
	}
	return err
}

// ask reads one answer; that there is none is a finding.
func (d *doctor) ask(check, path string, v any) bool {
	if err := fetchInto(d.ctx, d.pds, path, v); err != nil {
		d.bad(check, "look at PD's log", "no answer to %s: %v", path, err)
		return false
	}
	return true
}

func (d *doctor) examine() {
	var members struct {
		Leader *struct {
			Name string `json:"name"`
		} `json:"leader"`
	}
	if err := fetchInto(d.ctx, d.pds, membersPath, &members); err != nil {
		d.bad("pd", "start them, or name others with --pd", "no placement driver answers: %v", err)
		return
	}
	if members.Leader == nil || members.Leader.Name == "" {
		d.bad("pd", "start members until a majority is up", "no placement driver leads")
	} else {
		d.good("pd", "%s leads", members.Leader.Name)
	}
	d.members()
	d.stores()
	d.gossip()
	d.regions()
	d.timestamps()
	d.garbage()
}

// members looks whether they are up, and at their clocks and versions.
func (d *doctor) members() {
	var health []struct {
		Name    string   `json:"name"`
		Clients []string `json:"client_urls"`
		Health  bool     `json:"health"`
	}
	if !d.ask("pd", "/pd/api/v1/health", &health) {
		return
	}
	up, versions := 0, map[string][]string{}
	for _, m := range health {
		if !m.Health || len(m.Clients) == 0 {
			d.bad("pd", "start it, or remove it: copra ctl member remove "+m.Name, "member %s is down", m.Name)
			continue
		}
		up++
		version, off, err := d.memberClock(m.Clients[0])
		switch {
		case err != nil:
			d.bad("pd", "look at the network between here and there", "member %s cannot be asked: %v", m.Name, err)
			continue
		case off > clockOffMax || off < -clockOffMax:
			d.bad("clock", "set the clock: run NTP everywhere", "member %s and this machine differ by about %v", m.Name, off.Round(5*time.Second))
		}
		versions[version] = append(versions[version], m.Name)
	}
	need := len(health)/2 + 1
	switch {
	case up < need:
		d.bad("pd", "start members until a majority is up", "%d of %d placement drivers are up, %d are needed", up, len(health), need)
	case len(health) > 1 && up == need && up < len(health):
		d.bad("pd", "the next one that fails stops the cluster: bring the others back", "%d of %d placement drivers are up, and all of them are needed", up, len(health))
	default:
		d.good("pd", "%d of %d placement drivers are up", up, len(health))
	}
	d.versions("pd", versions)
}

func (d *doctor) versions(check string, byVersion map[string][]string) {
	if len(byVersion) > 1 {
		var list []string
		for _, v := range slices.Sorted(maps.Keys(byVersion)) {
			list = append(list, fmt.Sprintf("%s on %s", v, strings.Join(byVersion[v], ", ")))
		}
		d.bad(check, "finish the upgrade", "versions differ: %s", strings.Join(list, "; "))
	}
}

// memberClock asks one member for its version, and how far its clock is ahead.
func (d *doctor) memberClock(client string) (version string, ahead time.Duration, err error) {
	ctx, cancel := context.WithTimeout(d.ctx, ctlTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(client, "/")+"/pd/api/v1/version", nil)
	if err != nil {
		return "", 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, ctlReplyBytesMax))
	if err != nil {
		return "", 0, err
	}
	var reply struct {
		Version string `json:"version"`
	}
	if err := decode(body, &reply); err != nil {
		return "", 0, err
	}
	date, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return "", 0, fmt.Errorf("its answer has no date: %w", err)
	}
	return reply.Version, date.Sub(d.now()), nil
}

// stores looks at them as PD sees them.
func (d *doctor) stores() {
	var reply storesReply
	if !d.ask("store", storesPath, &reply) {
		return
	}
	up, versions := 0, map[string][]string{}
	for _, s := range reply.Stores {
		name := fmt.Sprintf("store %d (%s)", s.Store.ID, s.Store.Address)
		versions[s.Store.Version] = append(versions[s.Store.Version], fmt.Sprintf("store %d", s.Store.ID))
		switch s.Store.State {
		case "Up":
			up++
		case "Offline":
			d.good("store", "%s is being drained, %d regions are left", name, s.Status.Regions)
		case "Disconnected":
			d.bad("store", "start it, or look at the network; its replicas are replaced after max-store-down-time", "%s does not report to PD", name)
		default:
			d.bad("store", fmt.Sprintf("start it, or if its data is lost: copra ctl store delete %d --force", s.Store.ID), "%s is %s", name, s.Store.State)
		}
		d.storeLoad(name, s)
	}
	if up == 0 {
		d.bad("store", "start copra tikv", "no store is up")
	} else {
		d.good("store", "%d of %d stores are up", up, len(reply.Stores))
	}
	d.versions("store", versions)
}

func (d *doctor) storeLoad(name string, s storeReply) {
	if uint32(s.Status.Slow) >= gossip.SlowScoreSlow {
		d.bad("store", "look at its disk and its neighbours on the machine", "%s is slow: score %d of 100", name, s.Status.Slow)
	}
	if s.Status.Busy {
		d.bad("store", "give it time, or look at its load: copra ctl hot store", "%s says that it is busy", name)
	}
	capacity, available := sizeOf(s.Status.Capacity), sizeOf(s.Status.Available)
	if capacity > 0 && available < capacity*diskLowShare {
		d.bad("store", "add a store, or make room", "%s has %s of %s free", name, s.Status.Available, s.Status.Capacity)
	}
}

// sizeOf reads a size as PD writes it, 0 where it is none.
func sizeOf(text string) float64 {
	var n float64
	var unit string
	if _, err := fmt.Sscanf(text, "%g%s", &n, &unit); err != nil {
		return 0
	}
	for _, u := range []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"} {
		if u == unit {
			return n
		}
		n *= 1024
	}
	return 0
}

// gossip looks at what nodes say of each other, which PD may not have seen yet.
func (d *doctor) gossip() {
	var members []gossipReply
	if !d.ask("gossip", "/pd/api/v1/gossip", &members) {
		return
	}
	alive := 0
	for _, m := range members {
		if !m.Alive {
			d.bad("gossip", "start it; if it was removed, it is forgotten in a while", "%s (%s) is dead since %s", m.Name, m.Address, m.Since.UTC().Format(time.DateTime))
			continue
		}
		alive++
		if m.Status.SlowScore >= gossip.SlowScoreSlow {
			d.bad("gossip", "look at its disk", "%s (%s) is slow: score %d of 100", m.Name, m.Address, m.Status.SlowScore)
		}
		if m.Status.Disk != "" && m.Status.Disk != gossip.DiskNormal.String() {
			d.bad("gossip", "make room on its disk, or add a store", "%s (%s): disk %s", m.Name, m.Address, m.Status.Disk)
		}
	}
	d.good("gossip", "%d of %d nodes are alive", alive, len(members))
}

// regions looks for those that cannot be used, or could soon not be.
func (d *doctor) regions() {
	before := len(d.findings)
	var stats struct {
		Count   int            `json:"count"`
		Leaders map[uint64]int `json:"store_leader_count"`
	}
	if !d.ask("region", "/pd/api/v1/stats/region", &stats) {
		return
	}
	led := 0
	for _, n := range stats.Leaders {
		led += n
	}
	if led < stats.Count {
		d.bad("region", "look at the stores that hold them: copra ctl region", "%d of %d regions have no leader that PD knows", stats.Count-led, stats.Count)
	}
	var holes [][2]string
	if d.ask("region", regionsPath+"/range-holes", &holes) && len(holes) > 0 {
		d.bad("region", "wait for the stores' reports; if it stays, a region is lost", "no region is known for %d key ranges, the first from %q to %q", len(holes), holes[0][0], holes[0][1])
	}
	for _, s := range []struct{ state, what, advice string }{
		{"miss-peer", "have fewer replicas than asked for", "PD makes them up if there are stores for them: copra ctl operator, copra ctl rules"},
		{"down-peer", "have replicas that do not answer", "start their stores; after max-store-down-time PD replaces them"},
		{"pending-peer", "have replicas that have not caught up", "wait; if it stays, look at the log of their stores"},
	} {
		var reply regionsReply
		if !d.ask("region", regionsPath+"/check/"+s.state, &reply) || reply.Count == 0 {
			continue
		}
		d.bad("region", s.advice, "%d regions %s (%s)", reply.Count, s.what, reply.some())
		if s.state == "down-peer" {
			d.lostQuorums(reply.Regions)
		}
	}
	if len(d.findings) > before {
		d.refusals()
	} else {
		d.good("region", "%d regions, all with a leader and all their replicas", stats.Count)
	}
}

// refusals says which stores PD gives no replicas, where some are missing, and
// why: the reason why nothing is repaired.
func (d *doctor) refusals() {
	var reply []struct {
		Store uint64 `json:"store"`
		Peers string `json:"peers"`
	}
	if !d.ask("store", storesPath+"/refusals", &reply) {
		return
	}
	for _, s := range reply {
		if s.Peers == "" {
			continue
		}
		advice := "that may be why replicas are not made up"
		if strings.Contains(s.Peers, "low on space") {
			advice = "add stores, make room, or let PD use more of the disks: copra ctl config set low-space-ratio 0.9"
		}
		d.bad("store", advice, "store %d gets no replicas: %s", s.Store, s.Peers)
	}
}

// lostQuorums names the regions that can decide nothing.
func (d *doctor) lostQuorums(down []regionReply) {
	var lost regionsReply
	for _, r := range down {
		voters, gone := 0, 0
		for _, p := range r.Peers {
			if p.Role == "Learner" {
				continue
			}
			voters++
			for _, down := range r.Down {
				if down.Peer.ID == p.ID {
					gone++
				}
			}
		}
		if 2*(voters-gone) <= voters {
			lost.Regions = append(lost.Regions, r)
		}
	}
	if len(lost.Regions) > 0 {
		d.bad("region", "start their stores; only if these are gone for good: copra ctl offline unsafe-recover --help",
			"%d regions have lost their quorum (%s)", len(lost.Regions), lost.some())
	}
}

// some names the first regions.
func (r *regionsReply) some() string {
	out := make([]string, 0, doctorIDsMax+1)
	for i := range r.Regions {
		if i == doctorIDsMax {
			out = append(out, "…")
			break
		}
		out = append(out, fmt.Sprint(r.Regions[i].ID))
	}
	return strings.Join(out, ", ")
}

// timestamps looks whether the stores' resolved timestamps keep up: they need
// timestamps of PD's, and no lock that stays.
func (d *doctor) timestamps() {
	var reply struct {
		TS uint64 `json:"min_resolved_ts"`
	}
	if !d.ask("tso", "/pd/api/v1/min-resolved-ts", &reply) {
		return
	}
	lag := d.now().Sub(tsTime(reply.TS))
	switch {
	case reply.TS == 0:
		d.bad("tso", "wait a second; if it stays, look whether PD gives timestamps: its log", "a store has not reported up to where it can be read")
	case lag > resolvedLagMax:
		d.bad("tso", "a transaction is open that long, or a store does not get timestamps: look at its log", "what can be read without a leader is %v old", lag.Round(time.Second))
	default:
		d.good("tso", "timestamps are given and resolved")
	}
}
