package catalog

import (
	"sort"

	"github.com/copradb/copra/internal/pgerror"
)

// Names of the schemas that always exist.
const (
	SchemaPublic  = "public"
	SchemaCatalog = "pg_catalog"
	SchemaInfo    = "information_schema"
	// PublicSchemaID and the like are their OIDs in pg_namespace, as in PostgreSQL.
	PublicSchemaID  = 2200
	CatalogSchemaID = 11
	InfoSchemaID    = 13000
	// Database is the only database, DatabaseID its OID.
	Database   = "copra"
	DatabaseID = 5
)

// Env is who asks for a system table.
type Env struct {
	Snapshot   *Snapshot
	User       string
	SearchPath []string
	// Settings lists the session's settings (pg_settings); may be nil.
	Settings func() []Setting
}

// Setting is a row of pg_settings.
type Setting struct{ Name, Value, Description, Default string }

// Virtuals makes the system tables of pg_catalog and information_schema.
type Virtuals interface {
	// Virtual returns the table with this name, or nil. schema is one of
	// pg_catalog and information_schema.
	Virtual(env *Env, schema, name string) *VirtualTable
}

// Snapshot is the catalog as of one schema version. It is immutable.
type Snapshot struct {
	version  int64
	schemas  map[string]*Schema
	byID     map[int64]*Table
	byName   map[qualified]*Table
	indexes  map[qualified]*Table // the table of an index
	stats    map[int64]Stats
	virtuals Virtuals
}

type qualified struct{ schema, name string }

func newSnapshot(version int64, virtuals Virtuals) *Snapshot {
	s := &Snapshot{
		version: version, virtuals: virtuals,
		schemas: make(map[string]*Schema), byID: make(map[int64]*Table),
		byName: make(map[qualified]*Table), indexes: make(map[qualified]*Table), stats: make(map[int64]Stats),
	}
	for _, b := range []Schema{{ID: PublicSchemaID, Name: SchemaPublic}, {ID: CatalogSchemaID, Name: SchemaCatalog}, {ID: InfoSchemaID, Name: SchemaInfo}} {
		s.schemas[b.Name] = &b
	}
	return s
}

func (s *Snapshot) addTable(t *Table) {
	s.byID[t.ID] = t
	s.byName[qualified{t.Schema, t.Name}] = t
	for _, ix := range t.AllIndexes() {
		s.indexes[qualified{t.Schema, ix.Name}] = t
	}
}

func (s *Snapshot) removeTable(t *Table) {
	delete(s.byID, t.ID)
	delete(s.byName, qualified{t.Schema, t.Name})
	for _, ix := range t.AllIndexes() {
		delete(s.indexes, qualified{t.Schema, ix.Name})
	}
}

// clone copies the maps, not the descriptors.
func (s *Snapshot) clone() *Snapshot {
	c := newSnapshot(s.version, s.virtuals)
	for k, v := range s.schemas {
		c.schemas[k] = v
	}
	for k, v := range s.byID {
		c.byID[k] = v
	}
	for k, v := range s.byName {
		c.byName[k] = v
	}
	for k, v := range s.indexes {
		c.indexes[k] = v
	}
	for k, v := range s.stats {
		c.stats[k] = v
	}
	return c
}

// AllIndexes returns the primary key, if there is one, and the secondary indexes.
func (t *Table) AllIndexes() []*Index {
	if t.PrimaryKey == nil {
		return t.Indexes
	}
	return append([]*Index{t.PrimaryKey}, t.Indexes...)
}

// HasPrimaryKey reports whether the table has a primary key: the one its rows are
// kept under, or one that was added later and is an index.
func (t *Table) HasPrimaryKey() bool {
	for _, ix := range t.AllIndexes() {
		if ix.Primary {
			return true
		}
	}
	return false
}

// HasCheck reports whether the table has a CHECK constraint of this name.
func (t *Table) HasCheck(name string) bool {
	for _, c := range t.Checks {
		if c.Name == name {
			return true
		}
	}
	return false
}

// Clone copies the descriptor deeply enough to be changed.
func (t *Table) Clone() *Table {
	c := *t
	c.Columns = append([]Column(nil), t.Columns...)
	c.Checks = append([]Check(nil), t.Checks...)
	if t.PrimaryKey != nil {
		c.PrimaryKey = t.PrimaryKey.clone()
	}
	c.Indexes = make([]*Index, len(t.Indexes))
	for i, ix := range t.Indexes {
		c.Indexes[i] = ix.clone()
	}
	return &c
}

func (ix *Index) clone() *Index {
	c := *ix
	c.Columns = append([]IndexColumn(nil), ix.Columns...)
	return &c
}

// Version is the schema version.
func (s *Snapshot) Version() int64 { return s.version }

// TableByID returns a table by id/OID, or nil.
func (s *Snapshot) TableByID(id int64) *Table { return s.byID[id] }

// TableStats returns the table's statistics.
func (s *Snapshot) TableStats(id int64) Stats { return s.stats[id] }

// Tables returns all tables, by schema and name.
func (s *Snapshot) Tables() []*Table {
	out := make([]*Table, 0, len(s.byID))
	for _, t := range s.byID {
		out = append(out, t)
	}
	sort.Slice(out, func(i, j int) bool {
		if out[i].Schema != out[j].Schema {
			return out[i].Schema < out[j].Schema
		}
		return out[i].Name < out[j].Name
	})
	return out
}

// Schemas returns all schemas by name.
func (s *Snapshot) Schemas() []*Schema {
	out := make([]*Schema, 0, len(s.schemas))
	for _, sc := range s.schemas {
		out = append(out, sc)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// Schema returns a schema by name, or nil.
func (s *Snapshot) Schema(name string) *Schema { return s.schemas[name] }

// Table returns the table with this name, or nil.
func (s *Snapshot) Table(schema, name string) *Table { return s.byName[qualified{schema, name}] }

// IndexTable returns the table that has an index of this name, or nil.
func (s *Snapshot) IndexTable(schema, name string) *Table { return s.indexes[qualified{schema, name}] }

// NameTaken reports whether a relation of this name, table or index, exists.
func (s *Snapshot) NameTaken(schema, name string) bool {
	return s.Table(schema, name) != nil || s.IndexTable(schema, name) != nil
}

// View is a Snapshot seen by one session, with its search path; it is the
// Reader that the binder gets.
type View struct {
	*Snapshot
	env Env
}

// View returns the snapshot as a session sees it.
func (s *Snapshot) View(env Env) *View {
	env.Snapshot = s
	return &View{Snapshot: s, env: env}
}

// Resolve implements Reader.
func (v *View) Resolve(schema, name string) (Relation, error) {
	if schema != "" {
		if r, ok := v.lookup(schema, name); ok {
			return r, nil
		}
		return Relation{}, pgerror.New(pgerror.UndefinedTable, "relation \"%s.%s\" does not exist", schema, name)
	}
	for _, s := range v.path() {
		if r, ok := v.lookup(s, name); ok {
			return r, nil
		}
	}
	return Relation{}, pgerror.New(pgerror.UndefinedTable, "relation \"%s\" does not exist", name)
}

// path is the search path with pg_catalog, first unless it is named.
func (v *View) path() []string {
	for _, s := range v.env.SearchPath {
		if s == SchemaCatalog {
			return v.env.SearchPath
		}
	}
	return append([]string{SchemaCatalog}, v.env.SearchPath...)
}

func (v *View) lookup(schema, name string) (Relation, bool) {
	if schema == SchemaCatalog || schema == SchemaInfo {
		if v.virtuals != nil {
			if t := v.virtuals.Virtual(&v.env, schema, name); t != nil {
				return Relation{Virtual: t}, true
			}
		}
		return Relation{}, false
	}
	if t := v.Table(schema, name); t != nil {
		return Relation{Table: t}, true
	}
	return Relation{}, false
}

// Path returns the schemas of the search path that exist, without pg_catalog
// unless it was named.
func (v *View) Path() []string {
	var out []string
	for _, s := range v.env.SearchPath {
		if v.schemas[s] != nil {
			out = append(out, s)
		}
	}
	return out
}

// CreationSchema is where an unqualified CREATE goes: the first schema of the
// search path that exists.
func (v *View) CreationSchema() (string, error) {
	for _, s := range v.env.SearchPath {
		if v.schemas[s] != nil && s != SchemaCatalog {
			return s, nil
		}
	}
	return "", pgerror.New(pgerror.InvalidSchemaName, "no schema has been selected to create in")
}
