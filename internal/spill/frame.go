package spill

import (
	"encoding/binary"

	"github.com/klauspost/compress/s2"
	"github.com/zeebo/xxh3"
)

const (
	frameMagic = 0x5350524d
	frameHead  = 32
	// frameBytesTarget is how large a frame's body is made; a single row may be
	// larger.
	frameBytesTarget = 512 << 10
	// frameBytesMax bounds a body, and what a Reader would allocate for one.
	frameBytesMax = 1 << 30
)

const (
	codecPlain = iota
	codecS2
)

// seal completes a frame: buf has frameHead bytes for the header, then the body.
// The result is buf or compressed, which is reused. packed says whether the body
// is worth compressing.
//
//	0 magic  4 codec  8 rows  12 body bytes  16 stored bytes  20 frame number  24 checksum
func seal(buf, compressed []byte, rows int, file uint64, number int, pack bool) (frame, scratch []byte, packed bool) {
	codec, body := uint32(codecPlain), len(buf)-frameHead
	frame = buf
	if pack {
		if need := frameHead + s2.MaxEncodedLen(body); cap(compressed) < need {
			compressed = make([]byte, need)
		}
		compressed = compressed[:cap(compressed)]
		c := s2.Encode(compressed[frameHead:], buf[frameHead:])
		if len(c) <= body-body/8 {
			codec, frame, packed = codecS2, compressed[:frameHead+len(c)], true
		}
	}
	le := binary.LittleEndian
	le.PutUint32(frame, frameMagic)
	le.PutUint32(frame[4:], codec)
	le.PutUint32(frame[8:], uint32(rows))
	le.PutUint32(frame[12:], uint32(body))
	le.PutUint32(frame[16:], uint32(len(frame)-frameHead))
	le.PutUint32(frame[20:], uint32(number))
	le.PutUint64(frame[24:], checksum(frame[:24], frame[frameHead:], file))
	return frame, compressed, packed
}

// checksum covers a frame's header and what is stored, in its file.
func checksum(head, stored []byte, file uint64) uint64 {
	return xxh3.HashSeed(head, xxh3.HashSeed(stored, file))
}

// header is that of a frame.
type header struct {
	codec, rows, body, stored, number int
	sum                               uint64
}

// openHeader reads a header; why says what is wrong with it.
func openHeader(b []byte) (h header, why string) {
	le := binary.LittleEndian
	h = header{codec: int(le.Uint32(b[4:])), rows: int(le.Uint32(b[8:])), body: int(le.Uint32(b[12:])),
		stored: int(le.Uint32(b[16:])), number: int(le.Uint32(b[20:])), sum: le.Uint64(b[24:])}
	switch {
	case le.Uint32(b) != frameMagic:
		return h, "does not begin as a frame"
	case h.codec != codecPlain && h.codec != codecS2:
		return h, "is encoded in no known way"
	case h.body > frameBytesMax || h.stored > s2.MaxEncodedLen(frameBytesMax):
		return h, "is too large"
	case h.codec == codecPlain && h.body != h.stored:
		return h, "has two lengths"
	}
	return h, ""
}

// openFrame checks what is stored and returns the body.
func openFrame(h header, head, stored []byte, file uint64) (body []byte, why string) {
	if checksum(head[:24], stored, file) != h.sum {
		return nil, "has a wrong checksum"
	}
	if h.codec == codecPlain {
		return stored, ""
	}
	n, err := s2.DecodedLen(stored)
	if err != nil || n != h.body {
		return nil, "has a wrong length"
	}
	body, err = s2.Decode(make([]byte, n), stored)
	if err != nil {
		return nil, "cannot be decompressed"
	}
	return body, ""
}
