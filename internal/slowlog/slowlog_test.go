package slowlog

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestThreshold(t *testing.T) {
	l := New(slog.New(slog.DiscardHandler), time.Second)
	if l.Slow(time.Second-1) || !l.Slow(time.Second) {
		t.Error("a second is the limit")
	}
	l.SetThreshold(0)
	if !l.Slow(0) {
		t.Error("0 is everything")
	}
	l.SetThreshold(-1)
	if l.Slow(time.Hour) {
		t.Error("less than 0 is nothing")
	}
}

func TestLinesAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := New(slog.New(slog.NewTextHandler(&out, nil)), 0)
		for range LinesPerSecondMax + 7 {
			l.Write("slow")
		}
		if n := strings.Count(out.String(), "msg=slow"); n != LinesPerSecondMax {
			t.Errorf("%d lines in one second", n)
		}
		out.Reset()
		time.Sleep(time.Second)
		l.Write("slow")
		l.Write("slow")
		if got := out.String(); strings.Count(got, "slow_lines_dropped=7") != 1 || strings.Count(got, "slow_lines_dropped") != 1 {
			t.Errorf("the lines left out are not told once:\n%s", got)
		}
	})
}

func TestKeys(t *testing.T) {
	l := New(slog.New(slog.DiscardHandler), 0)
	if got := l.Key([]byte("a\xff")); got != "61FF" {
		t.Error(got)
	}
	if got := l.Key(make([]byte, 100)); got != strings.Repeat("00", keyBytesMax)+"..." {
		t.Error(got)
	}
	l.SetRedact(true)
	if got := l.Key([]byte("secret")); got != "?" {
		t.Error(got)
	}
}
