package cli

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/spf13/cobra"

	"edgegateway/fl"
	"edgegateway/infer/train"
	"edgegateway/internal/keyfile"
	"edgegateway/internal/link"
)

// rogueBy is how many times the opposite of what it learned the hostile participant
// of the demonstration sends.
const rogueBy = 4

// demoRogueCommand is a participant with a key that is enrolled, and other ends.
func demoRogueCommand() *cobra.Command {
	var broker, key, trust, data string
	cmd := &cobra.Command{
		Use:     "rogue TASK.yaml",
		Hidden:  true,
		Short:   "The hostile participant of the demonstration of federated learning",
		Example: "  edgegateway demo rogue --broker tcp://127.0.0.1:2883 --key gateway.pem --trust coordinator.pub --data mnist configs/fl/demo.yaml",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return rogue(cmd.Context(), args[0], broker, key, trust, data)
		},
	}
	f := cmd.Flags()
	f.StringVar(&broker, "broker", defaultBroker, "broker of the coordinator")
	f.StringVar(&key, "key", "", "its private key")
	f.StringVar(&trust, "trust", "", "the coordinator's public key")
	f.StringVar(&data, "data", "", "folder with the files of MNIST")
	return cmd
}

func rogue(ctx context.Context, file, broker, keyFile, trust, data string) error {
	task, err := fl.LoadTask(file)
	if err != nil {
		return err
	}
	id, err := task.ID()
	if err != nil {
		return err
	}
	key, err := keyfile.ReadPrivate(keyFile)
	if err != nil {
		return err
	}
	keys, err := keyfile.Read(trust)
	if err != nil {
		return err
	}
	d, err := train.LoadIDX(filepath.Join(data, "train-images-idx3-ubyte"), filepath.Join(data, "train-labels-idx1-ubyte"))
	if err != nil {
		return err
	}
	own := make([]int, task.Data.Minimum)
	for i := range own {
		own[i] = d.Len() - 1 - i
	}
	p, err := fl.NewParticipant(demoRogue, fl.NewMemory(), key, []ed25519.PublicKey{keys[0].Public}, fl.ParticipantConfig{Task: id})
	if err != nil {
		return err
	}
	l, err := fl.NewLocal(task)
	if err != nil {
		return err
	}
	l.Before = []func(*fl.Job, []float32) error{func(_ *fl.Job, delta []float32) error {
		for i := range delta {
			delta[i] *= -rogueBy
		}
		return nil
	}}
	t := newFLTransport(link.Config{URL: broker, ClientID: demoRogue}, func(string) {})
	samples := held{d.Subset(own)}
	var conn sync.WaitGroup
	defer conn.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn.Go(func() { t.run(ctx) })
	return fl.ServeParticipant(ctx, t, p, fl.ParticipantLoop{Dataset: samples, Trainer: func(ctx context.Context, job *fl.Job) (*fl.Result, error) {
		return l.Train(ctx, job, samples.Dataset, nil)
	}})
}

// held is an fl.Dataset in memory.
type held struct{ *train.Dataset }

func (h held) Count(context.Context) (int, error) { return h.Len(), nil }

func (h held) Load(_ context.Context, n int) (*train.Dataset, error) {
	if n > h.Len() {
		return nil, fmt.Errorf("%d samples are there, not %d", h.Len(), n)
	}
	return h.Dataset, nil
}
