package simulate

import (
	"cmp"
	"container/heap"
	"context"
	"sync"
	"time"

	"edgegateway/fl"
	"edgegateway/infer/train"
)

// crew trains the jobs of all participants: a network for each worker, not for
// each participant. It begins with those whose end comes first on the clock, and
// is never more than a few ahead of what was asked for, so that few results are
// held at a time.
type crew struct {
	attack  Attack
	data    *train.Dataset
	waiting jobs
	start   chan *job
	ahead   int // begun and not asked for
	most    int
	group   sync.WaitGroup
}

// job is one participant's training in one round.
type job struct {
	*fl.Job
	who    *virtual
	takes  time.Duration // on the clock
	ends   time.Time
	ctx    context.Context
	stop   context.CancelFunc
	begun  bool
	over   chan struct{} // closed when result and err are there
	result *fl.Result
	err    error
}

// newCrew has so many workers train on parts of data until close.
func newCrew(task *fl.Task, workers int, attack Attack, data *train.Dataset) (*crew, error) {
	c := &crew{attack: attack, data: data, start: make(chan *job, 2*workers+1), most: 2 * workers}
	var locals []*fl.Local
	for range workers {
		l, err := fl.NewLocal(task)
		if err != nil {
			return nil, err
		}
		locals = append(locals, l)
	}
	for _, l := range locals {
		c.group.Go(func() {
			for j := range c.start {
				c.work(l, j)
			}
		})
	}
	return c, nil
}

func (c *crew) work(l *fl.Local, j *job) {
	defer close(j.over)
	if j.err = j.ctx.Err(); j.err != nil {
		return
	}
	d := c.data.Subset(j.who.places(j.Samples))
	l.Before = nil
	if j.who.hostile {
		c.attack.poison(d)
		l.Before = []func(*fl.Job, []float32) error{c.attack.change}
	}
	j.result, j.err = l.Train(j.ctx, j.Job, d, nil)
}

// add takes a job that ends on the clock at a time.
func (c *crew) add(j *job) {
	heap.Push(&c.waiting, j)
	c.fill()
}

// fill begins with the next ones.
func (c *crew) fill() {
	for c.ahead < c.most && len(c.waiting) > 0 {
		c.begin(heap.Pop(&c.waiting).(*job))
	}
}

func (c *crew) begin(j *job) {
	if j.begun {
		return
	}
	j.begun = true
	c.ahead++
	c.start <- j
}

// wait waits for the end of a job, which is begun where it was not.
func (c *crew) wait(j *job) (*fl.Result, error) {
	c.begin(j)
	<-j.over
	c.ahead--
	c.fill()
	return j.result, j.err
}

// drop forgets a job that nobody waits for any more.
func (c *crew) drop(j *job) {
	j.stop()
	if !j.begun {
		j.begun = true // it is passed over
		return
	}
	c.ahead--
	c.fill()
}

// close ends the workers; jobs that wait are left.
func (c *crew) close() {
	close(c.start)
	c.group.Wait()
}

// jobs is a heap by when they end.
type jobs []*job

func (j jobs) Len() int { return len(j) }
func (j jobs) Less(a, b int) bool {
	return cmp.Or(j[a].ends.Compare(j[b].ends), cmp.Compare(j[a].who.name, j[b].who.name)) < 0
}
func (j jobs) Swap(a, b int) { j[a], j[b] = j[b], j[a] }
func (j *jobs) Push(x any)   { *j = append(*j, x.(*job)) }
func (j *jobs) Pop() any {
	old := *j
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*j = old[:len(old)-1]
	return last
}
