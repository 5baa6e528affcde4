package pgcatalog

import (
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront/catalog"
)

func fillTables(b *builder) {
	add := func(schema, name string, indexed bool) {
		b.add(values{
			"schemaname": schema, "tablename": name, "tableowner": b.env.User, "hasindexes": indexed,
			"hasrules": false, "hastriggers": false, "rowsecurity": false,
		})
	}
	for _, t := range b.src.Tables() {
		add(t.Schema, t.Name, len(t.AllIndexes()) > 0)
	}
	for _, s := range sortedSpecs() {
		if s.schema == catalog.SchemaCatalog {
			add(s.schema, s.name, false)
		}
	}
}

func fillIndexes(b *builder) {
	for _, t := range b.src.Tables() {
		for _, ix := range t.AllIndexes() {
			b.add(values{"schemaname": t.Schema, "tablename": t.Name, "indexname": ix.Name, "indexdef": IndexDef(t, ix)})
		}
	}
}

func fillStatUserTables(b *builder) {
	for _, t := range b.src.Tables() {
		b.add(values{"relid": t.ID, "schemaname": t.Schema, "relname": t.Name, "n_live_tup": b.src.TableStats(t.ID).Rows, "n_dead_tup": 0})
	}
}

func fillInfoTables(b *builder) {
	add := func(schema, name, kind, insertable string) {
		b.add(values{
			"table_catalog": catalog.Database, "table_schema": schema, "table_name": name, "table_type": kind,
			"is_insertable_into": insertable, "is_typed": "NO",
		})
	}
	for _, t := range b.src.Tables() {
		add(t.Schema, t.Name, "BASE TABLE", "YES")
	}
	for _, s := range sortedSpecs() {
		add(s.schema, s.name, "VIEW", "NO")
	}
}

func yesNo(b bool) string {
	if b {
		return "YES"
	}
	return "NO"
}

func fillInfoColumns(b *builder) {
	row := func(schema, table string, i int, c catalog.Column, insertable bool) values {
		v := values{
			"table_catalog": catalog.Database, "table_schema": schema, "table_name": table, "column_name": c.Name,
			"ordinal_position": i + 1, "is_nullable": yesNo(!c.NotNull), "data_type": c.Type.Base().Name(),
			"udt_catalog": catalog.Database, "udt_schema": catalog.SchemaCatalog, "udt_name": c.Type.PgName(), "dtd_identifier": itoa(i + 1),
			"is_self_referencing": "NO", "is_identity": yesNo(c.Identity == "a" || c.Identity == "d"), "is_generated": "NEVER",
			"is_updatable": yesNo(insertable), "identity_cycle": "NO",
		}
		switch c.Type.OID {
		case sqltypes.OIDVarchar, sqltypes.OIDBpchar:
			if n := c.Type.Precision; n > 0 {
				v["character_maximum_length"], v["character_octet_length"] = n, n*4
			}
		case sqltypes.OIDNumeric:
			v["numeric_precision_radix"] = 10
			if c.Type.Precision > 0 {
				v["numeric_precision"], v["numeric_scale"] = c.Type.Precision, c.Type.Scale
			}
		case sqltypes.OIDInt2, sqltypes.OIDInt4, sqltypes.OIDInt8:
			v["numeric_precision"], v["numeric_precision_radix"], v["numeric_scale"] = int(c.Type.Size())*8, 2, 0
		case sqltypes.OIDFloat4:
			v["numeric_precision"], v["numeric_precision_radix"] = 24, 2
		case sqltypes.OIDFloat8:
			v["numeric_precision"], v["numeric_precision_radix"] = 53, 2
		case sqltypes.OIDDate:
			v["datetime_precision"] = 0
		case sqltypes.OIDTimestamp, sqltypes.OIDTimestamptz, sqltypes.OIDTime:
			v["datetime_precision"] = 6
			if c.Type.Precision > 0 {
				v["datetime_precision"] = c.Type.Precision - 1
			}
		}
		return v
	}
	for _, t := range b.src.Tables() {
		for i, c := range t.Columns {
			v := row(t.Schema, t.Name, i, c, true)
			if hasDefault(c) {
				v["column_default"] = defaultText(t, c)
			}
			b.add(v)
		}
	}
	for _, s := range sortedSpecs() {
		for i, c := range s.columns {
			b.add(row(s.schema, s.name, i, c, false))
		}
	}
}

func fillInfoSchemata(b *builder) {
	for _, s := range b.src.Schemas() {
		b.add(values{"catalog_name": catalog.Database, "schema_name": s.Name, "schema_owner": b.env.User})
	}
}

// eachKey visits the PRIMARY KEY and UNIQUE constraints.
func eachKey(src Source, visit func(t *catalog.Table, ix *catalog.Index, kind string)) {
	for _, t := range src.Tables() {
		for _, ix := range t.AllIndexes() {
			switch {
			case ix.Primary:
				visit(t, ix, "PRIMARY KEY")
			case ix.Constraint:
				visit(t, ix, "UNIQUE")
			}
		}
	}
}

func fillInfoTableConstraints(b *builder) {
	add := func(t *catalog.Table, name, kind string) {
		b.add(values{
			"constraint_catalog": catalog.Database, "constraint_schema": t.Schema, "constraint_name": name,
			"table_catalog": catalog.Database, "table_schema": t.Schema, "table_name": t.Name, "constraint_type": kind,
			"is_deferrable": "NO", "initially_deferred": "NO", "enforced": "YES",
		})
	}
	eachKey(b.src, func(t *catalog.Table, ix *catalog.Index, kind string) { add(t, ix.Name, kind) })
	for _, t := range b.src.Tables() {
		for _, c := range t.Checks {
			add(t, c.Name, "CHECK")
		}
	}
}

func fillInfoKeyColumnUsage(b *builder) {
	eachKey(b.src, func(t *catalog.Table, ix *catalog.Index, _ string) {
		for i, c := range ix.Columns {
			b.add(values{
				"constraint_catalog": catalog.Database, "constraint_schema": t.Schema, "constraint_name": ix.Name,
				"table_catalog": catalog.Database, "table_schema": t.Schema, "table_name": t.Name,
				"column_name": t.Columns[c.Column].Name, "ordinal_position": i + 1,
			})
		}
	})
}

func fillInfoConstraintColumnUsage(b *builder) {
	eachKey(b.src, func(t *catalog.Table, ix *catalog.Index, _ string) {
		for _, c := range ix.Columns {
			b.add(values{
				"table_catalog": catalog.Database, "table_schema": t.Schema, "table_name": t.Name,
				"column_name": t.Columns[c.Column].Name, "constraint_catalog": catalog.Database,
				"constraint_schema": t.Schema, "constraint_name": ix.Name,
			})
		}
	})
}

func fillInfoCheckConstraints(b *builder) {
	for _, t := range b.src.Tables() {
		for _, c := range t.Checks {
			b.add(values{
				"constraint_catalog": catalog.Database, "constraint_schema": t.Schema, "constraint_name": c.Name, "check_clause": c.Expr,
			})
		}
	}
}

func fillInfoCharacterSets(b *builder) {
	b.add(values{
		"character_set_name": "UTF8", "character_repertoire": "UCS", "form_of_use": "UTF8",
		"default_collate_catalog": catalog.Database, "default_collate_schema": catalog.SchemaCatalog, "default_collate_name": "C",
	})
}
