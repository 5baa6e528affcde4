#!/bin/sh
# Compares the scripts of eval/ with a PostgreSQL 15 server: the expressions of
# every script go through psql (its environment or arguments say where), and
# what differs from the recorded answer is printed. The server's lc_ctype must
# be C for the answers about letters outside ASCII.
#
#   testdata/check.sh -h /tmp/sock -d postgres
set -eu
cd "$(dirname "$0")/eval"
for f in *; do
	awk '/^eval$/ {want=1; next} /^----$/ {want=0; next} want && NF {print}' "$f" >/tmp/check.$$.in
	awk '/^----$/ {want=1; next} /^eval$/ {want=0; next} want && NF {print}' "$f" >/tmp/check.$$.want
	{
		echo '\set VERBOSITY sqlstate'
		echo '\pset null NULL'
		echo "SET timezone = 'America/New_York'; SET datestyle = 'ISO, MDY';"
		sed 's/.*/SELECT (&);/' /tmp/check.$$.in
	} | psql -X -q -A -t "$@" 2>&1 | sed 's/^.*ERROR:  *\([0-9A-Z]*\).*/ERROR \1/; s/^$/(empty)/' >/tmp/check.$$.got
	sed 's/^ERROR \([0-9A-Z]*\):.*/ERROR \1/' /tmp/check.$$.want | diff - /tmp/check.$$.got && echo "$f: the same"
	rm -f /tmp/check.$$.*
done
