#!/usr/bin/env bash
# Raw KV beside etcd; then YCSB and TPC-H against a fresh playground and, where
# PostgreSQL's programs are installed, against PostgreSQL in the same run.
# `make bench` calls it. All of it takes less than 15 minutes.
#
#   PARTS       which parts, of: kv (YCSB on raw KV beside etcd, 1 and 3 nodes), get (point
#               gets: beside etcd's, and in process beside Pebble's), txn (YCSB on
#               transactions), sql (YCSB on SQL), tpch, fair (point reads beside scans), kernels (one core's
#               kernels beside hand-written loops); default: all but fair and kernels
#   SHORT       1: a quick look, fewer records and repetitions
#   COMPARE     more flags for kv and get, see bin/compare -help
#   TPCH_DATA   folder with the TPC-H tables (default: the small sample of the repository)
#   SCALE       TPC-H: generate data of this scale factor (1 = 1 GB) into TPCH_DATA if it isn't there
#   DUCKDB      TPC-H: a folder in which `npm install @duckdb/node-api` was run; `npm` installs it
#               into a temporary one
#   THREADS     clients of YCSB on transactions and SQL (default 16)
#   RECORDS     their records, and operations of each workload (default 50000)
#   WORKLOADS   their workloads (default all)
#   REPEAT      runs of each TPC-H query after the first (default 3)
#   COPRA       the binary (default bin/copra)
set -euo pipefail
cd "$(dirname "$0")/.."
copra=${COPRA:-$PWD/bin/copra}
tpch=$(realpath -m "${TPCH_DATA:-benchmarks/tpch/testdata/small}") duckdb=${DUCKDB:-}
parts=" ${PARTS:-kv get txn sql tpch} " short=${SHORT:-}
for part in $parts; do
	case $part in kv | get | txn | sql | tpch | fair | kernels) ;; *) echo "PARTS: $part is not one of kv, get, txn, sql, tpch, fair, kernels" >&2; exit 2 ;; esac
done
has() { [[ $parts == *" $1 "* ]]; }
section() { printf '\n== %s\n' "$1"; }
uptime

compare=()
has kv && compare+=(ycsb)
has get && compare+=(get)
if [ ${#compare[@]} -gt 0 ]; then
	section "raw KV beside etcd, servers of one and three processes"
	# shellcheck disable=SC2086 # COMPARE is a list of flags
	bin/compare -copra "$copra" -v -parts "$(IFS=,; echo "${compare[*]}")" ${short:+-short} ${COMPARE:-}
fi
if has get; then
	section "Point gets in process, and over gRPC, beside a bare Pebble"
	go test -run '^$' -bench PointGet -benchtime "$([ -n "$short" ] && echo 1s || echo 3s)" ./cmd/copra/cluster
fi
if has kernels; then
	section "Kernels on one core, beside hand-written loops over the same arrays"
	time=$([ -n "$short" ] && echo 300ms || echo 1s)
	go test -run '^$' -bench Kernel -benchtime "$time" -cpu 1 -count 3 ./copr/exec
	go test -run '^$' -bench 'Filter|Eval|Encoded' -benchtime "$time" -cpu 1 ./copr/expr
fi
if has fair; then
	section "Point reads beside scans, 3 stores in one process"
	go test -run '^$' -bench Fair -benchtime "$([ -n "$short" ] && echo 1s || echo 4s)" ./cmd/copra/cluster
fi
has txn || has sql || has tpch || exit 0
if has tpch && [ -n "${SCALE:-}" ] && [ ! -e "$tpch/lineitem.tbl" ]; then
	section "TPC-H data of scale factor $SCALE"
	"$copra" bench tpch --generate "$SCALE" --data "$tpch"
fi

threads=${THREADS:-16} records=${RECORDS:-$([ -n "$short" ] && echo 10000 || echo 50000)} offset=7000 repeat=${REPEAT:-3}
work=$(mktemp -d)
pids=()
cleanup() {
	for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
	wait 2>/dev/null || true
	rm -rf "$work"
}
trap cleanup EXIT
if has tpch && [ "$duckdb" = npm ]; then
	duckdb=$work/duckdb && mkdir "$duckdb" && npm install --silent --prefix "$duckdb" @duckdb/node-api
fi

"$copra" playground --data-dir "$work/copra" --port-offset $offset >"$work/copra.out" 2>&1 &
pids+=($!)
for _ in $(seq 100); do grep -q 'is ready' "$work/copra.out" && break; sleep 0.1; done
grep -q 'is ready' "$work/copra.out" || { cat "$work/copra.out"; exit 1; }
ours="host=127.0.0.1 port=$((5433 + offset)) user=root dbname=copra"

postgres_bin() {
	local dir
	for dir in /usr/lib/postgresql/*/bin "$(dirname "$(command -v initdb 2>/dev/null || echo /nowhere/x)")"; do
		[ -x "$dir/initdb" ] && [ -x "$dir/pg_ctl" ] && { echo "$dir"; return; }
	done
}

theirs=
if bin=$(postgres_bin) && [ -n "$bin" ]; then
	mkdir "$work/pg" && chmod 777 "$work" "$work/pg"
	as=()
	if [ "$(id -u)" = 0 ]; then chown nobody "$work/pg"; as=(setpriv --reuid=nobody --clear-groups --); fi
	"${as[@]}" "$bin/initdb" -D "$work/pg/data" -A trust -U root >/dev/null
	"${as[@]}" "$bin/postgres" -D "$work/pg/data" -p $((5432 + offset)) -k "$work/pg" -h 127.0.0.1 \
		-c shared_buffers=4GB -c work_mem=256MB -c max_wal_size=16GB -c max_parallel_workers_per_gather=4 >"$work/pg/log" 2>&1 &
	pids+=($!)
	theirs="host=127.0.0.1 port=$((5432 + offset)) user=root dbname=postgres"
	for _ in $(seq 100); do "$bin/pg_isready" -q -h 127.0.0.1 -p $((5432 + offset)) && break; sleep 0.1; done
fi

ycsb=(--threads "$threads" --records "$records" --operations "$records")
[ -z "${WORKLOADS:-}" ] || ycsb+=(--workloads "$WORKLOADS")
if has txn; then
	section "YCSB, transactions, 3 stores in one process"
	"$copra" bench ycsb --target txn --pd "127.0.0.1:$((2379 + offset))" "${ycsb[@]}"
fi
if has sql; then
	section "YCSB, SQL, copra"; "$copra" bench ycsb --dsn "$ours" "${ycsb[@]}"
	[ -z "$theirs" ] || { section "YCSB, SQL, PostgreSQL"; "$copra" bench ycsb --dsn "$theirs" "${ycsb[@]}"; }
fi
if has tpch; then
	section "TPC-H ($tpch)"
	others=()
	[ -z "$theirs" ] || others+=(--postgres "$theirs")
	[ -z "$duckdb" ] || others+=(--duckdb "$duckdb")
	"$copra" bench tpch --dsn "$ours" --data "$tpch" --repeat "$repeat" "${others[@]}"
fi
uptime
