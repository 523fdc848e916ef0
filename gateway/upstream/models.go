package upstream

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"edgegateway/internal/offer"
)

// Models is where versions of models are kept, as the fetching needs it.
type Models interface {
	// Has says whether the .tflite with this SHA-256 is there to build on.
	Has(sha256 string) bool
	// Standing says what became of a version of a model with this .tflite,
	// in a word of package offer or one of its own, and why; "" where it is
	// not there.
	Standing(name, version, sha256 string) (state, why string)
	// Refuses says why an offer would be refused once it is here; nil: it
	// is not known to be. An error that wraps ErrNotNow may pass.
	Refuses(o *offer.Offer) error
	// Receive takes over a whole file and does what the offer says then; the
	// file is removed afterwards. Without a path the version is there already.
	// An error that wraps ErrNotNow may pass, any other is for good.
	Receive(ctx context.Context, o *offer.Offer, path string) error
}

// ErrNotNow is wrapped by an error of Models that may pass, as of a full disk.
var ErrNotNow = errors.New("not now")

// Incoming fetches versions of models that the clouds offer. One transfer runs
// at a time, whichever link it comes over; it goes on where it stopped, over
// another connection, after a restart, days later.
type Incoming struct {
	dir     string
	gateway string
	models  Models
	log     zerolog.Logger
	busy    chan struct{} // holds a value while a link fetches

	// Guarded by busy.
	ahead ahead
	links map[string]int // connections by file, for the report

	mu   sync.Mutex
	done []outcome // the last word on offers, oldest first
}

// outcome is what is kept of an offer that was got or refused for good.
type outcome struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	State string `json:"state"`
	Why   string `json:"why,omitempty"`
}

const (
	keptOutcomes = 64
	keptFolders  = 4                  // unfinished ones that nobody offers any more
	keptFor      = 7 * 24 * time.Hour // of these
	spare        = 32 << 20           // bytes of the disk that stay free
)

// OpenIncoming prepares the folder dir, which may hold transfers from before.
func OpenIncoming(dir, gateway string, models Models, log zerolog.Logger) (*Incoming, error) {
	in := &Incoming{dir: dir, gateway: gateway, models: models, log: log, busy: make(chan struct{}, 1), links: map[string]int{}}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("incoming models: %w", err)
	}
	b, err := os.ReadFile(in.doneFile())
	if err == nil {
		err = json.Unmarshal(b, &in.done)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		// What was fetched is asked of the models; what was refused is refused again.
		log.Warn().Err(err).Msg("what became of earlier offers of models is not known")
		in.done = nil
	}
	return in, nil
}

func (in *Incoming) doneFile() string { return filepath.Join(in.dir, "offers.json") }

// outcome is what became of an offer, nil where that is open.
func (in *Incoming) outcome(id string) *outcome {
	in.mu.Lock()
	defer in.mu.Unlock()
	if i := slices.IndexFunc(in.done, func(d outcome) bool { return d.ID == id }); i >= 0 {
		d := in.done[i]
		return &d
	}
	return nil
}

// settle notes the last word on an offer. Where that is not written, the offer
// is looked at again after a restart, which changes nothing but the work.
func (in *Incoming) settle(o *offer.Offer, state, why string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.done = slices.DeleteFunc(in.done, func(d outcome) bool { return d.ID == o.ID })
	in.done = append(in.done, outcome{ID: o.ID, Name: o.Name, State: state, Why: why})
	in.done = in.done[max(0, len(in.done)-keptOutcomes):]
	if err := replaceFile(in.doneFile(), offer.Encode(in.done)); err != nil {
		in.log.Warn().Err(err).Msg("what became of an offer of a model is not on disk")
	}
}

// replaceFile writes a small file so that after a power cut the old or the new
// one is there.
func replaceFile(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // it has another name then
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// choose is the first file of an offer that can be used here.
func (in *Incoming) choose(o *offer.Offer, most int64) (*offer.File, error) {
	var why error
	for i := range o.Files {
		f := &o.Files[i]
		switch {
		case f.Base != "" && !in.models.Has(f.Base):
			why = fmt.Errorf("%s builds on the model with SHA-256 %s, which is not here; push that one first, or this one without --base", o.Name, f.Base)
		case f.Bytes > most:
			why = refuse("the file of %d bytes is over max_model_bytes (%d) of the gateway's link", f.Bytes, most)
		default:
			return f, in.room(f)
		}
	}
	return nil, why
}

// room says whether the disk takes a file twice: as it comes, and as it is kept.
func (in *Incoming) room(f *offer.File) error {
	var st syscall.Statfs_t
	if err := syscall.Statfs(in.dir, &st); err != nil {
		return fmt.Errorf("incoming models: %w", err)
	}
	if free := int64(st.Bavail) * int64(st.Bsize); free < 2*f.Bytes+spare {
		return fmt.Errorf("the disk has %d bytes free, of the %d that a file of %d bytes takes here", free, 2*f.Bytes+spare, f.Bytes)
	}
	return nil
}

// sweep removes folders of transfers that nobody offers any more: those that
// are old, and of the others all but the newest few.
func (in *Incoming) sweep(offered func(sum string) bool, now time.Time) {
	type folder struct {
		path string
		at   time.Time
	}
	var list []folder
	entries, err := os.ReadDir(in.dir)
	if err != nil {
		return // the next fetch says what is wrong with it
	}
	for _, e := range entries {
		path := filepath.Join(in.dir, e.Name())
		if !e.IsDir() || len(e.Name()) != 2*sha256.Size || offered(e.Name()) { // or it is not ours
			continue
		}
		at := time.Time{}
		if st, err := os.Stat(filepath.Join(path, "file")); err == nil {
			at = st.ModTime()
		}
		list = append(list, folder{path, at})
	}
	slices.SortFunc(list, func(a, b folder) int { return b.at.Compare(a.at) })
	for i, f := range list {
		if i >= keptFolders || now.Sub(f.at) > keptFor {
			if err := os.RemoveAll(f.path); err != nil {
				in.log.Warn().Err(err).Msg("a transfer of a model that nobody offers is not removed")
			}
		}
	}
}
