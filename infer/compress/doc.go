// Package compress makes models smaller and faster and judges what came of it:
// quantization after training, evaluation on data, sensitivity layer by layer.
// Nothing is handed out that was not run and compared on this box.
package compress
