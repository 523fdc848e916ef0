package cli

import (
	"fmt"
	"image"
	"image/draw"
	"image/jpeg"
	"os"
	"path/filepath"
	"slices"
)

// doorPictures makes the folder that the camera at the door replays, a picture
// a second: somebody is there for some seconds, then nobody, in turn. Those
// with nobody are cut from the same photographs, from where no face is.
func doorPictures(from, to string) error {
	photos, err := filepath.Glob(filepath.Join(from, "sample*.jpg"))
	if err != nil || len(photos) == 0 {
		return fmt.Errorf("demo: no photographs in %s; use: make run", from)
	}
	slices.Sort(photos)
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	empty := make([]string, len(photos))
	for i, photo := range photos {
		img, err := openPicture(photo)
		if err != nil {
			return err
		}
		empty[i] = filepath.Join(to, fmt.Sprintf("nobody%d", i))
		if err := saveJPEG(empty[i], nobody(img)); err != nil {
			return err
		}
	}
	const seconds = 6
	n := 0
	show := func(list []string) error {
		for k := range seconds {
			if err := os.Symlink(list[k%len(list)], filepath.Join(to, fmt.Sprintf("%04d.jpg", n))); err != nil {
				return err
			}
			n++
		}
		return nil
	}
	for i := 0; i < len(photos); i += 2 {
		j := min(i+2, len(photos))
		if err := show(photos[i:j]); err != nil {
			return err
		}
		if err := show(empty[i:j]); err != nil {
			return err
		}
	}
	return nil
}

func saveJPEG(path string, img image.Image) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := jpeg.Encode(f, img, &jpeg.Options{Quality: 85}); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

func openPicture(path string) (image.Image, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	img, _, err := image.Decode(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return img, nil
}

// nobody is the lowest eighth of a photograph of people: shoes and floor.
func nobody(img image.Image) image.Image {
	b := img.Bounds()
	r := image.Rect(b.Min.X, b.Max.Y-b.Dy()/8, b.Min.X+b.Dx()/4, b.Max.Y)
	out := image.NewRGBA(image.Rect(0, 0, r.Dx(), r.Dy()))
	draw.Draw(out, out.Bounds(), img, r.Min, draw.Src)
	return out
}
