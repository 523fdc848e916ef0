package train

import (
	"errors"
	"fmt"
	"math/rand/v2"
)

// AugmentConfig changes training pictures a little each time they are seen.
type AugmentConfig struct {
	Shift      int     `yaml:"shift" desc:"up to so many pixels to any side"`
	Flip       bool    `yaml:"flip" desc:"half of the pictures left to right"`
	Crop       float64 `yaml:"crop" desc:"a part of the picture, at least so much of its sides, scaled up again; 0: the whole"`
	Brightness float64 `yaml:"brightness" desc:"up to so much brighter or darker; 1 is from black to white"`
	Noise      float64 `yaml:"noise" desc:"standard deviation of noise; for numbers in units of their own"`
}

// Validate says what is wrong.
func (c AugmentConfig) Validate() error {
	var errs []error
	if c.Shift < 0 || c.Shift > 256 {
		errs = append(errs, fmt.Errorf("augment.shift: %d is outside 0..256", c.Shift))
	}
	if c.Crop != 0 && !(c.Crop >= 0.2 && c.Crop <= 1) {
		errs = append(errs, fmt.Errorf("augment.crop: %v is outside 0.2..1", c.Crop))
	}
	if !(c.Brightness >= 0 && c.Brightness <= 1) {
		errs = append(errs, fmt.Errorf("augment.brightness: %v is outside 0..1", c.Brightness))
	}
	if !(c.Noise >= 0) {
		errs = append(errs, fmt.Errorf("augment.noise: %v is negative", c.Noise))
	}
	return errors.Join(errs...)
}

// augmenter changes batches; it draws all it needs from the given source, in
// the order of the samples, so that the seed decides.
type augmenter struct {
	cfg     AugmentConfig
	h, w, c int
	// What black and white are; brightness and noise are in halves of that.
	low, high, half float32
	picture         []float32
	flip            func(r *rand.Rand) bool // whether a picture is turned left to right
}

func newAugmenter(cfg AugmentConfig, d *Dataset) (*augmenter, error) {
	a := &augmenter{cfg: cfg, flip: func(r *rand.Rand) bool { return cfg.Flip && r.IntN(2) == 1 }}
	a.low, a.high = d.limits()
	a.half = (a.high - a.low) / 2
	if len(d.Shape) == 3 {
		a.h, a.w, a.c = d.Shape[0], d.Shape[1], d.Shape[2]
	} else if cfg.Shift > 0 || cfg.Flip || cfg.Crop > 0 || cfg.Brightness > 0 {
		return nil, fmt.Errorf("augment: shift, flip, crop and brightness are for pictures; the inputs are %v", d.Shape)
	}
	return a, nil
}

func (a *augmenter) apply(b *batch, r *rand.Rand) {
	if a.cfg == (AugmentConfig{}) {
		return
	}
	size := len(b.x) / b.n
	for i := range b.n {
		x := b.x[i*size : (i+1)*size]
		if a.h > 0 {
			a.move(x, r)
		}
		if a.cfg.Brightness > 0 {
			d := a.half * float32(2*a.cfg.Brightness*(2*r.Float64()-1))
			for j := range x {
				x[j] = min(max(x[j]+d, a.low), a.high)
			}
		}
		if a.cfg.Noise > 0 {
			for j := range x {
				x[j] += a.half * float32(a.cfg.Noise*r.NormFloat64())
			}
		}
	}
}

// move shifts, flips and crops at once: each new pixel looks up the nearest
// old one; what lies outside takes the edge's.
func (a *augmenter) move(x []float32, r *rand.Rand) {
	if a.cfg.Shift == 0 && !a.cfg.Flip && a.cfg.Crop == 0 {
		return
	}
	dx, dy, scale, ox, oy := 0, 0, 1.0, 0.0, 0.0
	if s := a.cfg.Shift; s > 0 {
		dx, dy = r.IntN(2*s+1)-s, r.IntN(2*s+1)-s
	}
	flip := a.flip(r)
	if a.cfg.Crop > 0 {
		scale = a.cfg.Crop + (1-a.cfg.Crop)*r.Float64()
		ox, oy = r.Float64()*(1-scale)*float64(a.w), r.Float64()*(1-scale)*float64(a.h)
	}
	a.picture = append(a.picture[:0], x...)
	for y := range a.h {
		sy := min(max(int(oy+(float64(y)+0.5)*scale)-dy, 0), a.h-1)
		for px := range a.w {
			sx := min(max(int(ox+(float64(px)+0.5)*scale)-dx, 0), a.w-1)
			if flip {
				sx = a.w - 1 - sx
			}
			copy(x[(y*a.w+px)*a.c:(y*a.w+px+1)*a.c], a.picture[(sy*a.w+sx)*a.c:])
		}
	}
}

// Variant gives picture i of d as it is changed for the k-th time, a data set of
// one, by bytes: the same for the same seed, whatever was asked for before. Where
// pictures are flipped, every odd k is.
func (d *Dataset) Variant(i, k int, cfg AugmentConfig, seed uint64) (*Dataset, error) {
	if d.Pixels == nil {
		return nil, fmt.Errorf("data %s: its inputs are numbers, and pictures are what is changed", d.Name)
	}
	a, err := newAugmenter(cfg, d)
	if err != nil {
		return nil, err
	}
	a.flip = func(*rand.Rand) bool { return cfg.Flip && k%2 == 1 }
	out := d.Subset([]int{i})
	b := batch{n: 1, x: make([]float32, len(out.Pixels))}
	out.Input(b.x, 0)
	a.apply(&b, rand.New(rand.NewPCG(seed, uint64(i)<<16|uint64(k))))
	for j, v := range b.x {
		out.Pixels[j] = byte(min(max((v-a.low)/(a.high-a.low), 0), 1)*255 + 0.5)
	}
	return out, nil
}
