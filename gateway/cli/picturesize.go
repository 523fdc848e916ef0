package cli

import (
	"bufio"
	"fmt"
	"image"
	"image/color"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"edgegateway/infer/train"
)

// maxOwnSize is the most pixels that pictures are taken with as they are: a
// network of this program for larger ones would be one of many millions of weights.
const maxOwnSize = 128 * 128

// sized is the shape that the pictures below s.path are made into: that of
// --size, what a model takes, or their own where all are of one size. Below a
// set of numbers are no pictures, and no shape.
func (s *dataSource) sized(shape train.Shape, say io.Writer) (train.Shape, error) {
	if s.size != "" {
		shape, err := pictureSize(s.size)
		if err != nil {
			return nil, &exitError{exitUsage, err}
		}
		return shape, nil
	}
	if len(shape) == 3 && (shape[2] == 1 || shape[2] == 3) {
		return shape, nil
	}
	own, sizes, err := ownSizes(s.path)
	if err != nil {
		return nil, err
	}
	if len(sizes) == 0 {
		return shape, nil
	}
	if len(sizes) == 1 && shape == nil && own[0]*own[1] <= maxOwnSize {
		fmt.Fprintf(say, "all pictures are of %s, and stay so; --size makes others of them\n", sizes[0])
		return own, nil
	}
	what := "they are of " + strings.Join(sizes, ", ")
	if shape != nil {
		what = fmt.Sprintf("the model takes %v", []int(shape))
	}
	return nil, &exitError{exitUsage, fmt.Errorf("%s holds pictures; --size says how large they are made, such as 96x96x3 (%s)", s.path, what)}
}

// ownSizes are the sizes of the pictures below a folder, the first three of them
// as text, HEIGHTxWIDTHxCHANNELS, and the first as a shape.
func ownSizes(dir string) (first train.Shape, sizes []string, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !slices.Contains([]string{".jpg", ".jpeg", ".png", ".bmp"}, strings.ToLower(filepath.Ext(path))) {
			return nil
		}
		info, err := os.Stat(path) // a link may name a picture elsewhere
		if err != nil || !info.Mode().IsRegular() {
			return nil // said where it is read
		}
		f, err := os.Open(path)
		if err != nil {
			return nil
		}
		defer f.Close()
		cfg, _, err := image.DecodeConfig(bufio.NewReader(f))
		if err != nil {
			return nil
		}
		shape := train.Shape{cfg.Height, cfg.Width, 3}
		if cfg.ColorModel == color.GrayModel || cfg.ColorModel == color.Gray16Model {
			shape[2] = 1
		}
		if first == nil {
			first = shape
		}
		switch text := fmt.Sprintf("%dx%dx%d", shape[0], shape[1], shape[2]); {
		case slices.Contains(sizes, text):
		case len(sizes) == 3:
			sizes = append(sizes, "and others")
			return fs.SkipAll
		default:
			sizes = append(sizes, text)
		}
		return nil
	})
	return first, sizes, err
}
