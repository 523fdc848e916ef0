package sensors

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"math"
	"os"
	"strings"
	"testing"

	"golang.org/x/image/bmp"
	"golang.org/x/image/draw"

	"edgegateway/internal/testkit"
)

func TestInto(t *testing.T) {
	j := jpegOf(t, 64, 32) // red grows to the right, green downwards
	d := NewImageDecoder()
	float := func(data []byte, i int) float64 {
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:])))
	}
	for _, fit := range []string{"stretch", "letterbox", "crop"} {
		dst := Target{W: 16, H: 16, C: 3, Type: Float32, Data: make([]byte, 16*16*3*4)}
		cfg := DefaultImageConfig()
		cfg.Fit = fit
		p, err := d.Into(j, cfg, dst)
		if err != nil {
			t.Fatal(err)
		}
		// Each pixel of the input shows the colour of its place in the picture.
		for y := range 16 {
			for x := range 16 {
				fx, fy := p.ToPicture((float64(x)+0.5)/16, (float64(y)+0.5)/16)
				r, g := float(dst.Data, (y*16+x)*3), float(dst.Data, (y*16+x)*3+1)
				wr, wg := 2*fx-1, 2*fy-1
				if fy < 0 || fy > 1 {
					wr, wg = -1, -1
				}
				if math.Abs(r-wr) > 0.09 || math.Abs(g-wg) > 0.09 {
					t.Fatalf("%s (%d,%d): %.2f %.2f, want %.2f %.2f", fit, x, y, r, g, wr, wg)
				}
			}
		}
	}
	cfg := DefaultImageConfig()
	cfg.Fit, cfg.Channels = "stretch", "bgr"
	for _, c := range []struct {
		elem ElemType
		mean []float64
		want int // of blue, 128
	}{{Uint8, nil, 128}, {Int8, nil, 0}, {Int8, []float64{0}, 64}} {
		cfg.Mean = c.mean
		if cfg.Std = nil; c.mean != nil {
			cfg.Std = []float64{1}
		}
		dst := Target{W: 4, H: 4, C: 3, Type: c.elem, Scale: 2, Data: make([]byte, 48)}
		if _, err := d.Into(j, cfg, dst); err != nil {
			t.Fatal(err)
		}
		got := int(dst.Data[0])
		if c.elem == Int8 {
			got = int(int8(dst.Data[0]))
		}
		if got < c.want-2 || got > c.want+2 {
			t.Errorf("type %d mean %v: %d, want %d", c.elem, c.mean, got, c.want)
		}
	}
	if _, err := d.Into(j[:len(j)/2], DefaultImageConfig(), Target{W: 4, H: 4, C: 3, Type: Uint8, Data: make([]byte, 48)}); Reason(err) != badPicture {
		t.Errorf("half a picture: %v", err)
	}
}

// claim sets the size in a JPEG's frame header.
func claim(j []byte, w, h int) []byte {
	j = bytes.Clone(j)
	i := bytes.Index(j, []byte{0xff, 0xc0})
	binary.BigEndian.PutUint16(j[i+5:], uint16(h))
	binary.BigEndian.PutUint16(j[i+7:], uint16(w))
	return j
}

// A small file that claims a huge picture is refused by its header.
func TestBomb(t *testing.T) {
	j := jpegOf(t, 16, 16)
	var p bytes.Buffer
	if err := png.Encode(&p, image.NewGray(image.Rect(0, 0, 4, 4))); err != nil {
		t.Fatal(err)
	}
	huge := bytes.Clone(p.Bytes())
	binary.BigEndian.PutUint32(huge[16:], 65500)
	binary.BigEndian.PutUint32(huge[20:], 65500)
	dst := Target{W: 4, H: 4, C: 3, Type: Uint8, Data: make([]byte, 48)}
	small := DefaultImageConfig()
	small.MaxPixels = 255
	for name, c := range map[string]struct {
		picture []byte
		cfg     ImageConfig
		reason  string
	}{
		"jpeg":         {claim(j, 65500, 65500), DefaultImageConfig(), pictureTooLarge},
		"png":          {huge, DefaultImageConfig(), pictureTooLarge},
		"own limit":    {j, small, pictureTooLarge},
		"no size":      {claim(j, 0, 16), DefaultImageConfig(), badPicture},
		"hidden frame": {hidden(j), DefaultImageConfig(), badPicture},
		"many scans":   {append(bytes.Clone(j), bytes.Repeat([]byte{0xff, 0xda}, 200)...), DefaultImageConfig(), badPicture},
	} {
		if _, err := NewImageDecoder().Into(c.picture, c.cfg, dst); Reason(err) != c.reason {
			t.Errorf("%s: %v, want %s", name, err, c.reason)
		}
	}
	// The decoder does fall for it: the header alone must be refused.
	if std, err := jpeg.DecodeConfig(bytes.NewReader(hidden(j))); err != nil || std.Width != 65500 {
		t.Fatalf("image/jpeg reads %v, %v", std, err)
	}
	if _, w, h, err := ImageInfo(hidden(j)); err == nil {
		t.Errorf("the hidden frame passed as %d x %d", w, h)
	}
}

// hidden is a JPEG whose segments show a frame of 16 x 16 to who takes FF 00
// for a marker with a length, and one of 65500 x 65500 to image/jpeg, which
// steps over FF 00.
func hidden(j []byte) []byte {
	i := bytes.Index(j, []byte{0xff, 0xc0})
	frame, rest := j[i:i+19], j[i+19:]
	out := append(bytes.Clone(j[:i]), 0xff, 0x00)
	end := len(out) + 0xffc0
	out = append(out, claim(frame, 65500, 65500)...)
	n := end - len(out) - 2 + len(frame) // a comment that ends behind the small frame
	out = append(out, 0xff, 0xfe, byte(n>>8), byte(n))
	out = append(out, make([]byte, end-len(out))...)
	return append(append(out, frame...), rest...)
}

// photo makes a JPEG of w x h pixels of a shared photograph.
func photo(t testing.TB, name string, w, h int) []byte {
	t.Helper()
	f, err := os.Open(testkit.Shared(t, name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var img image.Image
	if strings.HasSuffix(name, ".bmp") {
		img, err = bmp.Decode(f)
	} else {
		img, err = jpeg.Decode(f)
	}
	if err != nil {
		t.Fatal(err)
	}
	scaled := image.NewRGBA(image.Rect(0, 0, w, h))
	draw.CatmullRom.Scale(scaled, scaled.Rect, img, img.Bounds(), draw.Src, nil)
	var b bytes.Buffer
	if err := jpeg.Encode(&b, scaled, &jpeg.Options{Quality: 85}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func differ(a, b []byte) (mean float64, most int) {
	for i := range a {
		d := int(a[i]) - int(b[i])
		d = max(d, -d)
		mean += float64(d)
		most = max(most, d)
	}
	return mean / float64(len(a)), most
}

// The picture in the input is the one that the library x/image scales
// bilinearly from four neighbours, for every kind of picture file.
func TestIntoFormats(t *testing.T) {
	colour := image.NewRGBA(image.Rect(0, 0, 61, 47))
	grey := image.NewGray(colour.Rect)
	palette := image.NewPaletted(colour.Rect, color.Palette{color.Black, color.White, color.RGBA{200, 10, 60, 255}})
	for y := range 47 {
		for x := range 61 {
			colour.Set(x, y, color.RGBA{uint8(4 * x), uint8(5 * y), uint8(2 * (x + y)), 255})
			grey.Set(x, y, color.Gray{uint8(4*x + y)})
			palette.SetColorIndex(x, y, uint8((x/9+y/7)%3))
		}
	}
	encode := func(write func(*bytes.Buffer) error) []byte {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	for name, c := range map[string]struct {
		file []byte
		img  image.Image
		tol  int
	}{
		"png":         {encode(func(b *bytes.Buffer) error { return png.Encode(b, colour) }), colour, 2},
		"png grey":    {encode(func(b *bytes.Buffer) error { return png.Encode(b, grey) }), grey, 2},
		"png palette": {encode(func(b *bytes.Buffer) error { return png.Encode(b, palette) }), palette, 2},
		"bmp":         {encode(func(b *bytes.Buffer) error { return bmp.Encode(b, colour) }), colour, 2},
		"bmp grey":    {encode(func(b *bytes.Buffer) error { return bmp.Encode(b, grey) }), grey, 2},
		"jpeg grey":   {encode(func(b *bytes.Buffer) error { return jpeg.Encode(b, grey, &jpeg.Options{Quality: 100}) }), grey, 4},
		"jpeg":        {encode(func(b *bytes.Buffer) error { return jpeg.Encode(b, colour, &jpeg.Options{Quality: 100}) }), colour, 9},
	} {
		for _, channels := range []int{1, 3} {
			dst := Target{W: 40, H: 40, C: channels, Type: Uint8, Data: make([]byte, 40*40*channels)}
			cfg := DefaultImageConfig()
			cfg.Fit = "stretch"
			if _, err := NewImageDecoder().Into(c.file, cfg, dst); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			want := make([]byte, 0, len(dst.Data))
			for y := range 40 {
				for x := range 40 {
					r, g, b := sample(c.img, (float64(x)+0.5)*61/40-0.5, (float64(y)+0.5)*47/40-0.5)
					if channels == 1 {
						want = append(want, uint8(0.299*r+0.587*g+0.114*b+0.5))
					} else {
						want = append(want, uint8(r+0.5), uint8(g+0.5), uint8(b+0.5))
					}
				}
			}
			if _, most := differ(dst.Data, want); most > c.tol {
				t.Errorf("%s, %d channels: off by %d", name, channels, most)
			}
		}
	}
}

// sample is the bilinear value at a point, written for clearness.
func sample(img image.Image, x, y float64) (r, g, b float64) {
	x, y = min(max(x, 0), 60), min(max(y, 0), 46)
	fx, fy := x-math.Floor(x), y-math.Floor(y)
	for _, n := range []struct {
		x, y int
		w    float64
	}{{0, 0, (1 - fx) * (1 - fy)}, {1, 0, fx * (1 - fy)}, {0, 1, (1 - fx) * fy}, {1, 1, fx * fy}} {
		c := color.RGBAModel.Convert(img.At(min(int(x)+n.x, 60), min(int(y)+n.y, 46))).(color.RGBA)
		r, g, b = r+n.w*float64(c.R), g+n.w*float64(c.G), b+n.w*float64(c.B)
	}
	return r, g, b
}

// Nearest takes pixels as they are.
func TestNearest(t *testing.T) {
	img := image.NewGray(image.Rect(0, 0, 8, 8))
	for i := range img.Pix {
		img.Pix[i] = uint8(3 * i)
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	cfg := DefaultImageConfig()
	cfg.Filter = "nearest"
	dst := Target{W: 4, H: 4, C: 1, Type: Uint8, Data: make([]byte, 16)}
	if _, err := NewImageDecoder().Into(b.Bytes(), cfg, dst); err != nil {
		t.Fatal(err)
	}
	for i, v := range dst.Data {
		if want := uint8(3 * (8*(2*(i/4)+1) + 2*(i%4) + 1)); v != want {
			t.Errorf("pixel %d is %d, want %d", i, v, want)
		}
	}
}

// The bytes of the signed test pictures arrive as they stand.
func TestGreyBitmap(t *testing.T) {
	file, err := os.ReadFile(testkit.Shared(t, "data/person.bmp"))
	if err != nil {
		t.Fatal(err)
	}
	dst := Target{W: 96, H: 96, C: 1, Type: Uint8, Data: make([]byte, 96*96)}
	if _, err := NewImageDecoder().Into(file, DefaultImageConfig(), dst); err != nil {
		t.Fatal(err)
	}
	for y := range 96 { // a bitmap begins with its lowest row
		if row := file[1078+(95-y)*96:][:96]; !bytes.Equal(dst.Data[y*96:][:96], row) {
			t.Fatalf("row %d differs", y)
		}
	}
}

// Both JPEG decoders put the same picture into the input.
func TestTurboAgrees(t *testing.T) {
	if err := TurboJPEG(); err != nil {
		testkit.Missing(t, "no libturbojpeg0: %v", err)
	}
	for _, name := range []string{"data/pets.jpg", "data/cat.bmp", "data/grace_hopper.bmp"} {
		for _, size := range [][2]int{{640, 480}, {641, 479}, {1280, 963}, {333, 777}} {
			j := photo(t, name, size[0], size[1])
			for _, fit := range []string{"stretch", "letterbox", "crop"} {
				for _, c := range []int{1, 3} {
					fast, slow := NewImageDecoder(), NewImageDecoder()
					a := Target{W: 96, H: 96, C: c, Type: Uint8, Data: make([]byte, 96*96*c)}
					b := a
					b.Data = make([]byte, len(a.Data))
					cfg := DefaultImageConfig()
					cfg.Fit = fit
					pa, err := fast.Into(j, cfg, a)
					if err != nil {
						t.Fatal(err)
					}
					if fast.turbo == nil {
						t.Fatalf("%v: libturbojpeg was not used", size)
					}
					cfg.JPEG = "go"
					pb, err := slow.Into(j, cfg, b)
					if err != nil {
						t.Fatal(err)
					}
					if slow.tried || pa != pb {
						t.Fatalf("libturbojpeg used: %v, placements %v and %v", slow.tried, pa, pb)
					}
					mean, most := differ(a.Data, b.Data)
					if mean > 1 || most > 16 {
						t.Errorf("%s %v %s, %d channels: they differ by %.2f on average, by %d at most", name, size, fit, c, mean, most)
					}
				}
			}
		}
	}
}

// A torn JPEG is an error whichever decoder has it, and the next is right.
func TestTorn(t *testing.T) {
	j := jpegOf(t, 640, 480)
	for _, decoder := range []string{"auto", "go"} {
		cfg := DefaultImageConfig()
		cfg.JPEG = decoder
		d := NewImageDecoder()
		dst := Target{W: 32, H: 32, C: 3, Type: Uint8, Data: make([]byte, 32*32*3)}
		for _, n := range []int{len(j) / 4, len(j) / 2, len(j) - 100} {
			if _, err := d.Into(j[:n], cfg, dst); Reason(err) != badPicture {
				t.Errorf("%s, %d of %d bytes: %v", decoder, n, len(j), err)
			}
		}
		if _, err := d.Into(j, cfg, dst); err != nil {
			t.Errorf("%s: %v", decoder, err)
		}
	}
}

func TestTargetErrors(t *testing.T) {
	j := jpegOf(t, 16, 16)
	scaled := DefaultImageConfig()
	scaled.Mean = []float64{0}
	for want, c := range map[string]struct {
		cfg ImageConfig
		dst Target
	}{
		"2 channels":      {DefaultImageConfig(), Target{W: 4, H: 4, C: 2, Type: Uint8, Data: make([]byte, 32)}},
		"not 4 x 4 x 3":   {DefaultImageConfig(), Target{W: 4, H: 4, C: 3, Type: Float32, Data: make([]byte, 48)}},
		"no quantization": {scaled, Target{W: 4, H: 4, C: 3, Type: Int8, Data: make([]byte, 48)}},
	} {
		if _, err := NewImageDecoder().Into(j, c.cfg, c.dst); err == nil || !strings.Contains(err.Error(), want) || Reason(err) != "" {
			t.Errorf("%v, want %q", err, want)
		}
	}
	for want, change := range map[string]func(*ImageConfig){
		"fit:": func(c *ImageConfig) { c.Fit = "squeeze" }, "filter:": func(c *ImageConfig) { c.Filter = "cubic" },
		"jpeg:": func(c *ImageConfig) { c.JPEG = "c" }, "std[0]: 0": func(c *ImageConfig) { c.Std = []float64{0} },
		"mean: 2": func(c *ImageConfig) { c.Mean = []float64{0, 1} }, "max_pixels:": func(c *ImageConfig) { c.MaxPixels = 0 },
	} {
		cfg := DefaultImageConfig()
		change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// FuzzImage puts any bytes where a picture is expected. What the header says
// is what the standard library reads from it, or the picture is refused.
func FuzzImage(f *testing.F) {
	j := jpegOf(f, 40, 24)
	f.Add(j)
	f.Add(claim(j, 65500, 65500))
	for _, write := range []func(*bytes.Buffer, image.Image) error{
		func(b *bytes.Buffer, m image.Image) error { return png.Encode(b, m) },
		func(b *bytes.Buffer, m image.Image) error { return bmp.Encode(b, m) },
	} {
		var b bytes.Buffer
		if err := write(&b, image.NewGray(image.Rect(0, 0, 9, 5))); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	cfg := DefaultImageConfig()
	cfg.MaxPixels = 1 << 14
	images := NewImageDecoder()
	dst := Target{W: 6, H: 6, C: 3, Type: Float32, Data: make([]byte, 6*6*3*4)}
	f.Fuzz(func(t *testing.T, picture []byte) {
		format, w, h, err := ImageInfo(picture)
		if err == nil {
			var std image.Config
			var stdErr error
			switch r := bytes.NewReader(picture); format {
			case "jpeg":
				std, stdErr = jpeg.DecodeConfig(r)
			case "png":
				std, stdErr = png.DecodeConfig(r)
			case "bmp":
				std, stdErr = bmp.DecodeConfig(r)
			}
			if stdErr == nil && (std.Width != w || std.Height != h) {
				t.Fatalf("%s of %d x %d, the library reads %d x %d", format, w, h, std.Width, std.Height)
			}
		}
		for _, decoder := range []string{"auto", "go"} {
			c := cfg
			c.JPEG = decoder
			if _, err := images.Into(picture, c, dst); err != nil && Reason(err) == "" {
				t.Fatalf("an error without a reason: %v", err)
			}
		}
	})
}

func BenchmarkInto(b *testing.B) {
	j := photo(b, "data/pets.jpg", 640, 480)
	for _, c := range []struct {
		name, decoder string
		dst           Target
	}{
		{"96x96 int8/go", "go", Target{W: 96, H: 96, C: 3, Type: Int8, Data: make([]byte, 96*96*3)}},
		{"96x96 int8/turbo", "auto", Target{W: 96, H: 96, C: 3, Type: Int8, Data: make([]byte, 96*96*3)}},
		{"224x224 uint8/go", "go", Target{W: 224, H: 224, C: 3, Type: Uint8, Data: make([]byte, 224*224*3)}},
		{"224x224 uint8/turbo", "auto", Target{W: 224, H: 224, C: 3, Type: Uint8, Data: make([]byte, 224*224*3)}},
	} {
		b.Run(c.name, func(b *testing.B) {
			if c.decoder == "auto" && TurboJPEG() != nil {
				b.Skip("no libturbojpeg0")
			}
			cfg := DefaultImageConfig()
			cfg.JPEG = c.decoder
			d := NewImageDecoder()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := d.Into(j, cfg, c.dst); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("image/jpeg alone", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := jpeg.Decode(bytes.NewReader(j)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
