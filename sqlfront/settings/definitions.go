package settings

import (
	"math"
	"strings"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// ServerVersion is the PostgreSQL whose behaviour and catalogs copra follows.
const (
	ServerVersion    = "15.14"
	ServerVersionNum = "150014"
)

// definitions are all settings by their key.
var definitions = func() map[string]*definition {
	out := map[string]*definition{}
	for _, list := range [][]definition{clientSettings, transactionSettings, plannerSettings, serverSettings, ownSettings} {
		for _, d := range list {
			out[key(d.name)] = &d
		}
	}
	return out
}()

var clientSettings = []definition{
	{name: "application_name", report: true, text: "Sets the application name to be reported in statistics and logs.", check: printable},
	{name: "client_encoding", value: "UTF8", report: true, text: "Sets the client's character set encoding.", check: encoding},
	{name: "DateStyle", value: "ISO, MDY", report: true, text: "Sets the display format for date and time values.", check: dateStyle},
	{name: "IntervalStyle", kind: kindEnum, value: "postgres", choices: []string{"postgres"}, report: true, text: "Sets the display format for interval values."},
	{name: "TimeZone", value: "UTC", report: true, text: "Sets the time zone for displaying and interpreting time stamps.", check: timeZone},
	{name: "extra_float_digits", kind: kindInt, value: "1", min: -15, max: 3, text: "Sets the number of digits displayed for floating-point values."},
	{name: "bytea_output", kind: kindEnum, value: "hex", choices: []string{"hex", "escape"}, text: "Sets the output format for bytea."},
	{name: "search_path", kind: kindList, value: `"$user", public`, text: "Sets the schema search order for names that are not schema-qualified."},
	{name: "standard_conforming_strings", kind: kindBool, value: "on", report: true, text: "Causes '...' strings to treat backslashes literally.", check: only("on")},
	{name: "escape_string_warning", kind: kindBool, value: "on", text: "Warn about backslash escapes in ordinary string literals."},
	{name: "backslash_quote", value: "safe_encoding", text: "Sets whether \"\\'\" is allowed in string literals.", check: only("safe_encoding")},
	{name: "client_min_messages", kind: kindEnum, value: "notice", choices: messageLevels, text: "Sets the message levels that are sent to the client."},
	{name: "lc_messages", value: "C", text: "Sets the language in which messages are displayed.", check: anyLocale},
	{name: "lc_monetary", value: "C", text: "Sets the locale for formatting monetary amounts.", check: anyLocale},
	{name: "lc_numeric", value: "C", text: "Sets the locale for formatting numbers.", check: anyLocale},
	{name: "lc_time", value: "C", text: "Sets the locale for formatting date and time values.", check: anyLocale},
	{name: "xmloption", kind: kindEnum, value: "content", choices: []string{"content", "document"}, text: "Sets whether XML data is documents or content fragments."},
	{name: "row_security", kind: kindBool, value: "on", text: "Enable row security."},
	{name: "check_function_bodies", kind: kindBool, value: "on", text: "Check routine bodies during CREATE FUNCTION and CREATE PROCEDURE."},
	{name: "quote_all_identifiers", kind: kindBool, value: "off", text: "When generating SQL fragments, quote all identifiers."},
	{name: "synchronize_seqscans", kind: kindBool, value: "on", text: "Enable synchronized sequential scans."},
	{name: "default_table_access_method", value: "heap", text: "Sets the default table access method for new tables.", check: only("heap")},
	{name: "default_tablespace", text: "Sets the default tablespace to create tables and indexes in.", check: only("")},
	{name: "default_toast_compression", value: "pglz", text: "Sets the default compression method for compressible values."},
	{name: "role", value: "none", text: "Sets the current role.", check: only("none"), noResetAll: true},
	{name: "session_authorization", value: "root", report: true, readOnly: true, noResetAll: true, text: "Sets the session user name."},
	{name: "seed", kind: kindFloat, value: "0", text: "Sets the seed for random-number generation."},
}

var messageLevels = []string{"debug5", "debug4", "debug3", "debug2", "debug1", "log", "notice", "warning", "error"}

var isolationLevels = []string{"serializable", "repeatable read", "read committed", "read uncommitted"}

var transactionSettings = []definition{
	{name: "default_transaction_isolation", kind: kindEnum, value: "read committed", choices: isolationLevels, text: "Sets the transaction isolation level of each new transaction.", check: isolation},
	{name: "default_transaction_read_only", kind: kindBool, value: "off", report: true, text: "Sets the default read-only status of new transactions."},
	{name: "default_transaction_deferrable", kind: kindBool, value: "off", text: "Sets the default deferrable status of new transactions."},
	{name: "transaction_isolation", kind: kindEnum, value: "read committed", choices: isolationLevels, noResetAll: true, text: "Sets the current transaction's isolation level.", check: isolation},
	{name: "transaction_read_only", kind: kindBool, value: "off", noResetAll: true, text: "Sets the current transaction's read-only status."},
	{name: "transaction_deferrable", kind: kindBool, value: "off", noResetAll: true, text: "Whether to defer a read-only serializable transaction."},
	{name: "statement_timeout", kind: kindMillis, value: "0", max: math.MaxInt32, text: "Sets the maximum allowed duration of any statement."},
	{name: "log_min_duration_statement", kind: kindMillis, value: "1000", min: -1, max: math.MaxInt32, text: "Sets the minimum execution time above which statements are logged; -1 logs none, 0 all."},
	{name: "temp_file_limit", kind: kindInt, value: "-1", min: -1, max: math.MaxInt32, text: "Limits the total size of all temporary files used by a statement, in kilobytes; -1 is no limit."},
	{name: "lock_timeout", kind: kindMillis, value: "0", max: math.MaxInt32, text: "Sets the maximum allowed duration of any wait for a lock."},
	{name: "idle_in_transaction_session_timeout", kind: kindMillis, value: "0", max: math.MaxInt32, text: "Sets the maximum allowed idle time between queries, when in a transaction."},
	{name: "idle_session_timeout", kind: kindMillis, value: "0", max: math.MaxInt32, text: "Sets the maximum allowed idle time between queries, when not in a transaction."},
	{name: "deadlock_timeout", kind: kindMillis, value: "1000", min: 1, max: math.MaxInt32, text: "Sets the time to wait on a lock before checking for deadlock."},
	{name: "synchronous_commit", kind: kindEnum, value: "on", choices: []string{"local", "remote_write", "remote_apply", "on", "off"}, text: "Sets the current transaction's synchronization level."},
	{name: "force_parallel_mode", kind: kindEnum, value: "off", choices: []string{"off", "on", "regress"}, text: "Forces use of parallel query facilities."},
}

// Plan choices of PostgreSQL's that copra's planner doesn't have: clients turn
// them for speed, answers don't depend on them.
var plannerSettings = []definition{
	planner("enable_seqscan"), planner("enable_indexscan"), planner("enable_indexonlyscan"), planner("enable_bitmapscan"), planner("enable_hashjoin"),
	planner("enable_mergejoin"), planner("enable_nestloop"), planner("enable_hashagg"), planner("enable_sort"), planner("enable_material"),
	planner("jit"), planner("geqo"),
	{name: "work_mem", value: "4MB", text: "Sets the maximum memory to be used for query workspaces.", check: printable},
	{name: "maintenance_work_mem", value: "64MB", text: "Sets the maximum memory to be used for maintenance operations.", check: printable},
	{name: "max_parallel_workers_per_gather", kind: kindInt, value: "2", max: 1024, text: "Sets the maximum number of parallel processes per executor node."},
	{name: "plan_cache_mode", kind: kindEnum, value: "auto", choices: []string{"auto", "force_generic_plan", "force_custom_plan"}, text: "Controls the planner's selection of custom or generic plan."},
	{name: "random_page_cost", kind: kindFloat, value: "4", text: "Sets the planner's estimate of the cost of a nonsequentially fetched disk page."},
	{name: "from_collapse_limit", kind: kindInt, value: "8", min: 1, max: math.MaxInt32, text: "Sets the FROM-list size beyond which subqueries are not collapsed."},
	{name: "join_collapse_limit", kind: kindInt, value: "8", min: 1, max: math.MaxInt32, text: "Sets the FROM-list size beyond which JOIN constructs are not flattened."},
}

func planner(name string) definition {
	return definition{name: name, kind: kindBool, value: "on", text: "A choice of PostgreSQL's planner; copra's does not read it."}
}

var serverSettings = []definition{
	readOnly("server_version", ServerVersion, true, "Shows the server version."),
	readOnly("server_version_num", ServerVersionNum, false, "Shows the server version as an integer."),
	readOnly("server_encoding", "UTF8", true, "Shows the server (database) character set encoding."),
	readOnly("integer_datetimes", "on", true, "Shows whether datetimes are integer based."),
	readOnly("is_superuser", "on", true, "Shows whether the current user is a superuser."),
	readOnly("in_hot_standby", "off", true, "Shows whether hot standby is currently active."),
	readOnly("lc_collate", "C", false, "Shows the collation order locale."),
	readOnly("lc_ctype", "C", false, "Shows the character classification and case conversion locale."),
	readOnly("max_identifier_length", "63", false, "Shows the maximum identifier length."),
	readOnly("max_index_keys", "32", false, "Shows the maximum number of index keys."),
	readOnly("max_connections", "1024", false, "Sets the maximum number of concurrent connections."),
	readOnly("block_size", "8192", false, "Shows the size of a disk block."),
	readOnly("data_checksums", "on", false, "Shows whether data checksums are turned on."),
	readOnly("wal_level", "replica", false, "Sets the level of information written to the WAL."),
	readOnly("ssl", "off", false, "Enables SSL connections."),
	readOnly("password_encryption", "scram-sha-256", false, "Chooses the algorithm for encrypting passwords."),
	readOnly("port", "5433", false, "Sets the TCP port the server listens on."),
	readOnly("listen_addresses", "localhost", false, "Sets the host name or IP address(es) to listen to."),
	readOnly("cluster_name", "", false, "Sets the name of the cluster."),
	readOnly("max_prepared_transactions", "0", false, "Sets the maximum number of simultaneously prepared transactions."),
	readOnly("fsync", "on", false, "Forces synchronization of updates to disk."),
	readOnly("full_page_writes", "on", false, "Writes full pages to WAL when first modified after a checkpoint."),
	readOnly("shared_buffers", "128MB", false, "Sets the number of shared memory buffers used by the server."),
	readOnly("session_replication_role", "origin", false, "Sets the session's behavior for triggers and rewrite rules."),
}

func readOnly(name, value string, report bool, text string) definition {
	return definition{name: name, value: value, report: report, readOnly: true, text: text}
}

// parallelWorkersMax is what copra.parallel_workers can be at most.
const parallelWorkersMax = 64

var ownSettings = []definition{
	{name: "copra.pushdown", kind: kindBool, value: "on", text: "Pushes filters, aggregates and top-N down to the coprocessors."},
	{name: "copra.result_cache", kind: kindBool, value: "on", text: "Lets coprocessors answer an aggregation of a region that has not changed as they did before."},
	{name: "copra.columnar", kind: kindBool, value: "on", text: "Lets coprocessors read the columnar cache."},
	{name: "copra.bulk_load", kind: kindBool, value: "on", text: "Loads a large COPY into an empty table by files that stores ingest."},
	{name: "copra.bulk_load_size", kind: kindInt, value: "8388608", min: 1, max: math.MaxInt64, text: "Bytes of keys and values from which on a COPY is loaded by files."},
	{name: "copra.join_filters", kind: kindBool, value: "on", text: "Lets one side of a join filter the scan of the other."},
	{name: "copra.flight_compression", kind: kindEnum, value: "none", choices: []string{"none", "lz4", "zstd"}, text: "Compresses what coprocessors of other processes answer."},
	{name: "copra.replica_read", kind: kindEnum, value: "leader", choices: []string{"leader", "follower", "stale"}, text: "Chooses the replicas that scans read from."},
	{name: "copra.parallel_workers", kind: kindInt, value: "0", max: parallelWorkersMax, text: "Workers that may run a part of a query here at the same time; 0 for as many as there are processors, 1 for none."},
	{name: "copra.spill_memory", kind: kindInt, value: "0", max: math.MaxInt64, text: "Bytes of memory from which on a statement's operators keep rows in temporary files, 0 for three quarters of copra.statement_memory."},
	{name: "copra.statement_memory", kind: kindInt, value: "0", max: math.MaxInt64, text: "Bytes of memory a statement's operators may keep, 0 for the node's default."},
}

// only accepts nothing but one value: the setting has no effect here.
func only(value string) func(*definition, string) (string, error) {
	return func(d *definition, v string) (string, error) {
		if !strings.EqualFold(v, value) {
			return "", pgerror.Unsupported("the value \"" + v + "\" of " + d.name)
		}
		return value, nil
	}
}

func printable(_ *definition, v string) (string, error) {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, v), nil
}

func anyLocale(d *definition, v string) (string, error) {
	switch name, _, _ := strings.Cut(strings.ToLower(v), "."); name {
	case "", "c", "posix", "en_us":
		return v, nil
	}
	return "", pgerror.Unsupported("the locale \"" + v + "\" for " + d.name)
}

func encoding(d *definition, v string) (string, error) {
	switch strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || r == ' ' || r == '\'' {
			return -1
		}
		return r
	}, strings.ToLower(v)) {
	case "utf8", "unicode":
		return "UTF8", nil
	case "sqlascii", "latin1", "latin9", "win1252", "iso88591", "euckr", "eucjp", "sjis", "gbk", "big5":
		return "", pgerror.Unsupported("client_encoding " + strings.ToUpper(v))
	}
	return "", d.invalid(v)
}

// dateStyle accepts the ISO format with PostgreSQL's default order.
func dateStyle(d *definition, v string) (string, error) {
	for _, part := range strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ' ' }) {
		switch strings.ToLower(part) {
		case "iso", "mdy", "us", "noneuro", "noneuropean", "default":
		case "sql", "postgres", "german", "ymd", "dmy", "euro", "european":
			return "", pgerror.Unsupported("DateStyle " + part)
		default:
			return "", d.invalid(v)
		}
	}
	return "ISO, MDY", nil
}

func timeZone(d *definition, v string) (string, error) {
	switch strings.ToLower(v) {
	case "default", "local":
		return "UTC", nil
	}
	loc, err := sqltypes.LoadZone(v)
	if err != nil {
		return "", d.invalid(v)
	}
	if name := loc.String(); strings.EqualFold(name, v) {
		return name, nil
	}
	return v, nil
}

// isolation refuses what would be less than it says.
func isolation(_ *definition, v string) (string, error) {
	if v == "serializable" {
		return "", Serializable()
	}
	return v, nil
}

// Serializable is the error for isolation level SERIALIZABLE.
func Serializable() *pgerror.Error {
	return pgerror.Unsupported("isolation level SERIALIZABLE").
		WithHint("Use REPEATABLE READ (snapshot isolation), with SELECT ... FOR UPDATE where a read must not be overtaken.")
}
