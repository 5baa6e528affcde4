package main

import (
	"fmt"
	"io"
	"strings"
)

// print writes the tables, in Markdown.
func (r *run) print(w io.Writer) error {
	var out strings.Builder
	if r.o.has("ycsb") {
		r.table(&out)
		r.byCell(&out, "Processor time of the servers by operation, µs.", func(f figures) float64 { return us(f.cpu) })
		r.byCell(&out, "Bytes that a node writes to the disk for each byte of a record.", func(f figures) float64 { return f.disk })
		r.byCell(&out, "Group commit: records written by sync of a node's log.", func(f figures) float64 { return f.perSync })
	}
	if r.o.has("get") {
		r.gets(&out)
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// peers are the systems that copra's are compared with.
var peers = map[string]string{"copra 1": "etcd 1", "copra 3": "etcd 3", "copra 3 in 1": "etcd 3", "old 1": "copra 1", "old 3": "copra 3"}

// table has a line for each workload and number of clients, and the ratio of
// copra to the etcd of as many nodes.
func (r *run) table(out *strings.Builder) {
	out.WriteString("Operations a second (p50 / p99 in ms); × is copra over the etcd of as many nodes.\n\n| | clients |")
	rule := "|---|--:|"
	for _, s := range r.systems {
		fmt.Fprintf(out, " %s |", s.name)
		rule += "--:|"
		if r.peer(s) != "" {
			out.WriteString(" × |")
			rule += "--:|"
		}
	}
	out.WriteString("\n" + rule + "\n")
	var cells, behind int
	for _, workload := range r.o.workloads {
		for _, threads := range r.o.threads {
			fmt.Fprintf(out, "| %s | %d |", workloadName(workload), threads)
			for _, s := range r.systems {
				f := medians(r.results[cell{s.name, workload, threads}])
				fmt.Fprintf(out, " %.0f (%s / %s) |", f.perSecond, ms(f.p50), ms(f.p99))
				if peer := r.peer(s); peer != "" {
					x := f.perSecond / medians(r.results[cell{peer, workload, threads}]).perSecond
					fmt.Fprintf(out, " %.2f |", x)
					if cells++; x < 1 {
						behind++
					}
				}
			}
			out.WriteString("\n")
		}
	}
	if cells > 0 {
		fmt.Fprintf(out, "\ncopra is ahead in %d of %d cells.\n", cells-behind, cells)
	}
	out.WriteString("\n")
}

// peer is the system that s is compared with, if it is measured, too.
func (r *run) peer(s *system) string {
	for _, other := range r.systems {
		if peers[s.name] == other.name {
			return other.name
		}
	}
	return ""
}

// byCell has one figure for each cell, without the lines that have none.
func (r *run) byCell(out *strings.Builder, title string, of func(figures) float64) {
	fmt.Fprintf(out, "%s\n\n| | clients |", title)
	rule := "|---|--:|"
	for _, s := range r.systems {
		fmt.Fprintf(out, " %s |", s.name)
		rule += "--:|"
	}
	out.WriteString("\n" + rule + "\n")
	for _, workload := range r.o.workloads {
		for _, threads := range r.o.threads {
			line, some := fmt.Sprintf("| %s | %d |", workloadName(workload), threads), false
			for _, s := range r.systems {
				v := of(medians(r.results[cell{s.name, workload, threads}]))
				some = some || v > 0
				line += fmt.Sprintf(" %.2f |", v)
			}
			if some {
				out.WriteString(line + "\n")
			}
		}
	}
	out.WriteString("\n")
}

// gets has the point gets: uniform, nothing else going on.
func (r *run) gets(out *strings.Builder) {
	out.WriteString("Point gets over gRPC, of uniformly chosen records: gets a second (p50 / p99 in ms).\n\n| |")
	rule := "|---|"
	for _, threads := range r.o.threads {
		fmt.Fprintf(out, " %d clients |", threads)
		rule += "--:|"
	}
	out.WriteString("\n" + rule + "\n")
	for _, s := range r.systems {
		for _, name := range []string{s.name, s.name + serializable} {
			if len(r.results[cell{name, pointGet, r.o.threads[0]}]) == 0 {
				continue
			}
			fmt.Fprintf(out, "| %s |", name)
			for _, threads := range r.o.threads {
				f := medians(r.results[cell{name, pointGet, threads}])
				fmt.Fprintf(out, " %.0f (%s / %s) |", f.perSecond, ms(f.p50), ms(f.p99))
			}
			out.WriteString("\n")
		}
	}
	out.WriteString("\n")
}

func workloadName(w string) string {
	if w == "load" {
		return w
	}
	return strings.ToUpper(w)
}
