package sensors

import (
	"fmt"
	"math"
	"math/cmplx"
	"strconv"
	"strings"

	"gonum.org/v1/gonum/dsp/fourier"
)

// Features are numbers computed of each channel of a window. It is for one
// goroutine.
type Features struct {
	kinds []kind
	names []string
	x     []float64
	spec  []complex128
	mag   []float64
	plans map[int]*fourier.FFT // by length: windows by time vary a little
	width int                  // channels
}

// kind is one feature; fft gives n numbers a channel, the others one.
type kind struct {
	name string
	n    int
	lo   float64 // of a band, Hz
	hi   float64
	rate float64 // readings a second; 0 measures it from the window
}

const (
	maxBins  = 4096
	maxPlans = 16
)

// NewFeatures understands mean std min max rms peak crest kurtosis last,
// fft:N (the first N magnitudes without the constant part) and band:LO-HI or
// band:LO-HI@RATE (energy between two frequencies in Hz), for channels with
// these names.
func NewFeatures(kinds, channels []string) (*Features, error) {
	if len(channels) == 0 {
		return nil, fmt.Errorf("the values have no names: give them with input channels, for example channels: [x, y, z]")
	}
	f := &Features{plans: map[int]*fourier.FFT{}, width: len(channels)}
	for _, text := range kinds {
		k, err := parseKind(text)
		if err != nil {
			return nil, err
		}
		f.kinds = append(f.kinds, k)
	}
	for _, c := range channels {
		for _, k := range f.kinds {
			if k.n == 1 {
				f.names = append(f.names, c+"."+k.name)
				continue
			}
			for i := range k.n {
				f.names = append(f.names, c+".fft"+strconv.Itoa(i+1))
			}
		}
	}
	return f, nil
}

func parseKind(text string) (kind, error) {
	switch text {
	case "mean", "std", "min", "max", "rms", "peak", "crest", "kurtosis", "last":
		return kind{name: text, n: 1}, nil
	}
	if n, ok := strings.CutPrefix(text, "fft:"); ok {
		v, err := strconv.Atoi(n)
		if err != nil || v < 1 || v > maxBins {
			return kind{}, fmt.Errorf("%q: the number of magnitudes is 1 to %d", text, maxBins)
		}
		return kind{name: "fft", n: v}, nil
	}
	if band, ok := strings.CutPrefix(text, "band:"); ok {
		band, rateText, fixed := strings.Cut(band, "@")
		lo, hi, found := strings.Cut(band, "-")
		k := kind{n: 1, name: "band_" + lo + "_" + hi}
		var e1, e2, e3 error
		k.lo, e1 = strconv.ParseFloat(lo, 64)
		k.hi, e2 = strconv.ParseFloat(hi, 64)
		if fixed {
			k.rate, e3 = strconv.ParseFloat(rateText, 64)
		}
		if !found || e1 != nil || e2 != nil || e3 != nil || !(k.lo >= 0 && k.hi > k.lo && k.rate >= 0) {
			return kind{}, fmt.Errorf("%q is no band such as band:10-50 or band:10-50@1000", text)
		}
		k.name = strings.ReplaceAll(k.name, ".", "_")
		return k, nil
	}
	return kind{}, fmt.Errorf("%q is none of mean, std, min, max, rms, peak, crest, kurtosis, last, fft:N, band:LO-HI", text)
}

// Names are those of what Compute gives: channel by channel, "cpu.mean".
func (f *Features) Names() []string { return f.names }

// Compute appends the features of a window that is not empty, whose readings
// come rate a second; 0 measures it by their times.
func (f *Features) Compute(w *Window, rate float64, dst []float64) []float64 {
	if rate == 0 {
		rate = w.Rate()
	}
	for c := range f.width {
		f.x = w.Column(c, f.x[:0])
		dst = f.channel(rate, dst)
	}
	return dst
}

// ComputeBlock appends the features of the readings of one payload, rate of
// them a second: at least one of the channels' values after the other.
func (f *Features) ComputeBlock(values []float64, rate float64, dst []float64) []float64 {
	for c := range f.width {
		f.x = f.x[:0]
		for i := c; i < len(values); i += f.width {
			f.x = append(f.x, values[i])
		}
		dst = f.channel(rate, dst)
	}
	return dst
}

// channel appends the features of f.x.
func (f *Features) channel(rate float64, dst []float64) []float64 {
	m := momentsOf(f.x)
	spectrum := false
	for _, k := range f.kinds {
		if (k.name == "fft" || k.hi > 0) && !spectrum {
			f.spectrum(m.mean)
			spectrum = true
		}
		switch {
		case k.name == "fft":
			for i := 1; i <= k.n; i++ {
				if i < len(f.mag) {
					dst = append(dst, f.mag[i])
				} else {
					dst = append(dst, 0)
				}
			}
		case k.hi > 0:
			dst = append(dst, f.band(k, rate))
		default:
			dst = append(dst, m.get(k.name, f.x))
		}
	}
	return dst
}

// moments of a series; std and kurtosis are those of the population, and the
// kurtosis of a normal distribution is 3.
type moments struct{ mean, std, min, max, rms, kurtosis float64 }

func momentsOf(x []float64) moments {
	m := moments{min: math.Inf(1), max: math.Inf(-1)}
	var sum, squares float64
	for _, v := range x {
		sum += v
		squares += v * v
		m.min = min(m.min, v)
		m.max = max(m.max, v)
	}
	n := float64(len(x))
	m.mean = sum / n
	m.rms = math.Sqrt(squares / n)
	var m2, m4 float64
	for _, v := range x {
		d := (v - m.mean) * (v - m.mean)
		m2 += d
		m4 += d * d
	}
	m2, m4 = m2/n, m4/n
	m.std = math.Sqrt(m2)
	if m2 > 0 {
		m.kurtosis = m4 / (m2 * m2)
	}
	return m
}

func (m moments) get(name string, x []float64) float64 {
	peak := max(math.Abs(m.min), math.Abs(m.max))
	switch name {
	case "mean":
		return m.mean
	case "std":
		return m.std
	case "min":
		return m.min
	case "max":
		return m.max
	case "rms":
		return m.rms
	case "peak":
		return peak
	case "crest":
		if m.rms == 0 {
			return 0
		}
		return peak / m.rms
	case "kurtosis":
		return m.kurtosis
	}
	return x[len(x)-1]
}

// spectrum computes the magnitudes of f.x without its mean, scaled so that a
// sine of amplitude 1 on a bin gives 1.
func (f *Features) spectrum(mean float64) {
	n := len(f.x)
	plan := f.plans[n]
	if plan == nil {
		if len(f.plans) >= maxPlans {
			clear(f.plans)
		}
		plan = fourier.NewFFT(n)
		f.plans[n] = plan
	}
	if bins := n/2 + 1; cap(f.mag) < bins {
		f.spec, f.mag = make([]complex128, bins), make([]float64, bins)
	}
	f.spec, f.mag = f.spec[:n/2+1], f.mag[:n/2+1]
	for i := range f.x {
		f.x[i] -= mean
	}
	plan.Coefficients(f.spec, f.x)
	for i := range f.x {
		f.x[i] += mean
	}
	for i, c := range f.spec {
		f.mag[i] = 2 * cmplx.Abs(c) / float64(n)
	}
	if n%2 == 0 { // the last bin has no mirror image
		f.mag[n/2] /= 2
	}
}

// band is the mean square of the part of the signal between two frequencies:
// half the square of each magnitude. All bands together give the variance. It
// is 0 where the rate is not known.
func (f *Features) band(k kind, rate float64) (energy float64) {
	if k.rate > 0 {
		rate = k.rate
	}
	if rate <= 0 {
		return 0
	}
	n := len(f.x)
	for i := 1; i < len(f.mag); i++ {
		if hz := rate * float64(i) / float64(n); hz < k.lo || hz >= k.hi {
			continue
		}
		if 2*i == n {
			energy += f.mag[i] * f.mag[i]
		} else {
			energy += f.mag[i] * f.mag[i] / 2
		}
	}
	return energy
}
