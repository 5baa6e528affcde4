package raftstore_test

import (
	"testing"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/kv"
	"github.com/pingcap/kvproto/pkg/errorpb"
)

func asRegionError(t *testing.T, err error) *errorpb.Error {
	t.Helper()
	re := kv.AsRegionError(err)
	if re == nil {
		t.Fatalf("not a region error: %v", err)
	}
	return re
}

// encodedKey is a key whose form split boundaries can have.
func encodedKey(k string) string { return string(codec.EncodeBytes(nil, []byte(k))) }
