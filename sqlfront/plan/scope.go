package plan

import (
	"strings"

	"github.com/copradb/copra/internal/pgerror"
)

// scopeCol is a column as a name in scope.
type scopeCol struct {
	name string
	id   ColID
}

// scopeRel is an element of FROM as a qualifier: alias.column.
type scopeRel struct {
	schema string // set for a table without an alias
	name   string
	table  string // the table's own name behind an alias
	cols   []scopeCol
	oid    uint32
	// single is the column of a function in FROM that returns one scalar, which
	// its alias alone may name; 0 otherwise.
	single ColID
}

// scope is what names mean at one query level. visible are the columns that
// an unqualified name and * see: JOIN USING merges two into one.
type scope struct {
	parent  *scope
	rels    []*scopeRel
	visible []scopeCol
	ctes    map[string]*cteDef
	level   *level // aggregates and windows of the query level, nil where none may stand
}

// newScope is a scope without relations.
func newScope(parent *scope) *scope { return &scope{parent: parent} }

// findCTE looks for a WITH item from the innermost level out.
func (s *scope) findCTE(name string) *cteDef {
	for ; s != nil; s = s.parent {
		if c := s.ctes[name]; c != nil {
			return c
		}
	}
	return nil
}

// addRel puts a relation into the scope; its columns become visible.
func (s *scope) addRel(r *scopeRel, pos int) error {
	for _, o := range s.rels {
		if o.name == r.name && o.name != "" && (o.schema == r.schema || o.schema == "" || r.schema == "") {
			return pgerror.New(pgerror.DuplicateAlias, "table name %q specified more than once", r.name).At(pos)
		}
	}
	s.rels = append(s.rels, r)
	s.visible = append(s.visible, r.cols...)
	return nil
}

// merge takes all relations and visible columns of o.
func (s *scope) merge(o *scope, pos int) error {
	for _, r := range o.rels {
		for _, have := range s.rels {
			if have.name == r.name && r.name != "" && (have.schema == r.schema || have.schema == "" || r.schema == "") {
				return pgerror.New(pgerror.DuplicateAlias, "table name %q specified more than once", r.name).At(pos)
			}
		}
		s.rels = append(s.rels, r)
	}
	s.visible = append(s.visible, o.visible...)
	return nil
}

// found is a resolved name and the scope that has it.
type found struct {
	id    ColID
	scope *scope
}

// resolve finds the column that parts name.
func (s *scope) resolve(parts []string, pos int) (found, error) {
	if len(parts) == 1 {
		return s.resolveBare(parts[0], pos)
	}
	return s.resolveQualified(parts, pos)
}

func (s *scope) resolveBare(name string, pos int) (found, error) {
	for sc := s; sc != nil; sc = sc.parent {
		var hit ColID
		for _, c := range sc.visible {
			if c.name != name {
				continue
			}
			if hit != 0 && hit != c.id {
				return found{}, pgerror.New(pgerror.AmbiguousColumn, "column reference %q is ambiguous", name).At(pos)
			}
			hit = c.id
		}
		if hit != 0 {
			return found{hit, sc}, nil
		}
	}
	// A function in FROM that returns one scalar may be named by its alias.
	for sc := s; sc != nil; sc = sc.parent {
		for _, r := range sc.rels {
			if r.name == name && r.single != 0 {
				return found{r.single, sc}, nil
			}
		}
	}
	for sc := s; sc != nil; sc = sc.parent {
		for _, r := range sc.rels {
			if r.name == name {
				return found{}, pgerror.Unsupported("a whole-row reference (" + name + ")").At(pos)
			}
		}
	}
	return found{}, pgerror.New(pgerror.UndefinedColumn, "column %q does not exist", name).At(pos)
}

// aliased finds the relation that has an alias in place of its name.
func (s *scope) aliased(table string) *scopeRel {
	for sc := s; sc != nil; sc = sc.parent {
		for _, r := range sc.rels {
			if r.table == table {
				return r
			}
		}
	}
	return nil
}

// relation finds a qualifier. The error names what Postgres would.
func (s *scope) relation(schema, name string, pos int) (*scopeRel, *scope, error) {
	for sc := s; sc != nil; sc = sc.parent {
		var hit *scopeRel
		for _, r := range sc.rels {
			if r.name != name || schema != "" && r.schema != schema {
				continue
			}
			if hit != nil {
				return nil, nil, pgerror.New(pgerror.AmbiguousAlias, "table reference %q is ambiguous", name).At(pos)
			}
			hit = r
		}
		if hit == nil {
			continue
		}
		return hit, sc, nil
	}
	if r := s.aliased(name); r != nil && schema == "" {
		return nil, nil, pgerror.New(pgerror.UndefinedTable, "invalid reference to FROM-clause entry for table %q", name).
			WithHint("Perhaps you meant to reference the table alias %q.", r.name).At(pos)
	}
	if schema != "" {
		name = schema + "." + name
	}
	return nil, nil, pgerror.New(pgerror.UndefinedTable, "missing FROM-clause entry for table %q", name).At(pos)
}

func (s *scope) resolveQualified(parts []string, pos int) (found, error) {
	if len(parts) > 4 {
		return found{}, pgerror.New(pgerror.SyntaxError, "improper qualified name (too many dotted names): %s", strings.Join(parts, ".")).At(pos)
	}
	col, name, schema := parts[len(parts)-1], parts[len(parts)-2], ""
	if len(parts) > 2 {
		schema = parts[len(parts)-3]
	}
	r, sc, err := s.relation(schema, name, pos)
	if err != nil {
		return found{}, err
	}
	var hit ColID
	for _, c := range r.cols {
		if c.name != col {
			continue
		}
		if hit != 0 {
			return found{}, pgerror.New(pgerror.AmbiguousColumn, "column reference %q is ambiguous", col).At(pos)
		}
		hit = c.id
	}
	if hit == 0 {
		return found{}, pgerror.New(pgerror.UndefinedColumn, "column %s.%s does not exist", name, col).At(pos)
	}
	return found{hit, sc}, nil
}
