package sqltypes

import (
	"math"
	"time"

	_ "time/tzdata" // a fresh machine may have no zone files
)

// Extremes of dates and timestamps, which stand for infinity, and
// PostgreSQL's ranges. Dates are days, timestamps µs, since 1970-01-01.
const (
	DateInfinity        = math.MaxInt32
	DateMinusInfinity   = math.MinInt32
	TimestampInfinity   = math.MaxInt64
	TimestampMinusInf   = math.MinInt64
	MicrosPerSecond     = 1_000_000
	MicrosPerMinute     = 60 * MicrosPerSecond
	MicrosPerHour       = 60 * MicrosPerMinute
	MicrosPerDay        = 24 * MicrosPerHour
	DaysPerMonth        = 30
	PostgresEpochDays   = 10957                            // 2000-01-01
	PostgresEpochMicros = PostgresEpochDays * MicrosPerDay // since 1970
	julianOfUnixEpoch   = 2440588
	dateEnd             = 2147483494 - julianOfUnixEpoch            // 5874898-01-01
	timestampMin        = -211813488000000000 + PostgresEpochMicros // 4714-11-24 BC
)

// DaysFromCivil is the day number of a date of the proleptic Gregorian
// calendar; year 0 is 1 BC.
func DaysFromCivil(y, m, d int64) int64 {
	if m <= 2 {
		y--
	}
	era := floorDiv(y, 400)
	yoe := y - era*400
	mp := (m + 9) % 12
	doy := (153*mp+2)/5 + d - 1
	doe := yoe*365 + yoe/4 - yoe/100 + doy
	return era*146097 + doe - 719468
}

// CivilFromDays is the inverse of DaysFromCivil.
func CivilFromDays(days int64) (y, m, d int64) {
	z := days + 719468
	era := floorDiv(z, 146097)
	doe := z - era*146097
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	d = doy - (153*mp+2)/5 + 1
	m = mp + 3
	if m > 12 {
		m -= 12
	}
	y = yoe + era*400
	if m <= 2 {
		y++
	}
	return y, m, d
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b != 0 && (a < 0) != (b < 0) {
		q--
	}
	return q
}

// SplitTimestamp splits µs since 1970 into days and µs of the day.
func SplitTimestamp(us int64) (days, micros int64) {
	days = floorDiv(us, MicrosPerDay)
	return days, us - days*MicrosPerDay
}

// DaysInMonth is the length of a month.
func DaysInMonth(y, m int64) int64 {
	switch m {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if y%4 == 0 && (y%100 != 0 || y%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

// DateInRange reports whether days is a finite date PostgreSQL accepts.
func DateInRange(days int64) bool { return days >= -julianOfUnixEpoch && days < dateEnd }

// TimestampInRange reports whether us is a finite timestamp PostgreSQL
// accepts, as far as µs since 1970 reach.
func TimestampInRange(us int64) bool { return us >= timestampMin && us < TimestampInfinity }

// ZoneOffset is the seconds east of UTC at an instant (µs since 1970) in loc,
// and the zone's abbreviation.
func ZoneOffset(us int64, loc *time.Location) (seconds int64, abbrev string) {
	if loc == nil || loc == time.UTC {
		return 0, "UTC"
	}
	name, off := time.Unix(floorDiv(us, MicrosPerSecond), 0).In(loc).Zone()
	return int64(off), name
}

// LocalToUTC converts a local timestamp to an instant, choosing as PostgreSQL
// does where the local time is skipped (the offset before) or ambiguous (the
// offset after).
func LocalToUTC(local int64, loc *time.Location) int64 {
	if loc == nil || loc == time.UTC || local == TimestampInfinity || local == TimestampMinusInf {
		return local
	}
	before, _ := ZoneOffset(local-MicrosPerDay, loc)
	after, _ := ZoneOffset(local+MicrosPerDay, loc)
	ub, ua := local-before*MicrosPerSecond, local-after*MicrosPerSecond
	if before == after {
		return ub
	}
	if off, _ := ZoneOffset(ua, loc); off == after {
		return ua
	}
	return ub
}

// UTCToLocal converts an instant to local time.
func UTCToLocal(us int64, loc *time.Location) int64 {
	if us == TimestampInfinity || us == TimestampMinusInf {
		return us
	}
	off, _ := ZoneOffset(us, loc)
	return us + off*MicrosPerSecond
}
