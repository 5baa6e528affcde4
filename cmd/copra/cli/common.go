package cli

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/copradb/copra/internal/config"
)

// common are the settings that every daemon has.
type common struct {
	configFile string
	logLevel   string
	logFormat  string
	insecure   bool
}

func (c *common) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&c.configFile, config.FileFlag, "", "TOML file with settings, by flag name")
	f.StringVar(&c.logLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&c.logFormat, "log-format", "text", "text or json")
	f.BoolVar(&c.insecure, "insecure", false, "allow listening beyond this machine without TLS and passwords")
}

func (c *common) logger(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.logLevel)); err != nil {
		return nil, fmt.Errorf("--log-level %q: want debug, info, warn or error", c.logLevel)
	}
	options := &slog.HandlerOptions{Level: level}
	switch c.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return nil, fmt.Errorf("--log-format %q: want text or json", c.logFormat)
}

// listen is an address that a role is going to listen on.
type listen struct{ flag, role, addr string }

// checkListen refuses malformed addresses, addresses beyond this machine
// without --insecure, and ports that are taken, each with one clear line.
func (c *common) checkListen(addrs ...listen) error {
	for _, l := range addrs {
		if l.addr == "" {
			continue
		}
		host, port, err := net.SplitHostPort(l.addr)
		if err != nil {
			return fmt.Errorf("--%s %q: want host:port", l.flag, l.addr)
		}
		if !isLoopback(host) && !c.insecure {
			return fmt.Errorf("--%s %s is reachable from other machines, and this version has no passwords yet: listen on 127.0.0.1, or pass --insecure if the network is trusted", l.flag, l.addr)
		}
		if port == "0" {
			continue
		}
		probe, err := net.Listen("tcp", l.addr)
		if err != nil {
			return portError(l, err)
		}
		if err := probe.Close(); err != nil {
			return err
		}
	}
	return nil
}

func portError(l listen, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s address %s is taken by another process (is a copra running already?); choose another with --%s", l.role, l.addr, l.flag)
	}
	return fmt.Errorf("%s address %s: %w", l.role, l.addr, err)
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// splitList reads a comma-separated flag.
func splitList(s string) []string {
	var out []string
	for _, part := range strings.Split(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

// parseLabels reads zone=z1,host=h1.
func parseLabels(s string) (map[string]string, error) {
	out := make(map[string]string)
	for _, part := range splitList(s) {
		k, v, ok := strings.Cut(part, "=")
		if !ok || k == "" || v == "" {
			return nil, fmt.Errorf("--labels %q: want key=value[,key=value…]", s)
		}
		out[k] = v
	}
	return out, nil
}

// endpoints reads --pd.
func endpoints(s string) ([]string, error) {
	list := splitList(s)
	if len(list) == 0 {
		return nil, errors.New("--pd is required: the client addresses of the placement drivers, host:port[,host:port…]")
	}
	for i, e := range list {
		e = strings.TrimPrefix(strings.TrimPrefix(e, "http://"), "https://")
		if _, _, err := net.SplitHostPort(e); err != nil {
			return nil, fmt.Errorf("--pd %q: want host:port", list[i])
		}
		list[i] = e
	}
	return list, nil
}
