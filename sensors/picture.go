package sensors

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"unsafe"

	"github.com/tidwall/gjson"
)

// pictureDecoder finds the encoded picture in what cameras send: raw, base64,
// a data URL, or a field of a JSON object.
type pictureDecoder struct {
	cfg   InputConfig
	field path
	time  *path
	seq   *path
}

func newPictureDecoder(cfg InputConfig) *pictureDecoder {
	d := &pictureDecoder{cfg: cfg, time: optionalPath(cfg.Time), seq: optionalPath(cfg.Seq)}
	d.field, _ = parsePath(cfg.Field)
	return d
}

func (d *pictureDecoder) Names() []string { return nil }

func (d *pictureDecoder) Decode(payload []byte, s *Sample) error {
	picture, err := d.unwrap(payload, s)
	if err != nil {
		return err
	}
	format, _, _, err := ImageInfo(picture)
	if err != nil {
		return err
	}
	if d.cfg.Image != "auto" && d.cfg.Image != format {
		return &Error{badPicture, fmt.Sprintf("the picture is %s, the stream takes %s", format, d.cfg.Image)}
	}
	s.Picture = picture
	return nil
}

// unwrap takes the encoded picture out of its envelope.
func (d *pictureDecoder) unwrap(payload []byte, s *Sample) ([]byte, error) {
	if sniff(payload) != "" {
		return payload, nil
	}
	trimmed := bytes.TrimSpace(payload)
	if len(trimmed) == 0 {
		return nil, &Error{badPicture, "the payload is empty"}
	}
	text := trimmed
	if trimmed[0] == '{' {
		if err := checkJSON(trimmed); err != nil {
			return nil, err
		}
		all := unsafe.String(unsafe.SliceData(trimmed), len(trimmed))
		v := gjson.Get(all, d.field.gjson)
		if v.Type != gjson.String {
			return nil, &Error{missingField, fmt.Sprintf("there is no picture at %q", d.cfg.Field)}
		}
		if err := stamp(all, d.time, d.seq, d.cfg.TimeFormat, s); err != nil {
			return nil, err
		}
		text = []byte(v.Str)
	}
	if bytes.HasPrefix(text, []byte("data:")) {
		i := bytes.Index(text[:min(len(text), 128)], []byte(";base64,"))
		if i < 0 {
			return nil, &Error{badBase64, "the data URL is not base64"}
		}
		text = text[i+len(";base64,"):]
	}
	// The picture is kept beside its alert: it gets memory of its own.
	text = bytes.TrimRight(text, "=\r\n ")
	out := make([]byte, base64.RawStdEncoding.DecodedLen(len(text)))
	n, err := base64.RawStdEncoding.Decode(out, text)
	if err != nil {
		return nil, &Error{badBase64, fmt.Sprintf("neither a picture nor base64: begins with %q", short(string(payload[:min(len(payload), 16)])))}
	}
	return out[:n], nil
}

// sniff names the format of an encoded picture by its first bytes.
func sniff(b []byte) string {
	switch {
	case len(b) > 3 && b[0] == 0xff && b[1] == 0xd8 && b[2] == 0xff:
		return "jpeg"
	case bytes.HasPrefix(b, []byte("\x89PNG\r\n\x1a\n")):
		return "png"
	case len(b) > 26 && b[0] == 'B' && b[1] == 'M':
		return "bmp"
	}
	return ""
}

// ImageInfo reads format, width and height from a picture's header, without
// decoding it: what it claims is known before any memory is taken for it.
func ImageInfo(b []byte) (format string, w, h int, err error) {
	format = sniff(b)
	switch format {
	case "jpeg":
		w, h = jpegSize(b)
	case "png":
		if len(b) >= 24 && string(b[12:16]) == "IHDR" {
			w, h = int(int32(binary.BigEndian.Uint32(b[16:]))), int(int32(binary.BigEndian.Uint32(b[20:])))
		}
	case "bmp":
		w, h = int(int32(binary.LittleEndian.Uint32(b[18:]))), int(int32(binary.LittleEndian.Uint32(b[22:])))
		if h < 0 {
			h = -h // stored from the top down
		}
	default:
		return "", 0, 0, &Error{badPicture, fmt.Sprintf("no JPEG, PNG or BMP: begins with %q", short(string(b[:min(len(b), 16)])))}
	}
	if w < 1 || h < 1 || w > 1<<20 || h > 1<<20 {
		return "", 0, 0, &Error{badPicture, fmt.Sprintf("the %s has no usable size in its header", format)}
	}
	return format, w, h, nil
}

// jpegSize walks the segments up to the frame header. It passes only what
// image/jpeg reads as the same segments: where the two disagreed, a file could
// show a small frame here and a huge one to the decoder.
func jpegSize(b []byte) (w, h int) {
	for i := 2; i+9 <= len(b); {
		if b[i] != 0xff {
			return 0, 0
		}
		switch marker := b[i+1]; {
		case marker == 0xff: // padding
			i++
		case marker >= 0xd0 && marker <= 0xd7: // a restart has no length
			i += 2
		case marker >= 0xc0 && marker <= 0xc2: // baseline, extended, progressive
			return int(binary.BigEndian.Uint16(b[i+7:])), int(binary.BigEndian.Uint16(b[i+5:]))
		case marker == 0xc4, marker == 0xdb, marker == 0xdd, marker >= 0xe0 && marker <= 0xef, marker == 0xfe:
			n := int(binary.BigEndian.Uint16(b[i+2:]))
			if n < 2 {
				return 0, 0
			}
			i += 2 + n
		default:
			return 0, 0
		}
	}
	return 0, 0
}
