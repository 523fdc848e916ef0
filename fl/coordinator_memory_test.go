package fl

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"edgegateway/fl/aggregate"
)

// single is a State in one file, of which the places alone are in memory. It is
// fast because it waits for no disk.
type single struct {
	f    *os.File
	end  int64
	at   map[string][2]int64 // offset and length
	read func(name string)
}

func (s *single) Put(name string, data []byte) error {
	s.at[name] = [2]int64{s.end, int64(len(data))}
	s.end += int64(len(data))
	_, err := s.f.Write(data)
	return err
}

func (s *single) Loose(name string, data []byte) error { return s.Put(name, data) }

func (s *single) Get(name string) ([]byte, error) {
	s.read(name)
	at, ok := s.at[name]
	if !ok {
		return nil, nil
	}
	data := make([]byte, at[1])
	_, err := s.f.ReadAt(data, at[0])
	return data, err
}

func (s *single) Delete(name string) error {
	delete(s.at, name)
	return nil
}

func (s *single) List(prefix string) ([]string, error) {
	var list []string
	for name := range s.at {
		if strings.HasPrefix(name, prefix) {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list, nil
}

// A round of 2,000 participants and 10,000 weights has 80 MB of updates. They
// are summed one at a time: the coordinator's memory is that of the weights and
// of what it knows of each participant.
func TestCoordinatorMemory(t *testing.T) {
	gateways := 2000
	if raced {
		gateways = 200
	}
	task := denseTask(833)
	task.Rounds, task.Cohort.WaitFor = 1, gateways
	l := newLab(t, task, gateways)
	var before, most uint64
	measure := func() {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		most = max(most, m.HeapAlloc)
		if before == 0 {
			before = m.HeapAlloc
		}
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "state"))
	do(t, err)
	defer file.Close()
	reads := 0
	l.st = &single{file, 0, map[string][2]int64{}, func(name string) {
		if strings.HasPrefix(name, "update/") {
			if reads++; reads%100 == 0 {
				measure()
			}
		}
	}}
	l.open()
	l.hellos()
	measure()
	base := l.c.head.Model.Hash
	d := make([]float32, l.count)
	for i, name := range l.names() {
		for k := range d {
			d[k] = float32((k*7+i)%101-50) * 1e-4
		}
		data, _, err := aggregate.Encode(task.Compression, d, nil, 1)
		do(t, err)
		list := l.seal(Header{Kind: KindUpdate, Round: 1, Base: base, Seq: 9, From: name}, Update{Samples: 10, Delta: data}, l.hands[name].key, 0)
		l.handle(list...)
		l.said = nil
		if i%100 == 0 {
			measure()
		}
	}
	if !l.c.Done() || l.c.History()[0].Counted != gateways || reads < gateways {
		t.Fatalf("%+v", l.c.Status().Round)
	}
	t.Logf("%d updates of %d weights: the heap grew by %.1f MB", gateways, l.count, float64(most-before)/1e6)
	if most > before+12e6 {
		t.Errorf("the heap grew by %.1f MB", float64(most-before)/1e6)
	}
}
