package codec

import "testing"

func TestRegionDecodable(t *testing.T) {
	p, ok := PocketOf([]byte("usertable:1"))
	if !ok {
		t.Fatal("no pocket")
	}
	in := func(k string) []byte { return []byte(k) }
	for _, c := range []struct {
		start, end []byte
		want       bool
	}{
		{nil, nil, true},
		{p.Start, p.End, true},
		{p.Start, in("usertable:1"), true},
		{in("usertable:1"), in("usertable:2"), true},
		{in("usertable:2"), p.End, true},
		{nil, in("usertable:1"), false},
		{in("usertable:1"), nil, false},
		{EncodeBytes(nil, in("a")), in("usertable:1"), false},
		{in("usertable:1"), EncodeBytes(nil, in("z")), false},
		{in("usertabl\x01"), in("usertabm\x01"), false},
		{EncodeBytes(nil, in("a")), EncodeBytes(nil, in("z")), true},
	} {
		if got := RegionDecodable(c.start, c.end); got != c.want {
			t.Errorf("[%q, %q): %v", c.start, c.end, got)
		}
	}
}
