// Runs SQL on DuckDB for copra's benchmark: one JSON object a line comes in,
// one goes out. Arguments: the database file, the folder of @duckdb/node-api,
// the number of threads.
'use strict';
const readline = require('readline');
const [file, modules, threads] = process.argv.slice(2);
const { DuckDBInstance } = require(require.resolve('@duckdb/node-api', { paths: [modules] }));

(async () => {
  const instance = await DuckDBInstance.create(file, { threads });
  const conn = await instance.connect();
  for await (const line of readline.createInterface({ input: process.stdin })) {
    let answer;
    try {
      const { sql, rows } = JSON.parse(line);
      const started = process.hrtime.bigint();
      const result = await conn.runAndReadAll(sql);
      const ns = Number(process.hrtime.bigint() - started);
      answer = { ns, count: result.currentRowCount };
      if (rows) answer.rows = result.getRows().map((r) => r.map((v) => (v === null ? '' : String(v))));
    } catch (e) {
      answer = { error: String(e.message || e) };
    }
    process.stdout.write(JSON.stringify(answer) + '\n');
  }
})().catch((e) => {
  process.stderr.write(String(e) + '\n');
  process.exit(1);
});
