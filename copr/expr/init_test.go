package expr

import "testing"

func TestRegistryLoads(t *testing.T) {
	if len(Funcs()) < 500 {
		t.Fatalf("only %d functions", len(Funcs()))
	}
}
