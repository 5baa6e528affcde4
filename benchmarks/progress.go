package benchmarks

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

const (
	progressInterval = 200 * time.Millisecond
	progressWidth    = 30
)

// Progress draws a bar on a terminal's line until Done. Its position is read
// from a function, so that workers only count.
type Progress struct {
	out   io.Writer
	label string
	total int64
	at    func() int64
	start time.Time
	stop  chan struct{}
	wg    sync.WaitGroup
}

// StartProgress draws to out; total 0 shows a count without a bar.
func StartProgress(out io.Writer, label string, total int64, at func() int64) *Progress {
	p := &Progress{out: out, label: label, total: total, at: at, start: time.Now(), stop: make(chan struct{})}
	p.wg.Add(1)
	go func() {
		defer p.wg.Done()
		ticker := time.NewTicker(progressInterval)
		defer ticker.Stop()
		for {
			select {
			case <-p.stop:
				return
			case <-ticker.C:
				p.draw("\r")
			}
		}
	}()
	return p
}

func (p *Progress) draw(prefix string) {
	n, elapsed := p.at(), time.Since(p.start)
	rate := float64(n) / max(elapsed.Seconds(), 1e-9)
	if p.total <= 0 {
		fmt.Fprintf(p.out, "%s%-12s %12d  %10.0f/s  %6.1fs ", prefix, p.label, n, rate, elapsed.Seconds())
		return
	}
	filled := int(min(n, p.total) * progressWidth / p.total)
	bar := strings.Repeat("█", filled) + strings.Repeat("░", progressWidth-filled)
	fmt.Fprintf(p.out, "%s%-12s %s %3d%%  %10.0f/s  %6.1fs ", prefix, p.label, bar, min(n, p.total)*100/p.total, rate, elapsed.Seconds())
}

// Done draws the last state and ends the line.
func (p *Progress) Done() {
	close(p.stop)
	p.wg.Wait()
	p.draw("\r")
	fmt.Fprintln(p.out)
}
