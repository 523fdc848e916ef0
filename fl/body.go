package fl

import (
	"errors"
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

// coder is made at its first use, as it takes 2.6 MB that a gateway without
// federated learning has no need of, and never changed. Its pools are channels: in
// a test with a clock of its own they belong to the test that first used them, so
// that a package with such tests has to use it before.
var coder = sync.OnceValue(newCodec)

func newCodec() *codec {
	o := cbor.CoreDetEncOptions() // RFC 8949, 4.2.1
	o.NaNConvert, o.InfConvert = cbor.NaNConvertReject, cbor.InfConvertReject
	enc, err1 := o.EncMode()
	dec, err2 := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField, NaN: cbor.NaNDecodeForbidden, Inf: cbor.InfDecodeForbidden,
		MaxNestedLevels: 16, MaxArrayElements: 1 << 20, MaxMapPairs: 1 << 10, FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
	}.DecMode()
	zip, err3 := zstd.NewWriter(nil, zstd.WithEncoderCRC(false), zstd.WithSingleSegment(true), zstd.WithEncoderConcurrency(2))
	unzip, err4 := zstd.NewReader(nil, zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderConcurrency(2))
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		panic(err) // the options are wrong
	}
	zip.EncodeAll(nil, nil) // makes the pool
	return &codec{enc, dec, zip, unzip}
}

// marshal gives deterministic CBOR.
func marshal(v any) ([]byte, error) {
	return coder().enc.Marshal(v)
}

// unmarshal reads CBOR that is all of b.
func unmarshal(b []byte, v any) error {
	return coder().dec.Unmarshal(b, v)
}

// Pack gives a body: CBOR, compressed by zstd. The same v gives the same bytes.
// NaN and infinity in it are an error.
func Pack(v any) ([]byte, error) {
	plain, err := marshal(v)
	if err != nil {
		return nil, err
	}
	return zip(plain), nil
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
func zip(plain []byte) []byte { return coder().zip.EncodeAll(plain, nil) }

func unzip(body []byte, most int) ([]byte, error) {
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
	plain, err := coder().unzip.DecodeAll(body, make([]byte, 0, h.FrameContentSize))
	if err != nil {
		return nil, refuse(BadBody, "zstd: %v", err)
	}
	return plain, nil
}
