package learn

import (
	"fmt"
	"slices"
	"testing"

	"edgegateway/fl"
)

// A round that is to be trained, outside of its hours, is not said to be trained.
func TestStatusPauses(t *testing.T) {
	l := &Learner{worker: &Worker{}, cfg: Config{Key: "k"}, tasks: map[string]*followed{
		"a-1": {status: fl.ParticipantStatus{Doing: "training", Round: 2, DoingRound: 2, Rounds: 4}},
		"b-1": {status: fl.ParticipantStatus{Doing: "sending", Round: 1, DoingRound: 1, Rounds: 4}},
	}}
	lines := func() [2]string {
		s := l.Status()
		return [2]string{s.Tasks[0].Line(), s.Tasks[1].Line()}
	}
	l.worker.say("working")
	if got, want := lines(), [2]string{"round 2 of 4, training", "round 1 of 4, sending"}; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	l.worker.say("pauses until 22:00-06:00")
	if got, want := lines(), [2]string{"round 2 of 4, pauses until 22:00-06:00", "round 1 of 4, sending"}; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// A line says of each task how it stands: what is over does not wait, and whose
// model was refused says so.
func TestStatusLines(t *testing.T) {
	s := &Status{}
	add := func(name string, n int, p fl.ParticipantStatus) {
		p.Task, p.ID, p.Rounds = name, fmt.Sprint(name, "-", n), 6
		s.Tasks = append(s.Tasks, TaskStatus{ParticipantStatus: p})
	}
	refused := &fl.Outcome{Round: 5, State: "refused", Why: "it is worse"}
	add("wear", 1, fl.ParticipantStatus{State: "done", Doing: "waiting", Round: 6, DoingRound: 6, Model: refused})
	add("wear", 2, fl.ParticipantStatus{State: "stopped", Doing: "waiting", Round: 2, DoingRound: 2, Why: "by ann"})
	add("wear", 3, fl.ParticipantStatus{State: "running", Doing: "training", Round: 4, DoingRound: 2, Model: &fl.Outcome{Round: 3, State: "live"}})
	add("heat", 1, fl.ParticipantStatus{State: "done", Doing: "waiting", Round: 6, DoingRound: 6, Model: &fl.Outcome{Round: 6, State: "live"}})
	add("noise", 1, fl.ParticipantStatus{State: "waiting", Doing: "waiting"})
	add("noise", 2, fl.ParticipantStatus{State: "running", Doing: "sent", Round: 1, DoingRound: 1, Model: refused})
	add("new", 1, fl.ParticipantStatus{})
	var got []string
	for i := range s.Tasks {
		got = append(got, s.Name(i)+": "+s.Tasks[i].Line())
	}
	want := []string{
		"wear-1: round 6 of 6, over; the model of round 5 is refused: it is worse",
		"wear-2: round 2 of 6, stopped: by ann",
		"wear: round 2 of 6, training",
		"heat: round 6 of 6, over",
		"noise-1: waiting",
		"noise-2: round 1 of 6, sent; the model of round 5 is refused: it is worse",
		"new: waiting",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q\nwant\n%q", got, want)
	}
}
