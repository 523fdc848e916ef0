// Package train trains small networks on the box: layers, losses, optimizers,
// data, and the export of what was trained as a .tflite file. One network is
// trained by one goroutine; the same seed gives the same weights.
package train
