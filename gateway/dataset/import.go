package dataset

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"edgegateway/infer/train"
	"edgegateway/sensors"
)

// importing are the bounds of an imported set: none but good sense.
var importing = limits{samples: 10_000_000, bytes: 1 << 40}

// Import makes a set below a gateway's data folder of what fill gives to add.
// The set is there when all of it is, and never replaces another.
func Import(data, name string, h Header, step Step, fill func(add func(Sample) error) error) (n int, err error) {
	dir := Dir(data, name)
	if _, err := os.Lstat(dir); err == nil {
		return 0, fmt.Errorf("there is a set %q in %s already; give the new one another name", name, data)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return 0, err
	}
	removeKilled(filepath.Dir(dir))
	part, err := os.MkdirTemp(filepath.Dir(dir), importPrefix+"*")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(part)
	hold, err := lock(part)
	if err != nil {
		return 0, err
	}
	defer hold.Close()
	w, err := openWriter(part)
	if err != nil {
		return 0, err
	}
	err = fill(func(s Sample) error {
		if _, err := w.append(h, importing, &s); err != nil {
			return err
		}
		if step != nil {
			return step(w.samples)
		}
		return nil
	})
	n = w.samples
	if err = errors.Join(err, w.close()); err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, errEmpty
	}
	return n, os.Rename(part, dir)
}

var errEmpty = errors.New("there is no sample")

// importPrefix begins the name of the folder that an import writes to until it
// is whole.
const importPrefix = ".import-"

// lock says that a folder is written to, until the file is closed or the process
// is no more.
func lock(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// removeKilled removes what imports that were killed left.
func removeKilled(sets string) {
	left, _ := filepath.Glob(filepath.Join(sets, importPrefix+"*")) // the pattern is a good one
	for _, dir := range left {
		if f, err := lock(dir); err == nil { // nobody writes to it
			_ = os.RemoveAll(dir)
			f.Close()
		}
	}
}

// ImportCSV brings a table: the target's column becomes the label.
func ImportCSV(data, name, path string, cfg train.CSVConfig, step Step) (n int, columns []train.Column, err error) {
	if len(cfg.Target) > 1 {
		return 0, nil, errors.New("a sample has one label: name one target, or none")
	}
	d, columns, err := train.LoadCSV(path, cfg)
	if err != nil {
		return 0, columns, err
	}
	size := len(d.Values) / d.Len()
	h := Header{Features: d.Features}
	n, err = Import(data, name, h, step, func(add func(Sample) error) error {
		for i := range d.Len() {
			s := Sample{Source: filepath.Base(path), Values: make([]float64, size)}
			for k, v := range d.Values[i*size : (i+1)*size] {
				s.Values[k] = short(v)
			}
			switch {
			case d.Labels != nil:
				s.Label = d.Classes[d.Labels[i]]
			case len(cfg.Target) == 1:
				s.Label = strconv.FormatFloat(float64(d.Targets[i*d.Width]), 'g', -1, 32)
			}
			if d.Times != nil {
				s.Time = d.Times[i]
			}
			if err := add(s); err != nil {
				return err
			}
		}
		return nil
	})
	return n, columns, err
}

// short is the float64 whose text is that of the float32: 0.1 and not
// 0.10000000149011612. Made a float32 again it is the same.
func short(v float32) float64 {
	x, err := strconv.ParseFloat(strconv.FormatFloat(float64(v), 'g', -1, 32), 64)
	if err != nil {
		return float64(v)
	}
	return x
}

// ImportIDX brings pictures and their labels as MNIST has them; each becomes a
// PNG.
func ImportIDX(data, name, images, labels string, step Step) (int, error) {
	d, err := train.LoadIDX(images, labels)
	if err != nil {
		return 0, err
	}
	h, w, c := d.Shape[0], d.Shape[1], d.Shape[2]
	if c != 1 && c != 3 {
		return 0, fmt.Errorf("%s: pictures have 1 or 3 channels, these %d", images, c)
	}
	size := h * w * c
	encoder := png.Encoder{CompressionLevel: png.BestSpeed}
	return Import(data, name, Header{Pictures: true}, step, func(add func(Sample) error) error {
		for i := range d.Len() {
			pixels := d.Pixels[i*size : (i+1)*size]
			var img image.Image = &image.Gray{Pix: pixels, Stride: w, Rect: image.Rect(0, 0, w, h)}
			if c == 3 {
				rgba := image.NewNRGBA(image.Rect(0, 0, w, h))
				for p := range h * w {
					copy(rgba.Pix[4*p:], pixels[3*p:3*p+3])
					rgba.Pix[4*p+3] = 255
				}
				img = rgba
			}
			var b bytes.Buffer
			if err := encoder.Encode(&b, img); err != nil {
				return err
			}
			if err := add(Sample{Source: filepath.Base(images), ID: strconv.Itoa(i), Label: d.Classes[d.Labels[i]], Picture: b.Bytes()}); err != nil {
				return err
			}
		}
		return nil
	})
}

// maxPicture is the most bytes of a picture's file.
const maxPicture = 64 << 20

// ImportFolder brings pictures by class, from/CLASS/FILE, as they are. Files
// that hold no picture are returned.
func ImportFolder(data, name, from string, step Step) (n int, refused []string, err error) {
	classes, err := os.ReadDir(from)
	if err != nil {
		return 0, nil, err
	}
	images := sensors.NewImageDecoder()
	n, err = Import(data, name, Header{Pictures: true}, step, func(add func(Sample) error) error {
		for _, c := range classes {
			if !c.IsDir() || strings.HasPrefix(c.Name(), ".") {
				continue
			}
			files, err := os.ReadDir(filepath.Join(from, c.Name()))
			if err != nil {
				return err
			}
			for _, f := range files {
				path := filepath.Join(from, c.Name(), f.Name())
				if f.IsDir() || !slices.Contains([]string{".jpg", ".jpeg", ".png", ".bmp"}, strings.ToLower(filepath.Ext(f.Name()))) {
					continue
				}
				s, err := pictureFile(images, path)
				if err != nil {
					refused = append(refused, fmt.Sprintf("%s: %v", path, err))
					continue
				}
				s.Label = c.Name()
				if c.Name() == "unlabelled" {
					s.Label = ""
				}
				if err := add(s); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if errors.Is(err, errEmpty) {
		err = fmt.Errorf("%s: there is no folder with pictures (.jpg, .png, .bmp) in it that can be read; each class is a folder", from)
	}
	return n, refused, err
}

// pictureFile reads a picture, and all of it: one that was cut short has a head
// as good as any.
func pictureFile(images *sensors.ImageDecoder, path string) (s Sample, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return s, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxPicture {
		return s, fmt.Errorf("is no file of at most %d bytes", maxPicture)
	}
	if s.Picture, err = os.ReadFile(path); err != nil {
		return s, err
	}
	s.Source, s.Time = filepath.Base(path), info.ModTime().Truncate(time.Microsecond)
	_, err = images.Into(s.Picture, sensors.DefaultImageConfig(), sensors.Target{W: 8, H: 8, C: 3, Type: sensors.Uint8, Data: make([]byte, 8*8*3)})
	return s, err
}
