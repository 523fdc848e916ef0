package learn

import (
	"testing"

	"edgegateway/fl"
)

// A round that is to be trained, outside of its hours, is not said to be trained.
func TestStatusPauses(t *testing.T) {
	l := &Learner{worker: &Worker{}, cfg: Config{Key: "k"}, tasks: map[string]*followed{
		"a-1": {status: fl.ParticipantStatus{Doing: "training", Round: 2, Rounds: 4}},
		"b-1": {status: fl.ParticipantStatus{Doing: "sending", Round: 1, Rounds: 4}},
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
