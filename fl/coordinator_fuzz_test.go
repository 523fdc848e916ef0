package fl

import "testing"

// FuzzCoordinator gives a coordinator bodies and headers as an enrolled gateway
// may sign them: each is refused by a name or taken, and what is kept can be read
// again.
func FuzzCoordinator(f *testing.F) {
	task := denseTask(4)
	task.Cohort.WaitFor, task.Late = 2, "next"
	l := newLab(f, task, 2).open()
	l.hellos()
	base := l.c.head.Model.Hash
	seeds := [][]Message{{l.hello("g000")}, l.answer("g000"), {l.forge("g000", 1, base, 9, func(u *Update) { u.Delta = u.Delta[:9] })}}
	for kind, list := range seeds {
		p, err := Open(list[0], Enrolled(l.keys))
		do(f, err)
		f.Add(uint8(kind), 1, uint64(50), 0, 1, true, p.Data)
		f.Add(uint8(kind), 2, uint64(0), 1, 2, false, p.Data)
	}
	report, err := Pack(Report{State: "live", New: Metrics{Samples: 3, Accuracy: 1}})
	do(f, err)
	f.Add(uint8(3), 0, uint64(1), 0, 1, true, report)
	f.Fuzz(func(t *testing.T, kind uint8, round int, seq uint64, chunk, chunks int, ours bool, body []byte) {
		l := newLab(t, task, 2).open()
		l.hellos()
		h := Header{Format: Format, Task: l.c.ID(), Kind: []Kind{KindHello, KindUpdate, KindUpdate, KindReport}[kind%4], Round: round, Seq: seq, From: "g000",
			Body: Hash{1}, Bytes: len(body), Chunk: chunk, Chunks: chunks}
		if ours {
			h.Base = base
		}
		list, err := Seal(h, body, 0, keyOf("g000"))
		if chunks > 1 {
			var m Message
			m, err = seal(h, body, keyOf("g000"))
			list = []Message{m}
		}
		if err != nil {
			return // no such message can be made
		}
		for _, m := range append(list, l.answer("g001")...) {
			if _, err := l.c.Handle(l.now, m); err != nil && ReasonOf(err) == "" {
				t.Fatal(err)
			}
		}
		before := l.c.Status()
		l.open()
		if after := l.c.Status(); after.Round != before.Round || after.Updates != before.Updates || len(after.Gateways) != len(before.Gateways) {
			t.Fatalf("before %+v, after %+v", before, after)
		}
	})
}
