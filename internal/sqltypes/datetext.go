package sqltypes

import "time"

// AppendDate appends a date in ISO style.
func AppendDate(dst []byte, days int64) []byte {
	switch days {
	case DateInfinity:
		return append(dst, "infinity"...)
	case DateMinusInfinity:
		return append(dst, "-infinity"...)
	}
	y, m, d := CivilFromDays(days)
	dst = appendYMD(dst, y, m, d)
	if y <= 0 {
		dst = append(dst, " BC"...)
	}
	return dst
}

func appendYMD(dst []byte, y, m, d int64) []byte {
	if y <= 0 {
		y = 1 - y
	}
	if y >= 10000 {
		dst = appendUint(dst, uint64(y))
	} else {
		dst = append(dst, byte('0'+y/1000), byte('0'+y/100%10), byte('0'+y/10%10), byte('0'+y%10))
	}
	return append(dst, '-', byte('0'+m/10), byte('0'+m%10), '-', byte('0'+d/10), byte('0'+d%10))
}

func append2(dst []byte, v int64) []byte { return append(dst, byte('0'+v/10), byte('0'+v%10)) }

// AppendTime appends µs of a day as HH:MM:SS[.ffffff].
func AppendTime(dst []byte, us int64) []byte {
	s := us / MicrosPerSecond
	dst = append2(dst, s/3600)
	dst = append2(append(dst, ':'), s/60%60)
	dst = append2(append(dst, ':'), s%60)
	return appendFraction(dst, us%MicrosPerSecond)
}

func appendFraction(dst []byte, us int64) []byte {
	if us == 0 {
		return dst
	}
	dst = append(dst, '.')
	for div := int64(100_000); us > 0; div /= 10 {
		dst = append(dst, byte('0'+us/div))
		us %= div
	}
	return dst
}

// AppendTimestamp appends a timestamp without zone in ISO style.
func AppendTimestamp(dst []byte, us int64) []byte { return appendStamp(dst, us, nil, false) }

// AppendTimestamptz appends a timestamp with the offset of loc (nil = UTC).
func AppendTimestamptz(dst []byte, us int64, loc *time.Location) []byte {
	return appendStamp(dst, us, loc, true)
}

func appendStamp(dst []byte, us int64, loc *time.Location, zone bool) []byte {
	switch us {
	case TimestampInfinity:
		return append(dst, "infinity"...)
	case TimestampMinusInf:
		return append(dst, "-infinity"...)
	}
	off := int64(0)
	if zone {
		off, _ = ZoneOffset(us, loc)
	}
	days, micros := SplitTimestamp(us + off*MicrosPerSecond)
	y, m, d := CivilFromDays(days)
	dst = append(appendYMD(dst, y, m, d), ' ')
	dst = AppendTime(dst, micros)
	if zone {
		dst = appendOffset(dst, off)
	}
	if y <= 0 {
		dst = append(dst, " BC"...)
	}
	return dst
}

func appendOffset(dst []byte, off int64) []byte {
	sign := byte('+')
	if off < 0 {
		sign, off = '-', -off
	}
	dst = append2(append(dst, sign), off/3600)
	if off%3600 != 0 {
		dst = append2(append(dst, ':'), off/60%60)
		if off%60 != 0 {
			dst = append2(append(dst, ':'), off%60)
		}
	}
	return dst
}

// AppendInterval appends an interval in PostgreSQL's own style.
func AppendInterval(dst []byte, iv IntervalValue) []byte {
	start := len(dst)
	neg := false // the field before was negative
	unit := func(v int64, name string) {
		if v == 0 {
			return
		}
		if len(dst) > start {
			dst = append(dst, ' ')
		}
		if neg && v > 0 {
			dst = append(dst, '+')
		}
		dst = appendInt(dst, v)
		dst = append(append(dst, ' '), name...)
		if v != 1 {
			dst = append(dst, 's')
		}
		neg = v < 0
	}
	unit(int64(iv.Months/12), "year")
	unit(int64(iv.Months%12), "mon")
	unit(int64(iv.Days), "day")
	if iv.Micros == 0 && len(dst) > start {
		return dst
	}
	if len(dst) > start {
		dst = append(dst, ' ')
	}
	us := uint64(iv.Micros)
	switch {
	case iv.Micros < 0:
		dst, us = append(dst, '-'), -us
	case neg:
		dst = append(dst, '+')
	}
	s := us / MicrosPerSecond
	if h := s / 3600; h < 100 {
		dst = append2(dst, int64(h))
	} else {
		dst = appendUint(dst, h)
	}
	dst = append2(append(dst, ':'), int64(s/60%60))
	dst = append2(append(dst, ':'), int64(s%60))
	return appendFraction(dst, int64(us%MicrosPerSecond))
}

func appendInt(dst []byte, v int64) []byte {
	if v < 0 {
		return appendUint(append(dst, '-'), uint64(-v))
	}
	return appendUint(dst, uint64(v))
}
