package sqlfront

import (
	"context"
	"time"

	"github.com/tikv/client-go/v2/oracle"
)

// timestamp gets a new timestamp: everything committed before the call has a
// smaller one.
func (db *DB) timestamp(ctx context.Context) (uint64, error) {
	if e := cancelError(ctx); e != nil {
		return 0, e
	}
	ts, err := db.kv.GetOracle().GetTimestamp(ctx, &oracle.Option{TxnScope: oracle.GlobalTxnScope})
	if err != nil {
		return 0, kvError(ctx, err, nil)
	}
	return ts, nil
}

// tsTime is the wall clock in a timestamp.
func tsTime(ts uint64) time.Time { return oracle.GetTimeFromTS(ts) }
