package learn

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"edgegateway/fl"
)

// Of tasks that are over the last few stay, but for those whose model is being
// tried; who was cleared away is not followed again, also where a kill came
// before its folders went.
func TestTasksAreClearedAway(t *testing.T) {
	dir := t.TempDir()
	p := &party{Learner: &Learner{g: Gateway{Data: dir}, log: zerolog.Nop(), tasks: map[string]*followed{}}}
	var stopped []string
	add := func(id string, age int, s fl.ParticipantStatus) {
		for _, part := range []string{"tasks", "work", "publish"} {
			file := folder(dir, part, id, "head")
			if err := writeWhole(file, []byte("x")); err != nil {
				t.Fatal(err)
			}
			at := time.Now().Add(-time.Duration(age) * time.Hour)
			if err := os.Chtimes(file, at, at); err != nil {
				t.Fatal(err)
			}
		}
		p.tasks[id] = &followed{status: s, stop: func() { stopped = append(stopped, id) }}
	}
	for i := range keptOver + 2 {
		add(fmt.Sprint("over-", i), i, fl.ParticipantStatus{State: []string{"done", "stopped"}[i%2]})
	}
	add("runs", 1000, fl.ParticipantStatus{State: "running"})
	add("tried", 1000, fl.ParticipantStatus{State: "done", Model: &fl.Outcome{State: "trying"}})
	p.clearAway()
	want := []string{fmt.Sprint("over-", keptOver), fmt.Sprint("over-", keptOver+1)}
	if slices.Sort(stopped); !slices.Equal(stopped, want) {
		t.Errorf("%v went, want %v", stopped, want)
	}
	if got, err := p.forgotten(); err != nil || len(got) != 2 {
		t.Errorf("%v, %v", got, err)
	}
	p.remove(want[0]) // the other is left by a kill
	clear(p.tasks)
	task := fl.DefaultTask()
	for _, id := range want {
		p.follow(t.Context(), id, &task, nil)
	}
	p.known(t.Context()) // none of the folders holds a task that could be followed
	if len(p.tasks) > 0 {
		t.Errorf("%v are followed again", p.tasks)
	}
	for _, part := range []string{"tasks", "work", "publish"} {
		left, err := filepath.Glob(folder(dir, part, "*"))
		if err != nil || len(left) != keptOver+2 {
			t.Errorf("%s: %v, %v", part, left, err)
		}
	}
}
