package tablecodec

import (
	"bytes"
	"fmt"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/kv"
)

const (
	tablePrefix  = 't'
	recordMarker = "_r"
	indexMarker  = "_i"

	// RecordPrefixLen and IndexPrefixLen are the bytes in front of the handle
	// of a row key, and of the columns of an index key.
	RecordPrefixLen = 1 + 8 + len(recordMarker)
	IndexPrefixLen  = 1 + 8 + len(indexMarker) + 8
)

// AppendTablePrefix appends what all keys of the table start with.
func AppendTablePrefix(dst []byte, tableID int64) []byte {
	return codec.EncodeInt64(append(dst, tablePrefix), tableID)
}

// AppendRecordPrefix appends what all row keys of the table start with.
func AppendRecordPrefix(dst []byte, tableID int64) []byte {
	return append(AppendTablePrefix(dst, tableID), recordMarker...)
}

// AppendIndexPrefix appends what all keys of the index start with.
func AppendIndexPrefix(dst []byte, tableID, indexID int64) []byte {
	return codec.EncodeInt64(append(AppendTablePrefix(dst, tableID), indexMarker...), indexID)
}

// AppendRowKey appends the key of the row with this handle.
func AppendRowKey(dst []byte, tableID int64, handle []byte) []byte {
	return append(AppendRecordPrefix(dst, tableID), handle...)
}

// AppendRowID appends the handle of a row of a table without a primary key.
func AppendRowID(dst []byte, rowID int64) []byte { return codec.EncodeInt64(dst, rowID) }

// DecodeRowID undoes AppendRowID.
func DecodeRowID(handle []byte) (int64, error) {
	id, rest, err := codec.DecodeInt64(handle)
	if err != nil || len(rest) != 0 {
		return 0, fmt.Errorf("tablecodec: %x is not a row id handle", handle)
	}
	return id, nil
}

// SplitRowKey returns the table and the handle of a row key; the handle
// aliases key.
func SplitRowKey(key []byte) (tableID int64, handle []byte, err error) {
	tableID, rest, err := splitTable(key)
	if err != nil || !bytes.HasPrefix(rest, []byte(recordMarker)) {
		return 0, nil, fmt.Errorf("tablecodec: %x is not a row key", key)
	}
	return tableID, rest[len(recordMarker):], nil
}

// SplitIndexKey returns the table, the index and the columns (with the handle,
// if the key has one) of an index key; the columns alias key.
func SplitIndexKey(key []byte) (tableID, indexID int64, columns []byte, err error) {
	tableID, rest, err := splitTable(key)
	if err != nil || !bytes.HasPrefix(rest, []byte(indexMarker)) {
		return 0, 0, nil, fmt.Errorf("tablecodec: %x is not an index key", key)
	}
	indexID, columns, err = codec.DecodeInt64(rest[len(indexMarker):])
	if err != nil {
		return 0, 0, nil, fmt.Errorf("tablecodec: %x is not an index key", key)
	}
	return tableID, indexID, columns, nil
}

func splitTable(key []byte) (int64, []byte, error) {
	if len(key) == 0 || key[0] != tablePrefix {
		return 0, nil, codec.ErrMalformed
	}
	return codec.DecodeInt64(key[1:])
}

// TableRange covers all keys of the table, indexes included; RecordRange its
// rows, IndexRange one index.
func TableRange(tableID int64) kv.KeyRange { return PrefixRange(AppendTablePrefix(nil, tableID)) }

// RecordRange covers the rows of the table.
func RecordRange(tableID int64) kv.KeyRange { return PrefixRange(AppendRecordPrefix(nil, tableID)) }

// IndexRange covers the entries of an index.
func IndexRange(tableID, indexID int64) kv.KeyRange {
	return PrefixRange(AppendIndexPrefix(nil, tableID, indexID))
}

// PrefixRange covers all keys that start with prefix. It keeps prefix.
func PrefixRange(prefix []byte) kv.KeyRange {
	return kv.KeyRange{Start: prefix, End: codec.PrefixNext(prefix)}
}

// PointRange covers just key. It keeps key.
func PointRange(key []byte) kv.KeyRange {
	end := make([]byte, len(key)+1)
	copy(end, key)
	return kv.KeyRange{Start: key, End: end}
}
