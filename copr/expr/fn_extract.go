package expr

import (
	"strconv"
	"strings"

	"github.com/cockroachdb/apd/v3"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// fieldNames are extract's fields and their other spellings.
var fieldNames = func() map[string]string {
	m := map[string]string{}
	for name, words := range map[string]string{
		"microseconds": "us usec usecs usecond useconds microsecon microsecond microseconds microsec microsecs",
		"milliseconds": "ms msec msecs msecond mseconds millisecon millisecond milliseconds millisec millisecs",
		"second":       "s sec secs second seconds", "minute": "m min mins minute minutes", "hour": "h hr hrs hour hours",
		"day": "d day days", "week": "w week weeks", "month": "mon mons month months", "quarter": "qtr quarter",
		"year": "y yr yrs year years", "decade": "dec decs decade decades", "century": "c cent century centuries",
		"millennium": "mil mils millennia millennium", "dow": "dow", "doy": "doy", "isodow": "isodow", "isoyear": "isoyear",
		"epoch": "epoch", "julian": "julian j jd", "timezone": "timezone", "timezone_hour": "timezone_h timezone_hour", "timezone_minute": "timezone_m timezone_minute",
	} {
		for w := range strings.FieldsSeq(words) {
			m[w] = name
		}
	}
	return m
}()

func lookupField(name string) string { return fieldNames[strings.ToLower(strings.TrimSpace(name))] }

func errField(name string, t sqltypes.Type, known bool) error {
	lower := sqltypes.Quotable(strings.ToLower(name))
	if known {
		return pgerror.New(pgerror.FeatureNotSupported, "unit %q not supported for type %s", lower, t.Base().Name())
	}
	return pgerror.New(pgerror.InvalidParameterValue, "unit %q not recognized for type %s", lower, t.Base().Name())
}

// broken is a local timestamp in its parts.
type broken struct {
	y, m, d, days, us int64 // us of the day
}

func breakStamp(us int64) broken {
	days, rest := sqltypes.SplitTimestamp(us)
	y, m, d := sqltypes.CivilFromDays(days)
	return broken{y, m, d, days, rest}
}

func (b broken) dow() int64 { return ((b.days+4)%7 + 7) % 7 } // 1970-01-01 was a Thursday

func (b broken) isoDow() int64 { return (b.dow()+6)%7 + 1 }

func (b broken) doy() int64 { return b.days - sqltypes.DaysFromCivil(b.y, 1, 1) + 1 }

// isoWeek is the ISO 8601 year and week.
func (b broken) isoWeek() (year, week int64) {
	thursday := b.days - b.isoDow() + 4
	y, _, _ := sqltypes.CivilFromDays(thursday)
	return y, (thursday-sqltypes.DaysFromCivil(y, 1, 1))/7 + 1
}

// isoMonday is the first day of the ISO week of a day.
func (b broken) isoMonday() int64 { return b.days - b.isoDow() + 1 }

// extractCivil is a field of a local timestamp, as units of the last of scale
// decimals; ok is false for fields that need more.
func extractCivil(field string, b broken) (v int64, scale int32, ok bool) {
	ceilDiv := func(y, n int64) int64 { // centuries and millennia count from 1, and from -1 before
		if y > 0 {
			return (y + n - 1) / n
		}
		return -((n - 1 - (y - 1)) / n)
	}
	switch field {
	case "microseconds":
		return b.us % usMinute, 0, true
	case "milliseconds":
		return b.us % usMinute, 3, true
	case "second":
		return b.us % usMinute, 6, true
	case "minute":
		return b.us / usMinute % 60, 0, true
	case "hour":
		return b.us / usHour, 0, true
	case "day":
		return b.d, 0, true
	case "month":
		return b.m, 0, true
	case "quarter":
		return (b.m-1)/3 + 1, 0, true
	case "year":
		if b.y <= 0 {
			return b.y - 1, 0, true
		}
		return b.y, 0, true
	case "decade":
		if b.y >= 0 {
			return b.y / 10, 0, true
		}
		return -((8 - (b.y - 1)) / 10), 0, true
	case "century":
		return ceilDiv(b.y, 100), 0, true
	case "millennium":
		return ceilDiv(b.y, 1000), 0, true
	case "week":
		_, w := b.isoWeek()
		return w, 0, true
	case "isoyear":
		y, _ := b.isoWeek()
		if y <= 0 {
			y--
		}
		return y, 0, true
	case "dow":
		return b.dow(), 0, true
	case "isodow":
		return b.isoDow(), 0, true
	case "doy":
		return b.doy(), 0, true
	}
	return 0, 0, false
}

// extracted is a field's value: numeric for extract, float8 for date_part.
type extracted struct {
	v     int64
	scale int32
	num   *apd.Decimal // instead of v
}

func (e extracted) numeric() *apd.Decimal {
	if e.num != nil {
		return e.num
	}
	return decimalOf(e.v, e.scale)
}

func (e extracted) float() float64 {
	if e.num != nil {
		return toFloat(e.num)
	}
	return float64(e.v) / pow10f64[e.scale]
}

// infiniteField: monotonic fields of an infinite timestamp are infinite, the others NULL.
func infiniteField(field string, negative bool) (extracted, bool) {
	switch field {
	case "year", "decade", "century", "millennium", "julian", "isoyear", "epoch":
		return extracted{num: numInf(negative)}, true
	}
	return extracted{}, false
}

const julianDay1970 = 2440588

// extractStamp is a field of a timestamp or timestamptz; ok false = NULL.
func extractStamp(cc *call, name string, us int64, t sqltypes.Type) (e extracted, ok bool, err error) {
	field := lookupField(name)
	zoned := t.OID == sqltypes.OIDTimestamptz
	zone := strings.HasPrefix(field, "timezone")
	if field == "" || zone && !zoned {
		return e, false, errField(name, t, field != "")
	}
	if infinite(us) {
		e, ok = infiniteField(field, us < 0)
		return e, ok, nil
	}
	off := int64(0)
	if zoned {
		off, _ = sqltypes.ZoneOffset(us, cc.ctx.zone())
	}
	local := us + off*usSecond
	switch field {
	case "epoch":
		return extracted{v: us, scale: 6}, true, nil
	case "timezone":
		return extracted{v: off}, true, nil
	case "timezone_hour":
		return extracted{v: off / 3600}, true, nil
	case "timezone_minute":
		return extracted{v: off / 60 % 60}, true, nil
	case "julian":
		b := breakStamp(local)
		day := sqltypes.NumericFromInt(b.days + julianDay1970)
		frac := sqltypes.NumericDivScale(decimalOf(b.us, 0), sqltypes.NumericFromInt(usDay), 20, true)
		return extracted{num: sqltypes.NumericAdd(day, frac)}, true, nil
	}
	v, scale, _ := extractCivil(field, breakStamp(local))
	return extracted{v: v, scale: scale}, true, nil
}

func extractDate(name string, d int32) (e extracted, ok bool, err error) {
	field := lookupField(name)
	switch field {
	case "":
		return e, false, errField(name, sqltypes.Date, false)
	case "microseconds", "milliseconds", "second", "minute", "hour", "timezone", "timezone_hour", "timezone_minute":
		return e, false, errField(name, sqltypes.Date, true)
	}
	if infiniteDate(d) {
		e, ok = infiniteField(field, d < 0)
		return e, ok, nil
	}
	switch field {
	case "epoch":
		return extracted{v: int64(d) * 86400}, true, nil
	case "julian":
		return extracted{v: int64(d) + julianDay1970}, true, nil
	}
	v, _, _ := extractCivil(field, breakStamp(int64(d)*usDay))
	return extracted{v: v}, true, nil
}

func extractTime(name string, us int64) (e extracted, ok bool, err error) {
	field := lookupField(name)
	switch field {
	case "microseconds", "milliseconds", "second", "minute", "hour":
		v, scale, _ := extractCivil(field, broken{us: us})
		return extracted{v: v, scale: scale}, true, nil
	case "epoch":
		return extracted{v: us, scale: 6}, true, nil
	}
	return e, false, errField(name, sqltypes.Time, field != "")
}

func extractInterval(name string, iv interval) (e extracted, ok bool, err error) {
	field := lookupField(name)
	var v int64
	scale := int32(0)
	years := int64(iv.Months / 12)
	switch field {
	case "microseconds":
		v = iv.Micros % usMinute
	case "milliseconds":
		v, scale = iv.Micros%usMinute, 3
	case "second":
		v, scale = iv.Micros%usMinute, 6
	case "minute":
		v = iv.Micros / usMinute % 60
	case "hour":
		v = iv.Micros / usHour
	case "day":
		v = int64(iv.Days)
	case "month":
		v = int64(iv.Months % 12)
	case "quarter":
		v = int64(iv.Months%12)/3 + 1
	case "year":
		v = years
	case "decade":
		v = years / 10
	case "century":
		v = years / 100
	case "millennium":
		v = years / 1000
	case "epoch": // a year has 365.25 days here
		secs := years*31557600 + int64(iv.Months%12)*30*86400 + int64(iv.Days)*86400
		total := sqltypes.NumericAdd(sqltypes.NumericFromInt(secs), decimalOf(iv.Micros, 6))
		return extracted{num: total}, true, nil
	default:
		return e, false, errField(name, sqltypes.Interval, field != "")
	}
	return extracted{v: v, scale: scale}, true, nil
}

func init() {
	extractors(sqltypes.Date, func(_ *call, f string, v vec) func(int) (extracted, bool, error) {
		r := reader[int32](v)
		return func(i int) (extracted, bool, error) { return extractDate(f, r(i)) }
	})
	for _, t := range []sqltypes.Type{sqltypes.Timestamp, sqltypes.Timestamptz} {
		extractors(t, func(cc *call, f string, v vec) func(int) (extracted, bool, error) {
			r := reader[int64](v)
			return func(i int) (extracted, bool, error) { return extractStamp(cc, f, r(i), t) }
		})
	}
	extractors(sqltypes.Time, func(_ *call, f string, v vec) func(int) (extracted, bool, error) {
		r := reader[int64](v)
		return func(i int) (extracted, bool, error) { return extractTime(f, r(i)) }
	})
	extractors(sqltypes.Interval, func(_ *call, f string, v vec) func(int) (extracted, bool, error) {
		r := reader[interval](v)
		return func(i int) (extracted, bool, error) { return extractInterval(f, r(i)) }
	})
	truncators()
}

// appendExtracted writes a field's value as a numeric's text.
func appendExtracted(dst []byte, e extracted) []byte {
	if e.num == nil && e.scale == 0 {
		return strconv.AppendInt(dst, e.v, 10)
	}
	return sqltypes.AppendNumeric(dst, e.numeric())
}

// extractors registers extract (numeric) and date_part (float8) for a type.
func extractors(t sqltypes.Type, make func(cc *call, field string, v vec) func(i int) (extracted, bool, error)) {
	var opts []option
	if t.OID == sqltypes.OIDTimestamptz {
		opts = append(opts, stable)
	}
	get := func(cc *call, args []vec) func(i int) (extracted, bool, error) {
		if args[0].cst && !args[0].arr.IsNull(0) {
			return make(cc, stringsOf(args[0].arr).get(0), args[1])
		}
		f := reader[string](args[0])
		return func(i int) (extracted, bool, error) { return make(cc, f(i), args[1])(i) }
	}
	def("extract(text,"+t.PgName()+") numeric", func(cc *call, args []vec, n int, sel []int32) (vec, error) {
		n, sel, cst := outLen(n, sel, args...)
		if cst && (args[0].nullConst() || args[1].nullConst()) {
			return nullVec(cc.typ), nil
		}
		if v, ok := extractDateParts(cc, args, n, sel); ok {
			return v, nil
		}
		return liftInto(cc, args, n, sel, cst, stringSink(cc.typ, n, appendExtracted), get(cc, args))
	}, opts...)
	def("date_part(text,"+t.PgName()+") float8", func(cc *call, args []vec, n int, sel []int32) (vec, error) {
		if v, ok := extractDateParts(cc, args, n, sel); ok {
			return v, nil
		}
		g := get(cc, args)
		return lift(cc, args, n, sel, func(i int) (float64, bool, error) {
			e, ok, err := g(i)
			if err != nil || !ok {
				return 0, false, err
			}
			return e.float(), true, nil
		})
	}, opts...)
}

// truncStamp is date_trunc of a local timestamp.
func truncStamp(name string, us int64, t sqltypes.Type) (int64, error) {
	field := lookupField(name)
	if infinite(us) {
		return us, nil
	}
	b := breakStamp(us)
	first := func(y, m int64) int64 { return sqltypes.DaysFromCivil(y, m, 1) * usDay }
	whole := func(n int64) int64 { // the first year of a century or millennium
		if b.y > 0 {
			return (b.y-1)/n*n + 1
		}
		return -((n-1-b.y)/n)*n + 1
	}
	switch field {
	case "microseconds":
		return us, nil
	case "milliseconds":
		return us - b.us%1000, nil
	case "second":
		return us - b.us%usSecond, nil
	case "minute":
		return us - b.us%usMinute, nil
	case "hour":
		return us - b.us%usHour, nil
	case "day":
		return b.days * usDay, nil
	case "week":
		return b.isoMonday() * usDay, nil
	case "month":
		return first(b.y, b.m), nil
	case "quarter":
		return first(b.y, (b.m-1)/3*3+1), nil
	case "year":
		return first(b.y, 1), nil
	case "decade":
		if b.y > 0 {
			return first(b.y/10*10, 1), nil
		}
		return first(-((8-(b.y-1))/10)*10, 1), nil
	case "century":
		return first(whole(100), 1), nil
	case "millennium":
		return first(whole(1000), 1), nil
	}
	return 0, errField(name, t, field != "")
}

func truncInterval(name string, iv interval) (interval, error) {
	years := func(n int32) (interval, error) { return interval{Months: iv.Months / (12 * n) * (12 * n)}, nil }
	field := lookupField(name)
	switch field {
	case "microseconds":
		return iv, nil
	case "milliseconds":
		iv.Micros -= iv.Micros % 1000
		return iv, nil
	case "second":
		iv.Micros -= iv.Micros % usSecond
		return iv, nil
	case "minute":
		iv.Micros -= iv.Micros % usMinute
		return iv, nil
	case "hour":
		iv.Micros -= iv.Micros % usHour
		return iv, nil
	case "day":
		return interval{Months: iv.Months, Days: iv.Days}, nil
	case "month":
		return interval{Months: iv.Months}, nil
	case "quarter":
		return interval{Months: iv.Months / 3 * 3}, nil
	case "year":
		return years(1)
	case "decade":
		return years(10)
	case "century":
		return years(100)
	case "millennium":
		return years(1000)
	}
	err := errField(name, sqltypes.Interval, field != "")
	if field == "week" {
		err = pgerror.From(err).WithDetail("Months usually have fractional weeks.")
	}
	return iv, err
}

func truncators() {
	def("date_trunc(text,timestamp) timestamp", fn2(func(_ *call, f string, us int64) (int64, error) {
		return truncStamp(f, us, sqltypes.Timestamp)
	}))
	zoned := func(cc *call, f string, us int64, zone string) (int64, error) {
		loc := cc.ctx.zone()
		if zone != "" {
			var err error
			if loc, err = sqltypes.LoadZone(zone); err != nil {
				return 0, err
			}
		}
		local := sqltypes.UTCToLocal(us, loc)
		t, err := truncStamp(f, local, sqltypes.Timestamptz)
		if err != nil || infinite(us) {
			return us, err
		}
		switch lookupField(f) {
		case "hour", "minute", "second", "milliseconds", "microseconds":
			return us - (local - t), nil // the offset stays
		}
		return sqltypes.LocalToUTC(t, loc), nil
	}
	def("date_trunc(text,timestamptz) timestamptz", fn2(func(cc *call, f string, us int64) (int64, error) {
		return zoned(cc, f, us, "")
	}), stable)
	def("date_trunc(text,timestamptz,text) timestamptz", fn3(func(cc *call, f string, us int64, z string) (int64, error) {
		return zoned(cc, f, us, z)
	}), stable)
	def("date_trunc(text,interval) interval", fn2(func(_ *call, f string, iv interval) (interval, error) { return truncInterval(f, iv) }))
	def("date_bin(interval,timestamp,timestamp) timestamp", fn3(func(_ *call, s interval, us, origin int64) (int64, error) {
		return dateBin(s, us, origin)
	}))
	def("date_bin(interval,timestamptz,timestamptz) timestamptz", fn3(func(_ *call, s interval, us, origin int64) (int64, error) {
		return dateBin(s, us, origin)
	}))
}

func dateBin(stride interval, us, origin int64) (int64, error) {
	if infinite(us) || infinite(origin) {
		return us, nil
	}
	if stride.Months != 0 {
		return 0, pgerror.New(pgerror.FeatureNotSupported, "timestamps cannot be binned into intervals containing months or years")
	}
	step := int64(stride.Days)*usDay + stride.Micros
	if step <= 0 {
		return 0, pgerror.New(pgerror.DatetimeFieldOverflow, "stride must be greater than zero")
	}
	diff := us - origin
	out := diff - diff%step
	if diff%step < 0 {
		out -= step
	}
	return checkStamp(origin+out, true)
}
