// Package keyfile reads and makes the Ed25519 keys of `keys new`: those that sign
// versions of models, and the messages of federated learning.
package keyfile
