package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"edgegateway/configs"
	"edgegateway/gateway/dataset"
	"edgegateway/infer/train"
	"edgegateway/sensors"
)

// dataSource are the flags that say what labelled data a command works on.
type dataSource struct {
	path      string
	csv       train.CSVConfig
	size, fit string
	samples   int
	class     string // this one against the rest
	loose     bool   // pictures need no classes

	from, before string
}

// fits are the ways to make a picture as large as a model takes it.
var fits = []string{"letterbox", "stretch", "crop"}

// add declares the flags. what says what the data is for.
func (s *dataSource) add(cmd *cobra.Command, what string) {
	f := cmd.Flags()
	f.StringVar(&s.path, "data", "", what+": a CSV file, a folder with a folder of pictures a class, PICTURES.idx,LABELS.idx, or the folder of a recorded data set")
	f.StringSliceVar(&s.csv.Target, "target", nil, "of a CSV: the columns to learn or to judge by; none: the inputs themselves")
	f.StringSliceVar(&s.csv.Drop, "drop", nil, "of a CSV: columns that are left out")
	f.StringVar(&s.csv.Time, "time", "", "of a CSV: the column with the time of a row; by default the first that looks like one")
	f.BoolVar(&s.csv.Regression, "regression", false, "of a CSV: take a numeric target as values, though it has few of them")
	f.IntVar(&s.csv.Window, "window", 0, "of a CSV: so many rows are one input")
	f.IntVar(&s.csv.Ahead, "ahead", 0, "of a CSV: the rows behind the window that are the target, without --target")
	f.StringVar(&s.before, "before", "", "take what is from before this time alone, such as 2026-05-01 or \"2026-05-01 12:00:00\"")
	f.StringVar(&s.from, "from", "", "take what is from this time on alone")
	f.StringVar(&s.size, "size", "", "of pictures: HEIGHTxWIDTH or HEIGHTxWIDTHxCHANNELS; by default what the model takes")
	f.StringVar(&s.fit, "fit", fits[0], "of pictures: "+strings.Join(fits, ", "))
	f.IntVar(&s.samples, "samples", 0, "take at most so many samples, spread evenly over the data; 0: all")
	f.StringVar(&s.class, "class", "", "this class against the rest, in place of all classes; half of --samples are of it")
	completeWords(cmd, "fit", fits...)
}

// load reads the data. shape is what a model takes, nil where --size must say
// it for pictures; notes (what each column became, what was refused) go to say.
func (s *dataSource) load(ctx context.Context, shape train.Shape, say io.Writer) (*train.Dataset, error) {
	d, err := s.read(ctx, shape, say)
	if err != nil {
		return nil, err
	}
	if err := d.Check(); err != nil {
		return nil, invalid(err)
	}
	if s.class != "" {
		if err := s.against(d); err != nil {
			return nil, err
		}
	}
	if s.samples > 0 && s.samples < d.Len() {
		d = s.some(d)
	}
	_, _, idx := s.idx()
	if idx && s.size != "" {
		if shape, err = pictureSize(s.size); err != nil {
			return nil, &exitError{exitUsage, err}
		}
	}
	if idx && len(shape) == 3 && !slices.Equal(d.Shape, shape) {
		return s.fitted(ctx, d, shape)
	}
	return d, nil
}

// against makes two classes of all: those that are not s.class, and it.
func (s *dataSource) against(d *train.Dataset) error {
	at := slices.Index(d.Classes, s.class)
	if d.Labels == nil || at < 0 {
		return &exitError{exitUsage, fmt.Errorf("--class %q is none of the classes %s", s.class, strings.Join(d.Classes, ", "))}
	}
	for i, l := range d.Labels {
		d.Labels[i] = 0
		if int(l) == at {
			d.Labels[i] = 1
		}
	}
	d.Classes = []string{"not " + s.class, s.class}
	return d.Check()
}

// some takes s.samples of the data. It often stands class by class: every so
// manieth of all, or of one class and of the rest.
func (s *dataSource) some(d *train.Dataset) *train.Dataset {
	return d.Subset(s.places(d.Len(), func(i int) int { return int(d.Labels[i]) }))
}

// pick is some for pictures that are not read yet: those that are left out need
// not be.
func (s *dataSource) pick() train.Pick {
	if s.samples < 1 {
		return nil
	}
	return func(classes []string, labels []int32) []int {
		if s.samples >= len(labels) || s.class != "" && !slices.Contains(classes, s.class) {
			return all(len(labels))
		}
		return s.places(len(labels), func(i int) int {
			if classes[labels[i]] == s.class {
				return 1
			}
			return 0
		})
	}
}

// places are those of s.samples among n; of says whether one is of s.class.
func (s *dataSource) places(n int, of func(i int) int) []int {
	from := [][]int{nil, nil}
	for i := range n {
		k := 0
		if s.class != "" {
			k = of(i)
		}
		from[k] = append(from[k], i)
	}
	take := []int{s.samples, 0}
	if s.class != "" {
		take[1] = max(min(s.samples/2, len(from[1])), s.samples-len(from[0]))
		take[0] = s.samples - take[1]
	}
	var at []int
	for k, n := range take {
		for i := range n {
			at = append(at, from[k][i*len(from[k])/n])
		}
	}
	slices.Sort(at)
	return at
}

// all are the places of n.
func all(n int) []int {
	at := make([]int, n)
	for i := range at {
		at[i] = i
	}
	return at
}

// fitted makes the pictures of an IDX file as large as a model takes them.
func (s *dataSource) fitted(ctx context.Context, d *train.Dataset, shape train.Shape) (*train.Dataset, error) {
	h, w, from := d.Shape[0], d.Shape[1], d.Shape[0]*d.Shape[1]
	size := shape[0] * shape[1] * shape[2]
	if d.Shape[2] != 1 || shape[2] != 1 && shape[2] != 3 {
		return nil, invalid(fmt.Errorf("%s holds pictures of %v, the model takes %v", s.path, []int(d.Shape), []int(shape)))
	}
	if d.Len() > maxFitted/size {
		return nil, &exitError{exitUsage, fmt.Errorf("%d pictures of %v do not fit into memory; --samples %d does", d.Len(), []int(shape), maxFitted/size)}
	}
	cfg := sensors.DefaultImageConfig()
	cfg.Fit = s.fit
	if err := cfg.Validate(); err != nil {
		return nil, &exitError{exitUsage, err}
	}
	images := sensors.NewImageDecoder()
	out := *d
	out.Shape, out.Pixels = slices.Clone(shape), make([]byte, d.Len()*size)
	var file bytes.Buffer
	for i := range d.Len() {
		file.Reset()
		err := png.Encode(&file, &image.Gray{Pix: d.Pixels[i*from : (i+1)*from], Stride: w, Rect: image.Rect(0, 0, w, h)})
		if err == nil {
			_, err = images.Into(file.Bytes(), cfg, sensors.Target{W: shape[1], H: shape[0], C: shape[2], Type: sensors.Uint8, Data: out.Pixels[i*size : (i+1)*size]})
		}
		if err = errors.Join(ctx.Err(), err); err != nil {
			return nil, err
		}
	}
	return &out, out.Check()
}

// maxFitted is the most bytes of pictures that are made larger.
const maxFitted = 2 << 30

func (s *dataSource) read(ctx context.Context, shape train.Shape, say io.Writer) (*train.Dataset, error) {
	if s.path == "" {
		return nil, &exitError{exitUsage, errors.New("--data is missing: a CSV file, a folder of pictures by class, or PICTURES.idx,LABELS.idx")}
	}
	if s.samples < 0 {
		return nil, &exitError{exitUsage, fmt.Errorf("--samples %d is below 0", s.samples)}
	}
	for _, bound := range []struct {
		flag, text string
		at         *time.Time
	}{{"from", s.from, &s.csv.From}, {"before", s.before, &s.csv.Before}} {
		if bound.text == "" {
			continue
		}
		var ok bool
		if *bound.at, ok = train.ParseTime(bound.text); !ok {
			return nil, &exitError{exitUsage, fmt.Errorf("--%s %q is no time such as 2026-05-01 or \"2026-05-01 12:00:00\"", bound.flag, bound.text)}
		}
	}
	if pictures, labels, ok := s.idx(); ok {
		if err := s.noTable("holds pictures"); err != nil {
			return nil, err
		}
		d, err := train.LoadIDX(pictures, labels)
		if err == nil {
			d, err = s.between(d)
		}
		return d, invalid(err)
	}
	info, err := os.Stat(s.path)
	if err != nil {
		return nil, invalid(err)
	}
	if dataset.Is(s.path) {
		table := *s
		table.csv.Regression = false // of a recorded one that can be said
		if err := table.noTable("is a recorded data set, which knows it"); err != nil {
			return nil, err
		}
		return s.recorded(ctx, shape, say)
	}
	if info.IsDir() {
		if err := s.noTable("is a folder of pictures"); err != nil {
			return nil, err
		}
		return s.pictures(ctx, shape, say)
	}
	if s.size != "" {
		return nil, &exitError{exitUsage, fmt.Errorf("--size is for pictures, and %s is a table", s.path)}
	}
	if s.fit != "" && s.fit != fits[0] {
		return nil, &exitError{exitUsage, fmt.Errorf("--fit is for pictures, and %s is a table", s.path)}
	}
	d, columns, err := train.LoadCSV(s.path, s.csv)
	if err != nil {
		return nil, invalid(nearestColumn(err))
	}
	for _, c := range columns {
		text := c.Kind
		switch {
		case c.Kind == "number":
			text = fmt.Sprintf("number %.6g..%.6g", c.Low, c.High)
		case len(c.Values) > 0:
			text = fmt.Sprintf("text of %d values", len(c.Values))
		}
		fmt.Fprintf(say, "column %-24s %-9s %s\n", c.Name, c.Use, text)
	}
	return d, nil
}

// between takes what --from and --before leave; of a table the loader does.
func (s *dataSource) between(d *train.Dataset) (*train.Dataset, error) {
	d, err := d.Between(s.csv.From, s.csv.Before)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.path, err)
	}
	return d, nil
}

// nearestColumn adds the column that a mistyped one most likely meant.
func nearestColumn(err error) error {
	var c *train.ColumnError
	if errors.As(err, &c) {
		if n := configs.Nearest(c.Name, c.Columns); n != "" {
			return fmt.Errorf("%w; did you mean %q?", err, n)
		}
	}
	return err
}

// idx says whether --data names an IDX pair. The labels of train-images-idx3-
// ubyte are known to be train-labels-idx1-ubyte.
func (s *dataSource) idx() (pictures, labels string, ok bool) {
	if pictures, labels, ok = strings.Cut(s.path, ","); ok {
		return pictures, labels, true
	}
	dir, name := filepath.Split(s.path)
	if !strings.Contains(name, "idx3") || !strings.Contains(name, "images") {
		return "", "", false
	}
	name = strings.Replace(strings.Replace(name, "images", "labels", 1), "idx3", "idx1", 1)
	return s.path, dir + name, true
}

// there says whether what --data names can be found, without reading it.
func (s *dataSource) there() error {
	paths := []string{s.path}
	if pictures, labels, ok := s.idx(); ok {
		paths = []string{pictures, labels}
	}
	for _, path := range paths {
		if _, err := os.Stat(path); err != nil {
			return invalid(fmt.Errorf("--data: %w", err))
		}
	}
	return nil
}

// recorded reads a data set that a stream or an import wrote.
func (s *dataSource) recorded(ctx context.Context, shape train.Shape, say io.Writer) (*train.Dataset, error) {
	shape, err := s.sized(shape, say)
	if err != nil {
		return nil, err
	}
	cfg := dataset.LoadConfig{Shape: shape, Picture: sensors.DefaultImageConfig(), Regression: s.csv.Regression,
		Step: func(int) error { return ctx.Err() }}
	cfg.Picture.Fit = s.fit
	d, notes, err := dataset.Load(s.path, cfg)
	for _, n := range notes {
		fmt.Fprintln(say, n)
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err == nil {
		d, err = s.between(d)
	}
	return d, invalid(err)
}

// pictures reads a folder a class, decoded and fitted as the gateway does.
func (s *dataSource) pictures(ctx context.Context, shape train.Shape, say io.Writer) (*train.Dataset, error) {
	shape, err := s.sized(shape, say)
	if err != nil {
		return nil, err
	}
	if len(shape) != 3 {
		return nil, invalid(fmt.Errorf("%s holds no pictures (.jpg, .png, .bmp); each class is a folder in it", s.path))
	}
	cfg := sensors.DefaultImageConfig()
	cfg.Fit = s.fit
	if err := cfg.Validate(); err != nil {
		return nil, &exitError{exitUsage, err}
	}
	images := sensors.NewImageDecoder()
	decode := func(file, pixels []byte) error {
		_, err := images.Into(file, cfg, sensors.Target{W: shape[1], H: shape[0], C: shape[2], Type: sensors.Uint8, Data: pixels})
		return errors.Join(ctx.Err(), err)
	}
	bar := newBar("reading pictures")
	load := train.LoadFolder
	switch {
	case s.loose:
		load = train.LoadPictures
	case s.csv.Partial:
		load = train.LoadPart
	}
	d, refused, err := load(s.path, shape, decode, bar.step, s.pick())
	bar.end()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	for i, r := range refused {
		if i == 5 && len(refused) > 6 {
			fmt.Fprintf(say, "... and %d more were left out\n", len(refused)-i)
			break
		}
		fmt.Fprintf(say, "left out: %s\n", r)
	}
	if err == nil {
		d, err = s.between(d)
	}
	return d, invalid(err)
}

// pictureSize reads 96x96 or 96x96x1: height, width, channels (3 unless said).
func pictureSize(text string) (train.Shape, error) {
	shape := train.Shape{}
	for _, part := range strings.Split(text, "x") {
		n, err := strconv.Atoi(part)
		if err != nil || n < 1 || n > 4096 {
			return nil, fmt.Errorf("--size %q is not HEIGHTxWIDTH or HEIGHTxWIDTHxCHANNELS", text)
		}
		shape = append(shape, n)
	}
	if len(shape) == 2 {
		shape = append(shape, 3)
	}
	if len(shape) != 3 || shape[2] != 1 && shape[2] != 3 {
		return nil, fmt.Errorf("--size %q is not HEIGHTxWIDTH or HEIGHTxWIDTHxCHANNELS, with 1 or 3 channels", text)
	}
	return shape, nil
}

// bar is a progress bar whose length is known with its first step; what may
// change from step to step.
type bar struct {
	what string
	bar  *progressbar.ProgressBar
}

func newBar(what string) *bar { return &bar{what: what} }

// step is a progress callback: so much is done of so much.
func (b *bar) step(done, of int) {
	if b.bar == nil {
		b.bar = progress(of, b.what, false)
	}
	b.bar.Describe(b.what)
	_ = b.bar.Set(min(done, of))
}

func (b *bar) end() {
	if b.bar != nil {
		_ = b.bar.Finish()
		b.bar = nil
	}
}

// regular refuses a path that names something other than a file: a device would
// be replaced by one.
func regular(path string) error {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return &exitError{exitUsage, fmt.Errorf("%s is there and no regular file: name another to write to", path)}
	}
	return nil
}

// writeWhole writes a file so that its name never stands for half of it.
func writeWhole(path string, data []byte) (err error) {
	if err := regular(path); err != nil {
		return err
	}
	f, err := fileIn(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(data); err != nil {
		return err
	}
	if err = f.Chmod(0o644); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
