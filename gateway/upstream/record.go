package upstream

import (
	"encoding/binary"
	"errors"
	"time"
)

// Class is the queue a record waits in.
type Class uint8

// The classes, in the order in which they leave.
const (
	Alerts Class = iota
	Results
	classes
)

func (c Class) String() string {
	if c == Alerts {
		return "alerts"
	}
	return "results"
}

// Record is one message on its way up.
type Record struct {
	Class   Class
	Stream  string // whom a loss is counted to
	Topic   string // below the link's prefix
	Payload []byte
	Retain  bool
}

// A record on disk: a byte of format and flags, the time it was appended (Unix
// ms, varint), the stream and the topic with their lengths (uvarint), and the
// payload to the end.
const (
	formatMask = 0xf0
	format1    = 0x10
	flagRetain = 0x01
)

var errRecord = errors.New("no record of the outbox")

func appendRecord(b []byte, r *Record, now time.Time) []byte {
	flags := byte(format1)
	if r.Retain {
		flags |= flagRetain
	}
	b = append(b, flags)
	b = binary.AppendVarint(b, now.UnixMilli())
	b = binary.AppendUvarint(b, uint64(len(r.Stream)))
	b = append(b, r.Stream...)
	b = binary.AppendUvarint(b, uint64(len(r.Topic)))
	b = append(b, r.Topic...)
	return append(b, r.Payload...)
}

// stored is a record as it is read back; its bytes are lent.
type stored struct {
	stream, topic, payload []byte
	retain                 bool
	time                   time.Time
}

func parseRecord(b []byte) (s stored, err error) {
	if len(b) == 0 || b[0]&formatMask != format1 {
		return s, errRecord
	}
	s.retain = b[0]&flagRetain != 0
	ms, n := binary.Varint(b[1:])
	if n <= 0 {
		return s, errRecord
	}
	s.time = time.UnixMilli(ms)
	b = b[1+n:]
	for _, part := range []*[]byte{&s.stream, &s.topic} {
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return s, errRecord
		}
		*part, b = b[n:n+int(size)], b[n+int(size):]
	}
	s.payload = b
	return s, nil
}
