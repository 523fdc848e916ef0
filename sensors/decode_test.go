package sensors

import (
	"bytes"
	"encoding/base64"
	"image"
	"image/color"
	"image/jpeg"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"edgegateway/internal/testkit"
)

func input(change func(*InputConfig)) InputConfig {
	c := DefaultInputConfig()
	change(&c)
	return c
}

func TestDecode(t *testing.T) {
	vibration := input(func(c *InputConfig) {
		c.JSON, c.Time, c.Seq = []string{"cpu", "data.temp", "axes[1]"}, "at", "n"
	})
	csv := input(func(c *InputConfig) {
		c.CSV, c.Time = &CSVConfig{Columns: []string{"date", "a", "-", "b"}}, "date"
	})
	texts := input(func(c *InputConfig) {
		c.CSV = &CSVConfig{Columns: []string{"type", "a"}, Values: []string{"a", "type=H", "type=L"}}
	})
	raw := func(form string) InputConfig { return input(func(c *InputConfig) { c.Raw = form }) }
	for name, c := range map[string]struct {
		cfg     InputConfig
		payload string
		want    []float64
		at      string // RFC 3339
		reason  string
	}{
		"json":                {vibration, `{"cpu":0.5,"data":{"temp":"21.5"},"axes":[1,true],"at":1700000000123,"n":7}`, []float64{0.5, 21.5, 1}, "2023-11-14T22:13:20.123Z", ""},
		"json without field":  {vibration, `{"cpu":0.5}`, nil, "", missingField},
		"json text":           {input(func(c *InputConfig) { c.JSON = []string{"type=H", "m.type=L", "type=L"} }), `{"type":"L","m":{"type":"H"}}`, []float64{0, 0, 1}, "", ""},
		"json text missing":   {input(func(c *InputConfig) { c.JSON = []string{"type=H"} }), `{"tpye":"H"}`, nil, "", missingField},
		"csv text":            {texts, "1,date\n L,2.5", []float64{0, 1, 2.5}, "", ""},
		"csv text last":       {texts, "H,2.5", []float64{1, 0, 2.5}, "", ""},
		"json null":           {vibration, `{"cpu":null,"data":{"temp":1},"axes":[1,2],"at":1,"n":1}`, nil, "", notANumber},
		"no json":             {vibration, `{"cpu":0.5`, nil, "", badJSON},
		"json huge number":    {vibration, `{"cpu":1e999,"data":{"temp":1},"axes":[1,2],"at":1,"n":1}`, nil, "", notANumber},
		"deep json":           {vibration, strings.Repeat("[", 5<<20), nil, "", badJSON},
		"spread":              {input(func(c *InputConfig) { c.JSON = []string{"v[*]"} }), `{"v":[1,2,3.5]}`, []float64{1, 2, 3.5}, "", ""},
		"top array":           {input(func(c *InputConfig) { c.JSON = []string{"[*]"} }), `[1,2]`, []float64{1, 2}, "", ""},
		"top index":           {input(func(c *InputConfig) { c.JSON = []string{"[1]"} }), `[1,2]`, []float64{2}, "", ""},
		"odd name":            {input(func(c *InputConfig) { c.JSON = []string{"a*|#b"} }), `{"a*|#b":4,"ax":1}`, []float64{4}, "", ""},
		"csv":                 {csv, "2015-02-02 14:19:00,1,x,2.5\r\n", []float64{1, 2.5}, "2015-02-02T14:19:00Z", ""},
		"csv row number":      {csv, `"1","2015-02-02 14:19:00","1",x,2.5`, []float64{1, 2.5}, "2015-02-02T14:19:00Z", ""},
		"csv header":          {csv, "\ufeffdate,a,c,b\n2015-02-02 14:19:00,1,x,2.5", []float64{1, 2.5}, "2015-02-02T14:19:00Z", ""},
		"csv empty header":    {csv, ",a,c,b\n2015-02-02 14:19:00,1,x,2.5\n", []float64{1, 2.5}, "2015-02-02T14:19:00Z", ""},
		"csv rows":            {csv, "2015-02-02 14:19:00,1,x,2.5\n2015-02-02 14:20:00,1,x,2.5", nil, "", badCSV},
		"csv header, rows":    {csv, "date,a,c,b\n2015-02-02 14:19:00,1,x,2.5\n2015-02-02 14:20:00,1,x,2.5", nil, "", badCSV},
		"csv one too many":    {csv, "2015-02-02 14:19:00,1,2,3,4", nil, "", badCSV},
		"csv numbered":        {csv, `1,2015-02-02 14:19:00,1,2,3`, nil, "", badCSV},
		"csv short":           {csv, "2015-02-02 14:19:00,1", nil, "", badCSV},
		"csv word":            {csv, "2015-02-02 14:19:00,one,x,2", nil, "", notANumber},
		"csv own quotes":      {csv, `2015-02-02 14:19:00,1,"a ""big"" one, or two",2.5`, []float64{1, 2.5}, "2015-02-02T14:19:00Z", ""},
		"csv odd quotes":      {csv, `2015-02-02 14:19:00,1,"a ""big one,2.5`, nil, "", badCSV},
		"array for one":       {vibration, `{"cpu":[1,2],"data":{"temp":1},"axes":[1,2],"at":1,"n":1}`, nil, "", notANumber},
		"time out of range":   {input(func(c *InputConfig) { c.JSON, c.Time, c.TimeFormat = []string{"v"}, "t", "unix" }), `{"v":1,"t":9e18}`, nil, "", badTime},
		"time in nanoseconds": {input(func(c *InputConfig) { c.JSON, c.Time = []string{"v"}, "t" }), `{"v":1,"t":1700000000123456789}`, []float64{1}, "2023-11-14T22:13:20.123456789Z", ""},
		"year 0":              {input(func(c *InputConfig) { c.JSON, c.Time = []string{"v"}, "t" }), `{"v":1,"t":"0000-01-01T00:00:00+01:00"}`, nil, "", badTime},
		"time with fraction":  {input(func(c *InputConfig) { c.JSON, c.Time = []string{"v"}, "t" }), `{"v":1,"t":1700000000.125}`, []float64{1}, "2023-11-14T22:13:20.125Z", ""},
		"csv open quote":      {csv, `"2015,1,x,2`, nil, "", badCSV},
		"csv bad time":        {csv, "never,1,x,2", nil, "", badTime},
		"i16be":               {raw("i16be"), "\xff\xfe\x00\x03", []float64{-2, 3}, "", ""},
		"u24le":               {raw("u24le"), "\x01\x00\x80", []float64{0x800001}, "", ""},
		"i24be":               {raw("i24be"), "\xff\xff\xff", []float64{-1}, "", ""},
		"f64be":               {raw("f64be"), "\x3f\xf8\x00\x00\x00\x00\x00\x00", []float64{1.5}, "", ""},
		"f16le":               {raw("f16le"), "\x00\x3c\x00\xc0\x01\x00\xff\x7b\x00\x80\x55\x35", []float64{1, -2, math.Ldexp(1, -24), 65504, 0, 0.333251953125}, "", ""},
		"f16 infinite":        {raw("f16be"), "\x7c\x00", nil, "", notANumber},
		"u8":                  {raw("u8"), "\x00\xff", []float64{0, 255}, "", ""},
		"f32 NaN":             {raw("f32le"), "\x00\x00\xc0\x7f", nil, "", notANumber},
		"channels":            {input(func(c *InputConfig) { c.Raw, c.Channels = "i8", []string{"x", "y"} }), "\x01\x02\x03\x04", []float64{1, 2, 3, 4}, "", ""},
		"channels cut":        {input(func(c *InputConfig) { c.Raw, c.Channels = "i8", []string{"x", "y"} }), "\x01\x02\x03", nil, "", wrongLength},
		"channels of none":    {input(func(c *InputConfig) { c.JSON, c.Channels = []string{"v[*]"}, []string{"x"} }), `{"v":[]}`, nil, "", wrongLength},
		"raw cut":             {raw("f32le"), "\x00\x00\xc0", nil, "", wrongLength},
		"raw empty":           {raw("f32le"), "", nil, "", wrongLength},
		"number":              {input(func(c *InputConfig) { c.Number = true }), " 21.5\n", []float64{21.5}, "", ""},
		"switch":              {input(func(c *InputConfig) { c.Number = true }), "ON", []float64{1}, "", ""},
		"NaN":                 {input(func(c *InputConfig) { c.Number = true }), "NaN", nil, "", notANumber},
		"too large":           {input(func(c *InputConfig) { c.Number, c.MaxBytes = true, 4 }), "21.55", nil, "", tooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := NewDecoder(c.cfg)
			if err != nil {
				t.Fatal(err)
			}
			var s Sample
			err = d.Decode([]byte(c.payload), &s)
			if got := Reason(err); got != c.reason {
				t.Fatalf("reason %q (%v), want %q", got, err, c.reason)
			}
			if err != nil {
				return
			}
			if !cmp.Equal(s.Values, c.want) {
				t.Errorf("got %v, want %v", s.Values, c.want)
			}
			if c.at != "" && s.Time.Format(time.RFC3339Nano) != c.at {
				t.Errorf("time %v, want %s", s.Time, c.at)
			}
			if name == "json" && (!s.HasSeq || s.Seq != 7) {
				t.Errorf("seq %d %v", s.Seq, s.HasSeq)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	for want, c := range map[string]InputConfig{
		"one of json":         DefaultInputConfig(),
		"raw: json is given":  input(func(c *InputConfig) { c.JSON, c.Raw = []string{"a"}, "u8" }),
		"json[0]":             input(func(c *InputConfig) { c.JSON = []string{"a["} }),
		"f32le or f32be":      input(func(c *InputConfig) { c.Raw = "f32" }),
		"no number of 12":     input(func(c *InputConfig) { c.Raw = "i12le" }),
		"no number form":      input(func(c *InputConfig) { c.Raw = "x32le" }),
		`no column "z"`:       input(func(c *InputConfig) { c.CSV, c.Time = &CSVConfig{Columns: []string{"a"}}, "z" }),
		"none of auto, jpeg":  input(func(c *InputConfig) { c.Image = "gif" }),
		"names are given to":  input(func(c *InputConfig) { c.JSON, c.Channels = []string{"a"}, []string{"x"} }),
		"rate: 5":             input(func(c *InputConfig) { c.Raw, c.Rate = "u8", 5 }),
		"only pictures come":  input(func(c *InputConfig) { c.Number, c.Chunks = true, true }),
		"only JSON and CSV p": input(func(c *InputConfig) { c.Number, c.Seq = true, "n" }),
	} {
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// The rows of the real data sets are all read.
func TestRealRows(t *testing.T) {
	for file, c := range map[string]struct {
		columns string
		rows    int
	}{
		"data/occupancy_test.csv":                     {"date,Temperature,Humidity,Light,CO2,HumidityRatio,Occupancy", 2665},
		"data/machine_temperature_system_failure.csv": {"date,value", 22695},
		"data/ai4i2020.csv":                           {"-,-,-,air,process,speed,torque,wear,failure", 10000},
	} {
		data, err := os.ReadFile(testkit.Shared(t, file))
		if err != nil {
			t.Fatal(err)
		}
		cfg := input(func(c *InputConfig) { c.CSV = &CSVConfig{Columns: strings.Split(c.Field, ",")} })
		cfg.CSV.Columns = strings.Split(c.columns, ",")
		if cfg.CSV.Columns[0] == "date" {
			cfg.Time = "date"
		}
		d, err := NewDecoder(cfg)
		if err != nil {
			t.Fatal(err)
		}
		rows := 0
		var s Sample
		for i, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
			if err := d.Decode([]byte(line), &s); err == nil {
				rows++
			} else if i > 0 {
				t.Errorf("%s line %d: %v", file, i+1, err)
			}
		}
		if rows != c.rows {
			t.Errorf("%s: %d rows, want %d", file, rows, c.rows)
		}
	}
}

func jpegOf(t testing.TB, w, h int) []byte {
	t.Helper()
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			img.Set(x, y, color.RGBA{uint8(x * 255 / w), uint8(y * 255 / h), 128, 255})
		}
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, &jpeg.Options{Quality: 95}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestPictureEnvelopes(t *testing.T) {
	j := jpegOf(t, 32, 16)
	b64 := base64.StdEncoding.EncodeToString(j)
	d, err := NewDecoder(input(func(c *InputConfig) { c.Image, c.Time = "auto", "timestamp" }))
	if err != nil {
		t.Fatal(err)
	}
	for name, payload := range map[string]string{
		"raw": string(j), "base64": b64, "no padding": strings.TrimRight(b64, "="), "data URL": "data:image/jpeg;base64," + b64,
		"json": `{"device":"porch","timestamp":1700000000,"image":"` + b64 + `"}`,
	} {
		var s Sample
		err := d.Decode([]byte(payload), &s)
		if err != nil || !bytes.Equal(s.Picture, j) {
			t.Errorf("%s: %v, %d bytes", name, err, len(s.Picture))
		}
		if name == "json" && s.Time.Unix() != 1700000000 {
			t.Errorf("time %v", s.Time)
		}
	}
	for name, c := range map[string]struct{ payload, reason string }{
		"garbage": {"\x00\x01garbage", badBase64}, "empty": {"", badPicture},
		"cut header": {string(j[:20]), badPicture}, "gif": {base64.StdEncoding.EncodeToString([]byte("GIF89a..........")), badPicture},
		"json without": {`{"a":1}`, missingField},
	} {
		var s Sample
		if err := d.Decode([]byte(c.payload), &s); Reason(err) != c.reason {
			t.Errorf("%s: %v, want %s", name, err, c.reason)
		}
	}
}
