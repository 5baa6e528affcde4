package mvcc

import (
	"encoding/hex"
	"math"
	"reflect"
	"testing"
)

// Records as builds before last_change and shared locks have written them: a
// data directory of theirs must stay readable.
func TestRecordsOfFormerBuilds(t *testing.T) {
	for in, want := range map[string]Lock{
		"1101010000000000000000000000000170":    {Type: LockPut, StartTS: 1, Primary: []byte("p"), HasShort: true, ShortValue: []byte{}},
		"140404000000000000000005000000" + "00": {Type: LockPessimistic, StartTS: 4, ForUpdateTS: 5, Primary: []byte{}, WithConflict: true},
		"110b0400000000000000" + "00000a0000" + "0170" + "0201610162" + "020b000000000000000c00000000000000" + "76": {Type: LockPut, StartTS: 4, MinCommitTS: 10, Primary: []byte("p"), UseAsyncCommit: true, Secondaries: [][]byte{[]byte("a"), []byte("b")}, RollbackTS: []uint64{11, 12}, HasShort: true, ShortValue: []byte("v")},
		"1200ffffffffffffffff" + "b817" + "09080706" + "016b":                                                       {Type: LockDelete, StartTS: math.MaxUint64, TTL: 3000, ForUpdateTS: 9, MinCommitTS: 8, TxnSize: 7, Generation: 6, Primary: []byte("k")},
	} {
		b, err := hex.DecodeString(in)
		if err != nil {
			t.Fatal(err)
		}
		var got Lock
		if err := ParseLock(b, &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %+v, %v", in, got, err)
		}
		if again := hex.EncodeToString(AppendLock(nil, &want)); again != in {
			t.Errorf("%s is written as %s", in, again)
		}
	}
	for in, want := range map[string]Write{
		"1101010000000000000076": {Type: WritePut, StartTS: 1, HasShort: true, ShortValue: []byte("v")},
		"11020100000000000000":   {Type: WritePut, StartTS: 1, OverlappedRollback: true},
		"1404ffffffffffffffff":   {Type: WriteRollback, StartTS: math.MaxUint64, Protected: true},
		"13000200000000000000":   {Type: WriteLock, StartTS: 2},
	} {
		b, err := hex.DecodeString(in)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ParseWrite(b); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %+v, %v", in, got, err)
		}
		if again := hex.EncodeToString(AppendWrite(nil, &want)); again != in {
			t.Errorf("%s is written as %s", in, again)
		}
	}
}
