package kvclient

import (
	"testing"

	"github.com/pingcap/kvproto/pkg/errorpb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"
)

// The codec changes keys of errors in place, which must not reach the store's
// own region (found as KeyNotInRegion on a region that had just split).
func TestErrorsAreTheClientsOwn(t *testing.T) {
	region := &metapb.Region{Id: 1, StartKey: []byte("encoded")}
	out, err := detach(&kvrpcpb.FlushResponse{RegionError: &errorpb.Error{
		EpochNotMatch: &errorpb.EpochNotMatch{CurrentRegions: []*metapb.Region{region}}}})
	if err != nil {
		t.Fatal(err)
	}
	got := out.(*kvrpcpb.FlushResponse).RegionError.EpochNotMatch.CurrentRegions[0]
	if got == region || string(got.StartKey) != "encoded" {
		t.Fatalf("the client got the store's region %v", got)
	}
	got.StartKey[0] = 'X'
	if string(region.StartKey) != "encoded" {
		t.Error("a key is shared with the store")
	}
	lock := &kvrpcpb.LockInfo{Key: []byte("k")}
	out, err = detach(&kvrpcpb.PrewriteResponse{Errors: []*kvrpcpb.KeyError{{Locked: lock}}})
	if err != nil || out.(*kvrpcpb.PrewriteResponse).Errors[0].Locked == lock {
		t.Errorf("the client got the store's lock (%v)", err)
	}
}

func TestPlainAnswersPassAsTheyAre(t *testing.T) {
	get := &kvrpcpb.GetResponse{Value: []byte("v")}
	if out, err := detach(get); err != nil || out != get {
		t.Errorf("a plain answer was copied (%v)", err)
	}
}
