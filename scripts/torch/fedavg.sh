#!/bin/sh
# Seconds a round of federated averaging in the setting of its paper (100
# participants, 10 a round, 600 digits each at batches of 10, 784-200-200-10),
# with the accuracy on the test file after each round: `fl simulate`, messages,
# signatures, chunks and all, beside a plain loop in PyTorch, one thread each, in
# turns in one run:
#
#   scripts/torch/fedavg.sh [ROUNDS [TURNS]]
#
# Needs bin/edgegateway and Debian's python3-torch.
set -eu
cd "$(dirname "$0")/../.."
rounds=${1:-20} turns=${2:-3}
data=$(scripts/setup.sh all)/mnist/data
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT INT TERM
export GOMAXPROCS=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1
sed -e "s/^rounds: .*/rounds: $rounds/" -e '/^stop:/d' configs/fl/digits.yaml >"$tmp/digits.yaml"

ours() { # prints seconds a round, those of the processor, accuracy
	bin/edgegateway fl simulate "$tmp/digits.yaml" --workers 1 --json \
		--data "$data/train-images-idx3-ubyte" --holdout "$data/t10k-images-idx3-ubyte" >"$tmp/out.json" 2>"$tmp/log" || { cat "$tmp/log" >&2; exit 1; }
	awk '/^  "last"/ { last = 1 } last && /"accuracy"/ { a = $2 + 0; last = 0 } /^  "rounds"/ { n = $2 + 0 } /^  "seconds"/ { s = $2 + 0 } /^  "processor_seconds"/ { p = $2 + 0 } END { printf "%.3f %.3f %.4f\n", s / n, p / n, a }' "$tmp/out.json"
}

for turn in $(seq "$turns"); do
	echo "simulate $(ours)" | tee -a "$tmp/all"
	echo "torch $(/usr/bin/python3 scripts/torch/fedavg.py "$data" "$rounds" "$turn" 0.1)" | tee -a "$tmp/all"
done
awk '
	{ s[$1] += $2; p[$1] += $3; a[$1] += $4; n[$1]++ }
	END {
		printf "\n%-10s %10s %18s %10s\n", "", "s/round", "processor s/round", "accuracy"
		split("simulate torch", names)
		for (i = 1; i <= 2; i++) { w = names[i]; printf "%-10s %10.3f %18.3f %9.2f%%\n", w, s[w] / n[w], p[w] / n[w], 100 * a[w] / n[w] }
		printf "simulate takes %.2f times as long as PyTorch, and %.2f times as much of the processor\n", s["simulate"] / s["torch"], p["simulate"] / p["torch"]
	}' "$tmp/all"
