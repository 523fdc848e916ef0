package spool

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
	"time"
)

// A segment file is a header and records, all numbers little-endian:
//
//	header  8 magic, 8 sequence of the first record, 8 created (unix ns), 4 CRC32C of the 24 before, 4 zero
//	record  4 CRC32C of what follows, 4 length of the data, 4 index in the segment, data
//
// The index tells after a damaged stretch how many records it held.
const (
	headerSize = 32
	recordHead = 12
	magic      = "EGSPOOL1"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// segmentName sorts by first record, then by generation: two segments begin
// at the same record when the first of them could not be trusted.
func segmentName(first uint64, gen uint32) string {
	return fmt.Sprintf("%016x-%08x.seg", first, gen)
}

func parseSegmentName(name string) (first uint64, gen uint32, ok bool) {
	base, found := strings.CutSuffix(name, ".seg")
	if !found || len(base) != 25 || base[16] != '-' {
		return 0, 0, false
	}
	first, err := strconv.ParseUint(base[:16], 16, 64)
	if err != nil || first == 0 {
		return 0, 0, false
	}
	g, err := strconv.ParseUint(base[17:], 16, 32)
	return first, uint32(g), err == nil
}

func appendHeader(b []byte, first uint64, created time.Time) []byte {
	start := len(b)
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint64(b, first)
	b = binary.LittleEndian.AppendUint64(b, uint64(created.UnixNano()))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
	return append(b, 0, 0, 0, 0)
}

// parseHeader reports whether b begins with the header of the segment whose
// name says first.
func parseHeader(b []byte, first uint64) (created time.Time, ok bool) {
	if len(b) < headerSize || string(b[:8]) != magic ||
		crc32.Checksum(b[:24], castagnoli) != binary.LittleEndian.Uint32(b[24:]) ||
		binary.LittleEndian.Uint64(b[8:]) != first {
		return time.Time{}, false
	}
	return time.Unix(0, int64(binary.LittleEndian.Uint64(b[16:]))), true
}

// putRecordHead fills the head of rec, whose data is in place behind it.
func putRecordHead(rec []byte, index uint32) {
	binary.LittleEndian.PutUint32(rec[4:], uint32(len(rec)-recordHead))
	binary.LittleEndian.PutUint32(rec[8:], index)
	binary.LittleEndian.PutUint32(rec, crc32.Checksum(rec[4:], castagnoli))
}

// recordSize is the size on disk of the record that begins b, as far as its
// head says; ok is false while the head is not whole.
func recordSize(b []byte) (size int64, ok bool) {
	if len(b) < recordHead {
		return 0, false
	}
	return recordHead + int64(binary.LittleEndian.Uint32(b[4:])), true
}

// parseRecord reads the record that begins b. ok is false when there is no
// whole and undamaged record with at least the wanted index.
func parseRecord(b []byte, want uint32) (index uint32, data []byte, ok bool) {
	size, ok := recordSize(b)
	if !ok || size > int64(len(b)) {
		return 0, nil, false
	}
	index = binary.LittleEndian.Uint32(b[8:])
	if index < want || crc32.Checksum(b[4:size], castagnoli) != binary.LittleEndian.Uint32(b) {
		return 0, nil, false
	}
	return index, b[recordHead:size:size], true
}

// resync returns the offset in b of the next undamaged record, or -1. A
// record cannot have an index far beyond what fits between.
func resync(b []byte, want uint32) int {
	for off := 1; off+recordHead <= len(b); off++ {
		h := b[off:]
		size := int64(binary.LittleEndian.Uint32(h[4:])) + recordHead
		index := binary.LittleEndian.Uint32(h[8:])
		if size > int64(len(h)) || index < want || int(index-want) > off/recordHead+1 {
			continue
		}
		if _, _, ok := parseRecord(h, want); ok {
			return off
		}
	}
	return -1
}

// scan calls each for the undamaged records of a segment's body in order and
// returns where the last of them ends and the index after it. skipped counts
// the records that are missing before it.
func scan(body []byte, each func(index uint32, data []byte)) (end int, next uint32, skipped uint64) {
	for off := 0; off < len(body); {
		index, data, ok := parseRecord(body[off:], next)
		if !ok {
			d := resync(body[off:], next)
			if d < 0 {
				break
			}
			off += d
			continue
		}
		skipped += uint64(index - next)
		each(index, data)
		off += recordHead + len(data)
		end, next = off, index+1
	}
	return end, next, skipped
}
