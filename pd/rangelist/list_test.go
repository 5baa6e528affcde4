package rangelist

import (
	"fmt"
	"math/rand"
	"strings"
	"testing"
)

func show(l List[string]) string {
	var b strings.Builder
	_ = l.Each(func(start, end []byte, values []string) error {
		fmt.Fprintf(&b, "[%s,%s)=%s ", start, end, strings.Join(values, "+"))
		return nil
	})
	return strings.TrimSpace(b.String())
}

func item(start, end, v string) Item[string] {
	return Item[string]{[]byte(start), []byte(end), v}
}

func TestBuild(t *testing.T) {
	for _, c := range []struct {
		items []Item[string]
		want  string
	}{
		{nil, "[,)="},
		{[]Item[string]{item("", "", "a")}, "[,)=a"},
		{[]Item[string]{item("c", "m", "a"), item("g", "t", "b")}, "[,c)= [c,g)=a [g,m)=a+b [m,t)=b [t,)="},
		{[]Item[string]{item("", "", "a"), item("g", "", "b")}, "[,g)=a [g,)=a+b"},
		{[]Item[string]{item("b", "c", "a"), item("c", "d", "b")}, "[,b)= [b,c)=a [c,d)=b [d,)="},
	} {
		if got := show(Build(c.items)); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}

// TestAgainstScan compares lookups with what a scan over the items finds.
func TestAgainstScan(t *testing.T) {
	rng := rand.New(rand.NewSource(1))
	key := func() []byte {
		if rng.Intn(8) == 0 {
			return nil
		}
		return []byte{byte('a' + rng.Intn(20))}
	}
	above := func(a, b []byte) bool { return len(b) == 0 || len(a) > 0 && string(a) <= string(b) } // end a within end b
	for range 2000 {
		var items []Item[int]
		for i := range rng.Intn(6) {
			s, e := key(), key()
			if len(e) > 0 && string(s) >= string(e) {
				continue
			}
			items = append(items, Item[int]{s, e, i})
		}
		l := Build(items)
		s, e := key(), key()
		if len(e) > 0 && string(s) >= string(e) {
			continue
		}
		var want []int
		crosses := 0
		inside := func(k []byte) bool { return string(k) > string(s) && (len(e) == 0 || string(k) < string(e)) }
		cuts := map[string]bool{}
		for _, it := range items {
			if string(it.Start) <= string(s) && above(e, it.End) {
				want = append(want, it.Value)
			}
			if inside(it.Start) {
				cuts[string(it.Start)] = true
			}
			if len(it.End) > 0 && inside(it.End) {
				cuts[string(it.End)] = true
			}
		}
		crosses = len(cuts)
		got, ok := l.Get(s, e)
		keys := l.SplitKeys(s, e)
		if len(keys) != crosses || ok != (crosses == 0) {
			t.Fatalf("%v in [%s,%s): ok %v, split keys %q, want %d", items, s, e, ok, keys, crosses)
		}
		if ok && fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("%v in [%s,%s): %v, want %v", items, s, e, got, want)
		}
	}
}
