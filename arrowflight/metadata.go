package arrowflight

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/flight"
	"github.com/apache/arrow/go/v17/arrow/flight/flightsql"
	"github.com/apache/arrow/go/v17/arrow/flight/flightsql/schema_ref"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront"
)

// registerInfo fills what GetSqlInfo answers.
func (s *Server) registerInfo() error {
	var errs []error
	set := func(id flightsql.SqlInfo, v any) { errs = append(errs, s.RegisterSqlInfo(id, v)) }
	set(flightsql.SqlInfoFlightSqlServerName, "copra")
	set(flightsql.SqlInfoFlightSqlServerVersion, s.o.Version)
	set(flightsql.SqlInfoFlightSqlServerArrowVersion, arrow.PkgVersion)
	set(flightsql.SqlInfoFlightSqlServerReadOnly, false)
	set(flightsql.SqlInfoFlightSqlServerSql, true)
	set(flightsql.SqlInfoFlightSqlServerSubstrait, false)
	set(flightsql.SqlInfoFlightSqlServerTransaction, int32(flightsql.SqlTransactionTransaction))
	set(flightsql.SqlInfoFlightSqlServerCancel, true)
	set(flightsql.SqlInfoFlightSqlServerBulkIngestion, true)
	set(flightsql.SqlInfoFlightSqlServerIngestTransactionsSupported, false)
	set(flightsql.SqlInfoFlightSqlServerStatementTimeout, int32(0))
	set(flightsql.SqlInfoFlightSqlServerTransactionTimeout, int32(0))
	set(flightsql.SqlInfoDDLCatalog, false)
	set(flightsql.SqlInfoDDLSchema, false)
	set(flightsql.SqlInfoDDLTable, true)
	set(flightsql.SqlInfoIdentifierQuoteChar, `"`)
	set(flightsql.SqlInfoTransactionsSupported, true)
	return errors.Join(errs...)
}

// rows runs a metadata query and returns all its values as text, "" for NULL.
func (s *Server) rows(ctx context.Context, sql string) ([][]string, error) {
	session, release, err := s.acquire(ctx, nil)
	if err != nil {
		return nil, toStatus(err)
	}
	defer release()
	out, err := sessionRows(ctx, session, sql)
	return out, toStatus(err)
}

func sessionRows(ctx context.Context, session sqlfront.Session, sql string) (out [][]string, err error) {
	p, err := prepareOne(ctx, session, sql)
	if err != nil {
		return nil, err
	}
	result, err := session.Execute(ctx, p, nil)
	if err != nil {
		return nil, err
	}
	defer func() {
		if cerr := result.Close(); err == nil {
			err = cerr
		}
	}()
	cols, options := result.Columns(), &sqltypes.TextOptions{TimeZone: time.UTC}
	for {
		rec, err := result.Next(ctx)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		for i := range int(rec.NumRows()) {
			row := make([]string, len(cols))
			for j, c := range cols {
				if col := rec.Column(j); !col.IsNull(i) {
					row[j] = string(sqltypes.AppendArrowText(nil, c.Type, col, i, options))
				}
			}
			out = append(out, row)
		}
	}
}

// oneBatch streams a single record built by fill.
func oneBatch(schema *arrow.Schema, fill func(b *array.RecordBuilder)) (*arrow.Schema, <-chan flight.StreamChunk, error) {
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	fill(b)
	ch := make(chan flight.StreamChunk, 1)
	ch <- flight.StreamChunk{Data: b.NewRecord()}
	close(ch)
	return schema, ch, nil
}

// appendText appends one row of string columns; "" in a nullable one is null.
func appendText(b *array.RecordBuilder, values ...string) {
	for i, v := range values {
		f := b.Field(i).(*array.StringBuilder)
		if v == "" && b.Schema().Field(i).Nullable {
			f.AppendNull()
		} else {
			f.Append(v)
		}
	}
}

// metadataInfo answers GetFlightInfo of a metadata command: the ticket is the
// command itself.
func metadataInfo(desc *flight.FlightDescriptor, schema *arrow.Schema) (*flight.FlightInfo, error) {
	return flightInfo(desc, schema, desc.GetCmd()), nil
}

// GetFlightInfoCatalogs implements flightsql.Server.
func (s *Server) GetFlightInfoCatalogs(_ context.Context, desc *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	return metadataInfo(desc, schema_ref.Catalogs)
}

// DoGetCatalogs implements flightsql.Server: one catalog, the database.
func (s *Server) DoGetCatalogs(context.Context) (*arrow.Schema, <-chan flight.StreamChunk, error) {
	return oneBatch(schema_ref.Catalogs, func(b *array.RecordBuilder) { appendText(b, s.o.Database) })
}

// GetFlightInfoSchemas implements flightsql.Server.
func (s *Server) GetFlightInfoSchemas(_ context.Context, _ flightsql.GetDBSchemas, desc *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	return metadataInfo(desc, schema_ref.DBSchemas)
}

// DoGetDBSchemas implements flightsql.Server.
func (s *Server) DoGetDBSchemas(ctx context.Context, cmd flightsql.GetDBSchemas) (*arrow.Schema, <-chan flight.StreamChunk, error) {
	sql := "SELECT nspname FROM pg_catalog.pg_namespace WHERE true" + like("nspname", cmd.GetDBSchemaFilterPattern()) + " ORDER BY nspname"
	rows, err := s.rowsOfCatalog(ctx, cmd.GetCatalog(), sql)
	if err != nil {
		return nil, nil, err
	}
	return oneBatch(schema_ref.DBSchemas, func(b *array.RecordBuilder) {
		for _, r := range rows {
			appendText(b, s.o.Database, r[0])
		}
	})
}

// rowsOfCatalog is rows, or nothing where another catalog is asked for.
func (s *Server) rowsOfCatalog(ctx context.Context, catalog *string, sql string) ([][]string, error) {
	if catalog != nil && *catalog != s.o.Database {
		return nil, nil
	}
	return s.rows(ctx, sql)
}

func like(column string, pattern *string) string {
	if pattern == nil {
		return ""
	}
	return " AND " + column + " LIKE " + quoteText(*pattern)
}

const tablesQuery = `SELECT n.nspname, c.relname,
 CASE WHEN n.nspname IN ('pg_catalog', 'information_schema') THEN 'SYSTEM TABLE' WHEN c.relkind = 'v' THEN 'VIEW' ELSE 'TABLE' END AS kind
 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'v')`

// GetFlightInfoTables implements flightsql.Server.
func (s *Server) GetFlightInfoTables(_ context.Context, cmd flightsql.GetTables, desc *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	if cmd.GetIncludeSchema() {
		return metadataInfo(desc, schema_ref.TablesWithIncludedSchema)
	}
	return metadataInfo(desc, schema_ref.Tables)
}

// DoGetTables implements flightsql.Server.
func (s *Server) DoGetTables(ctx context.Context, cmd flightsql.GetTables) (*arrow.Schema, <-chan flight.StreamChunk, error) {
	sql := tablesQuery + like("n.nspname", cmd.GetDBSchemaFilterPattern()) + like("c.relname", cmd.GetTableNameFilterPattern()) + " ORDER BY 3, 1, 2"
	rows, err := s.rowsOfCatalog(ctx, cmd.GetCatalog(), sql)
	if err != nil {
		return nil, nil, err
	}
	if wanted := cmd.GetTableTypes(); len(wanted) > 0 {
		kept := rows[:0]
		for _, r := range rows {
			for _, t := range wanted {
				if strings.EqualFold(t, r[2]) {
					kept = append(kept, r)
					break
				}
			}
		}
		rows = kept
	}
	if !cmd.GetIncludeSchema() {
		return oneBatch(schema_ref.Tables, func(b *array.RecordBuilder) {
			for _, r := range rows {
				appendText(b, s.o.Database, r[0], r[1], r[2])
			}
		})
	}
	schemas, err := s.tableSchemas(ctx, rows)
	if err != nil {
		return nil, nil, err
	}
	return oneBatch(schema_ref.TablesWithIncludedSchema, func(b *array.RecordBuilder) {
		for i, r := range rows {
			appendText(b, s.o.Database, r[0], r[1], r[2])
			b.Field(4).(*array.BinaryBuilder).Append(schemas[i])
		}
	})
}

func (s *Server) tableSchemas(ctx context.Context, tables [][]string) ([][]byte, error) {
	session, release, err := s.acquire(ctx, nil)
	if err != nil {
		return nil, toStatus(err)
	}
	defer release()
	out := make([][]byte, len(tables))
	for i, r := range tables {
		p, err := prepareOne(ctx, session, "SELECT * FROM "+quoteIdent(r[0])+"."+quoteIdent(r[1]))
		if err != nil {
			return nil, toStatus(err)
		}
		out[i] = flight.SerializeSchema(schemaOf(p.Columns()), memory.DefaultAllocator)
	}
	return out, nil
}

// GetFlightInfoTableTypes implements flightsql.Server.
func (s *Server) GetFlightInfoTableTypes(_ context.Context, desc *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	return metadataInfo(desc, schema_ref.TableTypes)
}

// DoGetTableTypes implements flightsql.Server.
func (s *Server) DoGetTableTypes(context.Context) (*arrow.Schema, <-chan flight.StreamChunk, error) {
	return oneBatch(schema_ref.TableTypes, func(b *array.RecordBuilder) {
		for _, t := range []string{"SYSTEM TABLE", "TABLE", "VIEW"} {
			appendText(b, t)
		}
	})
}

// GetFlightInfoPrimaryKeys implements flightsql.Server.
func (s *Server) GetFlightInfoPrimaryKeys(_ context.Context, _ flightsql.TableRef, desc *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	return metadataInfo(desc, schema_ref.PrimaryKeys)
}

// DoGetPrimaryKeys implements flightsql.Server.
func (s *Server) DoGetPrimaryKeys(ctx context.Context, ref flightsql.TableRef) (*arrow.Schema, <-chan flight.StreamChunk, error) {
	sql := `SELECT n.nspname, c.relname, a.attname, con.conname
 FROM pg_catalog.pg_constraint con
 JOIN pg_catalog.pg_class c ON c.oid = con.conrelid
 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY(con.conkey)
 WHERE con.contype = 'p' AND c.relname = ` + quoteText(ref.Table)
	if ref.DBSchema != nil {
		sql += " AND n.nspname = " + quoteText(*ref.DBSchema)
	}
	sql += " ORDER BY n.nspname, array_position(con.conkey, a.attnum)"
	rows, err := s.rowsOfCatalog(ctx, ref.Catalog, sql)
	if err != nil {
		return nil, nil, err
	}
	return oneBatch(schema_ref.PrimaryKeys, func(b *array.RecordBuilder) {
		sequence, schema := int32(0), ""
		for _, r := range rows {
			if r[0] != schema {
				sequence, schema = 0, r[0]
			}
			sequence++
			appendText(b, s.o.Database, r[0], r[1], r[2])
			b.Field(4).(*array.Int32Builder).Append(sequence)
			b.Field(5).(*array.StringBuilder).Append(r[3])
		}
	})
}
