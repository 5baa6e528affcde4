package answers

import "testing"

// room is a budget of so many bytes.
type room struct{ left int64 }

func (r *room) Take(n, before int64) bool {
	if n > r.left {
		return false
	}
	r.left -= n
	return true
}

func (r *room) Release(n int64) { r.left += n }

func TestMeter(t *testing.T) {
	shared := &room{left: 3 << 20}
	m := Meter{BytesMax: 10 << 20, Shared: shared}
	for i := range 7 {
		if v := m.Add(512 << 10); v != OK && i < 6 {
			t.Fatalf("step %d: %v", i, v)
		}
	}
	if v := m.Add(512 << 10); v != Busy {
		t.Fatalf("above the shared budget: %v", v)
	}
	m.Release()
	m.Release()
	if shared.left != 3<<20 {
		t.Fatalf("%d bytes are left", shared.left)
	}
	alone := Meter{BytesMax: 10}
	if alone.Add(10) != OK || alone.Add(1) != TooLarge || alone.Bytes() != 11 {
		t.Fatal("the limit of one answer")
	}
	alone.Release()
}
