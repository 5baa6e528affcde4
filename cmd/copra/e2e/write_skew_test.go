package e2e

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// writeSkew shows what snapshot isolation allows: two transactions both see two
// people on call, each takes another one off, and nobody is. Who locks the rows
// that it has read is told to start again.
func writeSkew(t *testing.T, addr string) {
	t.Helper()
	ctx, cancel := within(soakOpTimeout)
	defer cancel()
	a, b := connect(t, addr), connect(t, addr)
	exec1(t, a, "CREATE TABLE oncall (id int PRIMARY KEY, on_call bool NOT NULL)")
	exec1(t, a, "INSERT INTO oncall VALUES (1, true), (2, true)")

	err := skew(ctx, t, a, b, "")
	require.NoError(t, err, "without locks both commit")
	require.EqualValues(t, 0, queryInt(t, a, "SELECT count(*) FROM oncall WHERE on_call"))

	exec1(t, a, "UPDATE oncall SET on_call = true")
	err = skew(ctx, t, a, b, " FOR UPDATE")
	require.ErrorContains(t, err, "40001", "with FOR UPDATE the second is refused")
	require.EqualValues(t, 1, queryInt(t, a, "SELECT count(*) FROM oncall WHERE on_call"))
	exec1(t, a, "DROP TABLE oncall")
}

// skew runs two transactions at the same time, on snapshots from before both;
// each reads who is on call and takes one off. The first commits; the error is
// that of the second.
func skew(ctx context.Context, t *testing.T, a, b *pgx.Conn, lock string) error {
	t.Helper()
	var txs [2]pgx.Tx
	for i, conn := range []*pgx.Conn{a, b} {
		tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
		require.NoError(t, err)
		defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
		var n int
		require.NoError(t, tx.QueryRow(ctx, "SELECT count(*) FROM oncall WHERE on_call").Scan(&n))
		require.Equal(t, 2, n)
		txs[i] = tx
	}
	take := func(tx pgx.Tx, id int) error {
		rows, err := tx.Query(ctx, "SELECT id FROM oncall WHERE on_call ORDER BY id"+lock)
		if err != nil {
			return err
		}
		if _, err := pgx.CollectRows(rows, pgx.RowTo[int]); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "UPDATE oncall SET on_call = false WHERE id = $1", id)
		return err
	}
	require.NoError(t, take(txs[0], 1))
	second := make(chan error, 1)
	go func() {
		err := take(txs[1], 2)
		if err == nil {
			err = txs[1].Commit(ctx)
		}
		second <- err
	}()
	if lock == "" {
		err := <-second // it waits for nobody
		require.NoError(t, txs[0].Commit(ctx))
		return err
	}
	require.NoError(t, txs[0].Commit(ctx))
	return <-second
}
