#!/bin/sh
# The document's example, 784-128-10 on MNIST, trained by this program (as
# `make build` and as `go build` make it), PyTorch and scikit-learn, one thread
# each, in turns in one run:
#
#   scripts/torch/bench.sh [EPOCHS [SEEDS]]
#
# Needs bin/edgegateway and Debian's python3-torch and python3-sklearn.
set -eu
cd "$(dirname "$0")/../.."
epochs=${1:-10} seeds=${2:-3}
data=$(scripts/setup.sh all)/mnist/data
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT INT TERM
GOEXPERIMENT= go build -o "$tmp/default" .
export GOMAXPROCS=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1

ours() { # PROGRAM SEED
	"$1" train --data "$data/train-images-idx3-ubyte" --test "$data/t10k-images-idx3-ubyte" --val 0 \
		--network mlp --epochs "$epochs" --seed "$2" --out "$tmp/d.tflite" >"$tmp/log" 2>&1 || { cat "$tmp/log" >&2; exit 1; }
	grep -oE '"seconds": [0-9.]+' "$tmp/d.metrics.json" | awk '{s += $2} END {printf "%.3f ", s / NR}'
	grep -oE '[0-9.]+ % right' "$tmp/log" | awk '{printf "%.4f\n", $1 / 100}'
}

for seed in $(seq "$seeds"); do
	for who in build default torch sklearn; do
		case $who in
		build) got=$(ours bin/edgegateway "$seed") ;;
		default) got=$(ours "$tmp/default" "$seed") ;;
		*) got=$(/usr/bin/python3 scripts/torch/train.py $who "$data" "$epochs" "$seed") ;;
		esac
		echo "$who $got" | tee -a "$tmp/all"
	done
done
awk -v epochs="$epochs" '
	{ s[$1] += $2; a[$1] += $3; n[$1]++ }
	END {
		split("build default torch sklearn", names)
		printf "\n%-10s %10s %14s %10s\n", "", "s/epoch", "of PyTorch", "accuracy"
		for (i = 1; i <= 4; i++) { w = names[i]; printf "%-10s %10.3f %13.2fx %9.2f%%\n", w, s[w] / n[w], s[w] / n[w] / (s["torch"] / n["torch"]), 100 * a[w] / n[w] }
	}' "$tmp/all"
