package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pingcap/log"
	"go.uber.org/zap"
)

var binary string

func TestMain(m *testing.M) { os.Exit(run(m)) }

// testSettings are the COPRA_TEST_ variables. The processes must not inherit
// them: they refuse variables that are no settings of theirs.
var testSettings = map[string]string{}

func run(m *testing.M) int {
	for _, name := range []string{"LONG", "SEED", "DURATION"} {
		testSettings[name] = os.Getenv("COPRA_TEST_" + name)
		if err := os.Unsetenv("COPRA_TEST_" + name); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	dir, err := os.MkdirTemp("", "copra-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = filepath.Join(dir, "copra")
	build := exec.Command("go", "build", "-o", binary, "github.com/copradb/copra/cmd/copra")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	// client-go's complaints about servers that a test killed are not news.
	log.ReplaceGlobals(zap.NewNop(), &log.ZapProperties{Level: zap.NewAtomicLevelAt(zap.ErrorLevel)})
	return m.Run()
}

// process is a running copra command.
type process struct {
	t      *testing.T
	name   string
	cmd    *exec.Cmd
	exited chan struct{}
	err    error

	mu     sync.Mutex
	output bytes.Buffer
}

// launch starts copra with args. It is killed at the end of the test, and its
// output printed if the test failed. A store's placeholder is small, unless args
// say otherwise: many stores share the machine's disk.
func launch(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{t: t, name: strings.Join(args, " "), exited: make(chan struct{})}
	if args[0] == "tikv" && !slices.Contains(args, "--reserve-space") {
		args = slices.Concat(args, []string{"--reserve-space", "20MiB"})
	}
	p.cmd = exec.Command(binary, args...)
	p.cmd.Env = append(os.Environ(), "GOTRACEBACK=all")
	pipe, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stderr = p.cmd.Stdout
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.exited)
		lines := bufio.NewReader(pipe)
		for {
			line, err := lines.ReadString('\n')
			p.mu.Lock()
			p.output.WriteString(line)
			p.mu.Unlock()
			if err != nil {
				break
			}
		}
		p.err = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			out := p.text()
			if len(out) > 400_000 { // a panic's reason is in front of its many stacks
				i := max(0, min(strings.Index(out, "panic: "), len(out)-400_000))
				out = out[:min(i, 20_000)] + "\n…\n" + out[i:i+20_000] + "\n…\n" + out[len(out)-360_000:]
			}
			t.Logf("output of copra %s:\n%s", p.name, out)
		}
	})
	return p
}

func (p *process) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

// kill is kill -9; it returns when the process is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // may be gone already
	<-p.exited
}

// stop sends SIGTERM and wants a clean exit.
func (p *process) stop() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Errorf("signal %s: %v", p.name, err)
	}
	select {
	case <-p.exited:
	case <-time.After(30 * time.Second):
		_ = p.cmd.Process.Signal(syscall.SIGQUIT) // prints the goroutines
		<-p.exited
		p.t.Fatalf("copra %s did not stop on SIGTERM", p.name)
	}
	if p.err != nil {
		p.t.Errorf("copra %s: %v", p.name, p.err)
	}
}

// waitFor waits until the output contains text.
func (p *process) waitFor(text string, atMost time.Duration) {
	p.t.Helper()
	poll(p.t, atMost, "output "+strconv.Quote(text)+" of copra "+p.name, func() bool {
		if strings.Contains(p.text(), text) {
			return true
		}
		select {
		case <-p.exited:
			p.t.Fatalf("copra %s ended early: %v\n%s", p.name, p.err, p.text())
		default:
		}
		return false
	})
}

// poll waits for a condition that another process brings about.
func poll(t *testing.T, atMost time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(atMost); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("timed out after %s waiting for %s", atMost, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// playgroundPorts are the default ports that --port-offset shifts.
var playgroundPorts = []int{2379, 2380, 20160, 20161, 20162, 20180, 20181, 20182, 5433, 8815, 10080}

var offsets struct {
	sync.Mutex
	next, port int
}

// freeOffset finds a --port-offset under which every port is free.
func freeOffset(t *testing.T) int {
	t.Helper()
	offsets.Lock()
	defer offsets.Unlock()
	if offsets.next == 0 {
		offsets.next = 10_000 + os.Getpid()%500*4
	}
next:
	for range 1000 {
		offset := offsets.next
		offsets.next += 17
		for _, port := range playgroundPorts {
			l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port+offset))
			if err != nil {
				continue next
			}
			_ = l.Close()
		}
		return offset
	}
	t.Fatal("no free ports")
	return 0
}

// freeAddr returns a loopback address with a free port, below those that the
// system gives to outgoing connections: a process that comes back must find its
// port as it left it.
func freeAddr(t *testing.T) string {
	t.Helper()
	offsets.Lock()
	defer offsets.Unlock()
	if offsets.port == 0 {
		offsets.port = 22_000 + os.Getpid()%500*10
	}
	for range 3000 {
		addr := "127.0.0.1:" + strconv.Itoa(offsets.port)
		offsets.port++
		if l, err := net.Listen("tcp", addr); err == nil {
			_ = l.Close()
			return addr
		}
	}
	t.Fatal("no free ports")
	return ""
}

const (
	stopSignal     = syscall.SIGSTOP
	continueSignal = syscall.SIGCONT
)

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Errorf("signal %s to copra %s: %v", s, p.name, err)
	}
}

// playground is a running `copra playground`.
type playground struct {
	*process
	offset int
	dir    string
}

func startPlayground(t *testing.T, dir string, offset int, flags ...string) *playground {
	t.Helper()
	args := append([]string{"playground", "--data-dir", dir, "--port-offset", strconv.Itoa(offset)}, flags...)
	p := &playground{process: launch(t, args...), offset: offset, dir: dir}
	p.waitFor("is ready", time.Minute)
	t.Cleanup(func() {
		if t.Failed() {
			if log, err := os.ReadFile(filepath.Join(dir, "copra.log")); err == nil {
				t.Logf("end of copra.log:\n%s", log[max(0, len(log)-400_000):])
			}
		}
	})
	return p
}

func (p *playground) addr(port int) string { return "127.0.0.1:" + strconv.Itoa(port+p.offset) }

func (p *playground) connect() *pgx.Conn { return connect(p.t, p.addr(5433)) }

func dsn(addr string) string {
	host, port, _ := net.SplitHostPort(addr)
	return "host=" + host + " port=" + port + " user=root dbname=copra sslmode=disable"
}

func connect(t *testing.T, addr string) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(context.Background(), dsn(addr))
	if err != nil {
		t.Fatalf("connect to %s: %v", addr, err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

func exec1(t *testing.T, c *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := c.Exec(context.Background(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func queryInt(t *testing.T, c *pgx.Conn, sql string, args ...any) int64 {
	t.Helper()
	var n int64
	if err := c.QueryRow(context.Background(), sql, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return n
}
