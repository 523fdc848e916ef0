package learn

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"edgegateway/fl"
	"edgegateway/gateway/upstream"
	"edgegateway/internal/keyfile"
)

// Learner is a gateway's part in federated learning.
type Learner struct {
	g      Gateway
	worker *Worker
	log    zerolog.Logger
	change chan struct{} // the configuration is another one

	mu      sync.Mutex
	cfg     Config
	tasks   map[string]*followed // by id
	refused map[fl.Reason]int    // of announcements
}

// followed is a task that is followed.
type followed struct {
	status fl.ParticipantStatus
	epoch  int    // of the round that is trained
	failed string // why nothing of it goes on
	stop   context.CancelFunc
	gone   bool // it is over, and cleared away
}

// mostTasks is how many tasks are followed at a time.
const mostTasks = 32

// Open checks the keys and links that a configuration names. w does the work;
// its Limits, Gate, Sysfs and Changed are set here.
func Open(cfg Config, g Gateway, w *Worker, log zerolog.Logger, reg prometheus.Registerer) (*Learner, error) {
	l := &Learner{
		g: g, worker: w, log: log, change: make(chan struct{}, 1), cfg: cfg, tasks: map[string]*followed{}, refused: map[fl.Reason]int{},
	}
	w.Limits = func() Limits { return l.config().Limits }
	w.Gate, w.Sysfs = g.Gate, g.Sysfs
	w.Changed = func(state string) { log.Info().Str("state", state).Msg("the training pauses, or goes on") }
	if err := l.Check(cfg); err != nil {
		return nil, err
	}
	if err := reg.Register(metrics{l}); err != nil {
		return nil, fmt.Errorf("fl: %w", err)
	}
	return l, nil
}

// Say sets the program's version, for coordinators; before Run.
func (l *Learner) Say(version string) { l.g.Version = version }

// Check says what is wrong with a configuration that Validate cannot see.
func (l *Learner) Check(cfg Config) error {
	if cfg.Key == "" {
		return nil
	}
	if err := fl.CheckName(l.g.Name); err != nil {
		return fmt.Errorf("gateway: %w; federated learning names this gateway so", err)
	}
	if _, err := keyfile.ReadPrivate(cfg.Key); err != nil {
		return fmt.Errorf("fl.key: %w", err)
	}
	if _, err := keyfile.Read(cfg.Keys...); err != nil {
		return fmt.Errorf("fl.keys: %w", err)
	}
	_, err := l.link(cfg)
	return err
}

// link is the one that a configuration speaks over.
func (l *Learner) link(cfg Config) (*upstream.Bridge, error) {
	names := slices.Sorted(maps.Keys(l.g.Links))
	switch {
	case cfg.Upstream != "" && l.g.Links[cfg.Upstream] == nil:
		return nil, fmt.Errorf("fl.upstream: there is no link %q; there are %v", cfg.Upstream, names)
	case cfg.Upstream != "":
		return l.g.Links[cfg.Upstream], nil
	case len(names) != 1:
		return nil, fmt.Errorf("fl.upstream: say over which link; there are %d: %v", len(names), names)
	}
	return l.g.Links[names[0]], nil
}

func (l *Learner) config() Config {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cfg
}

// Configure takes over another configuration that Check has nothing against.
// Limits hold at once; where something else changed, all begins anew from what
// is on the disk, and no training is lost but its last epoch.
func (l *Learner) Configure(cfg Config) {
	l.mu.Lock()
	was := l.cfg
	l.cfg = cfg
	l.mu.Unlock()
	was.Limits, was.Margin, was.Least = cfg.Limits, cfg.Margin, cfg.Least
	if !reflect.DeepEqual(was, cfg) {
		select {
		case l.change <- struct{}{}:
		default:
		}
	}
}

// Run follows tasks until ctx ends.
func (l *Learner) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		own, stop := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() {
			defer close(done)
			l.run(own, l.config())
		}()
		select {
		case <-l.change:
		case <-ctx.Done():
		}
		stop()
		<-done
	}
	return nil
}

// party is who takes part, with one configuration.
type party struct {
	*Learner
	cfg     Config
	key     ed25519.PrivateKey
	trusted []ed25519.PublicKey
	bridge  *upstream.Bridge
	running sync.WaitGroup
}

// run follows tasks with one configuration.
func (l *Learner) run(ctx context.Context, cfg Config) {
	l.mu.Lock()
	clear(l.tasks)
	l.mu.Unlock()
	if cfg.Key == "" {
		<-ctx.Done()
		return
	}
	p := &party{Learner: l, cfg: cfg}
	var err error
	if p.key, err = keyfile.ReadPrivate(cfg.Key); err == nil {
		var keys []keyfile.Key
		keys, err = keyfile.Read(cfg.Keys...)
		for _, k := range keys {
			p.trusted = append(p.trusted, k.Public)
		}
	}
	if err == nil {
		p.bridge, err = l.link(cfg)
	}
	if err != nil { // it was right when it was checked
		l.log.Error().Err(err).Msg("this gateway takes no part in federated learning")
		<-ctx.Done()
		return
	}
	lent := p.bridge.Lend()
	defer lent.Return()
	defer p.running.Wait()
	p.known(ctx)
	err = transport{lent}.Subscribe(ctx, []string{fl.TaskFilter}, func(m fl.Message) { p.announced(ctx, m) })
	if err != nil {
		l.log.Error().Err(err).Msg("the cloud does not let this gateway hear of tasks")
	}
	<-ctx.Done()
}

// known follows the tasks that were before.
func (p *party) known(ctx context.Context) {
	entries, err := os.ReadDir(folder(p.g.Data, "tasks"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		p.log.Error().Err(err).Msg("tasks of federated learning")
	}
	over, err := p.forgotten()
	if err != nil {
		p.log.Error().Err(err).Msg("tasks of federated learning")
	}
	for _, e := range entries {
		if slices.Contains(over, e.Name()) { // a kill cut its end short
			p.remove(e.Name())
			continue
		}
		b, err := os.ReadFile(folder(p.g.Data, "tasks", e.Name(), "task"))
		if err != nil {
			continue // it is announced again
		}
		if t, id, err := fl.DecodeTask(b); err == nil && id == e.Name() {
			p.follow(ctx, id, t, b)
		}
	}
}

// announced looks at what somebody announces.
func (p *party) announced(ctx context.Context, m fl.Message) {
	if len(m.Payload) == 0 {
		return
	}
	p.mu.Lock()
	known := p.tasks[fl.TaskOf(m.Topic)] != nil
	p.mu.Unlock()
	if known {
		return // its participant hears it too
	}
	part, err := fl.Open(m, fl.Trusted(p.trusted))
	var a fl.Announcement
	if err == nil {
		err = part.Into(&a)
	}
	if err == nil {
		var t *fl.Task
		var id string
		if t, id, err = fl.DecodeTask(a.Task); err == nil && id == part.Task {
			p.follow(ctx, id, t, a.Task)
			return
		}
	}
	if why := fl.ReasonOf(err); why != "" {
		p.mu.Lock()
		p.refused[why]++
		p.mu.Unlock()
	}
	p.log.Warn().Err(err).Str("topic", m.Topic).Msg("a task is not taken")
}

// follow takes part in a task from now on, unless it does, or is not to.
func (p *party) follow(ctx context.Context, id string, t *fl.Task, encoded []byte) {
	if len(p.cfg.Tasks) > 0 && !slices.Contains(p.cfg.Tasks, t.Name) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tasks[id] != nil {
		return
	}
	if over, err := p.forgotten(); err != nil || slices.Contains(over, id) {
		if err != nil {
			p.log.Error().Err(err).Str("task", t.Name).Msg("a task is not followed")
		}
		return
	}
	p.clearAway()
	if len(p.tasks) >= mostTasks {
		p.log.Warn().Str("task", t.Name).Msgf("more than %d tasks, this one is passed over; fl.tasks says which are meant", mostTasks)
		return
	}
	ctx, stop := context.WithCancel(ctx)
	now := &followed{status: fl.ParticipantStatus{Task: t.Name, ID: id}, stop: stop}
	p.tasks[id] = now
	p.running.Go(func() {
		defer stop()
		defer func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			if now.gone {
				delete(p.tasks, id)
				p.remove(id)
			}
		}()
		log := p.log.With().Str("task", t.Name).Logger()
		for ctx.Err() == nil {
			err := p.take(ctx, id, t, encoded)
			if ctx.Err() != nil {
				return
			}
			log.Error().Err(err).Msg("a task does not go on; it is tried again")
			p.mu.Lock()
			p.tasks[id].failed = fmt.Sprint(err)
			p.mu.Unlock()
			select {
			case <-time.After(10 * time.Second):
			case <-ctx.Done():
			}
		}
	})
}

// take takes part in a task until ctx ends or the disk fails.
func (p *party) take(ctx context.Context, id string, t *fl.Task, encoded []byte) error {
	dir := folder(p.g.Data, "tasks", id)
	st, err := fl.NewDir(dir)
	if err == nil {
		err = st.Put("task", encoded)
	}
	if err != nil {
		return err
	}
	part, err := fl.NewParticipant(p.g.Name, st, p.key, p.trusted, fl.ParticipantConfig{
		Task: id, Version: p.g.Version, Chunk: p.cfg.Chunk, Publish: p.cfg.Publish && t.Publish.Model != "",
	})
	if err != nil {
		return err
	}
	lent := p.bridge.Lend()
	defer lent.Return()
	data := newSamples(&p.g, t)
	publish := &publisher{g: &p.g, cfg: p.config, key: p.key, worker: p.worker, data: data, dir: folder(p.g.Data, "publish", id)}
	log := p.log.With().Str("task", t.Name).Logger()
	log.Info().Str("id", id).Msg("takes part in a task of federated learning")
	return fl.ServeParticipant(ctx, transport{lent}, part, fl.ParticipantLoop{
		Dataset: data,
		Trainer: func(ctx context.Context, job *fl.Job) (*fl.Result, error) {
			l, err := data.labelled()
			if err != nil {
				return nil, err
			}
			log.Info().Int("round", job.Round).Int("samples", job.Samples).Msg("training")
			r, err := p.worker.Train(ctx, job, Samples{Recorded: l}, folder(p.g.Data, "work", id), func(epoch, _ int) { p.epoch(id, epoch) })
			if err == nil {
				log.Info().Int("round", job.Round).Float64("seconds", math.Round(100*r.Update.Seconds)/100).Int("bytes", len(r.Update.Delta)).Msg("trained")
			}
			return r, err
		},
		Publisher: publish, Stands: func() (fl.Hash, bool, error) { return publish.stands(t.Publish.Model) },
		Log:   func(_ string, err error) { log.Warn().Err(err).Msg("federated learning") },
		Step:  func(part *fl.Participant) { p.note(id, part.Status(), data) },
		Every: countEvery,
	})
}

// countEvery is how often samples are counted: only what was recorded since is
// read.
const countEvery = 10 * time.Second

func (l *Learner) epoch(id string, epoch int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t := l.tasks[id]; t != nil {
		t.epoch = epoch
	}
}

// note keeps how a task stands.
func (l *Learner) note(id string, s fl.ParticipantStatus, data *samples) {
	if s.Samples == 0 { // what the coordinator says of it is no more than that
		s.Why = cmp.Or(data.lacking(), s.Why)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if t := l.tasks[id]; t != nil {
		if t.failed = ""; s.Doing != "training" {
			t.epoch = 0
		}
		t.status = s
	}
}
