package gossip

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// memberlist's message types (net.go there); they are its wire format.
const (
	msgPing = iota
	msgIndirectPing
	msgAck
	msgSuspect
	msgAlive
	msgDead
	msgPushPull
	msgCompound
	msgUser
	msgCompress
	msgEncrypt
	msgNack
	msgCRC
)

const (
	// packetBytes is what memberlist fills a packet up to; packetBytesMax is
	// the largest that is taken.
	packetBytes    = 8 << 10
	packetBytesMax = 64 << 10
	crcHeaderBytes = 5
)

// checkPacket refuses what no node of ours sends: memberlist would unpack
// compressed messages to thousands of times their size, and compounds in
// compounds without end.
func checkPacket(b []byte) error {
	if len(b) > packetBytesMax {
		return fmt.Errorf("gossip: a packet of %d bytes is above the limit of %d", len(b), packetBytesMax)
	}
	if len(b) > 0 && b[0] == msgCRC {
		if len(b) < crcHeaderBytes {
			return errors.New("gossip: a packet ends within its checksum")
		}
		b = b[crcHeaderBytes:] // memberlist compares the checksum itself
	}
	if len(b) == 0 {
		return errors.New("gossip: an empty packet")
	}
	if b[0] == msgCompound {
		return checkCompound(b[1:])
	}
	return checkMessage(b)
}

// checkCompound checks a count, as many 16-bit lengths, and the messages.
func checkCompound(b []byte) error {
	if len(b) == 0 {
		return errors.New("gossip: a compound packet without a count")
	}
	n := int(b[0])
	b = b[1:]
	if len(b) < 2*n {
		return fmt.Errorf("gossip: a compound packet of %d messages ends within their lengths", n)
	}
	lengths, rest := b[:2*n], b[2*n:]
	for ; len(lengths) > 0; lengths = lengths[2:] {
		size := int(binary.BigEndian.Uint16(lengths))
		if size > len(rest) {
			return fmt.Errorf("gossip: a message of %d bytes in a compound packet that has %d left", size, len(rest))
		}
		if err := checkMessage(rest[:size]); err != nil {
			return err
		}
		rest = rest[size:]
	}
	return nil
}

func checkMessage(b []byte) error {
	if len(b) == 0 {
		return errors.New("gossip: an empty message")
	}
	switch b[0] {
	case msgPing, msgIndirectPing, msgAck, msgSuspect, msgAlive, msgDead, msgNack:
		return nil
	}
	return fmt.Errorf("gossip: a message of type %d in a packet", b[0])
}

// checkStreamStart refuses streams that start with what no node of ours sends.
func checkStreamStart(b []byte) error {
	if len(b) == 0 {
		return errors.New("gossip: a stream starts with an empty chunk")
	}
	switch b[0] {
	case msgPing, msgPushPull:
		return nil
	}
	return fmt.Errorf("gossip: a stream starts with a message of type %d", b[0])
}
