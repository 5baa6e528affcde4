package ycsb

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// sqlDB runs on the Postgres protocol with prepared statements, one connection
// a worker.
type sqlDB struct {
	conns  []*pgx.Conn
	update [FieldCount]string
	insert string
}

// OpenSQL connects to a Postgres server, ours or another.
func OpenSQL(ctx context.Context, dsn string, threads int) (DB, error) {
	d := &sqlDB{}
	cols, params := []string{"ycsb_key"}, []string{"$1"}
	for i := range FieldCount {
		d.update[i] = fmt.Sprintf("UPDATE usertable SET field%d = $1 WHERE ycsb_key = $2", i)
		cols, params = append(cols, fmt.Sprintf("field%d", i)), append(params, fmt.Sprintf("$%d", i+2))
	}
	d.insert = "INSERT INTO usertable (" + strings.Join(cols, ", ") + ") VALUES (" + strings.Join(params, ", ") + ") ON CONFLICT DO NOTHING"
	for range threads {
		c, err := pgx.Connect(ctx, dsn)
		if err != nil {
			_ = d.Close()
			return nil, err
		}
		d.conns = append(d.conns, c)
	}
	return d, nil
}

func (d *sqlDB) Prepare(ctx context.Context) error {
	cols := []string{"ycsb_key varchar(64) PRIMARY KEY"}
	for i := range FieldCount {
		cols = append(cols, fmt.Sprintf("field%d varchar(2000)", i))
	}
	_, err := d.conns[0].Exec(ctx, "CREATE TABLE IF NOT EXISTS usertable ("+strings.Join(cols, ", ")+")")
	return err
}

func (d *sqlDB) Close() error {
	var first error
	for _, c := range d.conns {
		if err := c.Close(context.Background()); first == nil {
			first = err
		}
	}
	return first
}

func (d *sqlDB) Read(ctx context.Context, worker int, key string) error {
	n, err := d.rows(ctx, worker, "SELECT * FROM usertable WHERE ycsb_key = $1", key)
	if err == nil && n != 1 {
		return fmt.Errorf("record %s: %d rows", key, n)
	}
	return err
}

func (d *sqlDB) Scan(ctx context.Context, worker int, key string, count int) error {
	_, err := d.rows(ctx, worker, "SELECT * FROM usertable WHERE ycsb_key >= $1 ORDER BY ycsb_key LIMIT $2", key, count)
	return err
}

func (d *sqlDB) rows(ctx context.Context, worker int, sql string, args ...any) (n int, err error) {
	rows, err := d.conns[worker].Query(ctx, sql, args...)
	if err != nil {
		return 0, err
	}
	for rows.Next() {
		n++
	}
	return n, rows.Err()
}

func (d *sqlDB) Update(ctx context.Context, worker int, key string, field int, fields [][]byte) error {
	tag, err := d.conns[worker].Exec(ctx, d.update[field], string(fields[field]), key)
	if err == nil && tag.RowsAffected() != 1 {
		return fmt.Errorf("record %s: %d rows updated", key, tag.RowsAffected())
	}
	return err
}

func (d *sqlDB) Insert(ctx context.Context, worker int, key string, fields [][]byte) error {
	args := []any{key}
	for _, f := range fields {
		args = append(args, string(f))
	}
	_, err := d.conns[worker].Exec(ctx, d.insert, args...)
	return err
}
