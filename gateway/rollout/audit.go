package rollout

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"edgegateway/infer/store"
)

// Entry is a line of the audit log: one step of one model, or, without a
// model, a start or a stop of the gateway.
type Entry struct {
	Time    time.Time `json:"time"`
	Step    string    `json:"step"`
	Model   string    `json:"model,omitempty"`
	Version string    `json:"version,omitempty"`
	Before  string    `json:"before,omitempty"` // the version that was live
	Why     string    `json:"why,omitempty"`
	By      string    `json:"by,omitempty"` // who asked for it
}

// maxAudit is how large the log grows; then it becomes the older one, whose
// place it takes, and a new one begins. It is a variable of the type so that
// tests need not write as much.
const maxAudit = 1 << 20

// Audit is the log of what was done to models on this box: audit.jsonl, a JSON
// object a line, and audit.1.jsonl, the part before it.
type Audit struct {
	dir  string
	most int64
	mu   sync.Mutex
}

func openAudit(dir string) *Audit { return &Audit{dir: dir, most: maxAudit} }

// Note notes a step in the audit log of the store at dir: one that another
// process than the gateway did.
func Note(dir string, e Entry) error {
	e.Time = time.Now().UTC()
	return openAudit(dir).add(e)
}

// madeRoom is why versions leave by themselves.
const madeRoom = "it made room for another one (store: keep, keep_bytes)"

// NoteEvicted notes that a version, NAME@VERSION, made room, as Note does.
func NoteEvicted(dir, ref, by string) error {
	name, version, err := store.ParseRef(ref)
	if err != nil {
		return err
	}
	return Note(dir, Entry{Step: StepRemoved, Model: name, Version: version, Why: madeRoom, By: by})
}

// Activated notes in the store at dir that a version became the live one while no
// gateway ran: by is who asked for it.
func Activated(dir, model, version, before, why, by string) error {
	return openAudit(dir).add(Entry{Time: time.Now().UTC(), Step: StepActivated, Model: model, Version: version, Before: before, Why: why, By: by})
}

func (a *Audit) path() string { return filepath.Join(a.dir, "audit.jsonl") }

// add appends a line; it is on the disk when add returns.
func (a *Audit) add(e Entry) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(a.path(), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	var last [1]byte
	if n := info.Size(); n > 0 {
		if _, err := f.ReadAt(last[:], n-1); err != nil {
			return err
		}
		if last[0] != '\n' { // it was torn by a power cut
			line = append([]byte{'\n'}, line...)
		}
	}
	if _, err := f.Write(append(line, '\n')); err != nil {
		return err
	}
	if err := f.Sync(); err != nil || info.Size() < a.most {
		return err
	}
	return os.Rename(a.path(), filepath.Join(a.dir, "audit.1.jsonl"))
}

// Entries are all that is kept, the oldest first; a torn line is left out.
func (a *Audit) Entries() ([]Entry, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var list []Entry
	for _, name := range []string{"audit.1.jsonl", "audit.jsonl"} {
		text, err := os.ReadFile(filepath.Join(a.dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		in := bufio.NewScanner(bytes.NewReader(text))
		in.Buffer(nil, 1<<20)
		for in.Scan() {
			var e Entry
			if json.Unmarshal(in.Bytes(), &e) == nil && e.Step != "" {
				list = append(list, e)
			}
		}
	}
	return list, nil
}
