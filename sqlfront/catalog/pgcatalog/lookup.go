package pgcatalog

import (
	"sort"

	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront/catalog"
)

// Names and OIDs of the built-in schemas, as in PostgreSQL.
const (
	SchemaPgCatalog         = "pg_catalog"
	SchemaInformationSchema = "information_schema"
	SchemaPublic            = "public"

	oidPgCatalog         = 11
	oidPublic            = 2200
	oidInformationSchema = 13183

	ownerOID    = 10 // the bootstrap superuser
	databaseOID = 16383
	heapAM      = 2
	btreeAM     = 403
	tablespace  = 1663 // pg_default
)

// Source is the catalog as of one schema version.
type Source interface {
	// Tables returns the user's tables.
	Tables() []*catalog.Table
	// Schemas returns the schemas besides the two system ones.
	Schemas() []catalog.Schema
	TableStats(id int64) catalog.Stats
}

// Setting is a row of pg_settings.
type Setting struct{ Name, Value, Description string }

// Session is what the catalogs tell of the session itself.
type Session struct {
	Database, User string
	Settings       func() []Setting
}

// Lookup returns the system table of this name, or nil.
func Lookup(src Source, session Session, schema, name string) *catalog.VirtualTable {
	s := specs()[schema+"."+name]
	if s == nil {
		return nil
	}
	return &catalog.VirtualTable{
		OID: s.oid, Schema: s.schema, Name: s.name, Columns: s.columns,
		Rows: func() ([][]sqltypes.Datum, error) {
			fill := fillers[schema+"."+name]
			if fill == nil {
				return nil, nil
			}
			b := &builder{rowSet: rowSet{spec: s}, src: src, session: session}
			fill(b)
			return b.rows, nil
		},
	}
}

// builder fills one table.
type builder struct {
	rowSet
	src     Source
	session Session
}

// fillers compute the tables that are not empty.
var fillers map[string]func(*builder)

func init() {
	fillers = map[string]func(*builder){
		"pg_catalog.pg_class": fillClass, "pg_catalog.pg_attribute": fillAttribute,
		"pg_catalog.pg_index": fillIndex, "pg_catalog.pg_constraint": fillConstraint,
		"pg_catalog.pg_attrdef": fillAttrdef, "pg_catalog.pg_description": fillDescription,
		"pg_catalog.pg_namespace": fillNamespace, "pg_catalog.pg_database": fillDatabase,
		"pg_catalog.pg_type": fillType, "pg_catalog.pg_am": fillAM,
		"pg_catalog.pg_roles": fillRoles, "pg_catalog.pg_authid": fillAuthid, "pg_catalog.pg_user": fillUser,
		"pg_catalog.pg_tablespace": fillTablespace, "pg_catalog.pg_collation": fillCollation,
		"pg_catalog.pg_language": fillLanguage, "pg_catalog.pg_settings": fillSettings,
		"pg_catalog.pg_tables": fillTables, "pg_catalog.pg_indexes": fillIndexes,
		"pg_catalog.pg_stat_user_tables":             fillStatUserTables,
		"information_schema.tables":                  fillInfoTables,
		"information_schema.columns":                 fillInfoColumns,
		"information_schema.schemata":                fillInfoSchemata,
		"information_schema.table_constraints":       fillInfoTableConstraints,
		"information_schema.key_column_usage":        fillInfoKeyColumnUsage,
		"information_schema.check_constraints":       fillInfoCheckConstraints,
		"information_schema.character_sets":          fillInfoCharacterSets,
		"information_schema.constraint_column_usage": fillInfoConstraintColumnUsage,
	}
}

// schemaOID returns the OID of a schema by name.
func schemaOID(src Source, name string) int64 {
	switch name {
	case SchemaPgCatalog:
		return oidPgCatalog
	case SchemaInformationSchema:
		return oidInformationSchema
	case SchemaPublic:
		return oidPublic
	}
	for _, s := range src.Schemas() {
		if s.Name == name {
			return s.ID
		}
	}
	return 0
}

// sortedSpecs lists the system tables in a stable order.
func sortedSpecs() []*spec {
	out := make([]*spec, 0, len(specs()))
	for _, s := range specs() {
		out = append(out, s)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].oid < out[j].oid })
	return out
}

// indexesOf returns the primary key, if any, and the secondary indexes.
func indexesOf(t *catalog.Table) []*catalog.Index {
	var out []*catalog.Index
	if t.PrimaryKey != nil {
		out = append(out, t.PrimaryKey)
	}
	return append(out, t.Indexes...)
}
