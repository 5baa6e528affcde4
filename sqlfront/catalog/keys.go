package catalog

import (
	"fmt"

	"github.com/copradb/copra/internal/codec"
)

// The catalog's keys start with 'm'; ids follow as memcomparable int64.
//
//	m v            schema version
//	m n            next object id
//	m s <id>       schema descriptor
//	m t <id>       table descriptor
//	m r <table>    next row id of a table without a primary key
//	m q <id>       next value of a sequence
//	m z <table>    statistics
//	m d <id>       ranges to be deleted, see DropRange
var (
	versionKey = []byte("mv")
	nextIDKey  = []byte("mn")
)

const (
	schemaPrefix   = "ms"
	tablePrefix    = "mt"
	rowIDPrefix    = "mr"
	sequencePrefix = "mq"
	statsPrefix    = "mz"
	dropPrefix     = "md"
)

func idKey(prefix string, id int64) []byte { return codec.EncodeInt64([]byte(prefix), id) }

func idOfKey(prefix string, key []byte) (int64, error) {
	if len(key) != len(prefix)+8 || string(key[:len(prefix)]) != prefix {
		return 0, fmt.Errorf("catalog: %q is no key of family %q", key, prefix)
	}
	id, _, err := codec.DecodeInt64(key[len(prefix):])
	return id, err
}
