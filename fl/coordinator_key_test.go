package fl

import (
	"fmt"
	"testing"
)

// rekey enrols a gateway with another key, of which nobody has seen a number.
func (l *lab) rekey(name, key string) {
	l.keys[name] = publicOf(key)
	l.hands[name] = &hand{name: name, key: keyOf(key), samples: 77, sent: map[string][]Message{}}
}

func (l *lab) report(name string, state string) Message {
	l.Helper()
	g := l.hands[name]
	g.seq++
	return l.seal(Header{Kind: KindReport, Seq: g.seq, From: name}, Report{Model: l.c.head.Model.Hash, State: state}, g.key, 0)[0]
}

// A gateway that lost its folder and has another key now is heard from its first
// word on, whatever was heard under the one before, of which nothing is taken any
// more. All of that holds over restarts.
func TestCoordinatorNewKey(t *testing.T) {
	task := denseTask(120)
	task.Rounds, task.Late, task.Cohort.WaitFor = 4, "next", 2
	for _, restarts := range []bool{false, true} {
		t.Run(fmt.Sprint("restarts ", restarts), func(t *testing.T) {
			l := newLab(t, task, 2)
			again := func() {
				if restarts {
					l.open()
				}
			}
			l.open()
			old := l.hands["g000"]
			old.seq = 1 << 40 // hours ahead of what comes then
			l.hellos()
			counted := l.answer("g000")
			l.deliver()
			l.handle(l.report("g000", "live"))
			h, c := l.call("g000")
			begun := l.update("g000", h.Round, c.Model.Hash, MinChunk)
			if h.Round != 2 || len(begun) < 3 {
				t.Fatalf("round %d, an update of %d parts", h.Round, len(begun))
			}
			l.handle(begun[:2]...)
			unheard := []Message{l.hello("g000"), l.report("g000", "withdrawn")}

			l.rekey("g000", "second")
			again()
			hello := l.hello("g000")
			l.handle(hello)
			again()
			if g := l.c.Status().Gateways[0]; g.Samples != 77 {
				t.Fatalf("it is not heard: %+v", g)
			}
			l.handle(l.hello("g000"))
			l.refuses(StaleSeq, hello)
			parts := l.update("g000", h.Round, c.Model.Hash, MinChunk)
			l.handle(parts[1:]...)
			again()
			l.handle(parts[0])
			if s := l.c.Status(); s.Updates != 1 || s.Gateways[0].Doing != "delivered" {
				t.Fatalf("its update is not kept: %+v", s)
			}
			l.handle(l.report("g000", "refused"))
			again()
			if r := l.c.Status().Gateways[0].Report; r == nil || r.State != "refused" {
				t.Errorf("its report is not heard: %+v", r)
			}
			l.refuses(Conflict, l.forge("g000", 2, c.Model.Hash, 1<<30))

			// What the old key signed is refused, whether it was heard before or not.
			for _, m := range append(append(unheard, begun...), counted...) {
				l.refuses(UnknownKey, m)
				var e envelope
				do(t, unmarshal(m.Payload, &e))
				e.Key = idOf(keyOf("second"))
				payload, err := marshal(e)
				do(t, err)
				l.refuses(BadSign, Message{Topic: m.Topic, Payload: payload})
			}

			// An update counts once, and stays when its key goes.
			l.deliver()
			again()
			l.handle(parts...)
			if s := l.c.Status(); s.Round != 3 || s.Updates != 0 {
				t.Fatalf("an update that was counted counts again: %+v", s)
			}
			l.handle(l.answer("g000")...)
			l.rekey("g000", "third")
			again()
			l.handle(l.hello("g000"))
			_, c = l.call("g000")
			if !c.Done {
				t.Errorf("it is told %+v", c)
			}
			l.refuses(Conflict, l.forge("g000", 3, c.Model.Hash, 3))
			again()
			l.deliver()
			l.handle(l.answer("g000")...)
			again()
			l.deliver()
			for i, h := range l.c.History() {
				if h.Updates != 2 || h.Counted != 2 {
					t.Errorf("round %d: %+v", i+1, h)
				}
			}
			if !l.c.Done() {
				t.Errorf("%+v", l.c.Status())
			}
		})
	}
}

// What a program kept that did not write down keys is of the present ones.
func TestCoordinatorKeyUnknown(t *testing.T) {
	task := denseTask(4)
	task.Rounds, task.Cohort.WaitFor = 3, 2
	l := newLab(t, task, 2).open()
	l.hands["g000"].seq = 1 << 40
	l.hellos()
	l.deliver()
	l.handle(l.report("g000", "live"))
	m, h := *l.c.members["g000"], l.c.head
	m.Said.Key, m.Reported.Key = Hash{}, Hash{}
	for i := range h.Seen {
		h.Seen[i].Last.Key = Hash{}
	}
	do(t, l.c.put("member/g000", &m))
	do(t, l.c.put("head", &h))
	l.open()
	l.hands["g000"].seq = 1
	l.refuses(StaleSeq, l.hello("g000"))
	l.refuses(StaleSeq, l.report("g000", "refused"))
	l.refuses(StaleSeq, l.answer("g000")[0])
	l.rekey("g000", "second")
	l.handle(l.hello("g000"), l.report("g000", "refused"))
	l.handle(l.answer("g000")...)
	l.open()
	if s := l.c.Status(); s.Updates != 1 || s.Gateways[0].Samples != 77 || s.Gateways[0].Report.State != "refused" {
		t.Errorf("%+v", s)
	}
}
