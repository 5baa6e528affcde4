package sqlfront

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront/ast"
	"github.com/copradb/copra/sqlfront/catalog"
	"github.com/copradb/copra/sqlfront/catalog/pgcatalog"
)

// exprSession answers what functions ask of the session.
type exprSession struct {
	s    *session
	view *catalog.View
}

// CurrentUser implements expr.Session.
func (e *exprSession) CurrentUser() string { return e.s.user }

// SessionUser implements expr.Session.
func (e *exprSession) SessionUser() string { return e.s.user }

// CurrentDatabase implements expr.Session.
func (e *exprSession) CurrentDatabase() string { return catalog.Database }

// SearchPath implements expr.Session.
func (e *exprSession) SearchPath(implicit bool) []string {
	path := e.view.Path()
	if !implicit {
		return path
	}
	for _, p := range path {
		if p == catalog.SchemaCatalog {
			return path
		}
	}
	return append([]string{catalog.SchemaCatalog}, path...)
}

// Setting implements expr.Session.
func (e *exprSession) Setting(name string) (string, bool) {
	_, v, err := e.s.show(strings.ToLower(name))
	return v, err == nil
}

// Catalog is the catalog that the statement sees, for functions of the system
// catalogs.
func (e *exprSession) Catalog() *catalog.View { return e.view }

// BackendID is pg_backend_pid's answer.
func (e *exprSession) BackendID() int64 { return int64(e.s.id) }

// RegOID implements expr.Session.
func (e *exprSession) RegOID(t sqltypes.Type, name string) (uint32, error) {
	if n, err := strconv.ParseUint(name, 10, 32); err == nil {
		return uint32(n), nil
	}
	parts := splitQualified(name)
	switch t.OID {
	case sqltypes.OIDRegclass:
		return e.regClass(parts, name)
	case sqltypes.OIDRegtype:
		base, dims := strings.TrimSuffix(name, "[]"), 0
		if base != name {
			dims = 1
		}
		typ, err := sqltypes.ByName(splitQualified(base), nil, dims)
		return typ.OID, err
	case sqltypes.OIDRegnamespace:
		if sc := e.view.Schema(parts[0]); sc != nil && len(parts) == 1 {
			return uint32(sc.ID), nil
		}
		return 0, pgerror.New(pgerror.InvalidSchemaName, "schema \"%s\" does not exist", name)
	case sqltypes.OIDRegrole:
		if name == RootUser {
			return rootRoleOID, nil
		}
		return 0, pgerror.New(pgerror.UndefinedObject, "role \"%s\" does not exist", name)
	}
	return 0, pgerror.New(pgerror.UndefinedFunction, "function \"%s\" does not exist", name)
}

// rootRoleOID is the OID of PostgreSQL's first role.
const rootRoleOID = 10

func (e *exprSession) regClass(parts []string, name string) (uint32, error) {
	n := nameOf(parts)
	r, err := e.view.Resolve(n.Schema, n.Name)
	switch {
	case err == nil && r.Table != nil:
		return uint32(r.Table.ID), nil
	case err == nil:
		return uint32(r.Virtual.OID), nil
	}
	if ix := e.findIndex(n); ix != nil {
		return uint32(ix.OID), nil
	}
	if _, c := e.findSequence(n); c != nil {
		return uint32(c.SequenceID), nil
	}
	return 0, pgerror.New(pgerror.UndefinedTable, "relation \"%s\" does not exist", name)
}

func (e *exprSession) schemas(n ast.TableName) []string {
	if n.Schema != "" {
		return []string{n.Schema}
	}
	return e.view.Path()
}

func (e *exprSession) findIndex(n ast.TableName) *catalog.Index {
	for _, sc := range e.schemas(n) {
		if t := e.view.IndexTable(sc, n.Name); t != nil {
			for _, ix := range t.AllIndexes() {
				if ix.Name == n.Name {
					return ix
				}
			}
		}
	}
	return nil
}

// SequenceName is the name of the sequence behind a serial or identity column.
func SequenceName(t *catalog.Table, c *catalog.Column) string {
	return objectName(t.Name, c.Name, "seq")
}

// findSequence finds the column behind a sequence's name.
func (e *exprSession) findSequence(n ast.TableName) (*catalog.Table, *catalog.Column) {
	for _, sc := range e.schemas(n) {
		for _, t := range e.view.Tables() {
			if t.Schema != sc {
				continue
			}
			for i := range t.Columns {
				if c := &t.Columns[i]; c.SequenceID != 0 && SequenceName(t, c) == n.Name {
					return t, c
				}
			}
		}
	}
	return nil, nil
}

// RegName implements expr.Session.
func (e *exprSession) RegName(t sqltypes.Type, oid uint32) (string, bool) {
	switch t.OID {
	case sqltypes.OIDRegclass:
		if tab := e.view.TableByID(int64(oid)); tab != nil {
			return e.qualify(tab.Schema, tab.Name), true
		}
		for _, tab := range e.view.Tables() {
			for _, ix := range tab.AllIndexes() {
				if ix.OID == int64(oid) {
					return e.qualify(tab.Schema, ix.Name), true
				}
			}
		}
		if tab, c := e.sequenceByOID(int64(oid)); c != nil {
			return e.qualify(tab.Schema, SequenceName(tab, c)), true
		}
		if schema, name, ok := pgcatalog.Name(oid); ok {
			return e.qualify(schema, name), true
		}
	case sqltypes.OIDRegtype:
		if typ := sqltypes.TypeOf(oid); typ.Known() {
			return typ.Name(), true
		}
	case sqltypes.OIDRegnamespace:
		for _, sc := range e.view.Schemas() {
			if sc.ID == int64(oid) {
				return sc.Name, true
			}
		}
	case sqltypes.OIDRegrole:
		if oid == rootRoleOID {
			return RootUser, true
		}
	}
	return "", false
}

// RegName implements Session: names as of the newest schema that this session
// sees.
func (s *session) RegName(t sqltypes.Type, oid uint32) (string, bool) {
	ctx, cancel := context.WithTimeout(context.Background(), regNameTimeout)
	defer cancel()
	snap, err := s.bindSnapshot(ctx)
	if err != nil {
		return "", false
	}
	return (&exprSession{s: s, view: snap.View(s.env())}).RegName(t, oid)
}

// regNameTimeout bounds the wait for the schema before an OID prints as a
// number.
const regNameTimeout = 2 * time.Second

// sequenceByOID finds the column behind a sequence.
func (e *exprSession) sequenceByOID(oid int64) (*catalog.Table, *catalog.Column) {
	for _, t := range e.view.Tables() {
		for i := range t.Columns {
			if c := &t.Columns[i]; c.SequenceID == oid && oid != 0 {
				return t, c
			}
		}
	}
	return nil, nil
}

// qualify writes a relation's name as regclass prints it: with its schema where
// the search path doesn't find it.
func (e *exprSession) qualify(schema, name string) string {
	if r, err := e.view.Resolve("", name); err == nil && (r.Table != nil && r.Table.Schema == schema || r.Virtual != nil && r.Virtual.Schema == schema) {
		return quoteIdent(name)
	}
	for _, p := range e.view.Path() {
		if p == schema {
			return quoteIdent(name)
		}
	}
	return quoteIdent(schema) + "." + quoteIdent(name)
}

func quoteIdent(name string) string {
	plain := name != ""
	for i, r := range name {
		letter := r >= 'a' && r <= 'z' || r == '_'
		if !letter && (i == 0 || !(r >= '0' && r <= '9')) {
			plain = false
		}
	}
	if plain {
		return name
	}
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}

// splitQualified takes a dotted, perhaps quoted name apart.
func splitQualified(name string) []string {
	var out []string
	var part strings.Builder
	quoted := false
	for i := 0; i < len(name); i++ {
		switch c := name[i]; {
		case c == '"' && quoted && i+1 < len(name) && name[i+1] == '"':
			part.WriteByte(c)
			i++
		case c == '"':
			quoted = !quoted
		case c == '.' && !quoted:
			out = append(out, part.String())
			part.Reset()
		case !quoted && c >= 'A' && c <= 'Z':
			part.WriteByte(c + 'a' - 'A')
		default:
			part.WriteByte(c)
		}
	}
	return append(out, strings.TrimSpace(part.String()))
}
