package sensors

import (
	"bytes"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"math"
	"math/cmplx"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"golang.org/x/image/bmp"
	"golang.org/x/image/draw"
	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/stat"
)

// Features are those that gonum's statistics and the sum that defines the
// Fourier transform give, on noise, steps and tones of any length.
func TestFeaturesAgainstReference(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	f, err := NewFeatures([]string{"mean", "std", "min", "max", "rms", "peak", "crest", "kurtosis", "last", "fft:5", "band:100-180@1000"}, []string{"x"})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{2, 3, 10, 63, 64, 257, 1000} {
		for kind, at := range map[string]func(i int) float64{
			"noise": func(int) float64 { return 5 + 3*r.NormFloat64() },
			"steps": func(i int) float64 { return float64(i/7%3) - 40 },
			"tones": func(i int) float64 {
				return 2*math.Sin(2*math.Pi*130/1000*float64(i)) + math.Cos(0.3*float64(i))
			},
		} {
			x := make([]float64, n)
			for i := range x {
				x[i] = at(i)
			}
			peak, rms := 0.0, floats.Norm(x, 2)/math.Sqrt(float64(n))
			for _, v := range x {
				peak = max(peak, math.Abs(v))
			}
			want := []float64{
				stat.Mean(x, nil), stat.PopStdDev(x, nil), slices.Min(x), slices.Max(x), rms, peak, peak / rms,
				stat.MomentAbout(4, x, stat.Mean(x, nil), nil) / math.Pow(stat.PopVariance(x, nil), 2), x[n-1],
			}
			if stat.PopVariance(x, nil) == 0 {
				want[7] = 0
			}
			magnitude := func(k int) float64 {
				var sum complex128
				for i, v := range x {
					sum += complex(v, 0) * cmplx.Rect(1, -2*math.Pi*float64(k)*float64(i)/float64(n))
				}
				if 2*k == n {
					return cmplx.Abs(sum) / float64(n)
				}
				return 2 * cmplx.Abs(sum) / float64(n)
			}
			for k := 1; k <= 5; k++ {
				if k > n/2 {
					want = append(want, 0)
				} else {
					want = append(want, magnitude(k))
				}
			}
			energy := 0.0
			for k := 1; k <= n/2; k++ {
				if hz := 1000 * float64(k) / float64(n); hz >= 100 && hz < 180 {
					energy += magnitude(k) * magnitude(k) / 2
				}
			}
			got := f.ComputeBlock(x, 0, nil)
			for i, v := range append(want, energy) {
				if math.Abs(got[i]-v) > 1e-9*(1+math.Abs(v)) {
					t.Errorf("%s of %d: %s is %v, want %v", kind, n, f.Names()[i], got[i], v)
				}
			}
		}
	}
}

// pattern is a picture of smooth and of sharp parts.
func pattern(w, h int) *image.RGBA {
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			c := color.RGBA{uint8(x * 255 / w), uint8(y * 255 / h), uint8(128 + 100*math.Sin(float64(x*y)/300)), 255}
			if (x/17+y/11)%5 == 0 {
				c.R, c.B = 255-c.R, 40
			}
			img.SetRGBA(x, y, c)
		}
	}
	return img
}

func bmpOf(t testing.TB, w, h int) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := bmp.Encode(&b, pattern(w, h)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Pixels in the input are those of x/image/draw: the same for nearest, within
// a rounding step for bilinear, whether the picture grows or shrinks, filled
// or cut, in every order of colours and every type.
func TestResizeAgainstReference(t *testing.T) {
	compared := 0
	for _, size := range [][2]int{{64, 48}, {97, 101}, {40, 31}, {150, 60}} {
		img := pattern(size[0], size[1])
		file := bmpOf(t, size[0], size[1])
		for _, in := range [][2]int{{96, 96}, {33, 57}, {128, 100}} {
			dst := Target{W: in[0], H: in[1], C: 3, Type: Uint8, Data: make([]byte, in[0]*in[1]*3)}
			for filter, s := range map[string]draw.Interpolator{"nearest": draw.NearestNeighbor, "bilinear": draw.ApproxBiLinear} {
				for _, fit := range []string{"stretch", "letterbox", "crop"} {
					cfg := DefaultImageConfig()
					cfg.Filter, cfg.Fit = filter, fit
					p, err := NewImageDecoder().Into(file, cfg, dst)
					if err != nil {
						t.Fatal(err)
					}
					if filter == "bilinear" && reduction(size[0], size[1], cfg, dst, p) > 1 {
						continue // averaged first
					}
					// The whole picture where it lies, which may be beyond the input.
					canvas := image.NewRGBA(image.Rect(0, 0, in[0], in[1]))
					x0, y0 := p.x0*float64(in[0]), p.y0*float64(in[1])
					if x0 != math.Trunc(x0) || y0 != math.Trunc(y0) || fraction(p.w*float64(in[0])) > 1e-9 || fraction(p.h*float64(in[1])) > 1e-9 {
						continue // x/image places on whole pixels alone
					}
					at := image.Rect(int(x0), int(y0), int(math.Round(x0+p.w*float64(in[0]))), int(math.Round(y0+p.h*float64(in[1]))))
					s.Scale(canvas, at, img, img.Rect, draw.Src, nil)
					var want []byte
					for i := 0; i < len(canvas.Pix); i += 4 {
						want = append(want, canvas.Pix[i:i+3]...)
					}
					mean, most := differ(dst.Data, want)
					if limit := map[string]int{"nearest": 0, "bilinear": 2}[filter]; most > limit {
						t.Errorf("%v into %v, %s, %s: off by %d, %.2f on average", size, in, filter, fit, most, mean)
					}
					compared++
				}
			}
		}
	}
	if compared < 25 {
		t.Errorf("only %d cases were compared", compared)
	}
}

func fraction(v float64) float64 { return math.Abs(v - math.Round(v)) }

// Every type of input holds what the formula says of the bytes that the plain
// one holds.
func TestTypesAgainstFormula(t *testing.T) {
	file := bmpOf(t, 50, 40)
	mean, std := []float64{120, 110, 100}, []float64{60, 50, 40}
	for _, channels := range []string{"rgb", "bgr"} {
		cfg := DefaultImageConfig()
		cfg.Channels = channels
		plain := Target{W: 30, H: 20, C: 3, Type: Uint8, Data: make([]byte, 30*20*3)}
		if _, err := NewImageDecoder().Into(file, cfg, plain); err != nil {
			t.Fatal(err)
		}
		if channels == "bgr" {
			rgb := slices.Clone(plain.Data)
			cfg.Channels = "rgb"
			if _, err := NewImageDecoder().Into(file, cfg, plain); err != nil {
				t.Fatal(err)
			}
			for i := 0; i < len(rgb); i += 3 {
				rgb[i], rgb[i+2] = rgb[i+2], rgb[i]
			}
			if !bytes.Equal(rgb, plain.Data) {
				t.Error("bgr is not rgb turned round")
			}
			plain.Data, cfg.Channels = slices.Clone(plain.Data), "bgr"
			for i := 0; i < len(rgb); i += 3 {
				plain.Data[i], plain.Data[i+2] = plain.Data[i+2], plain.Data[i]
			}
		}
		cfg.Mean, cfg.Std = mean, std
		for _, dst := range []Target{{Type: Float32}, {Type: Int8, Scale: 0.02, ZeroPoint: -3}, {Type: Uint8, Scale: 0.03, ZeroPoint: 100}} {
			dst.W, dst.H, dst.C, dst.Data = 30, 20, 3, make([]byte, 30*20*3)
			if dst.Type == Float32 {
				dst.Data = make([]byte, 4*len(dst.Data))
			}
			if _, err := NewImageDecoder().Into(file, cfg, dst); err != nil {
				t.Fatal(err)
			}
			for i, v := range plain.Data {
				real := (float64(v) - mean[i%3]) / std[i%3]
				var got, want float64
				switch dst.Type {
				case Float32:
					n, _ := rawNumber("f32be")
					b := dst.Data[4*i:]
					got, want = n.read([]byte{b[3], b[2], b[1], b[0]}), float64(float32(real))
				case Int8:
					got, want = float64(int8(dst.Data[i])), min(max(math.Round(real/float64(dst.Scale))-3, -128), 127)
				case Uint8:
					got, want = float64(dst.Data[i]), min(max(math.Round(real/float64(dst.Scale))+100, 0), 255)
				}
				if got != want {
					t.Fatalf("%s, type %d, element %d of %d: %v, want %v", channels, dst.Type, i, v, got, want)
				}
			}
		}
	}
}

// A picture that claims a size is refused before anything is decoded: what it
// costs does not grow with the claim.
func TestBombsCostNothing(t *testing.T) {
	var p, j bytes.Buffer
	if err := png.Encode(&p, image.NewGray(image.Rect(0, 0, 4, 4))); err != nil {
		t.Fatal(err)
	}
	if err := jpeg.Encode(&j, image.NewGray(image.Rect(0, 0, 16, 16)), nil); err != nil {
		t.Fatal(err)
	}
	huge := slices.Clone(p.Bytes())
	copy(huge[16:], []byte{0, 0, 0xff, 0xdc, 0, 0, 0xff, 0xdc})
	size := func(w, h uint32) []byte {
		b := bmpOf(t, 4, 4)
		copy(b[18:], []byte{byte(w), byte(w >> 8), byte(w >> 16), byte(w >> 24), byte(h), byte(h >> 8), byte(h >> 16), byte(h >> 24)})
		return b
	}
	dst := Target{W: 4, H: 4, C: 3, Type: Uint8, Data: make([]byte, 48)}
	for name, c := range map[string]struct {
		picture []byte
		reason  string
	}{
		"jpeg":            {claim(j.Bytes(), 65500, 65500), pictureTooLarge},
		"png":             {huge, pictureTooLarge},
		"bmp":             {size(65500, 65500), pictureTooLarge},
		"bmp, top down":   {size(65500, 0xffff_0024), pictureTooLarge},
		"bmp, no height":  {size(65500, 0x8000_0000), badPicture},
		"bmp, below that": {size(5000, 4900), badPicture},
	} {
		d := NewImageDecoder()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := d.Into(c.picture, DefaultImageConfig(), dst)
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; Reason(err) != c.reason || n > 1<<20 {
			t.Errorf("%s: %v, %d bytes were taken", name, err, n)
		}
	}
}
