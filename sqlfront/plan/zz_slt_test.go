package plan

import (
	"crypto/md5"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
	"testing"

	"github.com/copradb/copra/internal/sqltypes"
)

func sltRun(t *testing.T, path string) {
	b, _ := os.ReadFile(path)
	l := newLab()
	pass, fail := 0, 0
	errs := map[string]int{}
	for _, rec := range strings.Split(string(b), "\n\n") {
		lines := strings.Split(strings.Trim(rec, "\n"), "\n")
		skip := false
		for len(lines) > 0 {
			f := strings.Fields(strings.SplitN(lines[0], "#", 2)[0])
			if len(f) == 0 {
				lines = lines[1:]
				continue
			}
			if f[0] == "skipif" && (f[1] == "postgresql") || f[0] == "onlyif" && f[1] != "postgresql" {
				skip = true
			}
			if f[0] == "skipif" || f[0] == "onlyif" || f[0] == "hash-threshold" {
				lines = lines[1:]
				continue
			}
			break
		}
		if len(lines) == 0 || skip {
			continue
		}
		f := strings.Fields(lines[0])
		switch f[0] {
		case "statement":
			sql := strings.Join(lines[1:], "\n")
			var err error
			if strings.HasPrefix(strings.ToLower(sql), "insert") {
				err = l.insert(sql)
			} else {
				err = l.ddl(sql)
			}
			if (err == nil) != (f[1] == "ok") {
				fmt.Println(path, sql, err)
			}
		case "query":
			var sql []string
			i := 1
			for ; i < len(lines) && lines[i] != "----"; i++ {
				sql = append(sql, lines[i])
			}
			want := lines[min(i+1, len(lines)):]
			var got []string
			var perr error
			func() {
				defer func() {
					if r := recover(); r != nil {
						perr = fmt.Errorf("panic %v", r)
					}
				}()
				p, err := l.selectPlan(strings.Join(sql, "\n"), true)
				if err != nil {
					perr = err
					return
				}
				rows, _, err := l.run(p, nil)
				if err != nil {
					perr = err
					return
				}
				kinds := f[1]
				mode := "nosort"
				if len(f) > 2 {
					mode = f[2]
				}
				var conv [][]string
				for _, r := range rows {
					parts := strings.Split(r, "|")
					for k := range parts {
						if parts[k] == "NULL" {
							continue
						}
						switch kinds[k] {
						case 'I':
							parts[k] = map[string]string{"t": "1", "f": "0"}[parts[k]] + map[bool]string{true: "", false: parts[k]}[parts[k] == "t" || parts[k] == "f"]
							if d, err := strconv.ParseFloat(parts[k], 64); err == nil {
								parts[k] = fmt.Sprintf("%d", int64(d))
							}
						case 'R':
							if d, err := strconv.ParseFloat(parts[k], 64); err == nil {
								parts[k] = fmt.Sprintf("%.3f", d)
							}
						case 'T':
							if parts[k] == "" {
								parts[k] = "(empty)"
							}
						}
					}
					conv = append(conv, parts)
				}
				if mode == "rowsort" {
					sort.Slice(conv, func(a, b int) bool { return strings.Join(conv[a], " ") < strings.Join(conv[b], " ") })
				}
				for _, c := range conv {
					got = append(got, c...)
				}
				if mode == "valuesort" {
					sort.Strings(got)
				}
			}()
			if perr != nil {
				fail++
				errs[perr.Error()]++
				if errs[perr.Error()] == 1 {
					fmt.Println(strings.Join(sql, " "), perr)
				}
				continue
			}
			ok := strings.Join(want, "\n") == strings.Join(got, "\n")
			if len(want) == 1 && strings.Contains(want[0], "values hashing to") {
				h := md5.Sum([]byte(strings.Join(got, "\n") + "\n"))
				ok = strings.HasSuffix(want[0], fmt.Sprintf("%x", h))
			}
			if ok {
				pass++
			} else {
				fail++
				if fail < 8 {
					fmt.Println("MISMATCH", strings.Join(sql, " "), "\n got", got, "\nwant", want)
				}
			}
		}
	}
	fmt.Println(path, "pass", pass, "fail", fail)
	_ = sqltypes.Null
}

func TestSLT(t *testing.T) {
	for _, f := range []string{"select1.test", "select2.test", "select3.test", "select4.test", "select5.test", "evidence/in1.test", "evidence/in2.test", "evidence/slt_lang_aggfunc.test"} {
		if o := os.Getenv("ONLY"); o != "" && !strings.Contains(f, o) {
			continue
		}
		sltRun(t, "/work/shared/conformance/sqllogictest/"+f)
	}
}
