package app

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"edgegateway/gateway/alert"
	"edgegateway/gateway/pipeline"
	"edgegateway/infer/drift"
	"edgegateway/infer/store"
)

// drifts joins the streams' drift to the alerts and to the data folder. It is
// their pipeline.Watcher.
type drifts struct {
	dir    string // of what is learned
	store  *store.Store
	alerts *alert.Engine
}

// file is where a stream's reference is kept, a name that any stream may have.
func (d *drifts) file(stream string) string {
	name := url.PathEscape(stream)
	if strings.HasPrefix(name, ".") {
		name = "%2E" + name[1:]
	}
	return filepath.Join(d.dir, name+".json")
}

// Bundled reads what is in the bundle of a version, of the live one where it is
// not named.
func (d *drifts) Bundled(model, version string) (*drift.Reference, error) {
	st, err := d.store.State()
	if err != nil {
		return nil, err
	}
	m := st.Models[model]
	if m == nil {
		return nil, nil // it comes as a file
	}
	if version == "" {
		version = m.Live
	}
	if !slices.ContainsFunc(m.Versions, func(v store.Version) bool { return v.Version == version }) {
		return nil, nil
	}
	files, err := d.store.Files(model, version)
	if err != nil || files.Reference == "" {
		return nil, err
	}
	return drift.ReadFile(files.Reference)
}

// Learned reads what Keep wrote.
func (d *drifts) Learned(stream string) (*drift.Reference, error) {
	r, err := drift.ReadFile(d.file(stream))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return r, err
}

// Keep keeps what a stream learned over restarts: what it drifts to meanwhile
// would be learned as ordinary else.
func (d *drifts) Keep(stream string, r *drift.Reference) error {
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	var b strings.Builder
	if err := r.Write(&b); err != nil {
		return err
	}
	return writeFile(d.file(stream), []byte(b.String()))
}

// Drift raises the stream's alert, or clears it.
func (d *drifts) Drift(stream string, raised bool, s pipeline.DriftStatus) {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // its numbers are finite
	}
	d.alerts.Drift(stream, raised, s.Text, b)
}

// clear clears what is raised of streams that are watched no more.
func (d *drifts) clear(streams map[string]pipeline.Config) {
	for _, e := range d.alerts.Active() {
		if e.Alert == alert.DriftRule && streams[e.Stream].Drift == nil {
			d.alerts.Drift(e.Stream, false, e.Stream+" is not watched for drift any more", nil)
		}
	}
}

// watched says whether any stream is watched for drift.
func (c Config) watched() bool {
	for _, s := range c.Streams {
		if s.Drift != nil {
			return true
		}
	}
	return false
}

// rules are the alerts that are configured, and that of drift where any stream
// is watched for it.
func (c Config) rules() map[string]alert.Config {
	if !c.watched() {
		return c.Alerts
	}
	all := maps.Clone(c.Alerts)
	if all == nil {
		all = map[string]alert.Config{}
	}
	all[alert.DriftRule] = alert.DriftConfig()
	return all
}
