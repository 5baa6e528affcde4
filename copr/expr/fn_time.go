package expr

import (
	"math"
	"strings"
	"time"

	"github.com/cockroachdb/apd/v3"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

const (
	usDay    = sqltypes.MicrosPerDay
	usHour   = sqltypes.MicrosPerHour
	usMinute = sqltypes.MicrosPerMinute
	usSecond = sqltypes.MicrosPerSecond
)

var errIntervalRange = pgerror.New(pgerror.DatetimeFieldOverflow, "interval out of range")

func infinite(us int64) bool {
	return us == sqltypes.TimestampInfinity || us == sqltypes.TimestampMinusInf
}

func infiniteDate(d int32) bool {
	return d == sqltypes.DateInfinity || d == sqltypes.DateMinusInfinity
}

func init() {
	dateArithmetic()
	stampArithmetic()
	intervalArithmetic()
	clocks()
	makers()
	zones()
}

func checkDate(d int64) (int32, error) {
	if !sqltypes.DateInRange(d) {
		return 0, errDateRange
	}
	return int32(d), nil
}

func checkStamp(us int64, ok bool) (int64, error) {
	if !ok || !sqltypes.TimestampInRange(us) {
		return 0, errStampRange
	}
	return us, nil
}

func addOverflow(a, b int64) (int64, bool) {
	s := a + b
	return s, (a^s)&(b^s) >= 0
}

// addMonths adds months to a local timestamp, keeping the day of the month
// within the new month.
func addMonths(us int64, months int64) (int64, bool) {
	days, rest := sqltypes.SplitTimestamp(us)
	y, m, d := sqltypes.CivilFromDays(days)
	m += months
	y += (m - 1) / 12
	if m = (m-1)%12 + 1; m < 1 {
		m += 12
		y--
	}
	days = sqltypes.DaysFromCivil(y, m, min(d, sqltypes.DaysInMonth(y, m)))
	if days > math.MaxInt64/usDay-1 || days < math.MinInt64/usDay+1 {
		return 0, false
	}
	return days*usDay + rest, true
}

// addToStamp is timestamp + interval.
func addToStamp(us int64, iv interval) (int64, error) {
	if infinite(us) {
		return us, nil
	}
	ok := true
	if iv.Months != 0 {
		us, ok = addMonths(us, int64(iv.Months))
	}
	if ok && iv.Days != 0 {
		us, ok = addOverflow(us, int64(iv.Days)*usDay)
	}
	if ok {
		us, ok = addOverflow(us, iv.Micros)
	}
	return checkStamp(us, ok)
}

// addToStamptz is timestamptz + interval: months and days in local time.
func addToStamptz(cc *call, us int64, iv interval) (int64, error) {
	if infinite(us) {
		return us, nil
	}
	if iv.Months != 0 || iv.Days != 0 {
		local, err := addToStamp(toLocal(cc, us), interval{Months: iv.Months, Days: iv.Days})
		if err != nil {
			return 0, err
		}
		us = sqltypes.LocalToUTC(local, cc.ctx.zone())
	}
	us, ok := addOverflow(us, iv.Micros)
	return checkStamp(us, ok)
}

func negate(iv interval) interval {
	return interval{Months: -iv.Months, Days: -iv.Days, Micros: -iv.Micros}
}

func dateArithmetic() {
	plus := func(d, n int32) (int32, error) {
		if infiniteDate(d) {
			return d, nil
		}
		return checkDate(int64(d) + int64(n))
	}
	def("+(date,int4) date", fn2(func(_ *call, d, n int32) (int32, error) { return plus(d, n) }))
	def("+(int4,date) date", fn2(func(_ *call, n, d int32) (int32, error) { return plus(d, n) }))
	def("-(date,int4) date", fn2(func(_ *call, d, n int32) (int32, error) {
		if infiniteDate(d) {
			return d, nil
		}
		return checkDate(int64(d) - int64(n))
	}))
	def("-(date,date) int4", fn2(func(_ *call, a, b int32) (int32, error) {
		if infiniteDate(a) || infiniteDate(b) {
			return 0, pgerror.New(pgerror.DatetimeFieldOverflow, "cannot subtract infinite dates")
		}
		return a - b, nil
	}))
	shift := func(sign int) evalFunc {
		return fn2(func(_ *call, d int32, iv interval) (int64, error) {
			us, err := dateMicros(d)
			if err != nil {
				return 0, err
			}
			if sign < 0 {
				iv = negate(iv)
			}
			return addToStamp(us, iv)
		})
	}
	def("+(date,interval) timestamp", shift(1))
	def("-(date,interval) timestamp", shift(-1))
	def("+(interval,date) timestamp", fn2(func(_ *call, iv interval, d int32) (int64, error) {
		us, err := dateMicros(d)
		if err != nil {
			return 0, err
		}
		return addToStamp(us, iv)
	}))
	at := func(d int32, t int64) (int64, error) {
		us, err := dateMicros(d)
		if err != nil || infinite(us) {
			return us, err
		}
		us, ok := addOverflow(us, t)
		return checkStamp(us, ok)
	}
	def("+(date,time) timestamp", fn2(func(_ *call, d int32, t int64) (int64, error) { return at(d, t) }))
	def("+(time,date) timestamp", fn2(func(_ *call, t int64, d int32) (int64, error) { return at(d, t) }))
}

func stampArithmetic() {
	def("+(timestamp,interval) timestamp", fn2(func(_ *call, us int64, iv interval) (int64, error) { return addToStamp(us, iv) }))
	def("-(timestamp,interval) timestamp", fn2(func(_ *call, us int64, iv interval) (int64, error) { return addToStamp(us, negate(iv)) }))
	def("+(interval,timestamp) timestamp", fn2(func(_ *call, iv interval, us int64) (int64, error) { return addToStamp(us, iv) }))
	def("+(timestamptz,interval) timestamptz", fn2(addToStamptz), stable)
	subtract := fn2(func(cc *call, us int64, iv interval) (int64, error) { return addToStamptz(cc, us, negate(iv)) })
	def("-(timestamptz,interval) timestamptz", subtract, stable)
	// The functions are PostgreSQL 16's; go-tpc's queries call them.
	def("date_add(timestamptz,interval) timestamptz", fn2(addToStamptz), stable)
	def("date_subtract(timestamptz,interval) timestamptz", subtract, stable)
	def("+(interval,timestamptz) timestamptz", fn2(func(cc *call, iv interval, us int64) (int64, error) {
		return addToStamptz(cc, us, iv)
	}), stable)
	minus := fn2(func(_ *call, a, b int64) (interval, error) {
		if infinite(a) || infinite(b) {
			return interval{}, pgerror.New(pgerror.DatetimeFieldOverflow, "cannot subtract infinite timestamps")
		}
		d := a - b
		if (a^b)&(a^d) < 0 {
			return interval{}, errIntervalRange
		}
		return justifyHours(interval{Micros: d}), nil
	})
	def("-(timestamp,timestamp) interval", minus)
	def("-(timestamptz,timestamptz) interval", minus)
	def("-(time,time) interval", pure2(func(a, b int64) interval { return interval{Micros: a - b} }))
	wrap := func(us int64) int64 {
		_, us = sqltypes.SplitTimestamp(us)
		return us
	}
	def("+(time,interval) time", pure2(func(t int64, iv interval) int64 { return wrap(t + iv.Micros%usDay) }))
	def("-(time,interval) time", pure2(func(t int64, iv interval) int64 { return wrap(t - iv.Micros%usDay) }))
	def("+(interval,time) time", pure2(func(iv interval, t int64) int64 { return wrap(t + iv.Micros%usDay) }))
	age := func(a, b int64) (interval, error) {
		if infinite(a) || infinite(b) {
			return interval{}, pgerror.New(pgerror.DatetimeFieldOverflow, "timestamp out of range")
		}
		return ageOf(a, b), nil
	}
	def("age(timestamp,timestamp) interval", fn2(func(_ *call, a, b int64) (interval, error) { return age(a, b) }))
	def("age(timestamptz,timestamptz) interval", fn2(func(cc *call, a, b int64) (interval, error) {
		return age(toLocal(cc, a), toLocal(cc, b))
	}), stable)
	midnight := func(cc *call) int64 {
		days, _ := sqltypes.SplitTimestamp(toLocal(cc, cc.ctx.txnNow().UnixMicro()))
		return days * usDay
	}
	def("age(timestamp) interval", fn1(func(cc *call, a int64) (interval, error) { return age(midnight(cc), a) }), stable)
	def("age(timestamptz) interval", fn1(func(cc *call, a int64) (interval, error) { return age(midnight(cc), toLocal(cc, a)) }), stable)
}

// ageOf is a - b in years, months, days and time, as timestamp_age.
func ageOf(a, b int64) interval {
	neg := a < b
	if neg {
		a, b = b, a
	}
	ad, at := sqltypes.SplitTimestamp(a)
	bd, bt := sqltypes.SplitTimestamp(b)
	ay, am, aday := sqltypes.CivilFromDays(ad)
	by, bm, bday := sqltypes.CivilFromDays(bd)
	months, days, us := (ay-by)*12+am-bm, aday-bday, at-bt
	if us < 0 {
		us += usDay
		days--
	}
	if days < 0 {
		days += sqltypes.DaysInMonth(by, bm) // borrow from the earlier month
		months--
	}
	iv := interval{Months: int32(months), Days: int32(days), Micros: us}
	if neg {
		return negate(iv)
	}
	return iv
}

func justifyHours(iv interval) interval {
	days := iv.Micros / usDay
	iv.Micros -= days * usDay
	iv.Days += int32(days)
	if iv.Days > 0 && iv.Micros < 0 {
		iv.Micros += usDay
		iv.Days--
	} else if iv.Days < 0 && iv.Micros > 0 {
		iv.Micros -= usDay
		iv.Days++
	}
	return iv
}

func justifyDays(iv interval) interval {
	months := iv.Days / sqltypes.DaysPerMonth
	iv.Days -= months * sqltypes.DaysPerMonth
	iv.Months += months
	if iv.Months > 0 && iv.Days < 0 {
		iv.Days += sqltypes.DaysPerMonth
		iv.Months--
	} else if iv.Months < 0 && iv.Days > 0 {
		iv.Days -= sqltypes.DaysPerMonth
		iv.Months++
	}
	return iv
}

// justifyInterval makes all fields of one sign, within their ranges.
func justifyInterval(iv interval) interval {
	days := iv.Micros / usDay
	iv.Micros -= days * usDay
	iv.Days += int32(days)
	months := iv.Days / sqltypes.DaysPerMonth
	iv.Days -= months * sqltypes.DaysPerMonth
	iv.Months += months
	if iv.Months > 0 && (iv.Days < 0 || iv.Days == 0 && iv.Micros < 0) {
		iv.Days += sqltypes.DaysPerMonth
		iv.Months--
	} else if iv.Months < 0 && (iv.Days > 0 || iv.Days == 0 && iv.Micros > 0) {
		iv.Days -= sqltypes.DaysPerMonth
		iv.Months++
	}
	if iv.Days > 0 && iv.Micros < 0 {
		iv.Micros += usDay
		iv.Days--
	} else if iv.Days < 0 && iv.Micros > 0 {
		iv.Micros -= usDay
		iv.Days++
	}
	return iv
}

func intervalArithmetic() {
	add := func(a, b interval) (interval, error) {
		m, d := int64(a.Months)+int64(b.Months), int64(a.Days)+int64(b.Days)
		us, ok := addOverflow(a.Micros, b.Micros)
		if !ok || m != int64(int32(m)) || d != int64(int32(d)) {
			return interval{}, errIntervalRange
		}
		return interval{Months: int32(m), Days: int32(d), Micros: us}, nil
	}
	def("+(interval,interval) interval", fn2(func(_ *call, a, b interval) (interval, error) { return add(a, b) }))
	def("-(interval,interval) interval", fn2(func(_ *call, a, b interval) (interval, error) { return add(a, negate(b)) }))
	def("-(interval) interval", pure1(negate))
	def("*(interval,float8) interval", fn2(func(_ *call, a interval, f float64) (interval, error) { return scaleInterval(a, f, false) }))
	def("*(float8,interval) interval", fn2(func(_ *call, f float64, a interval) (interval, error) { return scaleInterval(a, f, false) }))
	def("/(interval,float8) interval", fn2(func(_ *call, a interval, f float64) (interval, error) {
		if f == 0 {
			return a, sqltypes.ErrDivisionByZero
		}
		return scaleInterval(a, f, true)
	}))
	def("justify_hours(interval) interval", pure1(justifyHours))
	def("justify_days(interval) interval", pure1(justifyDays))
	def("justify_interval(interval) interval", pure1(justifyInterval))
}

// roundTS rounds to µs, as PostgreSQL's TSROUND.
func roundTS(x float64) float64 { return math.RoundToEven(x*usSecond) / usSecond }

// scaleInterval is interval_mul and interval_div: fractions of months go to
// days, of days to time.
func scaleInterval(a interval, f float64, div bool) (interval, error) {
	scale := func(x float64) float64 {
		if div {
			return x / f
		}
		return x * f
	}
	mf, df := scale(float64(a.Months)), scale(float64(a.Days))
	if !(math.Abs(mf) <= math.MaxInt32) || !(math.Abs(df) <= math.MaxInt32) {
		return a, errIntervalRange
	}
	out := interval{Months: int32(mf), Days: int32(df)}
	monthDays := roundTS((mf - float64(out.Months)) * sqltypes.DaysPerMonth)
	secs := roundTS((df - float64(out.Days) + monthDays - math.Trunc(monthDays)) * 86400)
	if math.Abs(secs) >= 86400 {
		out.Days += int32(secs / 86400)
		secs -= math.Trunc(secs/86400) * 86400
	}
	out.Days += int32(monthDays)
	us := math.RoundToEven(scale(float64(a.Micros)) + secs*usSecond)
	if !(us > -1<<63 && us < 1<<63) {
		return a, errIntervalRange
	}
	out.Micros = int64(us)
	return out, nil
}

func clocks() {
	stamp := func(names string, f func(cc *call) time.Time, o option) {
		for n := range strings.FieldsSeq(names) {
			def(n+"() timestamptz", fn0(func(cc *call) (int64, error) { return f(cc).UnixMicro(), nil }), o)
		}
	}
	stamp("now current_timestamp transaction_timestamp", func(cc *call) time.Time { return cc.ctx.txnNow() }, stable)
	stamp("statement_timestamp", func(cc *call) time.Time { return cc.ctx.now() }, stable)
	stamp("clock_timestamp", func(cc *call) time.Time { return cc.ctx.clock() }, volatile)
	local := func(cc *call) int64 { return toLocal(cc, cc.ctx.txnNow().UnixMicro()) }
	def("localtimestamp() timestamp", fn0(func(cc *call) (int64, error) { return local(cc), nil }), stable)
	def("current_date() date", fn0(func(cc *call) (int32, error) { return microsDate(local(cc)) }), stable)
	def("localtime() time", fn0(func(cc *call) (int64, error) {
		_, us := sqltypes.SplitTimestamp(local(cc))
		return us, nil
	}), stable)
	rounded := func(us int64, digits int32) int64 { return sqltypes.RoundMicros(us, min(max(digits, 0), 6)+1) }
	def("current_timestamp(int4) timestamptz", fn1(func(cc *call, n int32) (int64, error) {
		return rounded(cc.ctx.txnNow().UnixMicro(), n), nil
	}), stable)
	def("localtimestamp(int4) timestamp", fn1(func(cc *call, n int32) (int64, error) { return rounded(local(cc), n), nil }), stable)
	def("localtime(int4) time", fn1(func(cc *call, n int32) (int64, error) {
		_, us := sqltypes.SplitTimestamp(local(cc))
		return rounded(us, n), nil
	}), stable)
	def("timeofday() text", fn0(func(cc *call) (string, error) {
		return cc.ctx.clock().In(cc.ctx.zone()).Format("Mon Jan 02 15:04:05.000000 2006 MST"), nil
	}), volatile)
	def("isfinite(date) bool", pure1(func(d int32) bool { return !infiniteDate(d) }))
	def("isfinite(timestamp) bool", pure1(func(us int64) bool { return !infinite(us) }))
	def("isfinite(timestamptz) bool", pure1(func(us int64) bool { return !infinite(us) }))
	def("isfinite(interval) bool", pure1(func(interval) bool { return true }))
}

func makeDate(y, m, d int32) (int32, error) {
	bad := pgerror.New(pgerror.DatetimeFieldOverflow, "date field value out of range: %d-%02d-%02d", y, m, d)
	yy := int64(y)
	if yy < 0 {
		yy++ // there is no year 0
	} else if yy == 0 {
		return 0, bad
	}
	if m < 1 || m > 12 || d < 1 || int64(d) > sqltypes.DaysInMonth(yy, int64(m)) {
		return 0, bad
	}
	days := sqltypes.DaysFromCivil(yy, int64(m), int64(d))
	if !sqltypes.DateInRange(days) {
		return 0, pgerror.New(pgerror.DatetimeFieldOverflow, "date out of range: %d-%02d-%02d", y, m, d)
	}
	return int32(days), nil
}

func makeTime(h, m int32, s float64) (int64, error) {
	us := math.RoundToEven(s * usSecond)
	if h < 0 || m < 0 || m > 59 || !(s >= 0) || us > 60*usSecond || int64(h)*usHour+int64(m)*usMinute+int64(us) > usDay {
		return 0, pgerror.New(pgerror.DatetimeFieldOverflow, "time field value out of range: %d:%02d:%02g", h, m, s)
	}
	return int64(h)*usHour + int64(m)*usMinute + int64(us), nil
}

func makers() {
	def("make_date(int4,int4,int4) date", fn3(func(_ *call, y, m, d int32) (int32, error) { return makeDate(y, m, d) }))
	def("make_time(int4,int4,float8) time", fn3(func(_ *call, h, m int32, s float64) (int64, error) { return makeTime(h, m, s) }))
	stamp := func(cc *call, a []sqltypes.Datum) (int64, error) {
		d, err := makeDate(int32(a[0].Int()), int32(a[1].Int()), int32(a[2].Int()))
		if err != nil {
			return 0, err
		}
		t, err := makeTime(int32(a[3].Int()), int32(a[4].Int()), a[5].Float())
		if err != nil {
			return 0, err
		}
		return checkStamp(int64(d)*usDay+t, int64(d) < math.MaxInt64/usDay-1)
	}
	def("make_timestamp(int4,int4,int4,int4,int4,float8) timestamp", rowCall(func(cc *call, a []sqltypes.Datum) (sqltypes.Datum, error) {
		us, err := stamp(cc, a)
		return sqltypes.NewInt(us), err
	}))
	def("make_timestamptz(int4,int4,int4,int4,int4,float8) timestamptz", rowCall(func(cc *call, a []sqltypes.Datum) (sqltypes.Datum, error) {
		us, err := stamp(cc, a)
		return sqltypes.NewInt(sqltypes.LocalToUTC(us, cc.ctx.zone())), err
	}), stable)
	def("make_timestamptz(int4,int4,int4,int4,int4,float8,text) timestamptz", rowCall(func(cc *call, a []sqltypes.Datum) (sqltypes.Datum, error) {
		us, err := stamp(cc, a)
		if err != nil {
			return sqltypes.Null, err
		}
		loc, err := sqltypes.LoadZone(a[6].Str())
		return sqltypes.NewInt(sqltypes.LocalToUTC(us, loc)), err
	}))
	ints := ""
	for n := 0; n <= 6; n++ { // years, months, weeks, days, hours, mins
		if n > 0 {
			ints += ",int4"
		}
		def("make_interval("+strings.TrimPrefix(ints, ",")+") interval", makeInterval)
	}
	def("make_interval("+strings.TrimPrefix(ints, ",")+",float8) interval", makeInterval)
	def("to_timestamp(float8) timestamptz", fn1(func(_ *call, s float64) (int64, error) {
		switch {
		case math.IsNaN(s):
			return 0, pgerror.New(pgerror.DatetimeFieldOverflow, "timestamp cannot be NaN")
		case math.IsInf(s, 1):
			return sqltypes.TimestampInfinity, nil
		case math.IsInf(s, -1):
			return sqltypes.TimestampMinusInf, nil
		case math.Abs(s) > 9e12:
			return 0, pgerror.New(pgerror.DatetimeFieldOverflow, "timestamp out of range: \"%g\"", s)
		}
		return checkStamp(int64(math.RoundToEven((s-946684800)*usSecond))+sqltypes.PostgresEpochMicros, true)
	}))
}

var makeInterval = rowCall(func(_ *call, a []sqltypes.Datum) (sqltypes.Datum, error) {
	var v [7]float64
	for i, d := range a {
		if v[i] = float64(d.Int()); i == 6 {
			v[i] = d.Float()
		}
	}
	months, days := v[0]*12+v[1], v[2]*7+v[3]
	us := v[4]*usHour + v[5]*usMinute + math.RoundToEven(v[6]*usSecond)
	if !(math.Abs(months) <= math.MaxInt32) || !(math.Abs(days) <= math.MaxInt32) || !(math.Abs(us) < 1<<63) {
		return sqltypes.Null, errIntervalRange
	}
	return sqltypes.NewInterval(interval{Months: int32(months), Days: int32(days), Micros: int64(us)}), nil
})

func zones() {
	intervalZone := func(iv interval) (*time.Location, error) {
		if iv.Months != 0 || iv.Days != 0 {
			return nil, pgerror.New(pgerror.InvalidParameterValue, "interval time zone %q must not include months or days",
				sqltypes.Quotable(sqltypes.AppendInterval(nil, iv)))
		}
		return time.FixedZone("", int(iv.Micros/usSecond)), nil
	}
	toZoned := func(us int64, loc *time.Location, err error) (int64, error) {
		if err != nil || infinite(us) {
			return us, err
		}
		return checkStamp(sqltypes.LocalToUTC(us, loc), true)
	}
	fromZoned := func(us int64, loc *time.Location, err error) (int64, error) {
		return sqltypes.UTCToLocal(us, loc), err
	}
	def("timezone(text,timestamp) timestamptz", fn2(func(_ *call, z string, us int64) (int64, error) {
		loc, err := sqltypes.LoadZone(z)
		return toZoned(us, loc, err)
	}))
	def("timezone(text,timestamptz) timestamp", fn2(func(_ *call, z string, us int64) (int64, error) {
		loc, err := sqltypes.LoadZone(z)
		return fromZoned(us, loc, err)
	}))
	def("timezone(interval,timestamp) timestamptz", fn2(func(_ *call, z interval, us int64) (int64, error) {
		loc, err := intervalZone(z)
		return toZoned(us, loc, err)
	}))
	def("timezone(interval,timestamptz) timestamp", fn2(func(_ *call, z interval, us int64) (int64, error) {
		loc, err := intervalZone(z)
		return fromZoned(us, loc, err)
	}))
}

// decimalOf is v units of the last of scale decimals.
func decimalOf(v int64, scale int32) *apd.Decimal {
	d := sqltypes.NumericFromInt(v)
	d.Exponent = -scale
	return d
}
