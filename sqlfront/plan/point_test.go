package plan

import "testing"

// A statement of which SinglePoint holds is run without a timestamp, so it must
// never hold where there are two reads, which could disagree.
func TestSinglePoint(t *testing.T) {
	l := newLab()
	for _, ddl := range []string{
		"CREATE TABLE a (id int PRIMARY KEY, u int UNIQUE, v text)",
		"CREATE TABLE b (x int, y int, v text, PRIMARY KEY (x, y))",
	} {
		if err := l.ddl(ddl); err != nil {
			t.Fatal(err)
		}
	}
	for sql, want := range map[string]bool{
		"SELECT * FROM a WHERE id = 1":                                                    true,
		"SELECT v || 'x' FROM a WHERE id = 1 AND v > 'a' LIMIT 1":                         true,
		"SELECT * FROM b WHERE y = 1 AND x = 2":                                           true,
		"SELECT * FROM a":                                                                 false,
		"SELECT * FROM a WHERE id IN (1, 2)":                                              false,
		"SELECT * FROM a WHERE u = 1":                                                     false, // index, then row
		"SELECT * FROM b WHERE x = 2":                                                     false,
		"SELECT * FROM b WHERE x = 2 AND y > 1":                                           false,
		"SELECT * FROM b WHERE (x, y) IN ((1, 2), (3, 4))":                                false,
		"SELECT * FROM a p, a q WHERE p.id = 1 AND q.id = 1":                              false,
		"SELECT v, (SELECT max(u) FROM a) FROM a WHERE id = 1":                            false,
		"SELECT v FROM a WHERE id = (SELECT max(x) FROM b)":                               false,
		"SELECT v FROM a WHERE id = 1 AND EXISTS (SELECT 1 FROM b)":                       false,
		"SELECT v FROM a WHERE id = 1 UNION ALL SELECT v FROM a WHERE id = 1":             false,
		"WITH c AS MATERIALIZED (SELECT max(x) m FROM b) SELECT v FROM a, c WHERE id = 1": false,
	} {
		p, err := l.selectPlan(sql, true)
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		if got := p.SinglePoint(); got != want {
			t.Errorf("%s: SinglePoint is %v", sql, got)
		}
	}
}
