package rowcodec

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/decimal128"

	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// Wanted is a column that a reader wants, with the value of rows that do not
// have it.
type Wanted struct {
	ID      uint32
	Type    sqltypes.Type
	Default sqltypes.Datum
}

// Decoder appends the wanted columns of rows to builders. Not safe for
// concurrent use.
type Decoder struct {
	wanted []Wanted
	kinds  []colvec.Kind
	header []byte // of the row that slots was made for
	slots  []int  // position of each wanted column in the row, or -1
	raw    []byte
	row    rowView
}

// rowView is a row taken apart.
type rowView struct {
	count  int
	wide   bool
	nulls  []byte
	ends   []byte
	values []byte
}

// NewDecoder prepares a decoder.
func NewDecoder(wanted []Wanted) *Decoder {
	d := &Decoder{wanted: wanted, kinds: make([]colvec.Kind, len(wanted)), slots: make([]int, len(wanted))}
	for i, w := range wanted {
		d.kinds[i] = colvec.KindOf(w.Type)
	}
	return d
}

// Decode appends each wanted column of the row to its builder in out. After an
// error the builders may have unequal lengths.
func (d *Decoder) Decode(row []byte, out []*colvec.Builder) error {
	if err := d.Open(row); err != nil {
		return err
	}
	return d.Append(out)
}

// Append appends the columns of the row opened last; a nil builder skips its
// column.
func (d *Decoder) Append(out []*colvec.Builder) error {
	r := &d.row
	for i, slot := range d.slots {
		b := out[i]
		if b == nil {
			continue
		}
		if slot < 0 {
			if err := b.AppendDatum(d.wanted[i].Default); err != nil {
				return err
			}
			continue
		}
		if r.nulls[slot>>3]&(1<<(slot&7)) != 0 {
			b.AppendNull()
			continue
		}
		start, end := 0, 0
		switch {
		case r.wide:
			start, end = r.wideBounds(slot)
		case slot > 0:
			e := r.ends[2*slot-2 : 2*slot+2]
			start, end = int(e[0])|int(e[1])<<8, int(e[2])|int(e[3])<<8
		default:
			end = int(r.ends[0]) | int(r.ends[1])<<8
		}
		if uint(start) > uint(end) || end > len(r.values) || !appendValue(b, d.kinds[i], r.values[start:end]) {
			return corrupt(d.raw, "the value of column %d", d.wanted[i].ID)
		}
	}
	return nil
}

// Has reports whether the row opened last holds wanted column i.
func (d *Decoder) Has(i int) bool { return d.slots[i] >= 0 }

// DecodeDatums returns the wanted columns of a row as Datums, for places that
// are not hot.
func (d *Decoder) DecodeDatums(row []byte) ([]sqltypes.Datum, error) {
	types := make([]sqltypes.Type, len(d.wanted))
	for i, w := range d.wanted {
		types[i] = w.Type
	}
	bs := colvec.NewBuilders(types, 1)
	if err := d.Decode(row, bs); err != nil {
		return nil, err
	}
	cols, err := colvec.FinishAll(bs)
	if err != nil {
		return nil, err
	}
	vals := make([]sqltypes.Datum, len(cols))
	for i, v := range colvec.OpenAll(cols, types) {
		vals[i] = v.At(0, types[i])
	}
	return vals, nil
}

// Open takes a row apart, for Has and Append. The decoder keeps row until the
// next one.
func (d *Decoder) Open(row []byte) error {
	d.raw = row
	if len(row) < headerBytes || row[0] != version || row[1]&^flagWide != 0 {
		return corrupt(row, "the header")
	}
	r := &d.row
	r.wide = row[1]&flagWide != 0
	r.count = int(row[2]) | int(row[3])<<8
	idBytes, endBytes := 1, 2
	if r.wide {
		idBytes, endBytes = 4, 4
	}
	ids := headerBytes + idBytes*r.count
	nulls := ids + (r.count+7)/8
	ends := nulls + endBytes*r.count
	if r.count > ColumnsMax || len(row) < ends {
		return corrupt(row, "the column count")
	}
	r.nulls, r.ends, r.values = row[ids:nulls], row[nulls:ends], row[ends:]
	if bytes.Equal(row[:ids], d.header) {
		return nil
	}
	return d.remap(row, row[:ids])
}

// remap finds the wanted columns among the ids of a new header.
func (d *Decoder) remap(row, header []byte) error {
	d.header = d.header[:0] // in case of an error
	last := int64(-1)
	for i := range d.slots {
		d.slots[i] = -1
	}
	for pos := range d.row.count {
		id := uint32(0)
		if d.row.wide {
			id = binary.LittleEndian.Uint32(header[headerBytes+4*pos:])
		} else {
			id = uint32(header[headerBytes+pos])
		}
		if int64(id) <= last {
			return corrupt(row, "the order of its column ids")
		}
		last = int64(id)
		for i, w := range d.wanted {
			if w.ID == id {
				d.slots[i] = pos
			}
		}
	}
	d.header = append(d.header, header...)
	return nil
}

// wideBounds is where value i of a wide row lies.
func (r *rowView) wideBounds(i int) (start, end int) {
	if i > 0 {
		start = int(binary.LittleEndian.Uint32(r.ends[4*i-4:]))
	}
	return start, int(binary.LittleEndian.Uint32(r.ends[4*i:]))
}

// appendValue decodes one value; false if it is malformed.
func appendValue(b *colvec.Builder, kind colvec.Kind, v []byte) bool {
	switch kind {
	case colvec.String, colvec.Binary:
		b.AppendBytes(v)
		return true
	case colvec.NumericText:
		b.AppendBytes(v)
		return isNumeric(v)
	case colvec.Int64, colvec.Time, colvec.Timestamp:
		n, ok := intOf(v)
		b.AppendInt64(n)
		return ok
	case colvec.Int32, colvec.Date:
		n, ok := intOf(v)
		b.AppendInt32(int32(n))
		return ok && n == int64(int32(n))
	case colvec.Int16:
		n, ok := intOf(v)
		b.AppendInt(n)
		return ok && n == int64(int16(n))
	case colvec.Decimal:
		return appendDecimalValue(b, v)
	case colvec.Float64:
		if len(v) != 8 {
			return false
		}
		b.AppendFloat(math.Float64frombits(binary.LittleEndian.Uint64(v)))
		return true
	case colvec.Float32:
		if len(v) != 4 {
			return false
		}
		b.AppendFloat(float64(math.Float32frombits(binary.LittleEndian.Uint32(v))))
		return true
	case colvec.Bool:
		if len(v) != 1 || v[0] > 1 {
			return false
		}
		b.AppendBool(v[0] == 1)
		return true
	case colvec.Interval:
		return appendIntervalValue(b, v)
	}
	return false
}

func intOf(v []byte) (int64, bool) {
	switch len(v) {
	case 0:
		return 0, true
	case 1:
		return int64(int8(v[0])), true
	case 2:
		return int64(int16(binary.LittleEndian.Uint16(v))), true
	case 4:
		return int64(int32(binary.LittleEndian.Uint32(v))), true
	case 8:
		return int64(binary.LittleEndian.Uint64(v)), true
	}
	return 0, false
}

func appendDecimalValue(b *colvec.Builder, v []byte) bool {
	if len(v) == 16 {
		b.AppendDecimal(decimal128.New(int64(binary.LittleEndian.Uint64(v[8:])), binary.LittleEndian.Uint64(v)))
		return true
	}
	n, ok := intOf(v)
	b.AppendDecimal(decimal128.New(n>>63, uint64(n)))
	return ok
}

// isNumeric reports whether v is PostgreSQL's text of a numeric.
func isNumeric(v []byte) bool {
	switch string(v) {
	case "NaN", "Infinity", "-Infinity":
		return true
	}
	if len(v) > 0 && v[0] == '-' {
		v = v[1:]
	}
	digits, points := 0, 0
	for _, c := range v {
		switch {
		case c >= '0' && c <= '9':
			digits++
		case c == '.':
			points++
		default:
			return false
		}
	}
	return digits > 0 && points <= 1
}

func appendIntervalValue(b *colvec.Builder, v []byte) bool {
	if len(v) != 16 {
		return false
	}
	micros := int64(binary.LittleEndian.Uint64(v[8:]))
	if micros > math.MaxInt64/1000 || micros < math.MinInt64/1000 {
		return false
	}
	b.AppendInterval(arrow.MonthDayNanoInterval{
		Months:      int32(binary.LittleEndian.Uint32(v)),
		Days:        int32(binary.LittleEndian.Uint32(v[4:])),
		Nanoseconds: micros * 1000,
	})
	return true
}

// corrupt is XX001: what is wrong, and the row's first bytes.
func corrupt(row []byte, what string, args ...any) error {
	const shown = 32
	return pgerror.New(pgerror.DataCorrupted, "a stored row is malformed: %s (%d bytes, %x…)",
		fmt.Sprintf(what, args...), len(row), row[:min(len(row), shown)])
}
