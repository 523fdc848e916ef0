package store

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
	"unicode"

	"crypto/sha256"
)

// Format is the manifest's format that this program writes and reads.
const Format = 1

// Manifest says what a bundle holds and how its model is to be used. Its bytes
// are what is signed; it holds the hash of every file.
type Manifest struct {
	Format  int       `json:"format"`
	Name    string    `json:"name"`
	Version string    `json:"version"`           // dotted numbers; those from 0 on are the configuration's own
	Minimum string    `json:"minimum,omitempty"` // once this version was live, no older one than that is taken
	Created time.Time `json:"created,omitzero"`

	Files       map[string]Part `json:"files"`                 // by name, a path below the bundle
	Model       string          `json:"model"`                 // the .tflite
	Accelerated string          `json:"accelerated,omitempty"` // its twin for an accelerator
	Labels      string          `json:"labels,omitempty"`      // a label a line
	Reference   string          `json:"reference,omitempty"`   // what its inputs and answers look like, to tell drift
	Golden      []Golden        `json:"golden,omitempty"`

	Settings   Settings `json:"settings"`
	Limits     Limits   `json:"limits"`
	Licence    string   `json:"licence,omitempty"`
	Provenance string   `json:"provenance,omitempty"` // who made it, of what
}

// Part is a file of a bundle. Of a model that travels packed these are the size
// and the hash of the .tflite file that comes out.
type Part struct {
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"` // 64 hex digits
}

// PartOf is the part that data is.
func PartOf(data []byte) Part { return Part{int64(len(data)), sumOf(data)} }

// Settings are the model's own; what the configuration says in as many words
// wins.
type Settings struct {
	Output    string   `json:"output,omitempty"` // what its outputs mean, as in the configuration
	Threshold *float64 `json:"threshold,omitempty"`
	Top       int      `json:"top,omitempty"`
	Input     *Input   `json:"input,omitempty"` // how a picture becomes its input
}

// Input says how a picture becomes a model's input, as `picture` of a stream.
type Input struct {
	Fit      string    `json:"fit,omitempty"`      // stretch, letterbox or crop
	Channels string    `json:"channels,omitempty"` // rgb or bgr
	Mean     []float64 `json:"mean,omitempty"`     // taken from each channel, 0..255
	Std      []float64 `json:"std,omitempty"`      // what each is divided by then
}

// Golden is an input with the answer that the model's maker got. The files hold
// the tensors' bytes as they lie in memory, little-endian, one file a tensor.
type Golden struct {
	Inputs  []string `json:"inputs"`
	Outputs []string `json:"outputs"`
	// Tolerance is how far a value may be off: of float tensors in parts of the
	// range that the expected output spans, of integer ones in steps.
	Tolerance float64 `json:"tolerance"`
}

// Limits are what the model may take on the box; 0: no limit.
type Limits struct {
	Millis      float64 `json:"ms,omitempty"` // p99 of one call
	MemoryBytes int64   `json:"memory_bytes,omitempty"`
}

// Bounds of a manifest.
const (
	maxManifest = 1 << 20 // bytes
	maxFiles    = 1000
	maxGolden   = 100
	maxTensors  = 64 // inputs or outputs of a golden input
	maxText     = 64 << 10
)

// ErrDamaged is wrapped where bytes are not what they should be.
var ErrDamaged = errors.New("damaged")

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrDamaged}, args...)...)
}

// ParseManifest reads and checks a manifest. What it does not know it refuses:
// it may be what a newer program must not run without.
func ParseManifest(text []byte) (Manifest, error) {
	var m Manifest
	if len(text) > maxManifest {
		return m, fmt.Errorf("%w: the manifest has %d bytes, more than %d", ErrTooLarge, len(text), maxManifest)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&m); err != nil {
		return m, damaged("manifest: %v", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return m, damaged("manifest: there is more behind it")
	}
	if err := m.Check(); err != nil {
		return m, fmt.Errorf("manifest: %w", err)
	}
	return m, nil
}

// Check says what is wrong with m.
func (m *Manifest) Check() error {
	if m.Format != Format {
		return fmt.Errorf("its format is %d, this program knows %d", m.Format, Format)
	}
	if err := errors.Join(CheckName(m.Name), CheckVersion(m.Version)); err != nil {
		return err
	}
	if m.Minimum != "" {
		if err := CheckVersion(m.Minimum); err != nil {
			return fmt.Errorf("minimum: %w", err)
		}
		if CompareVersions(m.Minimum, m.Version) > 0 {
			return fmt.Errorf("version %s is below the minimum %s that it names itself", m.Version, m.Minimum)
		}
	}
	for key, text := range map[string]string{"licence": m.Licence, "provenance": m.Provenance, "output": m.Settings.Output} {
		if len(text) > maxText || strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }) {
			return fmt.Errorf("%s: is no text of up to %d bytes", key, maxText)
		}
	}
	if err := m.Settings.check(); err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	if !positive(m.Limits.Millis) || m.Limits.MemoryBytes < 0 {
		return fmt.Errorf("limits: %v ms and %d bytes are none", m.Limits.Millis, m.Limits.MemoryBytes)
	}
	return m.checkFiles()
}

func (m *Manifest) checkFiles() error {
	if len(m.Files) > maxFiles {
		return fmt.Errorf("%w: %d files, more than %d", ErrTooLarge, len(m.Files), maxFiles)
	}
	for _, name := range slices.Sorted(maps.Keys(m.Files)) {
		if err := checkPath(name); err != nil {
			return err
		}
		if p := m.Files[name]; p.Bytes < 0 || !isSum(p.SHA256) {
			return damaged("file %s: %d bytes of SHA-256 %q is no such thing", name, p.Bytes, p.SHA256)
		}
	}
	used := map[string]bool{}
	need := func(what, name string) error {
		if _, ok := m.Files[name]; !ok {
			return fmt.Errorf("%s: there is no file %q", what, name)
		}
		used[name] = true
		return nil
	}
	if err := need("model", m.Model); err != nil {
		return err
	}
	for what, name := range map[string]string{"accelerated": m.Accelerated, "labels": m.Labels, "reference": m.Reference} {
		if name != "" {
			if err := need(what, name); err != nil {
				return err
			}
		}
	}
	if len(m.Golden) > maxGolden {
		return fmt.Errorf("%w: %d golden inputs, more than %d", ErrTooLarge, len(m.Golden), maxGolden)
	}
	for i, g := range m.Golden {
		if n := max(len(g.Inputs), len(g.Outputs)); n > maxTensors || len(g.Inputs) == 0 || len(g.Outputs) == 0 {
			return fmt.Errorf("golden %d: %d inputs and %d outputs; 1 to %d of each are one", i, len(g.Inputs), len(g.Outputs), maxTensors)
		}
		if !positive(g.Tolerance) {
			return fmt.Errorf("golden %d: %v is no tolerance", i, g.Tolerance)
		}
		for _, name := range slices.Concat(g.Inputs, g.Outputs) {
			if err := need(fmt.Sprintf("golden %d", i), name); err != nil {
				return err
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.Files)) {
		if !used[name] {
			return fmt.Errorf("file %s: the manifest does not say what it is for", name)
		}
	}
	return nil
}

func (s Settings) check() error {
	if t := s.Threshold; t != nil && !finite(*t) {
		return fmt.Errorf("threshold %v is no number", *t)
	}
	if s.Top < 0 || s.Top > 1000 {
		return fmt.Errorf("top %d is outside 0..1000", s.Top)
	}
	if len(s.Output) > 32 {
		return fmt.Errorf("output %.40q is none", s.Output)
	}
	if in := s.Input; in != nil {
		if !slices.Contains([]string{"", "stretch", "letterbox", "crop"}, in.Fit) {
			return fmt.Errorf("input.fit %.40q is none of stretch, letterbox, crop", in.Fit)
		}
		if !slices.Contains([]string{"", "rgb", "bgr"}, in.Channels) {
			return fmt.Errorf("input.channels %.40q is neither rgb nor bgr", in.Channels)
		}
		for _, list := range [][]float64{in.Mean, in.Std} {
			if len(list) > 4 || slices.ContainsFunc(list, func(v float64) bool { return !finite(v) }) {
				return errors.New("input: mean and std are one number, or one for each channel")
			}
		}
		if slices.Contains(in.Std, 0) {
			return errors.New("input.std: nothing can be divided by 0")
		}
	}
	return nil
}

// Bytes are those of all files, unpacked.
func (m *Manifest) Bytes() (n int64) {
	for _, p := range m.Files {
		if n += p.Bytes; n < 0 {
			return math.MaxInt64
		}
	}
	return n
}

// Encode gives the bytes that are signed: the same for the same manifest.
func (m *Manifest) Encode() ([]byte, error) {
	if err := m.Check(); err != nil {
		return nil, err
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, err
	}
	if text = append(text, '\n'); len(text) > maxManifest {
		return nil, fmt.Errorf("%w: the manifest has %d bytes, more than %d", ErrTooLarge, len(text), maxManifest)
	}
	return text, nil
}

// checkPath refuses what is no plain path below a folder.
func checkPath(name string) error {
	plain := len(name) <= 200 && fs.ValidPath(name) && name != "." && !strings.HasPrefix(name, ".") && !strings.Contains(name, "/.")
	for _, r := range name {
		plain = plain && r > ' ' && r < 0x7f && !strings.ContainsRune(`\:*?"<>|`, r)
	}
	if !plain {
		return damaged("%.80q is no plain path below the bundle", name)
	}
	return nil
}

func isSum(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == sha256.Size && strings.ToLower(s) == s
}

func sumOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func finite(v float64) bool   { return !math.IsNaN(v) && !math.IsInf(v, 0) }
func positive(v float64) bool { return finite(v) && v >= 0 }
