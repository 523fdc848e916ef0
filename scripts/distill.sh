#!/bin/sh
# What a teacher is worth, on MNIST: a student alone and the same student with a
# teacher, trained by the same command lines otherwise, and judged on the 10,000
# digits of the test file:
#
#   scripts/distill.sh [SEEDS [EPOCHS [FOLDER]]]
#
# Needs bin/edgegateway. In FOLDER, where one is named, what was trained stays,
# and what is there is not trained again.
set -eu
cd "$(dirname "$0")/.."
seeds=${1:-3} epochs=${2:-20}
data=$(scripts/setup.sh all)/mnist/data
if [ -n "${3:-}" ]; then
	mkdir -p "$3"
	tmp=$3
else
	tmp=$(mktemp -d)
	trap 'rm -rf "$tmp"' EXIT INT TERM
fi

cat >"$tmp/student.yaml" <<X2
layers:
  - {type: flatten}
  - {type: dense, units: 300, activation: relu}
  - {type: dense, units: 100, activation: relu}
  - {type: dense, activation: softmax}
X2

# made NAME COMMAND FLAG...: trains what is not there and says its errors.
made() {
	name=$1 command=$2
	shift 2
	while [ ! -e "$tmp/$name.tflite" ] || [ -e "$tmp/$name.tflite.checkpoint" ]; do
		bin/edgegateway "$command" --data "$data/train-images-idx3-ubyte" --test "$data/t10k-images-idx3-ubyte" --val 0 \
			--schedule cosine --resume --out "$tmp/$name.tflite" "$@" >"$tmp/$name.log" 2>&1 || { cat "$tmp/$name.log" >&2; exit 1; }
	done
	grep -oE '[0-9.]+ % right' "$tmp/$name.log" | tail -n 1 |
		awk -v n="$name" '{printf "%-12s %6.2f %% right, %d errors\n", n, $1, (100 - $1) * 100 + 0.5}' | tee -a "$tmp/all"
}

: >"$tmp/all"
made teacher train --network lenet5 --shift 2 --epochs 12
for seed in $(seq "$seeds"); do
	made "alone-$seed" train --network "$tmp/student.yaml" --rate 0.002 --epochs "$epochs" --seed "$seed"
	made "distilled-$seed" distill --teacher "$tmp/teacher.tflite" --alpha 1 --temperature 4 \
		--network "$tmp/student.yaml" --rate 0.002 --epochs "$epochs" --seed "$seed"
done
awk '
	{ split($1, w, "-"); e = $5; if (!(w[1] in best) || e < best[w[1]]) best[w[1]] = e; sum[w[1]] += e; n[w[1]]++ }
	END {
		printf "\nthe best of them: %d errors alone, %d distilled: %.1f %%; on average %.1f and %.1f: %.1f %%\n",
			best["alone"], best["distilled"], 100 * best["distilled"] / best["alone"],
			sum["alone"] / n["alone"], sum["distilled"] / n["distilled"],
			100 * (sum["distilled"] / n["distilled"]) / (sum["alone"] / n["alone"])
	}' "$tmp/all"
