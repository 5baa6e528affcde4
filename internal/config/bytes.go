package config

import (
	"fmt"
	"strconv"
	"strings"
)

// Bytes is a size flag: "96MiB", "512KiB", "1GiB", or a plain number of bytes.
type Bytes int64

var units = []struct {
	suffix string
	factor int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"KB", 1 << 10}, {"MB", 1 << 20}, {"GB", 1 << 30}, {"TB", 1 << 40}, {"B", 1},
}

// Set implements pflag.Value.
func (b *Bytes) Set(s string) error {
	text, factor := strings.TrimSpace(s), int64(1)
	for _, u := range units {
		if rest, ok := strings.CutSuffix(text, u.suffix); ok {
			text, factor = strings.TrimSpace(rest), u.factor
			break
		}
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > (1<<62)/factor {
		return fmt.Errorf("%q is not a size (like 96MiB or 1GiB)", s)
	}
	*b = Bytes(n * factor)
	return nil
}

// String implements pflag.Value.
func (b *Bytes) String() string {
	n := int64(*b)
	for i := 3; i >= 0; i-- {
		if u := units[i]; n != 0 && n%u.factor == 0 {
			return strconv.FormatInt(n/u.factor, 10) + u.suffix
		}
	}
	return strconv.FormatInt(n, 10)
}

// Type implements pflag.Value.
func (b *Bytes) Type() string { return "size" }
