package train

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Spec is a network as a small YAML: the layers in their order. The last one's
// activation is what the model answers with.
type Spec struct {
	Layers []LayerSpec `yaml:"layers" desc:"the layers in their order"`
}

// LayerSpec is one layer.
type LayerSpec struct {
	Type       string  `yaml:"type" enum:"dense,conv2d,depthwise,max_pool,avg_pool,global_pool,batch_norm,flatten,dropout,activation" desc:"what it does"`
	Units      int     `yaml:"units" desc:"dense: outputs; 0 in the last layer: as many as the data has classes or targets"`
	Filters    int     `yaml:"filters" desc:"conv2d: output channels"`
	Kernel     int     `yaml:"kernel" desc:"width and height of the kernel; default 3, of pools 2"`
	Stride     int     `yaml:"stride" desc:"step of the kernel; default 1, of pools the kernel"`
	Padding    string  `yaml:"padding" enum:"same,valid" desc:"same: the output covers the whole picture; default same, of pools valid"`
	BatchNorm  bool    `yaml:"batch_norm" desc:"normalise before the activation"`
	Activation string  `yaml:"activation" enum:"none,relu,relu6,sigmoid,tanh,softmax" desc:"function of its outputs"`
	Rate       float64 `yaml:"rate" desc:"dropout: share of values that are dropped"`
}

var layerTypes = []string{"dense", "conv2d", "depthwise", "max_pool", "avg_pool", "global_pool", "batch_norm", "flatten", "dropout", "activation"}
var activations = []string{"", "none", "relu", "relu6", "sigmoid", "tanh", "softmax"}

// Bounds of a network that is trained on a small computer.
const (
	maxLayers  = 200
	maxUnits   = 1 << 16
	maxWeights = 1 << 27
	maxValues  = 1 << 24 // of one sample between two layers
)

// Validate says what is wrong, each error with its YAML path in front.
func (s Spec) Validate() error {
	var errs []error
	if len(s.Layers) == 0 {
		errs = append(errs, errors.New("layers: there is none"))
	}
	if len(s.Layers) > maxLayers {
		errs = append(errs, fmt.Errorf("layers: %d are more than %d", len(s.Layers), maxLayers))
	}
	for i, l := range s.Layers {
		bad := func(field, format string, args ...any) {
			errs = append(errs, fmt.Errorf("layers[%d].%s: %s", i, field, fmt.Sprintf(format, args...)))
		}
		if !slices.Contains(layerTypes, l.Type) {
			bad("type", "%q is none of %s", l.Type, strings.Join(layerTypes, ", "))
		}
		if !slices.Contains(activations, l.Activation) {
			bad("activation", "%q is none of %s", l.Activation, strings.Join(activations[1:], ", "))
		}
		if l.Padding != "" && l.Padding != "same" && l.Padding != "valid" {
			bad("padding", "%q is neither same nor valid", l.Padding)
		}
		for field, v := range map[string]int{"units": l.Units, "filters": l.Filters, "kernel": l.Kernel, "stride": l.Stride} {
			if v < 0 || v > maxUnits {
				bad(field, "%d is outside 0..%d", v, maxUnits)
			}
		}
		if l.Type == "dense" && l.Units == 0 && i != len(s.Layers)-1 {
			bad("units", "is missing")
		}
		if l.Type == "conv2d" && l.Filters == 0 {
			bad("filters", "is missing")
		}
		if !(l.Rate >= 0 && l.Rate < 1) {
			bad("rate", "%v is outside 0..1", l.Rate)
		}
	}
	return errors.Join(errs...)
}

// Preset gives a network by name for inputs and outputs of these sizes.
func Preset(name string, in Shape, out int) (Spec, error) {
	classify := LayerSpec{Type: "dense", Units: out, Activation: "softmax"}
	picture := func(l ...LayerSpec) (Spec, error) {
		if len(in) != 3 {
			return Spec{}, fmt.Errorf("network %s takes pictures, the inputs are %v", name, in)
		}
		return Spec{append(l, classify)}, nil
	}
	flat := product(in)
	switch name {
	case "mlp":
		return Spec{[]LayerSpec{{Type: "flatten"}, {Type: "dense", Units: 128, Activation: "relu"}, classify}}, nil
	case "lenet5":
		return picture(
			LayerSpec{Type: "conv2d", Filters: 20, Kernel: 5, Padding: "valid"}, LayerSpec{Type: "max_pool", Kernel: 2},
			LayerSpec{Type: "conv2d", Filters: 50, Kernel: 5, Padding: "valid"}, LayerSpec{Type: "max_pool", Kernel: 2},
			LayerSpec{Type: "flatten"}, LayerSpec{Type: "dense", Units: 500, Activation: "relu"})
	case "ds-cnn":
		l := []LayerSpec{{Type: "conv2d", Filters: 32, Kernel: 3, Stride: 2, BatchNorm: true, Activation: "relu"}}
		for range 4 {
			l = append(l, separable(3, 1, 64)...)
		}
		return picture(append(l, LayerSpec{Type: "global_pool"}, LayerSpec{Type: "dropout", Rate: 0.1})...)
	case "mobilenet-0.25":
		l := []LayerSpec{{Type: "conv2d", Filters: 8, Kernel: 3, Stride: 2, BatchNorm: true, Activation: "relu6"}}
		for _, s := range [][2]int{{1, 16}, {2, 32}, {1, 32}, {2, 64}, {1, 64}, {2, 128}, {1, 128}, {1, 128}, {1, 128}, {1, 128}, {1, 128}, {2, 256}, {1, 256}} {
			l = append(l, separable(3, s[0], s[1])...)
		}
		return picture(append(l, LayerSpec{Type: "global_pool"})...)
	case "autoencoder":
		wide, narrow := max(8, min(128, 2*flat)), max(2, min(8, flat/4))
		return Spec{[]LayerSpec{
			{Type: "flatten"}, {Type: "dense", Units: wide, Activation: "relu"}, {Type: "dense", Units: wide / 2, Activation: "relu"},
			{Type: "dense", Units: narrow, Activation: "relu"},
			{Type: "dense", Units: wide / 2, Activation: "relu"}, {Type: "dense", Units: wide, Activation: "relu"}, {Type: "dense", Units: flat},
		}}, nil
	case "forecast":
		return Spec{[]LayerSpec{
			{Type: "flatten"}, {Type: "dense", Units: 64, Activation: "relu"}, {Type: "dense", Units: 32, Activation: "relu"}, {Type: "dense", Units: out},
		}}, nil
	}
	return Spec{}, fmt.Errorf("there is no network %q; there are %s, or a YAML file with layers", name, strings.Join(Presets, ", "))
}

// Presets are the names that Preset knows.
var Presets = []string{"mlp", "lenet5", "ds-cnn", "mobilenet-0.25", "autoencoder", "forecast"}

// separable is a depthwise convolution and a pointwise one.
func separable(kernel, stride, filters int) []LayerSpec {
	return []LayerSpec{
		{Type: "depthwise", Kernel: kernel, Stride: stride, BatchNorm: true, Activation: "relu6"},
		{Type: "conv2d", Filters: filters, Kernel: 1, BatchNorm: true, Activation: "relu6"},
	}
}
