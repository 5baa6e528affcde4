package e2e

import (
	"context"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/flight/flightsql"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// TestFlightTransactionsAndIngestion: what Flight SQL clients write, seen
// through pgwire.
func TestFlightTransactionsAndIngestion(t *testing.T) {
	p := startPlayground(t, t.TempDir(), freeOffset(t))
	ctx, sql := context.Background(), p.connect()
	client, err := flightsql.NewClient(p.addr(8815), nil, nil, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	update := func(query string) {
		t.Helper()
		if _, err := client.ExecuteUpdate(ctx, query); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
	}
	update("CREATE TABLE ft (a int PRIMARY KEY)")
	for _, commit := range []bool{true, false} {
		tx, err := client.BeginTransaction(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := tx.ExecuteUpdate(ctx, "INSERT INTO ft SELECT count(*) FROM ft"); err != nil || n != 1 {
			t.Fatalf("insert: %d, %v", n, err)
		}
		if commit {
			err = tx.Commit(ctx)
		} else {
			err = tx.Rollback(ctx)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if n := queryInt(t, sql, "SELECT count(*) FROM ft"); n != 1 {
		t.Errorf("a commit and a rollback left %d rows", n)
	}

	// Ingestion creates the table; a second one appends; a bad row adds nothing.
	schema := arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.PrimitiveTypes.Int64}, {Name: "Name", Type: arrow.BinaryTypes.String, Nullable: true}}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	b.Field(0).(*array.Int64Builder).AppendValues([]int64{1, 2, 3}, nil)
	b.Field(1).(*array.StringBuilder).AppendValues([]string{"tab\tand\nnewline", `back\slash`, ""}, []bool{true, true, false})
	rec := b.NewRecord()
	options := &flightsql.ExecuteIngestOpts{
		Table: "ingested",
		TableDefinitionOptions: &flightsql.TableDefinitionOptions{
			IfNotExist: flightsql.TableDefinitionOptionsTableNotExistOptionCreate, IfExists: flightsql.TableDefinitionOptionsTableExistsOptionAppend,
		},
	}
	for range 2 {
		reader, err := array.NewRecordReader(schema, []arrow.Record{rec})
		if err != nil {
			t.Fatal(err)
		}
		if n, err := client.ExecuteIngest(ctx, reader, options); err != nil || n != 3 {
			t.Fatalf("ingest: %d, %v", n, err)
		}
	}
	if n := queryInt(t, sql, `SELECT count(*) FROM ingested WHERE "Name" = E'tab\tand\nnewline' OR "Name" = 'back\slash' OR "Name" IS NULL`); n != 6 {
		t.Errorf("%d rows came through ingestion as they were sent", n)
	}
	exec1(t, sql, "CREATE UNIQUE INDEX ON ft (a)")
	for query, code := range map[string]codes.Code{
		"INSERT INTO ft VALUES (0)": codes.AlreadyExists, "SELEC 1": codes.InvalidArgument, "DROP TABLE nowhere": codes.NotFound, "CREATE VIEW v AS SELECT 1": codes.Unimplemented,
	} {
		_, err := client.ExecuteUpdate(ctx, query)
		if status.Code(err) != code || !strings.Contains(err.Error(), "SQLSTATE") {
			t.Errorf("%s: %v, want %s", query, err, code)
		}
	}
	p.stop()
}
