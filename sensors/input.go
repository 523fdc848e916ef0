package sensors

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// InputConfig says what a stream's payloads are. One of json, csv, raw,
// number and image is given.
type InputConfig struct {
	JSON         []string      `yaml:"json" desc:"paths of the numbers in a JSON payload: [cpu, data.temp, axes[0], samples[*]]; type=L is 1 where the text at type is L, else 0"`
	CSV          *CSVConfig    `yaml:"csv" desc:"one line of comma-separated values"`
	Raw          string        `yaml:"raw" desc:"numbers as bytes: f32le, i16be, u8 ...; tensor for bytes that go into the model as they stand"`
	Channels     []string      `yaml:"channels" desc:"names of the values that follow each other in a raw payload or a JSON array: [x, y, z]; it may hold many readings of them"`
	Rate         float64       `yaml:"rate" desc:"readings a second in a payload of many"`
	Number       bool          `yaml:"number" desc:"one number as text"`
	Image        string        `yaml:"image" enum:"auto,jpeg,png,bmp" desc:"a picture: raw, base64, data URL or in a JSON field"`
	Field        string        `yaml:"field" desc:"the JSON field that holds the picture"`
	Chunks       bool          `yaml:"chunks" desc:"pictures come in pieces on <topic>/start, chunk, end or image, image_end"`
	ChunkTimeout time.Duration `yaml:"chunk_timeout" desc:"time in which all pieces of a picture come"`
	Time         string        `yaml:"time" desc:"JSON path or CSV column of the time"`
	Seq          string        `yaml:"seq" desc:"JSON path or CSV column of the sequence number"`
	TimeFormat   string        `yaml:"time_format" desc:"auto, unix, unix_ms, rfc3339 or a Go layout"`
	MaxBytes     int           `yaml:"max_bytes" desc:"largest payload or assembled picture"`
}

// CSVConfig is the shape of a CSV line.
type CSVConfig struct {
	Columns   []string `yaml:"columns" desc:"the columns of a line in order; those named - are skipped"`
	Values    []string `yaml:"values" desc:"the columns that are taken; all but time and sequence where it is empty; type=L is 1 where the column type is L, else 0"`
	Delimiter string   `yaml:"delimiter" desc:"one character; a comma where it is empty"`
}

// DefaultInputConfig has the limits and no kind.
func DefaultInputConfig() InputConfig {
	return InputConfig{Field: "image", TimeFormat: "auto", MaxBytes: 10 << 20, ChunkTimeout: 10 * time.Second}
}

// UnmarshalYAML gives an input its defaults.
func (c *InputConfig) UnmarshalYAML(decode func(any) error) error {
	type plain InputConfig
	p := plain(DefaultInputConfig())
	if err := decode(&p); err != nil {
		return err
	}
	*c = InputConfig(p)
	return nil
}

// Validate checks that one kind is given, and its parts.
func (c InputConfig) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	var kinds []string
	for _, k := range []struct {
		name  string
		given bool
	}{{"json", len(c.JSON) > 0}, {"csv", c.CSV != nil}, {"raw", c.Raw != ""}, {"number", c.Number}, {"image", c.Image != ""}} {
		if k.given {
			kinds = append(kinds, k.name)
		}
	}
	switch {
	case len(kinds) == 0:
		bad("json: give one of json, csv, raw, number and image, for example input: {json: [temperature]}")
	case len(kinds) > 1:
		bad("%s: %s is given too; give one of json, csv, raw, number and image", kinds[1], kinds[0])
	}
	for i, p := range c.JSON {
		if _, err := parsePath(p); err != nil {
			bad("json[%d]: %w", i, err)
		}
	}
	if c.CSV != nil {
		errs = append(errs, c.CSV.validate(c)...)
	} else {
		for name, p := range map[string]string{"time": c.Time, "seq": c.Seq} {
			if p == "" {
				continue
			}
			if len(c.JSON) == 0 && c.Image == "" {
				bad("%s: only JSON and CSV payloads carry one", name)
			} else if path, err := parsePath(p); err != nil || path.spread {
				bad("%s: %q is no path to one value", name, p)
			}
		}
	}
	if c.Raw != "" && c.Raw != "tensor" {
		if _, err := rawNumber(c.Raw); err != nil {
			bad("raw: %w", err)
		}
	}
	if len(c.Channels) > 0 && (c.Raw == "" || c.Raw == "tensor") && !(len(c.JSON) == 1 && strings.HasSuffix(c.JSON[0], "[*]")) {
		bad("channels: names are given to raw numbers or to one JSON array such as samples[*]")
	}
	if !(c.Rate >= 0) || c.Rate > 0 && len(c.Channels) == 0 {
		bad("rate: %v is no number of readings a second of channels", c.Rate)
	}
	if c.Image != "" && !slices.Contains([]string{"auto", "jpeg", "png", "bmp"}, c.Image) {
		bad("image: %q is none of auto, jpeg, png, bmp", c.Image)
	}
	if c.Chunks && c.Image == "" {
		bad("chunks: only pictures come in chunks")
	}
	if c.Chunks && c.ChunkTimeout <= 0 {
		bad("chunk_timeout: %v is not positive", c.ChunkTimeout)
	}
	if c.MaxBytes < 1 || c.MaxBytes > 256<<20 {
		bad("max_bytes: %d is not in 1..268435456", c.MaxBytes)
	}
	return errors.Join(errs...)
}

func (c CSVConfig) validate(in InputConfig) (errs []error) {
	if len(c.Columns) == 0 {
		errs = append(errs, fmt.Errorf("csv.columns: name the columns of a line in order"))
	}
	for i, v := range c.Values {
		if name, _, ok := oneOf(v); !slices.Contains(c.Columns, v) && !(ok && slices.Contains(c.Columns, name)) {
			errs = append(errs, fmt.Errorf("csv.values[%d]: there is no column %q", i, v))
		}
	}
	for name, v := range map[string]string{"time": in.Time, "seq": in.Seq} {
		if v != "" && !slices.Contains(c.Columns, v) {
			errs = append(errs, fmt.Errorf("%s: there is no column %q", name, v))
		}
	}
	if len(c.Delimiter) > 1 || strings.ContainsAny(c.Delimiter, "\"\r\n") {
		errs = append(errs, fmt.Errorf("csv.delimiter: %q is not one character", c.Delimiter))
	}
	return errs
}

// Decoder makes samples of payloads. It is for one goroutine.
type Decoder interface {
	// Decode fills s. Its error is an *Error. s may hold parts of payload.
	Decode(payload []byte, s *Sample) error
	// Names are those of s.Values, nil where their number is not known. With
	// channels the values may be several readings, each of these names.
	Names() []string
}

// NewDecoder makes the decoder of a checked configuration.
func NewDecoder(cfg InputConfig) (Decoder, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	var d Decoder
	switch {
	case len(cfg.JSON) > 0:
		d = newJSONDecoder(cfg)
	case cfg.CSV != nil:
		d = newCSVDecoder(cfg)
	case cfg.Raw == "tensor":
		d = tensorDecoder{}
	case cfg.Raw != "":
		n, err := rawNumber(cfg.Raw)
		if err != nil {
			return nil, err
		}
		d = rawDecoder{n}
	case cfg.Number:
		d = numberDecoder{}
	default:
		d = newPictureDecoder(cfg)
	}
	if len(cfg.Channels) > 0 {
		d = channelled{d, cfg.Channels}
	}
	return bounded{d, cfg.MaxBytes}, nil
}

// channelled gives names to values that have none of their own.
type channelled struct {
	Decoder
	names []string
}

func (c channelled) Names() []string { return c.names }

func (c channelled) Decode(payload []byte, s *Sample) error {
	err := c.Decoder.Decode(payload, s)
	if n := len(s.Values); err == nil && (n == 0 || n%len(c.names) != 0) {
		return &Error{wrongLength, fmt.Sprintf("%d numbers are no whole readings of %d channels", n, len(c.names))}
	}
	return err
}

// bounded refuses payloads over the limit before anything looks at them.
type bounded struct {
	Decoder
	max int
}

func (b bounded) Decode(payload []byte, s *Sample) error {
	s.reset()
	if len(payload) > b.max {
		return &Error{tooLarge, fmt.Sprintf("%d bytes are over the limit of %d", len(payload), b.max)}
	}
	return b.Decoder.Decode(payload, s)
}
