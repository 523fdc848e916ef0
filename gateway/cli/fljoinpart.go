package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"edgegateway/fl/simulate"
	"edgegateway/infer/train"
)

// dataPart says which part of its data a participant takes: that of one of the
// virtual participants of fl simulate.
type dataPart struct {
	part, partition string
}

func (p *dataPart) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&p.part, "part", "", "take one part of the data alone: 3/8 is the third of the eight that fl simulate --participants 8 makes of it")
	f.StringVar(&p.partition, "partition", "iid", "with --part: how data is divided, as of fl simulate: iid, shards:N, dirichlet:ALPHA or quantity:ALPHA")
	completeWords(cmd, "partition", "iid", "shards:2", "dirichlet:0.5", "quantity:0.5")
}

func (p *dataPart) idle() idle {
	return idle{p.part == "", "it is about --part, which is not given", []string{"partition"}}
}

// read says what is wrong with the flags, and which part of how many is meant.
func (p *dataPart) read() (by simulate.Partition, i, of int, err error) {
	if by, err = simulate.ParsePartition(p.partition); err != nil || p.part == "" {
		return by, 0, 0, err
	}
	rest := ""
	if n, _ := fmt.Sscanf(p.part+" ", "%d/%d%s", &i, &of, &rest); n != 2 || i < 1 || i > of {
		return by, 0, 0, fmt.Errorf("part %q is not such as 3/8, the third of eight", p.part)
	}
	return by, i, of, nil
}

// take gives the part, in the order in which the virtual participant has it; all
// where no part is meant.
func (p *dataPart) take(d *train.Dataset, seed uint64) (*train.Dataset, error) {
	by, i, of, err := p.read()
	if err != nil || of == 0 {
		return d, err
	}
	parts, err := by.Divide(d, of, seed)
	if err != nil {
		return nil, err
	}
	at := make([]int, len(parts[i-1]))
	for k, place := range parts[i-1] {
		at[k] = int(place)
	}
	return d.Subset(at), nil
}
