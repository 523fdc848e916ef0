package spool_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"edgegateway/internal/spool"
	"edgegateway/internal/spool/spooltest"
)

// model is what a Log must hold: every record whose Append returned nil, in
// order, from the acknowledged one on; after a power cut perhaps some that
// were acknowledged or whose Append failed, but never one too few.
type model struct {
	fs     *spooltest.FS
	opt    spool.Options
	log    *spool.Log
	reader *spool.Reader
	kept   []string        // appended, not acknowledged for certain
	acked  int             // how many of kept were acknowledged
	read   int             // how many of kept the reader returned
	seqs   []uint64        // of what was read
	maybe  map[string]bool // their Append failed; they may come and go
	n      int
}

func (m *model) append(t *rapid.T) {
	var recs [][]byte
	for range rapid.IntRange(1, 6).Draw(t, "records") {
		m.n++
		recs = append(recs, fmt.Appendf(nil, "%06d%s", m.n, strings.Repeat("x", rapid.IntRange(0, 900).Draw(t, "size"))))
	}
	if err := m.log.Append(recs...); err != nil {
		for _, r := range recs {
			m.maybe[string(r[:6])] = true
		}
		return
	}
	for _, r := range recs {
		m.kept = append(m.kept, string(r[:6]))
	}
}

func (m *model) readSome(t *rapid.T) {
	recs, err := m.reader.Try(rapid.IntRange(1, 20).Draw(t, "window"))
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	if len(recs) == 0 && m.read < len(m.kept) {
		t.Fatalf("the reader sees nothing after %d of %d", m.read, len(m.kept))
	}
	for _, r := range recs {
		if m.read == len(m.kept) || string(r.Data[:6]) != m.kept[m.read] {
			t.Fatalf("read %s as number %d of %d", r.Data[:6], m.read, len(m.kept))
		}
		m.read++
		m.seqs = append(m.seqs, r.Seq)
	}
}

func (m *model) ack(t *rapid.T) {
	if m.read <= m.acked {
		return
	}
	m.acked = rapid.IntRange(m.acked+1, m.read).Draw(t, "ack")
	_, _ = m.log.Ack(m.seqs[m.acked-1]) // an error of the medium only makes it lag
	if n, _ := m.log.Len(); n < len(m.kept)-m.acked {
		t.Fatalf("%d records, want %d", n, len(m.kept)-m.acked)
	}
}

// reopen opens the log again and reads all of it against the model.
func (m *model) reopen(t *rapid.T, exact bool) {
	var err error
	if m.log, err = spool.Open("/q", m.opt); err != nil {
		t.Fatal(err)
	}
	m.reader = m.log.Reader()
	var all []string
	m.seqs = nil
	for {
		recs, err := m.reader.Try(50)
		if err != nil {
			t.Fatal(err)
		}
		if len(recs) == 0 {
			break
		}
		for _, r := range recs {
			all = append(all, string(r.Data[:6]))
			m.seqs = append(m.seqs, r.Seq)
		}
	}
	certain := func(ids []string) []string {
		return slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return m.maybe[id] })
	}
	want, acked := certain(m.kept), len(certain(m.kept[:m.acked]))
	got := certain(all)
	from := len(want) - len(got)
	if from < 0 || from > acked || exact && from != acked || !slices.Equal(got, want[from:]) {
		t.Fatalf("%d acknowledged of %v\nfound %v", acked, want, got)
	}
	m.kept, m.acked, m.read = all, 0, len(all)
}

func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{fs: &spooltest.FS{}, maybe: map[string]bool{}}
		m.opt = spool.Options{MaxBytes: 1 << 20, SegmentBytes: 4096, FS: m.fs}
		m.opt.OnDrop = func(reason string, seq uint64, _ []byte) { t.Errorf("dropped %d: %s", seq, reason) }
		m.reopen(t, true)
		t.Repeat(map[string]func(*rapid.T){
			"append": m.append,
			"more":   m.append,
			"read":   m.readSome,
			"ack":    m.ack,
			"rewind": func(t *rapid.T) {
				m.reader.Rewind()
				m.read = m.acked
				m.seqs = m.seqs[:m.acked]
			},
			"appendFails": func(t *rapid.T) {
				ops := rapid.SampledFrom([]string{"write", "sync", "create", "syncdir", "truncate write", "truncate sync", "remove sync"}).Draw(t, "op")
				m.fs.Fail = func(op, name string) error {
					if name != "ack" && strings.Contains(" "+ops+" ", " "+op+" ") {
						return syscall.EIO
					}
					return nil
				}
				m.append(t)
				m.fs.Fail = nil
			},
			"full disk": func(t *rapid.T) {
				m.fs.Space = 1
				m.append(t)
				m.fs.Space = 0
			},
			"ackFails": func(t *rapid.T) {
				m.fs.Fail = func(op, name string) error {
					if name == "ack" || op == "remove" {
						return syscall.EIO
					}
					return nil
				}
				m.ack(t)
				m.fs.Fail = nil
			},
			"restart": func(t *rapid.T) {
				if err := m.log.Close(); err != nil {
					t.Fatal(err)
				}
				m.reopen(t, true)
			},
			"powerCut": func(t *rapid.T) {
				var rnd *rand.Rand
				if rapid.Bool().Draw(t, "torn") {
					rnd = rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
				}
				after := m.fs.Kill(rnd)
				_ = m.log.Close()
				m.fs, m.opt.FS = after, after
				m.reopen(t, false)
			},
		})
		_ = m.log.Close()
	})
}
