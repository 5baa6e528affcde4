package columnar

import "testing"

// Spoil lets scans overwrite what they said to be transient, to the end of the
// test.
func Spoil(t *testing.T) {
	spoil = func(b []byte) {
		for i := range b {
			b[i] = 0xA5
		}
	}
	t.Cleanup(func() { spoil = nil })
}
