package train

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// Config says how a network is trained.
type Config struct {
	Epochs       int             `yaml:"epochs" desc:"times that all samples are seen"`
	Batch        int             `yaml:"batch" desc:"samples a step"`
	Loss         string          `yaml:"loss" enum:"auto,cross_entropy,binary_cross_entropy,soft_cross_entropy,mse" desc:"what is made small"`
	Optimizer    OptimizerConfig `yaml:"optimizer" desc:"how weights follow their gradients"`
	L2           float64         `yaml:"l2" desc:"penalty on the squares of weights, half of it times their sum"`
	ClassWeights string          `yaml:"class_weights" enum:"none,balanced" desc:"balanced: rare classes count as much as frequent ones"`
	Augment      AugmentConfig   `yaml:"augment" desc:"changes of training pictures"`
	Patience     int             `yaml:"patience" desc:"epochs without a better validation loss before it stops; 0: never"`
	Seed         uint64          `yaml:"seed" desc:"the same seed gives the same weights"`
	Checkpoint   string          `yaml:"-"` // file to keep the state in after each epoch; "": none
}

// DefaultConfig trains ten epochs with Adam.
func DefaultConfig() Config {
	return Config{Epochs: 10, Batch: 64, Loss: "auto", Optimizer: DefaultOptimizer(), ClassWeights: "none", Seed: 1}
}

// Validate says what is wrong, each error with its YAML path in front.
func (c Config) Validate() error {
	var errs []error
	if c.Epochs < 1 || c.Epochs > 1e6 {
		errs = append(errs, fmt.Errorf("epochs: %d is outside 1..1000000", c.Epochs))
	}
	if c.Batch < 1 || c.Batch > 1<<16 {
		errs = append(errs, fmt.Errorf("batch: %d is outside 1..65536", c.Batch))
	}
	if !(c.L2 >= 0 && c.L2 < 1) {
		errs = append(errs, fmt.Errorf("l2: %v is outside 0..1", c.L2))
	}
	if c.ClassWeights != "" && c.ClassWeights != "none" && c.ClassWeights != "balanced" {
		errs = append(errs, fmt.Errorf("class_weights: %q is neither none nor balanced", c.ClassWeights))
	}
	if c.Patience < 0 {
		errs = append(errs, fmt.Errorf("patience: %d is negative", c.Patience))
	}
	return errors.Join(append(errs, c.Optimizer.Validate(), c.Augment.Validate())...)
}

// Epoch is what one pass over the data came to. Validation figures are NaN
// without validation data; accuracies are NaN without classes. In JSON what is
// NaN is null. Losses of normalised targets are parts of their variance.
type Epoch struct {
	Epoch       int
	Loss        float64
	Accuracy    float64
	ValLoss     float64
	ValAccuracy float64
	Rate        float64
	Seconds     float64
}

// MarshalJSON writes null for NaN, which JSON has no word for.
func (e Epoch) MarshalJSON() ([]byte, error) {
	number := func(v float64) *float64 {
		if v-v != 0 {
			return nil
		}
		return &v
	}
	return json.Marshal(struct {
		Epoch       int      `json:"epoch"`
		Loss        *float64 `json:"loss"`
		Accuracy    *float64 `json:"accuracy"`
		ValLoss     *float64 `json:"val_loss"`
		ValAccuracy *float64 `json:"val_accuracy"`
		Rate        float64  `json:"rate"`
		Seconds     float64  `json:"seconds"`
	}{e.Epoch, number(e.Loss), number(e.Accuracy), number(e.ValLoss), number(e.ValAccuracy), e.Rate, e.Seconds})
}

// Trainer trains one network.
type Trainer struct {
	Net     *Network
	Config  Config
	Train   *Dataset
	Val     *Dataset                         // nil: none
	Teacher *Teacher                         // what it learns from beside labels; nil: nobody
	Step    func(done, of int, loss float64) // after each batch; nil: nobody
	Done    func(Epoch)                      // after each epoch; nil: nobody
	Running Epoch                            // of the epoch that runs: its number, loss and accuracy so far
	// Before is called before each step, the first being 0 of all that the epochs
	// come to, resumed or not; nil: nobody. It may change weights and what they
	// are held to.
	Before func(step, of int)
	// KeepStart has the weights that it begins with count as epoch 0, which stays
	// the best where no epoch has less validation loss.
	KeepStart bool
	// Relative has Adam and AdamW move each array by its own size: a rate is that
	// of weights of about 0.1, and as much less as others are smaller. In models
	// whose batch norms are folded, layers differ a hundredfold (arXiv:1804.04235,
	// section 8, has it for all).
	Relative bool
	// Pull draws weights back to those that it began with: half of it times the
	// squared distance is added to the loss that is trained, not to the one that
	// is told. It is the proximal term of FedProx (arXiv:1812.06127).
	Pull    float64
	History []Epoch
	// Best is the epoch whose weights the network has at the end: that of the
	// least validation loss, else the last. Where weights become held to
	// something else on the way, only the epochs since then count.
	Best int

	opt     optimizer
	bound   float64 // of an epoch's loss: a million times that of the first batch, or 1
	loss    string
	upTo    int // layers that training runs: without the last activation where the loss takes it in
	best    [][]float32
	bestAt  float64
	holds   int     // changes of what weights are held to, when best was kept
	yes     float32 // from where on one output stands for class 1
	weights []float32
	aug     *augmenter
	dz      []float32
	sum     [][]float32 // of gradients, where a batch goes through in portions
	pupil   *pupil      // nil without a teacher
	start   [][]float32 // weights that Pull draws to
}

// ErrDiverged is wrapped where the loss is no number any more, or a million
// times as large as it was.
var ErrDiverged = errors.New("the training diverged")

// Run trains until the epochs are over, patience is, or ctx ends; the network
// then has the best weights so far. An ended ctx is returned as its error.
func (t *Trainer) Run(ctx context.Context) error {
	defer func() { t.Net.taps = nil }()
	if err := t.begin(); err != nil {
		return err
	}
	for e := len(t.History) + 1; e <= t.Config.Epochs; e++ {
		ep, err := t.epoch(ctx, e)
		if err != nil {
			t.restoreBest()
			return err
		}
		t.History = append(t.History, ep)
		t.keepBest(ep)
		if t.Config.Checkpoint != "" {
			if err := t.save(); err != nil {
				return err
			}
		}
		if t.Done != nil {
			t.Done(ep)
		}
		if p := t.Config.Patience; p > 0 && t.Val != nil && e-t.Best >= p {
			break
		}
	}
	t.restoreBest()
	return nil
}

// begin checks that network, data and configuration fit, and goes on where a
// checkpoint of the same training left off.
func (t *Trainer) begin() error {
	if err := t.Config.Validate(); err != nil {
		return err
	}
	if t.Net.cannot != nil {
		return t.Net.cannot
	}
	if t.Net.origin != nil && (t.Net.Norm != nil || t.Net.OutNorm != nil) {
		return errNorm
	}
	if t.Net.Weights() == 0 {
		return errors.New("layers: none has weights; there is nothing to train")
	}
	for _, d := range []*Dataset{t.Train, t.Val} {
		if d == nil {
			continue
		}
		if err := d.Check(); err != nil {
			return err
		}
		if product(d.Shape) != product(t.Net.In) {
			return fmt.Errorf("data %s: inputs of %v, the network takes %v", d.Name, d.Shape, t.Net.In)
		}
		if d.Labels == nil && d.Targets == nil && (t.Teacher == nil || t.Teacher.Alpha < 1) {
			return fmt.Errorf("data %s: has neither labels nor targets", d.Name)
		}
	}
	var err error
	if t.loss, err = lossFor(t.Config.Loss, t.Net, t.Train); err != nil {
		return err
	}
	t.upTo = len(t.Net.layers)
	if fromLogits(t.loss, t.Net.Final()) {
		t.upTo--
	}
	if t.Teacher != nil {
		if t.loss == "mse" && t.Train.Labels != nil {
			return errors.New("loss mse: classes are distilled by a cross-entropy")
		}
		if t.pupil, err = newPupil(t.Teacher, t.Net, t.upTo, t.Config.Seed); err != nil {
			return err
		}
		if err := t.pupil.meet(t.Train, t.Val); err != nil {
			return err
		}
	}
	// One output says yes above 0 where it is a logit, above a half elsewhere.
	if t.yes = 0; t.loss == "mse" {
		t.yes = 0.5
	}
	if err := errors.Join(t.Net.Norm.fits("normalisation of inputs", product(t.Net.In)), t.Net.OutNorm.fits("normalisation of targets", product(t.Net.Out))); err != nil {
		return err
	}
	if t.Net.OutNorm != nil && (t.loss != "mse" || t.Train.Labels != nil || !t.Net.linearEnd()) {
		return errors.New("normalisation of targets: it takes target values, the loss mse and a last dense layer without an activation")
	}
	if t.Config.ClassWeights == "balanced" {
		if t.Train.Labels == nil {
			return errors.New("class_weights: the data has no classes")
		}
		t.weights = t.Train.ClassWeights()
	}
	if t.aug, err = newAugmenter(t.Config.Augment, t.Train); err != nil {
		return err
	}
	if !(t.Pull >= 0 && t.Pull <= 1e6) {
		return fmt.Errorf("a pull of %v to the first weights is outside 0..1000000", t.Pull)
	}
	t.keepStart()
	t.opt.cfg, t.opt.relative = t.Config.Optimizer, t.Relative
	t.bestAt = math.Inf(1)
	if t.KeepStart && t.Val != nil && len(t.History) == 0 {
		if loss, _ := t.evaluate(t.Val); loss-loss == 0 {
			t.keepBest(Epoch{ValLoss: loss})
		}
	}
	if t.Config.Checkpoint != "" {
		return t.resume()
	}
	return nil
}

func (t *Trainer) epoch(ctx context.Context, e int) (Epoch, error) {
	began := time.Now()
	n := t.Train.Len()
	// Every epoch draws from a source of its own: what is resumed is the same
	// as what ran through.
	r := rand.New(rand.NewPCG(t.Config.Seed, uint64(e)))
	t.reseed(r)
	order := r.Perm(n)
	var b batch
	b.weights = t.weights
	total, right, seen := 0.0, 0, 0
	rate := 0.0
	for from := 0; from < n; from += t.Config.Batch {
		if err := ctx.Err(); err != nil {
			return Epoch{}, err
		}
		at := order[from:min(from+t.Config.Batch, n)]
		t.load(t.Train, &b, at)
		t.aug.apply(&b, r)
		if t.pupil != nil {
			if err := t.pupil.ask(&b, at, t.Config.Augment != (AugmentConfig{})); err != nil {
				return Epoch{}, err
			}
			t.taught(&b)
		}
		if t.Before != nil {
			t.Before(t.opt.step, t.Config.Epochs*((n+t.Config.Batch-1)/t.Config.Batch))
		}
		rate = t.Config.Optimizer.rate((float64(e-1)+float64(from)/float64(n))/float64(t.Config.Epochs), t.Config.Epochs)
		loss, hits := t.step(&b, rate)
		if loss-loss != 0 {
			return Epoch{}, fmt.Errorf("epoch %d: %w: the loss is %v; try a smaller optimizer.rate", e, ErrDiverged, loss)
		}
		total += loss * float64(b.n)
		right += hits
		seen += b.n
		if t.bound == 0 {
			t.bound = 1e6 * max(loss, 1)
		}
		t.Running = Epoch{Epoch: e, Loss: total / float64(seen), Accuracy: math.NaN(), ValLoss: math.NaN(), ValAccuracy: math.NaN(), Rate: rate}
		if t.Train.Labels != nil {
			t.Running.Accuracy = float64(right) / float64(seen)
		}
		if t.Step != nil {
			t.Step(seen, n, loss)
		}
	}
	ep := t.Running
	if ep.Loss > t.bound {
		return Epoch{}, fmt.Errorf("epoch %d: %w: the loss has grown to %.3g; try a smaller optimizer.rate", e, ErrDiverged, ep.Loss)
	}
	t.settle(&b, order)
	if t.Val != nil {
		ep.ValLoss, ep.ValAccuracy = t.evaluate(t.Val)
		if ep.ValLoss-ep.ValLoss != 0 {
			return Epoch{}, fmt.Errorf("epoch %d: %w: the validation loss is %v; try a smaller optimizer.rate", e, ErrDiverged, ep.ValLoss)
		}
	}
	ep.Seconds = time.Since(began).Seconds()
	return ep, nil
}

// settleBatches is how many batches batch norms are settled on.
const settleBatches = 32

// settle takes the means and variances of batch norms anew, with the weights as
// they are now, over some batches of the training data. Running averages lag
// behind weights that move quickly, by so much that after a few epochs a network
// of small layers answers nonsense where in training it is right.
func (t *Trainer) settle(b *batch, order []int) {
	norms := 0
	each := func(settling int) {
		for _, l := range t.Net.layers[:t.upTo] {
			if n, ok := l.(*batchNorm); ok {
				n.settling = settling
				norms++
			}
		}
	}
	defer each(0)
	size := max(t.Config.Batch, 64)
	if each(1); norms == 0 || len(order) < size { // so few that an average of all steps is the better one
		return
	}
	for from := 0; from+size <= min(len(order), settleBatches*size); from += size {
		t.load(t.Train, b, order[from:from+size])
		t.Net.forward(b.x, b.n, t.upTo, true)
	}
}

// load fills b, with targets as the network learns them.
func (t *Trainer) load(d *Dataset, b *batch, at []int) {
	d.load(b, at)
	if n := t.Net.OutNorm; n != nil {
		n.apply(b.targets, b.targets)
	}
}

// taught makes of a teacher's values what the network learns.
func (t *Trainer) taught(b *batch) {
	if n := t.Net.OutNorm; n != nil {
		n.apply(b.soft, b.soft)
	}
}

// params are all that an optimizer moves.
func (t *Trainer) params() []*Param { return append(t.Net.Params(), t.pupil.params()...) }

// reseed gives layers that draw numbers a new source.
func (t *Trainer) reseed(r *rand.Rand) {
	for _, l := range t.Net.layers {
		if d, ok := l.(*dropout); ok {
			d.r = rand.New(rand.NewPCG(r.Uint64(), r.Uint64()))
		}
	}
}

// step takes one batch and gives its loss and how many answers were right.
func (t *Trainer) step(b *batch, rate float64) (loss float64, right int) {
	if loss, right = t.gradients(b); loss-loss != 0 {
		return loss, right
	}
	if l2 := float32(t.Config.L2); l2 > 0 {
		for _, p := range t.Net.Params() {
			if p.Decay && !p.frozen {
				for i, w := range p.W {
					p.G[i] += l2 * w
				}
			}
		}
	}
	if t.Pull > 0 {
		t.pull()
	}
	params := t.params()
	for _, p := range params {
		p.bind()
	}
	t.opt.take(params, rate)
	for _, p := range params {
		p.settle()
	}
	return loss, right
}

// hits counts right classes: the largest output, or for one whether it is above
// yes.
func hits(z []float32, b *batch, yes float32) (n int) {
	if b.labels == nil {
		return 0
	}
	width := len(z) / b.n
	for i := range b.n {
		row := z[i*width : (i+1)*width]
		best := 0
		if width == 1 {
			if row[0] > yes {
				best = 1
			}
		} else {
			best = largest(row)
		}
		if int32(best) == b.labels[i] {
			n++
		}
	}
	return n
}

func largest(v []float32) int {
	best := 0
	for i, x := range v {
		if x > v[best] {
			best = i
		}
	}
	return best
}

// evaluate gives loss and accuracy on other data.
func (t *Trainer) evaluate(d *Dataset) (loss, accuracy float64) {
	var b batch
	n, right := d.Len(), 0
	at := make([]int, 0, t.Net.portion(256))
	for from := 0; from < n; from += cap(at) {
		at = at[:0]
		for i := from; i < min(from+cap(at), n); i++ {
			at = append(at, i)
		}
		t.load(d, &b, at)
		if t.pupil != nil {
			t.pupil.val.recall(&b, at)
			t.taught(&b)
		}
		z := t.Net.forward(b.x, b.n, t.upTo, false)
		t.dz = grow(t.dz, len(z))
		loss += t.lossOf(z, t.dz, &b) * float64(b.n)
		right += hits(z, &b, t.yes)
	}
	accuracy = math.NaN()
	if d.Labels != nil {
		accuracy = float64(right) / float64(n)
	}
	return loss / float64(n), accuracy
}

func (t *Trainer) keepBest(ep Epoch) {
	at := ep.ValLoss
	if t.Val == nil {
		at = -float64(ep.Epoch) // the last is the best
	}
	params := t.params()
	held := changes(params)
	if !(at < t.bestAt) && t.best != nil && held == t.holds {
		return
	}
	t.bestAt, t.Best, t.holds = at, ep.Epoch, held
	if t.Val == nil {
		return
	}
	if t.best == nil {
		for _, p := range params {
			t.best = append(t.best, make([]float32, len(p.W)))
		}
	}
	for i, p := range params {
		copy(t.best[i], p.W)
	}
}

func (t *Trainer) restoreBest() {
	params := t.params()
	if t.best == nil || changes(params) != t.holds {
		return
	}
	for i, p := range params {
		copy(p.W, t.best[i])
	}
}
