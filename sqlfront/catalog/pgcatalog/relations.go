package pgcatalog

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront/catalog"
)

func fillClass(b *builder) {
	for _, t := range b.src.Tables() {
		b.class(values{
			"oid": t.ID, "relname": t.Name, "relnamespace": schemaOID(b.src, t.Schema), "relkind": "r", "relam": heapAM,
			"relnatts": len(t.Columns), "relchecks": len(t.Checks), "relhasindex": len(t.AllIndexes()) > 0,
			"reltuples": float64(b.src.TableStats(t.ID).Rows), "relfilenode": t.ID,
		})
		for _, ix := range t.AllIndexes() {
			b.class(values{
				"oid": ix.OID, "relname": ix.Name, "relnamespace": schemaOID(b.src, t.Schema), "relkind": "i", "relam": btreeAM,
				"relnatts": len(ix.Columns), "relchecks": 0, "relhasindex": false, "reltuples": float64(0), "relfilenode": ix.OID,
			})
		}
	}
	for _, s := range sortedSpecs() {
		kind := "r"
		if s.schema == catalog.SchemaInfo {
			kind = "v"
		}
		b.class(values{
			"oid": s.oid, "relname": s.name, "relnamespace": schemaOID(b.src, s.schema), "relkind": kind, "relam": heapAM,
			"relnatts": len(s.columns), "relchecks": 0, "relhasindex": false, "reltuples": float64(0), "relfilenode": s.oid,
		})
	}
}

// class adds what every relation has in common.
func (b *builder) class(v values) {
	for name, value := range (values{
		"reltype": 0, "reloftype": 0, "relowner": ownerOID, "reltablespace": 0, "relpages": 0, "relallvisible": 0,
		"reltoastrelid": 0, "relisshared": false, "relpersistence": "p", "relhasrules": false, "relhastriggers": false,
		"relhassubclass": false, "relrowsecurity": false, "relforcerowsecurity": false, "relispopulated": true,
		"relreplident": "d", "relispartition": false, "relrewrite": 0, "relfrozenxid": 0, "relminmxid": 0,
	}) {
		v[name] = value
	}
	b.add(v)
}

func fillAttribute(b *builder) {
	for _, t := range b.src.Tables() {
		for i, c := range t.Columns {
			b.attribute(t.ID, i+1, c)
		}
		for _, ix := range t.AllIndexes() {
			for i, ic := range ix.Columns {
				c := t.Columns[ic.Column]
				c.DefaultExpr, c.Identity, c.NotNull = "", "", false
				b.attribute(ix.OID, i+1, c)
			}
		}
	}
	for _, s := range sortedSpecs() {
		for i, c := range s.columns {
			b.attribute(s.oid, i+1, c)
		}
	}
}

func (b *builder) attribute(rel int64, num int, c catalog.Column) {
	identity := ""
	if c.Identity == "a" || c.Identity == "d" {
		identity = c.Identity
	}
	b.add(values{
		"attrelid": rel, "attname": c.Name, "atttypid": c.Type.OID, "attstattarget": -1, "attlen": c.Type.Size(),
		"attnum": num, "attndims": 0, "attcacheoff": -1, "atttypmod": c.Type.Typmod(), "attbyval": c.Type.Size() > 0 && c.Type.Size() <= 8,
		"attalign": "i", "attstorage": storageOf(c.Type), "attcompression": "", "attnotnull": c.NotNull,
		"atthasdef": hasDefault(c), "atthasmissing": false, "attidentity": identity, "attgenerated": "",
		"attisdropped": false, "attislocal": true, "attinhcount": 0, "attcollation": collationOf(c.Type),
	})
}

func hasDefault(c catalog.Column) bool { return c.DefaultExpr != "" || c.Identity == "s" }

func storageOf(t sqltypes.Type) string {
	switch {
	case t.Size() > 0:
		return "p"
	case t.OID == sqltypes.OIDNumeric:
		return "m"
	}
	return "x"
}

const (
	collationDefault = 100
	collationC       = 950
)

func collationOf(t sqltypes.Type) int {
	switch {
	case t.OID == sqltypes.OIDName:
		return collationC
	case t.IsString() && t.OID != sqltypes.OIDChar && t.OID != sqltypes.OIDUnknown:
		return collationDefault
	}
	return 0
}

func fillIndex(b *builder) {
	for _, t := range b.src.Tables() {
		for _, ix := range t.AllIndexes() {
			keys := make([]string, len(ix.Columns))
			zeros := make([]string, len(ix.Columns))
			options := make([]string, len(ix.Columns))
			collations := make([]string, len(ix.Columns))
			for i, c := range ix.Columns {
				keys[i], zeros[i] = strconv.Itoa(c.Column+1), "0"
				collations[i] = strconv.Itoa(collationOf(t.Columns[c.Column].Type))
				option := 0
				if c.Desc {
					option |= 1
				}
				if c.NullsFirst {
					option |= 2
				}
				options[i] = strconv.Itoa(option)
			}
			b.add(values{
				"indexrelid": ix.OID, "indrelid": t.ID, "indnatts": len(keys), "indnkeyatts": len(keys),
				"indisunique": ix.Unique, "indnullsnotdistinct": false, "indisprimary": ix.Primary, "indisexclusion": false,
				"indimmediate": true, "indisclustered": false, "indisvalid": ix.State == catalog.StatePublic,
				"indcheckxmin": false, "indisready": true, "indislive": true, "indisreplident": false,
				"indkey": strings.Join(keys, " "), "indcollation": strings.Join(collations, " "),
				"indclass": strings.Join(zeros, " "), "indoption": strings.Join(options, " "),
			})
		}
	}
}

// checkOID is the OID of a table's i-th CHECK constraint, out of the way of
// the OIDs that descriptors have.
func checkOID(t *catalog.Table, i int) int64 { return 1<<30 + t.ID*64 + int64(i) }

func fillConstraint(b *builder) {
	for _, t := range b.src.Tables() {
		common := values{
			"connamespace": schemaOID(b.src, t.Schema), "condeferrable": false, "condeferred": false, "convalidated": true,
			"conrelid": t.ID, "contypid": 0, "conparentid": 0, "confrelid": 0, "confupdtype": " ", "confdeltype": " ",
			"confmatchtype": " ", "conislocal": true, "coninhcount": 0, "connoinherit": false,
		}
		emit := func(v values) {
			for name, value := range common {
				v[name] = value
			}
			b.add(v)
		}
		for _, ix := range t.AllIndexes() {
			if !ix.Constraint && !ix.Primary {
				continue
			}
			kind := "u"
			if ix.Primary {
				kind = "p"
			}
			emit(values{"oid": ix.OID, "conname": ix.Name, "contype": kind, "conindid": ix.OID, "conkey": keyArray(ix)})
		}
		for i, c := range t.Checks {
			emit(values{"oid": checkOID(t, i), "conname": c.Name, "contype": "c", "conindid": 0, "conbin": c.Expr})
		}
	}
}

func keyArray(ix *catalog.Index) string {
	keys := make([]string, len(ix.Columns))
	for i, c := range ix.Columns {
		keys[i] = strconv.Itoa(c.Column + 1)
	}
	return "{" + strings.Join(keys, ",") + "}"
}

func fillAttrdef(b *builder) {
	for _, t := range b.src.Tables() {
		for i, c := range t.Columns {
			if hasDefault(c) {
				b.add(values{"oid": 1<<30 + t.ID*2048 + int64(i), "adrelid": t.ID, "adnum": i + 1, "adbin": defaultText(t, c)})
			}
		}
	}
}

func defaultText(t *catalog.Table, c catalog.Column) string {
	if c.DefaultExpr != "" {
		return c.DefaultExpr
	}
	return fmt.Sprintf("nextval('%s_%s_seq'::regclass)", t.Name, c.Name)
}

func fillDescription(b *builder) {
	for _, t := range b.src.Tables() {
		if t.Comment != "" {
			b.add(values{"objoid": t.ID, "classoid": 1259, "objsubid": 0, "description": t.Comment})
		}
		for i, c := range t.Columns {
			if c.Comment != "" {
				b.add(values{"objoid": t.ID, "classoid": 1259, "objsubid": i + 1, "description": c.Comment})
			}
		}
	}
}

// IndexDef is pg_get_indexdef's text.
func IndexDef(t *catalog.Table, ix *catalog.Index) string {
	var s strings.Builder
	s.WriteString("CREATE ")
	if ix.Unique {
		s.WriteString("UNIQUE ")
	}
	s.WriteString("INDEX " + quoteIdent(ix.Name) + " ON " + quoteIdent(t.Schema) + "." + quoteIdent(t.Name) + " USING btree (")
	for i, c := range ix.Columns {
		if i > 0 {
			s.WriteString(", ")
		}
		s.WriteString(quoteIdent(t.Columns[c.Column].Name))
		switch {
		case c.Desc && !c.NullsFirst:
			s.WriteString(" DESC NULLS LAST")
		case c.Desc:
			s.WriteString(" DESC")
		case c.NullsFirst:
			s.WriteString(" NULLS FIRST")
		}
	}
	s.WriteString(")")
	return s.String()
}

// constraintDef is pg_get_constraintdef's text for a key.
func constraintDef(t *catalog.Table, ix *catalog.Index) string {
	names := make([]string, len(ix.Columns))
	for i, c := range ix.Columns {
		names[i] = quoteIdent(t.Columns[c.Column].Name)
	}
	kind := "UNIQUE"
	if ix.Primary {
		kind = "PRIMARY KEY"
	}
	return kind + " (" + strings.Join(names, ", ") + ")"
}

// quoteIdent quotes a name where PostgreSQL would have to.
func quoteIdent(name string) string {
	plain := name != "" && (name[0] == '_' || name[0] >= 'a' && name[0] <= 'z')
	for i := 0; plain && i < len(name); i++ {
		ch := name[i]
		plain = ch == '_' || ch >= 'a' && ch <= 'z' || ch >= '0' && ch <= '9' || ch == '$'
	}
	if plain {
		return name
	}
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}
