package infer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"edgegateway/infer/model"
	"edgegateway/infer/model/pack"
)

// accelerator is a delegate in a shared library and the file that it runs.
// Two that are deeply equal are the same, down to what lies on the disk.
type accelerator struct {
	External
	file   string // compiled for it; "": the model's own
	coral  bool   // a stick on the USB bus, or a card
	found  bool   // by the compiled file alone: nothing in the configuration names it
	stamps [2]string
}

func newAccelerator(x External, file string) *accelerator {
	return &accelerator{
		External: x, file: file, coral: strings.Contains(filepath.Base(x.Library), "edgetpu"),
		stamps: [2]string{stamp(x.Library), stamp(file)},
	}
}

// stamp tells one state of a file from another, "" where there is none to see.
func stamp(path string) string {
	s, err := os.Stat(path)
	if err != nil {
		return ""
	}
	return fmt.Sprint(s.Size(), s.ModTime().UnixNano())
}

// coralLibrary is the delegate of Coral's Edge TPU, as its package installs it.
func coralLibrary() string {
	if runtime.GOOS == "darwin" {
		return "libedgetpu.1.dylib"
	}
	return "libedgetpu.so.1"
}

// accelerator gives the one that the model is to be tried on, nil where there
// is none: what the configuration names, or a Coral where a file compiled for
// it lies beside the model's.
func (c ModelConfig) accelerator() *accelerator {
	x, file := c.External, c.Accelerated
	named := x.Library != "" || len(x.Options) > 0 || file != "" || c.Delegate == "external"
	if x.Library == "" {
		x.Library = coralLibrary()
	}
	a := newAccelerator(x, file)
	if a.coral && file == "" {
		twin := strings.TrimSuffix(strings.TrimSuffix(c.File, ".tflite"), pack.Ext) + "_edgetpu.tflite"
		if _, err := os.Stat(twin); err == nil {
			a = newAccelerator(x, twin)
			a.found = !named
		}
	}
	if !named && !a.found {
		return nil
	}
	return a
}

// bytes gives the checked content of the file that the accelerator runs, own
// where it runs the model's.
func (a *accelerator) bytes(own []byte) ([]byte, error) {
	if a.file == "" {
		if a.coral {
			return nil, errors.New("an Edge TPU needs a model compiled for it: name it in accelerated, or put it beside the model as NAME_edgetpu.tflite")
		}
		return own, nil
	}
	data, err := pack.ReadFile(a.file)
	if err != nil {
		return nil, err
	}
	m, err := model.Read(data)
	if err == nil {
		err = m.CheckAccelerated()
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(a.file), err)
	}
	return data, nil
}

// errNotHere is why a Coral is not tried that the kernel does not list.
var errNotHere = errors.New("no Coral is plugged in")

// here says whether the accelerator may be there: of a Coral the kernel knows.
func (a *accelerator) here(sysfs string) bool { return !a.coral || coralHere(sysfs) }

// coralUSB are the USB ids of a Coral stick before and after its firmware is
// loaded.
var coralUSB = [][2]string{{"1a6e", "089a"}, {"18d1", "9302"}}

// coralHere says whether a Coral stick is plugged in, or a card, as the kernel
// lists them. Where no list is to be seen it may be.
func coralHere(sysfs string) bool {
	if _, err := os.Stat(filepath.Join(sysfs, "bus/usb/devices")); err != nil {
		return true
	}
	if cards, _ := filepath.Glob(filepath.Join(sysfs, "class/apex/apex_*")); len(cards) > 0 {
		return true
	}
	vendors, _ := filepath.Glob(filepath.Join(sysfs, "bus/usb/devices/*/idVendor"))
	for _, v := range vendors {
		vendor, err1 := os.ReadFile(v)
		product, err2 := os.ReadFile(filepath.Join(filepath.Dir(v), "idProduct"))
		if err1 != nil || err2 != nil {
			continue
		}
		for _, id := range coralUSB {
			if strings.TrimSpace(string(vendor)) == id[0] && strings.TrimSpace(string(product)) == id[1] {
				return true
			}
		}
	}
	return false
}

// sameInterface says why a file compiled for an accelerator cannot stand in
// for the model, "" where it can: what is filled and read is the same.
func sameInterface(kind string, cpu, acc []Tensor) string {
	if len(cpu) != len(acc) {
		return fmt.Sprintf("it has %d %ss, the model has %d", len(acc), kind, len(cpu))
	}
	for i := range cpu {
		c, a := &cpu[i], &acc[i]
		if c.Type != a.Type || len(c.Data) != len(a.Data) || c.Scale != a.Scale || c.ZeroPoint != a.ZeroPoint {
			return fmt.Sprintf("its %s %d is %v %v (scale %v), that of the model %v %v (scale %v)", kind, i, a.Shape, a.Type, a.Scale, c.Shape, c.Type, c.Scale)
		}
	}
	return ""
}
