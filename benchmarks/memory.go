package benchmarks

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// memorySampleEvery is how often the memory of a process is looked at.
const memorySampleEvery = 250 * time.Millisecond

// MemoryWatch follows the memory of a process and its children.
type MemoryWatch struct {
	once sync.Once
	stop chan struct{}
	peak chan int64
	got  int64
}

// WatchMemory begins to follow a process; 0 and processes that cannot be read
// give 0. It knows Linux only.
func WatchMemory(pid int) *MemoryWatch {
	w := &MemoryWatch{stop: make(chan struct{}), peak: make(chan int64, 1)}
	go func() {
		tick := time.NewTicker(memorySampleEvery)
		defer tick.Stop()
		peak := int64(0)
		for {
			if pid > 0 {
				peak = max(peak, familyBytes(pid))
			}
			select {
			case <-tick.C:
			case <-w.stop:
				w.peak <- peak
				return
			}
		}
	}()
	return w
}

// Stop ends it and returns the most bytes seen. It may be called again.
func (w *MemoryWatch) Stop() int64 {
	w.once.Do(func() { close(w.stop); w.got = <-w.peak })
	return w.got
}

// familyBytes is the proportional memory (shared pages count once) of a process
// and its children: PostgreSQL is many processes.
func familyBytes(pid int) int64 {
	sum := procBytes(pid)
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		f := strings.Fields(rest)
		if len(f) > 1 && f[1] == strconv.Itoa(pid) {
			child, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			sum += procBytes(child)
		}
	}
	return sum
}

func procBytes(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0
	}
	for _, line := range strings.Split(string(b), "\n") {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			if f := strings.Fields(rest); len(f) > 0 {
				kb, _ := strconv.ParseInt(f[0], 10, 64)
				return kb << 10
			}
		}
	}
	return 0
}

// ListenerPID is the process of this machine that listens on a TCP port, 0 if it
// isn't known or the host is another machine.
func ListenerPID(host string, port uint16) int {
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return 0
	}
	inode := ""
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		b, _ := os.ReadFile(file)
		for _, line := range strings.Split(string(b), "\n") {
			f := strings.Fields(line)
			if len(f) > 9 && f[3] == "0A" && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) {
				inode = f[9]
			}
		}
	}
	if inode == "" {
		return 0
	}
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, l := range links {
		if to, err := os.Readlink(l); err == nil && to == "socket:["+inode+"]" {
			pid, _ := strconv.Atoi(strings.Split(l, "/")[2])
			return pid
		}
	}
	return 0
}
