package spool

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func sampleSegment(n int) []byte {
	b := appendHeader(nil, 7, time.Unix(1770000000, 0))
	for i := range n {
		start := len(b)
		b = append(b, make([]byte, recordHead)...)
		b = fmt.Appendf(b, "record %d", i)
		putRecordHead(b[start:], uint32(i))
	}
	return b
}

// FuzzScan reads any bytes as the body of a segment: it never panics, and
// what it returns is in order and inside the bytes.
func FuzzScan(f *testing.F) {
	whole := sampleSegment(5)[headerSize:]
	f.Add(whole)
	f.Add(whole[:len(whole)-3])
	f.Add(append(bytes.Clone(whole[:30]), whole[40:]...))
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0}, 100))
	f.Fuzz(func(t *testing.T, body []byte) {
		var count, last int64 = 0, -1
		end, next, skipped := scan(body, func(index uint32, data []byte) {
			if int64(index) <= last {
				t.Fatalf("index %d after %d", index, last)
			}
			last = int64(index)
			count++
		})
		if end > len(body) || int64(next) != last+1 || int64(skipped) != int64(next)-count {
			t.Fatalf("end %d of %d, next %d after %d, %d skipped, %d found", end, len(body), next, last, skipped, count)
		}
	})
}

// FuzzOpen puts any bytes into a sealed and into the newest segment: the log
// opens, reads to its end and takes another record.
func FuzzOpen(f *testing.F) {
	f.Add(sampleSegment(3), sampleSegment(2), []byte{})
	f.Add(sampleSegment(3)[:60], sampleSegment(9)[:100], bytes.Repeat([]byte{1}, 40))
	f.Add([]byte("x"), []byte(nil), []byte(nil))
	f.Fuzz(func(t *testing.T, sealed, newest, ack []byte) {
		dir := t.TempDir()
		for name, b := range map[string][]byte{segmentName(7, 1): sealed, segmentName(10, 2): newest, "ack": ack} {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		l, err := Open(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if err := l.Append([]byte("last")); err != nil {
			t.Fatal(err)
		}
		r := l.Reader()
		defer r.Close()
		var seq uint64
		var data string
		for {
			recs, err := r.Try(4)
			if err != nil {
				t.Fatal(err)
			}
			if len(recs) == 0 {
				break
			}
			for _, rec := range recs {
				if rec.Seq <= seq {
					t.Fatalf("record %d after %d", rec.Seq, seq)
				}
				seq, data = rec.Seq, string(rec.Data)
			}
		}
		if data != "last" {
			t.Fatalf("the last record is %q", data)
		}
	})
}
