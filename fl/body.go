package fl

import (
	"sync"

	"github.com/fxamacker/cbor/v2"
	"github.com/klauspost/compress/zstd"
)

// maxPlain bounds what a body of a kind without weights becomes unpacked.
const maxPlain = 4 << 20

// codec is what turns values into bodies and back. It keeps no state.
type codec struct {
	enc   cbor.EncMode
	dec   cbor.DecMode
	zip   *zstd.Encoder
	unzip *zstd.Decoder
}

// codecs makes one when it is first needed: its tables are large beside most
// messages.
var codecs = sync.OnceValues(func() (c codec, err error) {
	o := cbor.CoreDetEncOptions() // RFC 8949, 4.2.1
	o.NaNConvert, o.InfConvert = cbor.NaNConvertReject, cbor.InfConvertReject
	if c.enc, err = o.EncMode(); err != nil {
		return c, err
	}
	c.dec, err = cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField, NaN: cbor.NaNDecodeForbidden, Inf: cbor.InfDecodeForbidden,
		MaxNestedLevels: 16, MaxArrayElements: 1 << 20, MaxMapPairs: 1 << 10, FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
	}.DecMode()
	if err != nil {
		return c, err
	}
	if c.zip, err = zstd.NewWriter(nil, zstd.WithEncoderCRC(false), zstd.WithSingleSegment(true), zstd.WithEncoderConcurrency(2)); err != nil {
		return c, err
	}
	c.unzip, err = zstd.NewReader(nil, zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderConcurrency(2))
	return c, err
})

// marshal gives deterministic CBOR.
func marshal(v any) ([]byte, error) {
	c, err := codecs()
	if err != nil {
		return nil, err
	}
	return c.enc.Marshal(v)
}

// unmarshal reads CBOR that is all of b.
func unmarshal(b []byte, v any) error {
	c, err := codecs()
	if err != nil {
		return err
	}
	return c.dec.Unmarshal(b, v)
}

// Pack gives a body: CBOR, compressed by zstd. The same v gives the same bytes.
// NaN and infinity in it are an error.
func Pack(v any) ([]byte, error) {
	plain, err := marshal(v)
	if err != nil {
		return nil, err
	}
	return zip(plain)
}

// Unpack reads what Pack gave into v. A body that would become longer than most
// bytes is refused before it does; the reason is BadBody whatever is wrong.
func Unpack(body []byte, most int, v any) error {
	plain, err := unzip(body, most)
	if err != nil {
		return err
	}
	if err := unmarshal(plain, v); err != nil {
		return refuse(BadBody, "%v", err)
	}
	return nil
}

// zip gives one zstd frame that says how long its content is.
func zip(plain []byte) ([]byte, error) {
	c, err := codecs()
	if err != nil {
		return nil, err
	}
	return c.zip.EncodeAll(plain, nil), nil
}

func unzip(body []byte, most int) ([]byte, error) {
	c, err := codecs()
	if err != nil {
		return nil, err
	}
	var h zstd.Header
	if err := h.Decode(body); err != nil {
		return nil, refuse(BadBody, "no zstd frame: %v", err)
	}
	if h.Skippable || !h.HasFCS || h.DictionaryID != 0 {
		return nil, refuse(BadBody, "a zstd frame that does not say how long its content is")
	}
	if h.FrameContentSize > uint64(most) {
		return nil, refuse(BadBody, "it would become %d bytes, more than %d", h.FrameContentSize, most)
	}
	plain, err := c.unzip.DecodeAll(body, make([]byte, 0, h.FrameContentSize))
	if err != nil {
		return nil, refuse(BadBody, "zstd: %v", err)
	}
	return plain, nil
}
