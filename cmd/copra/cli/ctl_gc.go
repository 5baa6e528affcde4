package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

const gcWorkerPath = "/pd/api/v1/gc/worker"

// gcSharedKeyspace stands for all keyspaces without safe points of their own.
const gcSharedKeyspace = 0xFFFFFFFF

type gcRound struct {
	Keyspace     uint32    `json:"keyspace_id"`
	Started      time.Time `json:"started"`
	Ended        time.Time `json:"ended"`
	TxnSafePoint uint64    `json:"txn_safe_point"`
	GCSafePoint  uint64    `json:"gc_safe_point"`
	Blocker      string    `json:"blocker"`
	Regions      int       `json:"regions"`
	Locks        int       `json:"locks_resolved"`
	Skipped      string    `json:"skipped"`
	Error        string    `json:"error"`
}

type gcWorker struct {
	Settings struct {
		Enable      bool   `json:"gc-enable"`
		LifeTime    string `json:"gc-life-time"`
		RunInterval string `json:"gc-run-interval"`
	} `json:"settings"`
	Running bool      `json:"running"`
	Rounds  []gcRound `json:"rounds"`
}

// showGC prints the safe points and the rounds that move them.
func (c *ctl) showGC(cmd *cobra.Command, _ []string) error {
	if err := c.run(cmd, "/pd/api/v1/gc/state", printGCState); err != nil || c.asJSON {
		return err
	}
	if _, err := fmt.Fprintln(cmd.OutOrStdout()); err != nil {
		return err
	}
	return c.run(cmd, gcWorkerPath, printGCWorker)
}

func newCtlGCRun(c *ctl, parent *cobra.Command) {
	var lifeTime time.Duration
	cmd := c.command(parent, "run", "Start a round now: resolve locks, move the safe points", "  copra ctl gc run --life-time 1m", cobra.NoArgs, func(cmd *cobra.Command, _ []string) error {
		body := map[string]any{}
		if cmd.Flags().Changed("life-time") {
			body["life_time"] = lifeTime.String()
		}
		return c.change(cmd, http.MethodPost, "/pd/api/v1/gc/run", body)
	})
	cmd.Flags().DurationVar(&lifeTime, "life-time", 0, "keep versions of that long in this round, instead of gc-life-time")
}

func printGCWorker(w io.Writer, body []byte) error {
	var r gcWorker
	if err := decode(body, &r); err != nil {
		return err
	}
	return table(w, "ROUND\tSTARTED\tTOOK\tSAFE POINT\tREGIONS\tLOCKS\tRESULT", func(t io.Writer) {
		for _, round := range r.Rounds {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%d\t%s\n", round.keyspace(), round.Started.UTC().Format(time.RFC3339),
				round.Ended.Sub(round.Started).Round(time.Millisecond), tsText(round.GCSafePoint), round.Regions, round.Locks, round.result())
		}
		state := "waiting"
		if r.Running {
			state = "running"
		}
		fmt.Fprintf(t, "%s: gc-enable %v, gc-life-time %s, gc-run-interval %s\n", state, r.Settings.Enable, r.Settings.LifeTime, r.Settings.RunInterval)
	})
}

func (r *gcRound) keyspace() string {
	if r.Keyspace == gcSharedKeyspace {
		return "shared"
	}
	return fmt.Sprintf("keyspace %d", r.Keyspace)
}

func (r *gcRound) result() string {
	switch {
	case r.Error != "":
		return "failed: " + r.Error
	case r.Skipped != "":
		return "skipped: " + r.Skipped
	case r.Blocker != "":
		return "held back by " + r.Blocker
	}
	return "ok"
}

// showGCStores asks the stores themselves.
func (c *ctl) showGCStores(cmd *cobra.Command, _ []string) error {
	pds, err := endpoints(c.pdList)
	if err != nil {
		return err
	}
	var stores struct {
		Stores []struct {
			Store struct {
				ID            uint64 `json:"id"`
				StatusAddress string `json:"status_address"`
			} `json:"store"`
		} `json:"stores"`
	}
	if err := fetchInto(cmd.Context(), pds, "/pd/api/v1/stores", &stores); err != nil {
		return err
	}
	type page struct {
		Store     uint64 `json:"store_id"`
		SafePoint uint64 `json:"safe_point"`
		Round     struct {
			Ended   time.Time     `json:"ended"`
			Took    time.Duration `json:"took_ns"`
			Scanned int           `json:"regions_scanned"`
			Skipped int           `json:"regions_skipped"`
			Failed  int           `json:"regions_failed"`
			Records uint64        `json:"records_dropped"`
			Values  uint64        `json:"values_dropped"`
			Locked  uint64        `json:"keys_locked"`
		} `json:"last_round"`
		Error string `json:"error,omitempty"`
	}
	pages := make([]page, 0, len(stores.Stores))
	for _, s := range stores.Stores {
		p := page{Store: s.Store.ID}
		switch addr := strings.TrimPrefix(s.Store.StatusAddress, "http://"); addr {
		case "":
			p.Error = "it has no status address (--status-addr)"
		default:
			body, err := fetch(cmd.Context(), url.URL{Scheme: "http", Host: addr, Path: "/gc"})
			if err == nil {
				err = json.Unmarshal(body, &p)
			}
			if err != nil {
				p.Error = err.Error()
			}
		}
		pages = append(pages, p)
	}
	if c.asJSON {
		return printJSON(cmd.OutOrStdout(), pages)
	}
	return table(cmd.OutOrStdout(), "STORE\tSAFE POINT\tLAST ROUND\tTOOK\tSCANNED\tSKIPPED\tFAILED\tRECORDS\tVALUES\tLOCKED", func(t io.Writer) {
		for _, p := range pages {
			if p.Error != "" {
				fmt.Fprintf(t, "%d\t%s\n", p.Store, p.Error)
				continue
			}
			ended := "none yet"
			if !p.Round.Ended.IsZero() {
				ended = p.Round.Ended.UTC().Format(time.RFC3339)
			}
			fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\n", p.Store, tsText(p.SafePoint), ended, p.Round.Took.Round(time.Millisecond),
				p.Round.Scanned, p.Round.Skipped, p.Round.Failed, p.Round.Records, p.Round.Values, p.Round.Locked)
		}
	})
}

// gcStuckFactor: a safe point that lies back more than that many life times
// (and rounds) is held back by something.
const gcStuckFactor = 3

// garbage looks whether old versions go away.
func (d *doctor) garbage() {
	var r gcWorker
	if !d.ask("gc", gcWorkerPath, &r) {
		return
	}
	if !r.Settings.Enable {
		d.bad("gc", "copra ctl config set gc-enable true", "garbage collection is switched off: old versions pile up")
		return
	}
	lifeTime, err1 := time.ParseDuration(r.Settings.LifeTime)
	interval, err2 := time.ParseDuration(r.Settings.RunInterval)
	if err1 != nil || err2 != nil {
		d.bad("gc", "look at PD's log", "the settings of garbage collection are not durations: %q, %q", r.Settings.LifeTime, r.Settings.RunInterval)
		return
	}
	before := len(d.findings)
	for i := range r.Rounds {
		round := &r.Rounds[i]
		lag := d.now().Sub(tsTime(round.GCSafePoint)).Round(time.Second)
		late := round.GCSafePoint != 0 && lag > gcStuckFactor*(lifeTime+interval)
		switch {
		case round.Error != "":
			d.bad("gc", "look at PD's log and at the regions it names", "the last round of garbage collection (%s) failed: %s", round.keyspace(), round.Error)
		case late && round.Blocker != "":
			d.bad("gc", "end it; a barrier of a service that is gone: copra ctl gc delete", "versions of %v are kept (%s), held back by %s", lag, round.keyspace(), round.Blocker)
		case late && round.Skipped != "":
			d.bad("gc", "copra ctl gc run collects all the same", "versions of %v are kept (%s): %s", lag, round.keyspace(), round.Skipped)
		}
	}
	if len(d.findings) == before {
		d.good("gc", "old versions are kept for %v and then collected", lifeTime)
	}
}
