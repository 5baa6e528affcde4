package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	startTimeout = 60 * time.Second
	stopTimeout  = 20 * time.Second
	pollInterval = 50 * time.Millisecond
)

// process is a server that was started.
type process struct {
	name string
	log  string
	cmd  *exec.Cmd
	done chan error
}

// start runs a program whose output goes to dir/name.log.
func start(dir, name, program string, args ...string) (*process, error) {
	path := filepath.Join(dir, name+".log")
	out, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	p := &process{name: name, log: path, cmd: exec.Command(program, args...), done: make(chan error, 1)}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	if err := errors.Join(p.cmd.Start(), out.Close()); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() { p.done <- p.cmd.Wait() }()
	return p, nil
}

// stop asks the process to end, and makes it if it takes too long.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(stopTimeout):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// clockTick is Linux's unit of processor time in /proc.
const clockTick = 10 * time.Millisecond

// cpu is the processor time that the process has used, 0 where it isn't known.
func (p *process) cpu() time.Duration {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/stat")
	if err != nil {
		return 0
	}
	// The name, in brackets, may hold anything; utime and stime are the 12th and
	// 13th field behind it.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 13 {
		return 0
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	if err1 != nil || err2 != nil {
		return 0
	}
	return time.Duration(user+system) * clockTick
}

// written is how much the process has had written to the disk, in bytes; 0 where
// it isn't known.
func (p *process) written() (bytes float64) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/io")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "write_bytes: "); ok {
			bytes, _ = strconv.ParseFloat(strings.TrimSpace(rest), 64)
		}
	}
	return bytes
}

// tail is the end of the process's log, for errors.
func (p *process) tail() string {
	const tailBytes = 2000
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-tailBytes):])
}

// await polls until ready says so, and fails at once if a process has ended.
func await(ctx context.Context, what string, procs []*process, ready func() error) error {
	deadline := time.Now().Add(startTimeout)
	for {
		err := ready()
		if err == nil {
			return nil
		}
		for _, p := range procs {
			select {
			case exit := <-p.done:
				p.done <- exit // for stop
				return fmt.Errorf("%s: %s ended (%v): %s", what, p.name, exit, p.tail())
			default:
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s is not ready after %s: %w", what, startTimeout, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pollInterval):
		}
	}
}

// freeAddrs returns addresses of this machine on which nobody listens.
func freeAddrs(count int) ([]string, error) {
	var (
		out  []string
		held []net.Listener
	)
	defer func() {
		for _, l := range held {
			_ = l.Close()
		}
	}()
	for range count {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		held = append(held, l)
		out = append(out, l.Addr().String())
	}
	return out, nil
}

func get(ctx context.Context, url string) (string, error) { return call(ctx, http.MethodGet, url, "") }

func post(ctx context.Context, url, body string) error {
	_, err := call(ctx, http.MethodPost, url, body)
	return err
}

func call(ctx context.Context, method, url, body string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %s", method, url, resp.Status, answer)
	}
	return string(answer), err
}

// counter sums the samples of a metric on a /metrics page.
func counter(ctx context.Context, addr, name string) (float64, error) {
	page, err := get(ctx, "http://"+addr+"/metrics")
	if err != nil {
		return 0, err
	}
	var (
		sum   float64
		found bool
	)
	for line := range strings.Lines(page) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || (rest[0] != ' ' && rest[0] != '{') {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(rest, ' ')+1:]), 64)
		if err != nil {
			return 0, fmt.Errorf("http://%s/metrics: %q: %w", addr, line, err)
		}
		sum, found = sum+v, true
	}
	if !found {
		return 0, fmt.Errorf("http://%s/metrics has no %s", addr, name)
	}
	return sum, nil
}
