package pgcatalog

import (
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront/catalog"
)

func fillNamespace(b *builder) {
	for _, s := range b.src.Schemas() {
		b.add(values{"oid": s.ID, "nspname": s.Name, "nspowner": ownerOID})
	}
}

const encodingUTF8 = 6

func fillDatabase(b *builder) {
	b.add(values{
		"oid": catalog.DatabaseID, "datname": catalog.Database, "datdba": ownerOID, "encoding": encodingUTF8, "datlocprovider": "c",
		"datistemplate": false, "datallowconn": true, "datconnlimit": -1, "datfrozenxid": 0, "datminmxid": 0,
		"dattablespace": tablespace, "datcollate": "C", "datctype": "C",
	})
}

func fillType(b *builder) {
	for _, t := range sqltypes.Types() {
		kind, elem, array := "b", int64(0), int64(0)
		if e, ok := t.Elem(); ok {
			elem = int64(e.OID)
		}
		if a, ok := t.ArrayType(); ok {
			array = int64(a.OID)
		}
		if c := t.Category(); c == 'P' {
			kind = "p"
		}
		b.add(values{
			"oid": t.OID, "typname": t.PgName(), "typnamespace": catalog.CatalogSchemaID, "typowner": ownerOID, "typlen": t.Size(),
			"typbyval": t.Size() > 0 && t.Size() <= 8, "typtype": kind, "typcategory": string(t.Category()),
			"typispreferred": t.Preferred(), "typisdefined": true, "typdelim": ",", "typrelid": 0, "typelem": elem,
			"typarray": array, "typalign": "i", "typstorage": storageOf(t), "typnotnull": false, "typbasetype": 0,
			"typtypmod": -1, "typndims": 0, "typcollation": collationOf(t), "typsubscript": 0, "typinput": 0, "typoutput": 0,
			"typreceive": 0, "typsend": 0, "typmodin": 0, "typmodout": 0, "typanalyze": 0,
		})
	}
}

func fillAM(b *builder) {
	b.add(values{"oid": heapAM, "amname": "heap", "amhandler": 3, "amtype": "t"})
	b.add(values{"oid": btreeAM, "amname": "btree", "amhandler": 330, "amtype": "i"})
}

func fillRoles(b *builder) {
	b.add(values{
		"rolname": b.env.User, "rolsuper": true, "rolinherit": true, "rolcreaterole": true, "rolcreatedb": true,
		"rolcanlogin": true, "rolreplication": true, "rolconnlimit": -1, "rolpassword": "********", "rolbypassrls": true, "oid": ownerOID,
	})
}

func fillAuthid(b *builder) {
	b.add(values{
		"oid": ownerOID, "rolname": b.env.User, "rolsuper": true, "rolinherit": true, "rolcreaterole": true, "rolcreatedb": true,
		"rolcanlogin": true, "rolreplication": true, "rolbypassrls": true, "rolconnlimit": -1,
	})
}

func fillUser(b *builder) {
	b.add(values{
		"usename": b.env.User, "usesysid": ownerOID, "usecreatedb": true, "usesuper": true, "userepl": true,
		"usebypassrls": true, "passwd": "********",
	})
}

func fillTablespace(b *builder) {
	b.add(values{"oid": tablespace, "spcname": "pg_default", "spcowner": ownerOID})
	b.add(values{"oid": 1664, "spcname": "pg_global", "spcowner": ownerOID})
}

func fillCollation(b *builder) {
	for _, c := range []struct {
		oid            int
		name, provider string
	}{{collationDefault, "default", "d"}, {collationC, "C", "c"}, {951, "POSIX", "c"}} {
		b.add(values{
			"oid": c.oid, "collname": c.name, "collnamespace": catalog.CatalogSchemaID, "collowner": ownerOID, "collprovider": c.provider,
			"collisdeterministic": true, "collencoding": -1,
		})
	}
}

func fillLanguage(b *builder) {
	for _, l := range []struct {
		oid  int
		name string
	}{{12, "internal"}, {13, "c"}, {14, "sql"}} {
		b.add(values{
			"oid": l.oid, "lanname": l.name, "lanowner": ownerOID, "lanispl": false, "lanpltrusted": l.name == "sql",
			"lanplcallfoid": 0, "laninline": 0, "lanvalidator": 0,
		})
	}
}

func fillSettings(b *builder) {
	if b.env.Settings == nil {
		return
	}
	for _, s := range b.env.Settings() {
		b.add(values{
			"name": s.Name, "setting": s.Value, "category": "copra", "short_desc": s.Description, "context": "user",
			"vartype": "string", "source": "session", "pending_restart": false, "reset_val": s.Value, "boot_val": s.Value,
		})
	}
}
