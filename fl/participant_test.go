package fl

import (
	"context"
	"crypto/ed25519"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"edgegateway/infer/train"
)

// caller speaks as a coordinator, word by word.
type caller struct {
	t    *testing.T
	task *Task
	id   string
	body []byte // of the task
	seq  uint64
	key  ed25519.PrivateKey
}

func newCaller(t *testing.T, task *Task) *caller {
	t.Helper()
	b, err := task.Encode()
	do(t, err)
	id, err := task.ID()
	do(t, err)
	return &caller{t: t, task: task, id: id, body: b, key: keyOf("coordinator")}
}

func (c *caller) seal(h Header, v any) Message {
	c.t.Helper()
	body, err := Pack(v)
	do(c.t, err)
	c.seq++
	h.Task, h.Seq = c.id, c.seq
	list, err := Seal(h, body, 0, c.key)
	do(c.t, err)
	return list[0]
}

func (c *caller) announce(a Announcement) Message {
	a.Task, a.Rounds = c.body, c.task.Rounds
	return c.seal(Header{Kind: KindTask, Round: a.Round}, a)
}

func (c *caller) call(round int, call Call) Message {
	return c.seal(Header{Kind: KindCall, Round: round, To: "press7"}, call)
}

// model gives weights as the broker retains them.
func (c *caller) model(w *Weights, round int) (Ref, []Message) {
	c.t.Helper()
	body, err := w.Encode()
	do(c.t, err)
	const chunk = 2 << 10
	list, err := Seal(Header{Kind: KindModel, Task: c.id, Round: round, Base: w.Hash(), Seq: uint64(round) + 1}, body, chunk, c.key)
	do(c.t, err)
	h, err := Peek(list[0])
	do(c.t, err)
	return Ref{Hash: w.Hash(), Body: h.Body, Bytes: h.Bytes, Chunks: h.Chunks, Round: round}, list
}

// first gives the weights that a task begins with.
func first(t *testing.T, task *Task) *Weights {
	t.Helper()
	n, err := task.Network()
	do(t, err)
	w, err := FromNetwork(n)
	do(t, err)
	return w
}

// clouds are three classes of points that a small network tells apart.
func clouds(n int, seed uint64) *train.Dataset {
	r := rand.New(rand.NewPCG(seed, 1))
	d := &train.Dataset{Name: "clouds", Shape: train.Shape{8}, Classes: []string{"a", "b", "c"}}
	for range n {
		k := r.IntN(3)
		for j := range 8 {
			v := r.NormFloat64() * 0.3
			if j%3 == k {
				v++
			}
			d.Values = append(d.Values, float32(v))
		}
		d.Labels = append(d.Labels, int32(k))
	}
	return d
}

// person is a participant with what it did last.
type person struct {
	*Participant
	t   *testing.T
	cfg ParticipantConfig
	st  *Memory
	now time.Time
	did []Action
}

func newPerson(t *testing.T, c *caller, cfg ParticipantConfig) *person {
	t.Helper()
	cfg.Task, cfg.Version = c.id, "test"
	p := &person{t: t, cfg: cfg, st: NewMemory(), now: time.Unix(1_800_000_000, 0)}
	p.restart()
	return p
}

// restart is what a kill and a new start leave.
func (p *person) restart() {
	p.t.Helper()
	var err error
	p.st = p.st.Clone()
	p.Participant, err = NewParticipant("press7", p.st, keyOf("press7"), []ed25519.PublicKey{publicOf("coordinator")}, p.cfg)
	do(p.t, err)
	p.did = nil
}

// does takes what a step gave.
func (p *person) does(list []Action, err error) *person {
	p.t.Helper()
	do(p.t, err)
	p.did = list
	return p
}

func (p *person) hears(list ...Message) *person {
	p.t.Helper()
	all := []Action(nil)
	for _, m := range list {
		a, err := p.Handle(p.now, m)
		do(p.t, err)
		all = append(all, a...)
	}
	p.did = all
	return p
}

// sent gives what it has sent of a kind, opened as the coordinator does.
func (p *person) sent(kind Kind) (list []*Part) {
	p.t.Helper()
	for _, a := range p.did {
		if a.Send == nil {
			continue
		}
		part, err := Open(*a.Send, Enrolled(KeyMap{"press7": publicOf("press7")}))
		do(p.t, err)
		if part.Kind == kind {
			list = append(list, part)
		}
	}
	return list
}

func (p *person) job() *Job {
	for _, a := range p.did {
		if a.Train != nil {
			return a.Train
		}
	}
	return nil
}

func (p *person) fetches() (list []string) {
	for _, a := range p.did {
		list = append(list, a.Fetch...)
	}
	return list
}

func (p *person) update() []byte {
	p.t.Helper()
	c, err := NewCollector(NewMemory(), "in/", 1<<24, 1)
	do(p.t, err)
	for _, part := range p.sent(KindUpdate) {
		body, err := c.Add(part)
		do(p.t, err)
		if body != nil {
			return body
		}
	}
	return nil
}

func roundTask() *Task {
	t := smallTask()
	t.Data.Minimum, t.Data.Holdout = 10, 0.2
	t.Local.Epochs, t.Local.Batch = 1, 8
	t.Local.Optimizer = train.OptimizerConfig{Kind: "sgd", Rate: 0.1, Schedule: "constant"}
	t.Compression.Kind = "topk"
	t.Compression.Share = 0.5
	return t
}

// A round as one participant sees it: it says that it is there, gets the
// weights, trains, and sends its update until it hears that it arrived. Killed
// anywhere it goes on with the same job, and sends the same bytes.
func TestParticipantRound(t *testing.T) {
	c := newCaller(t, roundTask())
	w := first(t, c.task)
	ref, chunks := c.model(w, 0)
	task := c.announce(Announcement{State: "waiting", Model: ref, Best: ref})
	invitation := c.call(1, Call{Invited: true, Model: ref})
	data := clouds(90, 7)

	life := func(kill int) []byte {
		p := newPerson(t, c, ParticipantConfig{Chunk: MinChunk})
		step := 0
		killed := func() bool { step++; return step == kill }
		back := func() { // started again, with the link and a tenth more samples
			p.restart()
			p.does(p.Counted(p.now, 99))
			if p.job() != nil && !p.linked { // it trains without a link
				return
			}
			p.does(p.Connected(p.now))
		}
		p.does(p.Counted(p.now, 90)).does(p.Connected(p.now)).hears(task)
		if got := p.sent(KindHello); len(got) != 1 {
			t.Fatalf("%d hellos", len(got))
		} else {
			var h Hello
			do(t, got[0].Into(&h))
			if h.Samples != 90 || h.Chunk != MinChunk {
				t.Fatalf("%+v", h)
			}
		}
		p.hears(invitation)
		if got := p.fetches(); !slices.Equal(got, ref.Topics(c.id)) {
			t.Fatalf("fetches %v", got)
		}
		if killed() {
			back()
		}
		p.hears(chunks[1:]...)
		if killed() {
			back()
			if got := p.fetches(); len(got) != 1 || got[0] != ref.Topics(c.id)[0] {
				t.Fatalf("fetches %v", got)
			}
		}
		p.hears(chunks[0])
		if killed() {
			back()
		}
		job := p.job()
		if job == nil || job.Round != 1 || job.Seed != seedOf(c.task.Seed, 1, "press7") {
			t.Fatalf("job %+v, %+v", job, p.Status())
		}
		if kill > 2 && job.Samples != 90 {
			t.Fatalf("%d samples", job.Samples)
		}
		if kill == 1 || kill == 2 { // it had not begun yet
			job.Samples = 90
		}
		r, err := Train(context.Background(), job, data, nil)
		do(t, err)
		r.Update.Seconds = 0
		p.does(p.Trained(p.now, job, r, nil))
		if killed() {
			back()
		}
		if !p.linked {
			p.does(p.Connected(p.now))
		}
		body := p.update()
		if body == nil {
			t.Fatal("no update")
		}
		n := len(p.sent(KindUpdate))
		// What the coordinator does not have after a while is sent again.
		p.now = p.now.Add(time.Hour)
		p.does(p.Tick(p.now))
		if got := len(p.sent(KindUpdate)); got != n {
			t.Fatalf("%d of %d chunks again", got, n)
		}
		p.now = p.now.Add(2 * time.Hour)
		p.hears(c.call(1, Call{Invited: true, Model: ref, Have: []int{0, 2}}))
		if got := p.sent(KindUpdate); len(got) != n-2 || got[0].Chunk != 1 {
			t.Fatalf("%d chunks", len(got))
		}
		p.hears(c.call(1, Call{Invited: true, Model: ref, Done: true}))
		p.now = p.now.Add(24 * time.Hour)
		if p.does(p.Connected(p.now)); p.update() != nil || p.job() != nil {
			t.Fatal("it goes on after it is done")
		}
		if st := p.Status(); st.Doing != "waiting" && st.Doing != "sent" || st.Sent != 1 && kill == 0 || st.Before.Samples == 0 {
			t.Fatalf("%+v", st)
		}
		return body
	}
	want := life(0)
	u, delta, err := DecodeUpdate(want, len(w.Values))
	do(t, err)
	if u.Samples >= 90 || u.Before.Samples+u.Samples != 90 || !slices.ContainsFunc(delta, func(v float32) bool { return v != 0 }) {
		t.Fatalf("%+v", u)
	}
	for kill := 1; kill <= 4; kill++ {
		if got := life(kill); !slices.Equal(got, want) {
			t.Errorf("killed at %d it sends another update", kill)
		}
	}
}

// A Hello that nobody answered, since the coordinator was not there, is said again
// soon, and at once when a coordinator that waits says so anew a while after it.
func TestParticipantHelloAgain(t *testing.T) {
	c := newCaller(t, roundTask())
	ref, _ := c.model(first(t, c.task), 0)
	waiting := func() Message { return c.announce(Announcement{State: "waiting", Model: ref, Best: ref}) }
	p := newPerson(t, c, ParticipantConfig{Retry: time.Minute})
	p.does(p.Counted(p.now, 90)).does(p.Connected(p.now))
	for i, step := range []struct {
		after time.Duration
		hears []Message
		says  int
	}{
		{0, []Message{waiting()}, 1},
		{time.Second / 2, []Message{waiting()}, 0}, // too soon for each of many
		{time.Second / 2, nil, 1},
		{6 * time.Second, nil, 0},
		{6 * time.Second, nil, 1},
		{12 * time.Second, nil, 0}, // rarer, while it is not called
		{12 * time.Second, nil, 1},
		{6 * time.Second, []Message{waiting()}, 1},
		{time.Second, []Message{c.call(0, Call{})}, 0}, // it is known now
		{9 * time.Minute, nil, 0},
		{time.Second, []Message{waiting()}, 1},
		{10 * time.Minute, nil, 1},
	} {
		p.now = p.now.Add(step.after)
		p.hears(step.hears...)
		if step.hears == nil {
			p.does(p.Tick(p.now))
		}
		if got := len(p.sent(KindHello)); got != step.says {
			t.Errorf("step %d: %d hellos, want %d", i, got, step.says)
		}
	}
}

// trainedOnce is a participant that has trained in the first round of a task, with
// the weights of that round and what came of it.
func trainedOnce(t *testing.T) (c *caller, p *person, w *Weights, r *Result) {
	t.Helper()
	c = newCaller(t, roundTask())
	w = first(t, c.task)
	ref, chunks := c.model(w, 0)
	p = newPerson(t, c, ParticipantConfig{})
	p.does(p.Counted(p.now, 90)).does(p.Connected(p.now))
	p.hears(c.announce(Announcement{State: "running", Round: 1, Model: ref, Best: ref}), c.call(1, Call{Invited: true, Model: ref})).hears(chunks...)
	job := p.job()
	r, err := Train(t.Context(), job, clouds(90, 7), nil)
	do(t, err)
	p.does(p.Trained(p.now, job, r, nil))
	return c, p, w, r
}

// What compression left over in a round goes into the next one's job, and a
// round that went on without it is dropped.
func TestParticipantNextRound(t *testing.T) {
	c, p, w, r := trainedOnce(t)
	next := w.Clone()
	next.Values[0] += 0.5
	ref2, chunks2 := c.model(next, 1)
	// The round went on before its update came: it counts no more.
	p.hears(c.announce(Announcement{State: "running", Round: 2, Model: ref2, Best: ref2}), c.call(2, Call{Invited: true, Model: ref2, Counted: "late"}))
	if p.update() != nil {
		t.Error("an update that is late is sent")
	}
	p.hears(chunks2...)
	two := p.job()
	if two == nil || two.Round != 2 || !slices.Equal(two.Residual, r.Residual) || two.Base.Hash() != next.Hash() {
		t.Fatalf("%+v", two)
	}
	// A round that is over takes its job with it; what comes of that is not looked at.
	next.Values[1] += 0.5
	ref3, chunks3 := c.model(next, 2)
	p.hears(c.announce(Announcement{State: "running", Round: 3, Model: ref3, Best: ref3}), c.call(3, Call{Invited: true, Model: ref3})).hears(chunks3...)
	three := p.job()
	if three == nil || three.Round != 3 {
		t.Fatalf("%+v", three)
	}
	p.does(p.Trained(p.now, two, nil, context.Canceled))
	if p.training != three {
		t.Error("the end of an old job ends the new one")
	}
	names, err := p.st.List(partsAt)
	do(t, err)
	for _, name := range names {
		if !strings.Contains(name, ref3.Body.String()) {
			t.Errorf("%s is still there", name)
		}
	}
	p.hears(c.announce(Announcement{State: "stopped", Round: 3, Model: ref3, Best: ref3}))
	if p.does(p.Trained(p.now, three, r, nil)); p.update() != nil || p.Status().Doing != "waiting" {
		t.Errorf("%+v", p.Status())
	}
}

// Where updates count late, what is trained and sent is of the round that it was
// begun in, whatever round the task has come to.
func TestParticipantDoingRound(t *testing.T) {
	task := roundTask()
	task.Late = "next"
	c := newCaller(t, task)
	w := first(t, task)
	p := newPerson(t, c, ParticipantConfig{})
	is := func(doing string, of, round int) {
		t.Helper()
		if s := p.Status(); s.Doing != doing || s.DoingRound != of || s.Round != round {
			t.Errorf("%s of round %d, the task's is %d; want %s of %d, %d", s.Doing, s.DoingRound, s.Round, doing, of, round)
		}
	}
	p.does(p.Counted(p.now, 90)).does(p.Connected(p.now))
	var job *Job
	for round := 1; round <= 3; round++ {
		w.Values[0]++
		ref, chunks := c.model(w, round-1)
		p.hears(c.announce(Announcement{State: "running", Round: round, Model: ref, Best: ref}))
		if p.hears(c.call(round, Call{Invited: true, Model: ref})); round == 1 {
			is("fetching", 1, 1)
			p.hears(chunks...)
			job = p.job()
		}
		is("training", 1, round)
	}
	r, err := Train(t.Context(), job, clouds(90, 7), nil)
	do(t, err)
	p.does(p.Trained(p.now, job, r, nil))
	is("sending", 1, 3)
	ref, _ := c.model(w, 2)
	p.hears(c.call(1, Call{Done: true}), c.call(3, Call{Invited: true, Model: ref}))
	is("fetching", 3, 3)
	p.hears(c.announce(Announcement{State: "done", Round: 3, Model: ref, Best: ref}))
	is("waiting", 3, 3)
}

// A coordinator that began anew says its Call again: what it does not have is
// sent at once, though it was sent before.
func TestParticipantAskedAgain(t *testing.T) {
	c := newCaller(t, roundTask())
	ref, chunks := c.model(first(t, c.task), 0)
	p := newPerson(t, c, ParticipantConfig{Chunk: MinChunk})
	p.does(p.Counted(p.now, 90)).does(p.Connected(p.now))
	p.hears(c.announce(Announcement{State: "running", Round: 1, Model: ref, Best: ref}), c.call(1, Call{Invited: true, Model: ref})).hears(chunks...)
	job := p.job()
	r, err := Train(t.Context(), job, clouds(90, 7), nil)
	do(t, err)
	n := len(p.does(p.Trained(p.now, job, r, nil)).sent(KindUpdate))
	if n < 2 {
		t.Fatalf("%d chunks", n)
	}
	if p.does(p.Tick(p.now)); len(p.sent(KindUpdate)) > 0 {
		t.Error("it sends again what is on its way")
	}
	for have := range n {
		p.hears(c.call(1, Call{Invited: true, Model: ref, Have: Missing(nil, have)}))
		if got := len(p.sent(KindUpdate)); got != n-have {
			t.Errorf("the coordinator has %d of %d: %d are sent", have, n, got)
		}
	}
}

// What a Call says that the coordinator has, before there is an update, it has of
// one that was lost with the state: all of the new one is sent.
func TestParticipantLostState(t *testing.T) {
	c := newCaller(t, roundTask())
	ref, chunks := c.model(first(t, c.task), 0)
	p := newPerson(t, c, ParticipantConfig{Chunk: MinChunk})
	p.does(p.Counted(p.now, 90)).does(p.Connected(p.now))
	p.hears(c.announce(Announcement{State: "running", Round: 1, Model: ref, Best: ref}), c.call(1, Call{Invited: true, Model: ref, Have: []int{0}})).hears(chunks...)
	job := p.job()
	r, err := Train(t.Context(), job, clouds(90, 7), nil)
	do(t, err)
	p.does(p.Trained(p.now, job, r, nil))
	n := len(p.sent(KindUpdate))
	if p.update() == nil {
		t.Errorf("only %d chunks are sent", n)
	}
	p.restart()
	p.does(p.Connected(p.now))
	if got := len(p.sent(KindUpdate)); got != n {
		t.Errorf("after a restart %d chunks are sent, %d before", got, n)
	}
}

// A Call that comes after the news that its round is over asks for nothing: what
// was trained for it is not trained again.
func TestParticipantOldCall(t *testing.T) {
	c, p, w, r := trainedOnce(t)
	ref, chunks := c.model(w, 0)
	old := c.call(1, Call{Invited: true, Model: ref})
	w.Values[0]++
	next, more := c.model(w, 1)
	p.hears(c.announce(Announcement{State: "running", Round: 2, Model: next, Best: next}))
	if p.hears(old).hears(chunks...); p.job() != nil || p.fetches() != nil {
		t.Error("it trains for a round that is over")
	}
	p.hears(c.call(2, Call{Invited: true, Model: next})).hears(more...)
	if two := p.job(); two == nil || two.Round != 2 || !slices.Equal(two.Residual, r.Residual) {
		t.Errorf("%+v", two)
	}
}

// A job that fails is tried again, less and less often; the coordinator hears
// why once.
func TestParticipantFails(t *testing.T) {
	c := newCaller(t, roundTask())
	ref, chunks := c.model(first(t, c.task), 0)
	p := newPerson(t, c, ParticipantConfig{})
	p.does(p.Counted(p.now, 90)).does(p.Connected(p.now))
	p.hears(c.announce(Announcement{State: "running", Round: 1, Model: ref, Best: ref}), c.call(1, Call{Invited: true, Model: ref})).hears(chunks...)
	reports := 0
	for i, err := range []error{errors.New("no room in /data/secret"), errors.Join(ErrLater, errors.New("too warm")), errors.New("no room")} {
		job := p.job()
		if job == nil {
			t.Fatalf("try %d: none", i)
		}
		if want := []int{90, 120, 120}[i]; job.Samples != want {
			t.Errorf("try %d: %d samples, want %d", i, job.Samples, want)
		}
		p.does(p.Trained(p.now, job, nil, err))
		for _, part := range p.sent(KindReport) {
			var r Report
			do(t, part.Into(&r))
			if reports++; r.State != "failed" || strings.Contains(r.Why, "secret") || r.Why == "" {
				t.Errorf("%+v", r)
			}
		}
		if p.job() != nil {
			t.Error("tried again at once")
		}
		p.does(p.Counted(p.now, 120))
		p.now = p.now.Add(time.Minute << i)
		p.does(p.Tick(p.now))
	}
	if reports != 1 {
		t.Errorf("%d reports", reports)
	}
}

// What a coordinator of another key says, what is said twice, and what is of
// another task changes nothing.
func TestParticipantRefuses(t *testing.T) {
	c := newCaller(t, roundTask())
	ref, chunks := c.model(first(t, c.task), 0)
	p := newPerson(t, c, ParticipantConfig{})
	p.does(p.Counted(p.now, 90)).does(p.Connected(p.now))
	old := c.call(1, Call{Invited: true, Model: ref})
	task := c.announce(Announcement{State: "running", Round: 1, Model: ref, Best: ref})
	p.hears(task)
	stranger := *c
	stranger.key = keyOf("stranger")
	other := smallTask()
	other.Name = "other"
	d := newCaller(t, other)
	fresh := c.call(1, Call{Refused: "not enrolled"})
	p.hears(fresh)
	cut := chunks[0]
	cut.Payload = cut.Payload[:len(cut.Payload)-1]
	for name, tt := range map[string]struct {
		m    Message
		want Reason
	}{
		"another key":  {stranger.call(9, Call{Invited: true, Model: ref}), UnknownKey},
		"another task": {d.announce(Announcement{State: "running"}), UnknownTask},
		"an old call":  {old, StaleSeq},
		"a torn chunk": {cut, Malformed},
		"no weights":   {c.call(2, Call{Invited: true}), BadBody},
		"a bad task":   {c.seal(Header{Kind: KindTask}, Announcement{State: "running", Task: []byte{1, 2}}), BadBody},
		"another's":    {c.seal(Header{Kind: KindCall, To: "press8"}, Call{}), BadTopic},
	} {
		before := p.st.Clone()
		list, err := p.Handle(p.now, tt.m)
		if ReasonOf(err) != tt.want || p.Status().Refused[tt.want] == 0 {
			t.Errorf("%s: %v, want %s", name, err, tt.want)
		}
		for _, a := range list {
			if a.Send != nil || a.Train != nil || a.Fetch != nil {
				t.Errorf("%s: %+v", name, a)
			}
		}
		if !sameState(t, before, p.st) {
			t.Errorf("%s: it changes the state", name)
		}
	}
	p.hears(fresh, task, task) // again is no news, and no fault
	if st := p.Status(); st.Doing != "refused" || st.Why != "not enrolled" {
		t.Errorf("%+v", st)
	}
}

func sameState(t *testing.T, a, b *Memory) bool {
	t.Helper()
	one, err := a.List("")
	do(t, err)
	two, err := b.List("")
	do(t, err)
	for _, name := range one {
		x, _ := a.Get(name)
		y, _ := b.Get(name)
		if !slices.Equal(x, y) {
			return false
		}
	}
	return slices.Equal(one, two)
}

// A new model is offered when the task says so, once, and what became of it is
// said, also to a coordinator that did not hear it the first time.
func TestParticipantOffers(t *testing.T) {
	for _, tt := range []struct {
		when   string
		offers []int // after which announcement
	}{{"final", []int{3}}, {"improved", []int{1, 3}}, {"every", []int{1, 2, 3}}} {
		t.Run(tt.when, func(t *testing.T) {
			task := roundTask()
			task.Publish = PublishConfig{Model: "sine", When: tt.when, Quantize: "none"}
			c := newCaller(t, task)
			w := first(t, task)
			start, _ := c.model(w, 0)
			p := newPerson(t, c, ParticipantConfig{Publish: true})
			p.does(p.Counted(p.now, 90)).does(p.Connected(p.now))
			p.hears(c.announce(Announcement{State: "running", Model: start, Best: start}))
			var offered []int
			best := Ref{}
			for i := 1; i <= 3; i++ {
				w = w.Clone()
				w.Values[0]++
				ref, chunks := c.model(w, i)
				if i != 2 {
					best = ref
				}
				p.hears(c.announce(Announcement{State: []string{"", "running", "running", "done"}[i], Round: i, Model: ref, Best: best})).hears(chunks...)
				for _, a := range p.did {
					if a.Offer == nil {
						continue
					}
					offered = append(offered, i)
					if a.Offer.Base != w.Hash() || a.Offer.Final != (i == 3) || a.Offer.Round != i {
						t.Errorf("%+v", a.Offer)
					}
					verdict := error(nil)
					if i == 1 {
						verdict = Told("worse: 0.7 and 0.9")
					}
					p.does(p.Published(p.now, a.Offer, Verdict{New: Metrics{Samples: 9, Accuracy: 0.7}}, verdict))
					var r Report
					do(t, p.sent(KindReport)[0].Into(&r))
					if r.Model != w.Hash() || r.State != map[bool]string{true: "refused", false: "live"}[i == 1] || r.New.Samples != 9 {
						t.Errorf("%+v", r)
					}
				}
			}
			if !slices.Equal(offered, tt.offers) {
				t.Errorf("offered after %v, not %v", offered, tt.offers)
			}
			p.restart()
			p.does(p.Counted(p.now, 90)).does(p.Connected(p.now))
			if len(p.fetches()) > 0 || len(p.sent(KindReport)) != 1 || len(p.sent(KindHello)) != 0 || p.Status().Model.State == "" {
				t.Errorf("%v %+v", p.fetches(), p.Status().Model)
			}
			// Whoever takes it back, the coordinator hears of it, and once.
			for i, why := range []error{nil, Told("version 1 is withdrawn: by ann"), Told("version 1 is withdrawn: by ann"), nil} {
				other := w.Hash()
				other[0]++
				p.does(p.Stands(p.now, other, why)) // of one that it did not judge last
				before := len(p.sent(KindReport))
				p.does(p.Stands(p.now, w.Hash(), why))
				if said := p.sent(KindReport); i%2 == 0 && len(said) > 0 || before > 0 {
					t.Errorf("step %d said %d reports, and %d of another model", i, len(said), before)
				} else if i%2 == 1 {
					var r Report
					do(t, said[0].Into(&r))
					if r.Model != w.Hash() || r.State != []string{"withdrawn", "live"}[i/2] || (r.Why == "") != (why == nil) || r.New.Samples != 9 || p.Status().Model.State != r.State {
						t.Errorf("step %d: %+v", i, r)
					}
				}
			}
		})
	}
}
