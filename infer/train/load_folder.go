package train

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxPicture is the most bytes of a picture's file.
const maxPicture = 64 << 20

// LoadFolder reads pictures by class: dir/<class>/<file>. decode writes a
// file's picture into pixels, of the given shape; files that it refuses are
// returned by name, unless a class has no other. Classes come in the order of
// their names; progress may be nil. pick says by their place which files are
// read, given the class of each; nil: all.
func LoadFolder(dir string, shape Shape, decode func(file, pixels []byte) error, progress func(done, of int), pick Pick) (d *Dataset, refused []string, err error) {
	return loadFolder(dir, shape, decode, progress, pick, 2)
}

// LoadPart is LoadFolder for a part of what is learned from: one class is enough.
func LoadPart(dir string, shape Shape, decode func(file, pixels []byte) error, progress func(done, of int), pick Pick) (d *Dataset, refused []string, err error) {
	return loadFolder(dir, shape, decode, progress, pick, 1)
}

// Pick chooses samples, in their order, by their labels before they are read.
type Pick func(classes []string, labels []int32) []int

// LoadPictures is LoadFolder for pictures that need no labels, of a teacher's
// pupil: they may lie in dir itself or in a single folder, and have no labels
// then.
func LoadPictures(dir string, shape Shape, decode func(file, pixels []byte) error, progress func(done, of int), pick Pick) (d *Dataset, refused []string, err error) {
	return loadFolder(dir, shape, decode, progress, pick, 0)
}

// loadFolder refuses fewer than least classes; with 0 pictures need no labels.
func loadFolder(dir string, shape Shape, decode func(file, pixels []byte) error, progress func(done, of int), pick Pick, least int) (d *Dataset, refused []string, err error) {
	if len(shape) != 3 {
		return nil, nil, fmt.Errorf("pictures of shape %v: it is [height, width, channels]", shape)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, err
	}
	type file struct {
		path  string
		class int32
	}
	var files []file
	d = &Dataset{Name: dir, Shape: shape}
	take := func(class string, inside []os.DirEntry) {
		some := false
		for _, f := range inside {
			if f.IsDir() || !slices.Contains([]string{".jpg", ".jpeg", ".png", ".bmp"}, strings.ToLower(filepath.Ext(f.Name()))) {
				continue
			}
			files, some = append(files, file{filepath.Join(dir, class, f.Name()), int32(len(d.Classes))}), true
		}
		if some {
			d.Classes = append(d.Classes, class)
		}
	}
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		inside, err := os.ReadDir(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, nil, err
		}
		take(e.Name(), inside)
	}
	if least == 0 && len(d.Classes) < 2 {
		take("", entries)
	}
	if len(files) == 0 && least == 0 {
		return nil, nil, fmt.Errorf("%s: neither it nor a folder in it has pictures (.jpg, .png, .bmp)", dir)
	}
	if len(d.Classes) < least {
		return nil, nil, fmt.Errorf("%s: %d folders with pictures (.jpg, .png, .bmp); each class is a folder, and there are at least %s", dir, len(d.Classes), map[int]string{1: "one", 2: "two"}[least])
	}
	if pick != nil {
		labels := make([]int32, len(files))
		for i, f := range files {
			labels[i] = f.class
		}
		var some []file
		for _, i := range pick(d.Classes, labels) {
			some = append(some, files[i])
		}
		files = some
	}
	pixels := make([]byte, product(shape))
	counts, tried := make([]int, len(d.Classes)), make([]int, len(d.Classes))
	for i, f := range files {
		if progress != nil {
			progress(i+1, len(files))
		}
		tried[f.class]++
		info, err := os.Stat(f.path)
		if err == nil && info.Size() > maxPicture {
			err = fmt.Errorf("%d bytes are more than %d", info.Size(), maxPicture)
		}
		var data []byte
		if err == nil {
			data, err = os.ReadFile(f.path)
		}
		if err == nil {
			err = decode(data, pixels)
		}
		if err != nil {
			refused = append(refused, fmt.Sprintf("%s: %v", f.path, err))
			continue
		}
		d.Pixels = append(d.Pixels, pixels...)
		d.Labels = append(d.Labels, f.class)
		counts[f.class]++
	}
	if len(d.Labels) == 0 && len(refused) > 0 {
		return nil, refused, fmt.Errorf("%s: no picture could be read: %s", dir, refused[0])
	}
	for c := range counts {
		if counts[c] > 0 || tried[c] == 0 {
			continue
		}
		inside := filepath.Join(dir, d.Classes[c]) + string(filepath.Separator)
		why := refused[slices.IndexFunc(refused, func(r string) bool { return strings.HasPrefix(r, inside) })]
		return nil, refused, fmt.Errorf("%s: no picture of the class %q could be read: %s", dir, d.Classes[c], why)
	}
	if least == 0 && (len(d.Classes) < 2 || d.Classes[len(d.Classes)-1] == "") {
		d.Classes, d.Labels = nil, nil
	}
	return d, refused, d.Check()
}
