#!/bin/sh
# What a teacher is worth, on MNIST: a student alone, the same student that learns
# a teacher's answers, and one that learns what the teacher's last hidden layer
# holds beside them; else by the same command line, and judged on the 10,000 digits
# of the test file:
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
	same="--network $tmp/student.yaml --rate 0.002 --epochs $epochs --seed $seed"
	made "alone-$seed" train $same
	made "distilled-$seed" distill $same --teacher "$tmp/teacher.tflite" --alpha 1 --temperature 4
	made "features-$seed" distill $same --teacher "$tmp/teacher.tflite" --alpha 1 --temperature 4 --hint 2=5_dense_5 --beta 10
done
awk '
	{ split($1, w, "-"); k = w[1]; e = $5; if (!(k in best) || e < best[k]) best[k] = e; sum[k] += e; n[k]++ }
	END {
		printf "\n%-10s %12s %12s %10s %12s\n", "", "errors, best", "of alone", "on average", "of alone"
		split("alone distilled features", names)
		for (i = 1; i <= 3; i++) {
			k = names[i]
			printf "%-10s %12d %10.1f %% %10.1f %10.1f %%\n", k, best[k], 100 * best[k] / best["alone"], sum[k] / n[k], 100 * (sum[k] / n[k]) / (sum["alone"] / n["alone"])
		}
	}' "$tmp/all"
