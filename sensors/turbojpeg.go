package sensors

import (
	"fmt"
	"runtime"
	"unsafe"

	"github.com/ebitengine/purego"
)

// turbo is one decompressor of libturbojpeg, which is opened at run time and
// may be missing. Its old interface (tjDecompress2) is in every version since
// 1.4, the present 3.x too; it returns error codes and never jumps.
type turbo struct {
	handle     uintptr
	header     uintptr
	decompress uintptr
}

// Constants of turbojpeg.h.
const (
	turboRGB  = 0 // TJPF_RGB
	turboGrey = 6 // TJPF_GRAY

	// Chroma is repeated, not interpolated, as image/jpeg does it; a torn
	// picture is an error and not grey below; scans are bounded.
	turboFlags = 256 /* FASTUPSAMPLE */ | 8192 /* STOPONWARNING */ | 32768 /* LIMITSCANS */
)

// TurboJPEG says why libturbojpeg cannot be used, nil where it can.
func TurboJPEG() error {
	_, err := openTurbo()
	return err
}

func openTurbo() (*turbo, error) {
	const name = "libturbojpeg.so.0"
	lib, err := purego.Dlopen(name, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	t := &turbo{}
	var create, destroy uintptr
	for symbol, to := range map[string]*uintptr{
		"tjInitDecompress": &create, "tjDestroy": &destroy,
		"tjDecompressHeader3": &t.header, "tjDecompress2": &t.decompress,
	} {
		if *to, err = purego.Dlsym(lib, symbol); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	if t.handle, _, _ = purego.SyscallN(create); t.handle == 0 {
		return nil, fmt.Errorf("%s: no memory for a decompressor", name)
	}
	runtime.AddCleanup(t, func(handle uintptr) { purego.SyscallN(destroy, handle) }, t.handle)
	return t, nil
}

// decode decodes a JPEG, of which ImageInfo said that it is w x h, at the
// scale of dst's size.
func (t *turbo) decode(picture []byte, w, h int, dst raster) error {
	var size [4]int32 // width, height, subsampling, colour space
	// Pointers are turned into numbers inside the calls alone: only there do
	// they keep what they point to in its place.
	code, _, _ := purego.SyscallN(t.header, t.handle,
		uintptr(unsafe.Pointer(unsafe.SliceData(picture))), uintptr(len(picture)),
		uintptr(unsafe.Pointer(&size[0])), uintptr(unsafe.Pointer(&size[1])),
		uintptr(unsafe.Pointer(&size[2])), uintptr(unsafe.Pointer(&size[3])))
	if int32(code) != 0 || int(size[0]) != w || int(size[1]) != h {
		return fmt.Errorf("libturbojpeg reads the header as %d x %d, it is %d x %d", size[0], size[1], w, h)
	}
	format := uintptr(turboRGB)
	if dst.step == 1 {
		format = turboGrey
	}
	code, _, _ = purego.SyscallN(t.decompress, t.handle,
		uintptr(unsafe.Pointer(unsafe.SliceData(picture))), uintptr(len(picture)),
		uintptr(unsafe.Pointer(unsafe.SliceData(dst.pix))),
		uintptr(dst.w), uintptr(dst.stride), uintptr(dst.h), format, turboFlags)
	runtime.KeepAlive(t)
	if int32(code) != 0 {
		return fmt.Errorf("libturbojpeg refuses the picture")
	}
	return nil
}
