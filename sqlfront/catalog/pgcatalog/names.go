package pgcatalog

import (
	"strconv"
	"strings"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// RegOID resolves text as the input of regclass, regtype, regnamespace,
// regrole or regproc: a number, or a name looked up along the search path.
func RegOID(src Source, user string, searchPath []string, t sqltypes.Type, text string) (uint32, error) {
	text = strings.TrimSpace(text)
	if n, err := strconv.ParseUint(text, 10, 32); err == nil {
		return uint32(n), nil
	}
	if text == "-" {
		return 0, nil
	}
	parts, err := splitName(text)
	if err != nil {
		return 0, err
	}
	name := parts[len(parts)-1]
	switch t.OID {
	case sqltypes.OIDRegclass:
		return relationOID(src, searchPath, parts, text)
	case sqltypes.OIDRegtype:
		typ, err := sqltypes.ByName(typeSpelling(parts), nil, 0)
		if err != nil {
			return 0, err
		}
		return typ.OID, nil
	case sqltypes.OIDRegnamespace:
		if oid := schemaOID(src, name); oid != 0 {
			return uint32(oid), nil
		}
		return 0, pgerror.New(pgerror.InvalidSchemaName, "schema %q does not exist", name)
	case sqltypes.OIDRegrole:
		if name == user {
			return ownerOID, nil
		}
		return 0, pgerror.New(pgerror.UndefinedObject, "role %q does not exist", name)
	}
	return 0, pgerror.New(pgerror.UndefinedFunction, "function %q does not exist", text)
}

func typeSpelling(parts []string) []string {
	if len(parts) == 1 {
		switch parts[0] {
		case "integer", "int":
			return []string{"int4"}
		case "bigint":
			return []string{"int8"}
		case "smallint":
			return []string{"int2"}
		case "boolean":
			return []string{"bool"}
		case "real":
			return []string{"float4"}
		case "double precision":
			return []string{"float8"}
		case "character varying":
			return []string{"varchar"}
		case "decimal":
			return []string{"numeric"}
		case "timestamp with time zone":
			return []string{"timestamptz"}
		case "timestamp without time zone":
			return []string{"timestamp"}
		}
	}
	return parts
}

func relationOID(src Source, searchPath, parts []string, text string) (uint32, error) {
	name, schemas := parts[len(parts)-1], searchPath
	if len(parts) > 1 {
		schemas = []string{parts[len(parts)-2]}
		if schemaOID(src, schemas[0]) == 0 {
			return 0, pgerror.New(pgerror.InvalidSchemaName, "schema %q does not exist", schemas[0])
		}
	}
	for _, schema := range schemas {
		if s := specs()[schema+"."+name]; s != nil {
			return uint32(s.oid), nil
		}
		for _, t := range src.Tables() {
			if t.Schema != schema {
				continue
			}
			if t.Name == name {
				return uint32(t.ID), nil
			}
			for _, ix := range indexesOf(t) {
				if ix.Name == name {
					return uint32(ix.OID), nil
				}
			}
		}
	}
	return 0, pgerror.New(pgerror.UndefinedTable, "relation %q does not exist", text)
}

// RegName is how an OID of a reg* type prints; false for an unknown OID.
func RegName(src Source, user string, searchPath []string, t sqltypes.Type, oid uint32) (string, bool) {
	switch t.OID {
	case sqltypes.OIDRegclass:
		return relationName(src, searchPath, int64(oid))
	case sqltypes.OIDRegtype:
		if typ := sqltypes.TypeOf(oid); typ.Known() {
			return typ.Name(), true
		}
	case sqltypes.OIDRegnamespace:
		for _, s := range src.Schemas() {
			if s.ID == int64(oid) {
				return quoteIdent(s.Name), true
			}
		}
	case sqltypes.OIDRegrole:
		if oid == ownerOID {
			return quoteIdent(user), true
		}
	}
	return "", false
}

func relationName(src Source, searchPath []string, oid int64) (string, bool) {
	schema, name := "", ""
	if t, ix := tableByID(src, oid); t != nil {
		schema, name = t.Schema, t.Name
		if ix != nil {
			name = ix.Name
		}
	} else {
		for _, s := range sortedSpecs() {
			if s.oid == oid {
				schema, name = s.schema, s.name
			}
		}
	}
	if name == "" {
		return "", false
	}
	for _, s := range searchPath {
		if s == schema {
			return quoteIdent(name), true
		}
	}
	return quoteIdent(schema) + "." + quoteIdent(name), true
}

// splitName splits a possibly quoted, possibly qualified name and folds what
// is not quoted to lower case.
func splitName(text string) ([]string, error) {
	var (
		parts  []string
		part   strings.Builder
		quoted bool
	)
	for i := 0; i < len(text); i++ {
		ch := text[i]
		switch {
		case ch == '"' && quoted && i+1 < len(text) && text[i+1] == '"':
			part.WriteByte('"')
			i++
		case ch == '"':
			quoted = !quoted
		case ch == '.' && !quoted:
			parts = append(parts, part.String())
			part.Reset()
		case !quoted && ch >= 'A' && ch <= 'Z':
			part.WriteByte(ch + 'a' - 'A')
		default:
			part.WriteByte(ch)
		}
	}
	parts = append(parts, part.String())
	for _, p := range parts {
		if quoted || p == "" {
			return nil, pgerror.New(pgerror.InvalidName, "invalid name syntax")
		}
	}
	return parts, nil
}
