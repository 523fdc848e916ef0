package fltest

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"math/rand/v2"

	"edgegateway/fl"
	"edgegateway/infer/train"
)

// Key is the private key of who has a name in a test.
func Key(name string) ed25519.PrivateKey {
	sum := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(sum[:])
}

// Public is the public one.
func Public(name string) ed25519.PublicKey { return Key(name).Public().(ed25519.PublicKey) }

// Points are one gateway's samples, and a fl.Dataset: sixty of six numbers, of the
// classes low and high.
type Points struct{ Data *train.Dataset }

var _ fl.Dataset = Points{}

// PointsOf are those of a gateway, the same for the same name.
func PointsOf(name string) Points {
	r := rand.New(rand.NewChaCha8(sha256.Sum256([]byte(name))))
	d := &train.Dataset{Name: name, Shape: train.Shape{6}, Classes: []string{"low", "high"}}
	for i := range 60 {
		for range 6 {
			d.Values = append(d.Values, float32(r.NormFloat64()*0.4+float64(i%2)))
		}
		d.Labels = append(d.Labels, int32(i%2))
	}
	return Points{d}
}

// Count is fl.Dataset's.
func (p Points) Count(context.Context) (int, error) { return p.Data.Len(), nil }

// Load is fl.Dataset's.
func (p Points) Load(_ context.Context, n int) (*train.Dataset, error) {
	at := make([]int, n)
	for i := range at {
		at[i] = i
	}
	return p.Data.Subset(at), nil
}
