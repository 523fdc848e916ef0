// Package pack is the transport form of a model: what goes over a thin link,
// or onto a small card. It gives back the exact bytes of the .tflite file.
//
// The constants of the file, weights mostly, are taken out of it; each is held
// in the form that is smallest for it, on its own or as what changed since an
// older version of the model, and so is the rest of the file. Weights that were
// pruned and share their values are held as Deep Compression holds them
// (arXiv:1510.00149, section 4: the values once, and which of them stands
// where), with one difference: in place of Huffman codes of the indexes and of
// the gaps between them, each index is told bit by bit by an arithmetic coder,
// whose chances come from the neighbours in row and column.
package pack
