package pgcatalog

import (
	"sort"
	"sync"

	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront/catalog"
)

// OIDs of what every database has, as in PostgreSQL.
const (
	ownerOID   = 10 // the bootstrap superuser
	heapAM     = 2
	btreeAM    = 403
	tablespace = 1663 // pg_default
)

// Source is the catalog as of one schema version; *catalog.Snapshot is one.
type Source interface {
	Tables() []*catalog.Table
	Schemas() []*catalog.Schema
	TableStats(id int64) catalog.Stats
}

// Virtuals implements catalog.Virtuals.
type Virtuals struct{}

// Virtual returns the system table of this name, or nil.
func (Virtuals) Virtual(env *catalog.Env, schema, name string) *catalog.VirtualTable {
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
			b := &builder{rowSet: rowSet{spec: s}, src: env.Snapshot, env: env}
			fill(b)
			return b.rows, nil
		},
	}
}

// builder fills one table.
type builder struct {
	rowSet
	src Source
	env *catalog.Env
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

// schemaOID returns the OID of a schema by name, or 0.
func schemaOID(src Source, name string) int64 {
	for _, s := range src.Schemas() {
		if s.Name == name {
			return s.ID
		}
	}
	return 0
}

// specsByOID finds a system table by its OID.
var specsByOID = sync.OnceValue(func() map[int64]*spec {
	out := make(map[int64]*spec, len(specs()))
	for _, s := range specs() {
		out[s.oid] = s
	}
	return out
})

// sortedSpecs lists the system tables in a stable order.
func sortedSpecs() []*spec {
	out := make([]*spec, 0, len(specs()))
	for _, s := range specs() {
		out = append(out, s)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].oid < out[j].oid })
	return out
}
