package simulate

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"edgegateway/fl"
	"edgegateway/infer/train"
)

// Attack is what hostile participants do.
type Attack struct {
	Kind  string  // sign-flip, scale, label-flip, gaussian; "" nobody is hostile
	Share float64 // of the participants that are
	By    float64 // sign-flip, scale: the factor; gaussian: the standard deviation of each number
}

// The attacks and the strength that each has where nobody says.
var attacks = map[string]float64{"sign-flip": 1, "scale": 10, "label-flip": 0, "gaussian": 1}

// ParseAttack reads KIND:SHARE or KIND:SHARE:STRENGTH, such as gaussian:0.2 or
// sign-flip:0.3:4; "" is no attack.
func ParseAttack(s string) (Attack, error) {
	if s == "" {
		return Attack{}, nil
	}
	parts := strings.Split(s, ":")
	by, ok := attacks[parts[0]]
	if !ok || len(parts) < 2 || len(parts) > 3 {
		return Attack{}, fmt.Errorf("attack %q is not sign-flip, scale, label-flip or gaussian, with the share of participants behind it, such as gaussian:0.2", s)
	}
	a := Attack{Kind: parts[0], By: by}
	var err error
	if a.Share, err = strconv.ParseFloat(parts[1], 64); err != nil || !(a.Share >= 0 && a.Share <= 1) {
		return a, fmt.Errorf("attack %q: the share %s is not from 0 to 1", s, parts[1])
	}
	if len(parts) == 3 {
		if a.By, err = strconv.ParseFloat(parts[2], 64); err != nil || !(a.By > 0 && a.By <= 1e6) || by == 0 {
			return a, fmt.Errorf("attack %q: %s is no strength of it", s, parts[2])
		}
	}
	return a, nil
}

// Attackers is how many of k participants are hostile.
func (a Attack) Attackers(k int) int {
	if a.Kind == "" {
		return 0
	}
	return int(a.Share*float64(k) + 0.5)
}

// hostile draws who attacks, exactly the share of k.
func (a Attack) hostile(k int, seed uint64) []bool {
	list := make([]bool, k)
	if a.Kind == "" {
		return list
	}
	r := rand.New(rand.NewPCG(seed, 0x617474))
	for _, i := range r.Perm(k)[:a.Attackers(k)] {
		list[i] = true
	}
	return list
}

// poison makes of an attacker's samples what it trains on.
func (a Attack) poison(d *train.Dataset) {
	if a.Kind != "label-flip" {
		return
	}
	for i, l := range d.Labels {
		d.Labels[i] = int32(len(d.Classes)) - 1 - l
	}
}

// change makes of what an attacker learned what it sends: a function to pass
// updates through before they are packed.
func (a Attack) change(job *fl.Job, delta []float32) error {
	switch a.Kind {
	case "sign-flip":
		for i := range delta {
			delta[i] *= -float32(a.By)
		}
	case "scale":
		for i := range delta {
			delta[i] *= float32(a.By)
		}
	case "gaussian":
		r := rand.New(rand.NewPCG(job.Seed, 0x6e6f69))
		for i := range delta {
			delta[i] = float32(a.By * r.NormFloat64())
		}
	}
	return nil
}
