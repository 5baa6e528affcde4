package tpch

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/pingcap/go-tpc/tpch/dbgen"
)

// ScaleMax bounds the scale factor of generated data: 100 are some 100 GB.
const ScaleMax = 100

// Generate writes the tables of a whole scale factor (1 = 1 GB) to dir, by
// go-tpc's port of dbgen: the rows are those of TPC's own program. It may be
// called once in a process, since that port keeps its state in globals.
func Generate(dir string, scale int64) (err error) {
	if scale < 1 || scale > ScaleMax {
		return fmt.Errorf("the scale factor is %d: want 1 to %d", scale, ScaleMax)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var files []*tableFile
	defer func() {
		for _, f := range files {
			err = errors.Join(err, f.finish(err == nil))
		}
	}()
	open := func(table string) io.Writer {
		f, openErr := newTableFile(dir, table)
		err = errors.Join(err, openErr)
		files = append(files, f)
		return f
	}
	loaders := map[dbgen.Table]dbgen.Loader{
		dbgen.TRegion: dbgen.NewRegionLoader(open("region")), dbgen.TNation: dbgen.NewNationLoader(open("nation")),
		dbgen.TSupp: dbgen.NewSuppLoader(open("supplier")), dbgen.TCust: dbgen.NewCustLoader(open("customer")),
		dbgen.TPart: dbgen.NewPartLoader(open("part")), dbgen.TPsupp: dbgen.NewPartSuppLoader(open("partsupp")),
		dbgen.TOrder: dbgen.NewOrderLoader(open("orders")), dbgen.TLine: dbgen.NewLineItemLoader(open("lineitem")),
	}
	if err != nil {
		return err
	}
	dbgen.InitDbGen(scale)
	return dbgen.DbGen(loaders, []dbgen.Table{dbgen.TRegion, dbgen.TNation, dbgen.TSupp, dbgen.TCust, dbgen.TPartPsupp, dbgen.TOrderLine})
}

// tableFile is a table under way; it gets its name when it is complete.
type tableFile struct {
	f    *os.File
	w    *bufio.Writer
	name string
}

func newTableFile(dir, table string) (*tableFile, error) {
	name := filepath.Join(dir, table+".tbl")
	f, err := os.Create(name + ".part")
	return &tableFile{f: f, w: bufio.NewWriterSize(f, 1<<20), name: name}, err
}

// Write leaves out the quotes that go-tpc puts around values that begin with a
// blank: no value has one of its own, and COPY's text format knows none.
func (t *tableFile) Write(p []byte) (int, error) {
	from := 0
	for i, c := range p {
		if c == '"' {
			if _, err := t.w.Write(p[from:i]); err != nil {
				return 0, err
			}
			from = i + 1
		}
	}
	if _, err := t.w.Write(p[from:]); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (t *tableFile) finish(complete bool) error {
	if t.f == nil {
		return nil
	}
	err := errors.Join(t.w.Flush(), t.f.Close())
	if err == nil && complete {
		return os.Rename(t.name+".part", t.name)
	}
	return errors.Join(err, os.Remove(t.name+".part"))
}
