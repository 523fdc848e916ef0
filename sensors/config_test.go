package sensors

import (
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
)

// What people write in a configuration arrives with its defaults.
func TestYAML(t *testing.T) {
	type stream struct {
		Input     InputConfig     `yaml:"input"`
		Picture   ImageConfig     `yaml:"picture"`
		Window    *WindowConfig   `yaml:"window"`
		Normalise NormaliseConfig `yaml:"normalise"`
	}
	for text, check := range map[string]func(stream) bool{
		"input: {json: [cpu, memory]}\nwindow: {size: 10s, every: 1s}": func(s stream) bool {
			return len(s.Input.JSON) == 2 && s.Input.MaxBytes == 10<<20 && s.Window.Size == "10s" && s.Window.Max == 100_000
		},
		"input: {raw: i16be, channels: [x, y, z], rate: 1000}\nwindow: {size: 64, every: 32, gap: 2s}": func(s stream) bool {
			return s.Window.Size == "64" && s.Window.Every == "32" && s.Window.Gap == 2*time.Second && s.Input.Rate == 1000
		},
		"input: {image: jpeg, chunks: true, chunk_timeout: 3s}\npicture: {fit: crop, mean: [0], std: [255], max_pixels: 1000000}": func(s stream) bool {
			return s.Input.ChunkTimeout == 3*time.Second && s.Picture.Fit == "crop" && s.Picture.Filter == "bilinear" && s.Picture.MaxPixels == 1_000_000
		},
		"input: {csv: {columns: [date, '-', a], delimiter: ';'}, time: date}\nnormalise: {mean: [1], std: [2]}": func(s stream) bool {
			return s.Input.CSV.Delimiter == ";" && s.Normalise.Std[0] == 2
		},
	} {
		s := stream{Input: DefaultInputConfig(), Picture: DefaultImageConfig()}
		if err := yaml.NewDecoder(strings.NewReader(text), yaml.Strict()).Decode(&s); err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if !check(s) {
			t.Errorf("%s: %+v", text, s)
		}
		if err := s.Input.Validate(); err != nil {
			t.Errorf("%s: input: %v", text, err)
		}
		if err := s.Picture.Validate(); err != nil {
			t.Errorf("%s: picture: %v", text, err)
		}
		if s.Window != nil && s.Window.Validate() != nil {
			t.Errorf("%s: window: %v", text, s.Window.Validate())
		}
	}
	for _, text := range []string{"input: {jsn: [a]}", "picture: {fitt: crop}", "window: {size: 5, evry: 1}"} {
		var s stream
		if err := yaml.NewDecoder(strings.NewReader(text), yaml.Strict()).Decode(&s); err == nil {
			t.Errorf("%s was taken", text)
		}
	}
}
