package drift

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// judgements is how often a window is judged: each time when so manieth of it
// is new.
const judgements = 4

// Config says how a Monitor judges.
type Config struct {
	Window int // samples
	// FalseAlarms is the chance that unchanged data is said to drift while one
	// window passes by: over all its judgements and all features.
	FalseAlarms float64
}

// Validate checks it.
func (c Config) Validate() error {
	if c.Window < 32 || c.Window > 1<<17 {
		return fmt.Errorf("window: %d is not in 32..131072 samples", c.Window)
	}
	if !(c.FalseAlarms >= 1e-9 && c.FalseAlarms <= 0.1) {
		return fmt.Errorf("false_alarms: %g is not in 1e-9..0.1", c.FalseAlarms)
	}
	return nil
}

// Monitor holds the last samples against a reference: a byte a feature of each,
// and nothing else. It is for one goroutine.
type Monitor struct {
	ref    *Reference
	cfg    Config
	known  map[string]uint8
	limits []limit
	ring   []uint8 // bins, sample by sample
	counts [][]uint32
	at     int // where the next sample goes
	n      int // samples in the ring
	fresh  int // since the last judgement
	values [MaxFeatures]float64
}

// limit is what a feature's distance is judged by.
type limit struct {
	far     float64 // the distance from which on it drifts
	outside float64 // the share above or below all of the reference from which on it drifts
	to      []int
	window  []uint32 // by group
	ref     []uint32
}

// NewMonitor is one for a valid reference.
func NewMonitor(ref *Reference, cfg Config) (*Monitor, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	m := &Monitor{ref: ref, cfg: cfg, known: map[string]uint8{}, ring: make([]uint8, cfg.Window*len(ref.Features))}
	chance := cfg.FalseAlarms / judgements / float64(len(ref.Features))
	ne := effective(float64(cfg.Window), float64(ref.Samples))
	for k := range ref.Features {
		f := &ref.Features[k]
		to, groups := f.groups(cfg.Window)
		l := limit{to: to, window: make([]uint32, groups), ref: make([]uint32, groups)}
		gather(l.ref, to, f.Counts)
		is := ref.spread(cfg.Window, k)
		w := depends(is.inflate)
		if f.class() {
			degrees := f.degrees(to, groups)
			one := chiSquaredAbove(chance, 1) * float64(degrees)
			l.far = ((1-w)*chiSquaredAbove(chance, degrees) + w*one) / ne * is.inflate
			for i, c := range f.Classes {
				m.known[c] = uint8(i)
			}
		} else {
			// Half of the chance for the distance, a quarter for either end.
			one := halfNormalAbove(chance/2) * f.expect() / halfNormalMean
			z := ((1-w)*kolmogorovAbove(chance/2) + w*one) * is.inflate
			l.far = distance(z * math.Sqrt(2*math.Pi/ne))
			worth := max(is.inflate*is.inflate, is.together) // samples that tell as much as one that depends on none
			l.outside = max(beyondShare(chance/4, float64(cfg.Window)/worth, float64(ref.Samples)/worth), is.outside)
		}
		// What the reference itself holds is no drift, however rare.
		l.far = max(l.far, is.worst)
		m.limits, m.counts = append(m.limits, l), append(m.counts, make([]uint32, len(f.Counts)))
	}
	return m, nil
}

// Reference is what it holds samples against.
func (m *Monitor) Reference() *Reference { return m.ref }

// Len is the number of samples in the window.
func (m *Monitor) Len() int { return m.n }

// Numbers is how many numbers a sample has, without its label.
func (m *Monitor) Numbers() int {
	n := len(m.ref.Features)
	if m.ref.Features[n-1].class() {
		n--
	}
	return n
}

// Add takes one sample, its numbers and its label, in the place of the oldest
// one, and gives how unusual it is: how many standard deviations, about, its
// most unusual number is from the median. It allocates nothing. A sample of
// another length is none of this reference: ok is false, and nothing is done.
func (m *Monitor) Add(values []float64, label string) (unusual float64, ok bool) {
	if len(values) != m.Numbers() {
		return 0, false
	}
	width := len(m.ref.Features)
	row := m.ring[m.at*width : (m.at+1)*width]
	if m.n == m.cfg.Window {
		for k, bin := range row {
			m.counts[k][bin]--
		}
	} else {
		m.n++
	}
	for k, v := range values {
		f := &m.ref.Features[k]
		v = float64(float32(v)) // as the reference had it
		row[k] = f.bin(v)
		unusual = max(unusual, f.far(v))
	}
	if len(values) < width {
		bin, ok := m.known[label]
		if !ok {
			bin = uint8(len(m.ref.Features[width-1].Classes))
		}
		row[width-1] = bin
	}
	for k, bin := range row {
		m.counts[k][bin]++
	}
	if m.at++; m.at == m.cfg.Window {
		m.at = 0
	}
	m.fresh++
	return unusual, true
}

// AddPicture is Add for a picture: values are what comes after the numbers of
// PictureNames.
func (m *Monitor) AddPicture(look *Look, values []float64, label string) (unusual float64, ok bool) {
	n := len(PictureNames)
	if m.ref.Picture == nil || n+len(values) != m.Numbers() {
		return 0, false
	}
	look.numbers(m.values[:n], m.ref.Picture)
	copy(m.values[n:], values)
	return m.Add(m.values[:n+len(values)], label)
}

// Due says that the window is full and so much of it new that it is to be
// judged.
func (m *Monitor) Due() bool {
	return m.n == m.cfg.Window && m.fresh >= max(1, m.cfg.Window/judgements)
}

// Verdict is how a window was judged.
type Verdict struct {
	// Drift is the distance of the feature that is farthest from the reference,
	// as a part of the distance from which on it drifts: over 1 the data drifts.
	Drift    float64 `json:"drift"`
	Feature  string  `json:"feature"`  // that one
	Features []Seen  `json:"features"` // the farthest first
}

// Seen is one feature of a window.
type Seen struct {
	Name     string  `json:"name"`
	Drift    float64 `json:"drift"`             // its part of Verdict.Drift
	Distance float64 `json:"distance"`          // KS of a number, PSI of a class
	Limit    float64 `json:"limit"`             // the distance from which on it drifts
	Below    float64 `json:"below,omitempty"`   // share that is below all of the reference
	Above    float64 `json:"above,omitempty"`   // share that is above all of it
	Outside  float64 `json:"outside,omitempty"` // the share, of either, from which on it drifts; 0 where none is a wonder
	PSI      float64 `json:"psi"`               // also of a number, in tenths of the reference
}

// Judge judges the window as it is; Due says when. Without answers the
// features of what the model answered are left out: it is another model.
func (m *Monitor) Judge(answers bool) Verdict {
	m.fresh = 0
	var v Verdict
	for k := range m.ref.Features {
		if k >= m.ref.Inputs && !answers {
			break
		}
		f, l, counts := &m.ref.Features[k], &m.limits[k], m.counts[k]
		gather(l.window, l.to, counts)
		s := Seen{Name: f.Name, Limit: l.far, PSI: PSI(l.window, l.ref)}
		if f.class() {
			s.Distance = s.PSI
			s.Drift = math.Sqrt(max(s.PSI, 0) / l.far) // it grows with the square of the change
		} else {
			s.Distance = KS(counts, f.Counts)
			s.Below, s.Above = float64(counts[0])/float64(m.n), float64(counts[len(counts)-1])/float64(m.n)
			n := float64(m.ref.Samples)
			if s.Drift = shift(s.Distance, n) / shift(l.far, math.Inf(1)); l.outside <= 1 {
				s.Outside = l.outside
				s.Drift = max(s.Drift, s.Below/l.outside, s.Above/l.outside)
			}
		}
		v.Features = append(v.Features, s)
	}
	slices.SortStableFunc(v.Features, func(a, b Seen) int { return cmp.Compare(b.Drift, a.Drift) })
	if len(v.Features) > 0 {
		v.Drift, v.Feature = v.Features[0].Drift, v.Features[0].Name
	}
	return v
}

// Blind are the features of which windows of this size tell nothing: those of
// the reference itself differ as much as any can.
func (m *Monitor) Blind() (names []string) {
	for k, l := range m.limits {
		if f := &m.ref.Features[k]; !f.class() && l.far >= 1-1/(2*float64(m.ref.Samples)) && l.outside >= 1 {
			names = append(names, f.Name)
		}
	}
	return names
}
