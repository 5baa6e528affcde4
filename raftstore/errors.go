package raftstore

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore/engine/disk"
	"github.com/pingcap/kvproto/pkg/errorpb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"
)

// ErrStopped is returned by requests that the end of the store interrupts. The
// outcome of a write is unknown.
var ErrStopped = errors.New("raftstore: the store is stopping")

// errOutcomeUnknown answers a write whose log position was covered by a
// snapshot, or whose peer was destroyed.
func errOutcomeUnknown(regionID uint64, why string) error {
	msg := fmt.Sprintf("region %d: the outcome of the write is unknown: %s", regionID, why)
	return regionError(&errorpb.Error{Message: msg, UndeterminedResult: &errorpb.UndeterminedResult{Message: msg}})
}

// LockedError answers a follower read that met an in-memory lock on the
// leader (hazard 20).
type LockedError struct{ Lock *kvrpcpb.LockInfo }

func (e *LockedError) Error() string {
	return fmt.Sprintf("key is locked in the leader's memory by transaction %d", e.Lock.GetLockVersion())
}

// LockInfo is how package txn, which doesn't know this one, asks for the lock.
func (e *LockedError) LockInfo() *kvrpcpb.LockInfo { return e.Lock }

func regionError(e *errorpb.Error) error { return &kv.RegionError{Err: e} }

func errStoreNotMatch(want, have uint64) error {
	return regionError(&errorpb.Error{
		Message:       fmt.Sprintf("request for store %d arrived at store %d", want, have),
		StoreNotMatch: &errorpb.StoreNotMatch{RequestStoreId: want, ActualStoreId: have}})
}

func errRegionNotFound(regionID uint64) error {
	return regionError(&errorpb.Error{
		Message:        fmt.Sprintf("region %d is not on this store", regionID),
		RegionNotFound: &errorpb.RegionNotFound{RegionId: regionID}})
}

func errNotLeader(regionID uint64, leader *metapb.Peer) error {
	return regionError(&errorpb.Error{
		Message:   fmt.Sprintf("peer is not the leader of region %d", regionID),
		NotLeader: &errorpb.NotLeader{RegionId: regionID, Leader: leader}})
}

func errMismatchPeer(want, have uint64) error {
	return regionError(&errorpb.Error{
		Message:        fmt.Sprintf("request for peer %d arrived at peer %d", want, have),
		MismatchPeerId: &errorpb.MismatchPeerId{RequestPeerId: want, StorePeerId: have}})
}

func errStaleCommand(regionID uint64) error {
	return regionError(&errorpb.Error{
		Message:      fmt.Sprintf("region %d: the request belongs to an older term", regionID),
		StaleCommand: &errorpb.StaleCommand{}})
}

// errEpochNotMatch tells the regions as they are now, but not those whose
// boundaries a transactional client could not decode: it asks PD instead.
func errEpochNotMatch(regions ...*metapb.Region) error {
	var shown []*metapb.Region
	for _, r := range regions {
		if !codec.InPocket(r.GetStartKey()) && !codec.InPocket(r.GetEndKey()) {
			shown = append(shown, r)
		}
	}
	return regionError(&errorpb.Error{
		Message:       fmt.Sprintf("epoch of region %d does not match: now %s", regions[0].GetId(), regions[0].GetRegionEpoch()),
		EpochNotMatch: &errorpb.EpochNotMatch{CurrentRegions: shown}})
}

// errKeyNotInRegion tells the region's range, unless a transactional client
// could not decode it: no client goes by it.
func errKeyNotInRegion(key []byte, r *metapb.Region) error {
	start, end := r.GetStartKey(), r.GetEndKey()
	if codec.InPocket(start) || codec.InPocket(end) {
		start, end = nil, nil
	}
	return regionError(&errorpb.Error{
		Message: fmt.Sprintf("a key is not in region %d", r.GetId()),
		KeyNotInRegion: &errorpb.KeyNotInRegion{
			Key: bytes.Clone(key), RegionId: r.GetId(), StartKey: start, EndKey: end}})
}

func errServerIsBusy(reason string) error { return errServerIsBusyFor(reason, busyBackoff) }

// busyBackoff is what a client is told to wait where nothing better is known.
const busyBackoff = 100 * time.Millisecond

// errServerIsBusyFor says how long the client should wait.
func errServerIsBusyFor(reason string, wait time.Duration) error {
	ms := uint64(max(wait, busyBackoff) / time.Millisecond)
	return regionError(&errorpb.Error{
		Message:      "server is busy: " + reason,
		ServerIsBusy: &errorpb.ServerIsBusy{Reason: reason, BackoffMs: ms, EstimatedWaitMs: uint32(ms)}})
}

func errDiskFull(regionID uint64, stores []uint64, level disk.Level) error {
	reason := fmt.Sprintf("region %d: no room on the disks of stores %v; delete data, add stores or enlarge the disks (this store's: %s)", regionID, stores, level)
	return regionError(&errorpb.Error{Message: reason, DiskFull: &errorpb.DiskFull{StoreId: stores, Reason: reason}})
}

func errEntryTooLarge(regionID uint64, size int) error {
	return regionError(&errorpb.Error{
		Message:           fmt.Sprintf("region %d: a write of %d bytes exceeds the limit of %d; use smaller batches", regionID, size, entryBytesMax),
		RaftEntryTooLarge: &errorpb.RaftEntryTooLarge{RegionId: regionID, EntrySize: uint64(size)}})
}

func errMerging(regionID uint64) error {
	return regionError(&errorpb.Error{
		Message:               fmt.Sprintf("region %d is being merged into its neighbour; try again", regionID),
		ProposalInMergingMode: &errorpb.ProposalInMergingMode{RegionId: regionID}})
}

func errReadIndexNotReady(regionID uint64, reason string) error {
	return regionError(&errorpb.Error{
		Message:           fmt.Sprintf("region %d: read index is not ready: %s", regionID, reason),
		ReadIndexNotReady: &errorpb.ReadIndexNotReady{RegionId: regionID, Reason: reason}})
}

func errDataIsNotReady(regionID, peerID, safeTS, readTS uint64) error {
	return regionError(&errorpb.Error{
		Message:        fmt.Sprintf("region %d: peer %d can be read up to %d, not at %d yet; read from the leader", regionID, peerID, safeTS, readTS),
		DataIsNotReady: &errorpb.DataIsNotReady{RegionId: regionID, PeerId: peerID, SafeTs: safeTS}})
}

func errNotInitialized(regionID uint64) error {
	return regionError(&errorpb.Error{
		Message:              fmt.Sprintf("region %d waits for its first snapshot", regionID),
		RegionNotInitialized: &errorpb.RegionNotInitialized{RegionId: regionID}})
}

// keyInRegion reports whether key is in [StartKey, EndKey).
func keyInRegion(key []byte, r *metapb.Region) bool {
	return bytes.Compare(key, r.StartKey) >= 0 && (len(r.EndKey) == 0 || bytes.Compare(key, r.EndKey) < 0)
}

// rangesOverlap reports whether [aStart, aEnd) and [bStart, bEnd) share a key;
// an empty end is unbounded.
func rangesOverlap(aStart, aEnd, bStart, bEnd []byte) bool {
	return (len(aEnd) == 0 || bytes.Compare(bStart, aEnd) < 0) && (len(bEnd) == 0 || bytes.Compare(aStart, bEnd) < 0)
}
