#!/bin/sh
# Deep Compression (arXiv:1510.00149) on MNIST, prune -> cluster -> pack: LeNet-300-100
# and LeNet-5 as the paper has them, then as small as they go with structured
# pruning, a teacher and int8. Each packed file is unpacked, and the .tflite that
# comes out is judged on the 10,000 digits of the test file:
#
#   scripts/deepcompression.sh [FOLDER]
#
# Needs bin/edgegateway. In FOLDER, where one is named, what was made stays, and
# what is there is not made again.
set -eu
cd "$(dirname "$0")/.."
. scripts/made.sh
learn="--data $mnist/train-images-idx3-ubyte" judge="--test $mnist/t10k-images-idx3-ubyte"

# figure NAME: packs, unpacks and judges what came of a network.
figure() {
	bin/edgegateway pack --out "$tmp/$1.pack" "$tmp/$1.tflite" >"$tmp/$1.pack.log"
	bin/edgegateway unpack --out "$tmp/$1-again.tflite" "$tmp/$1.pack" >/dev/null
	bin/edgegateway evaluate --no-latency --format json --data "$mnist/t10k-images-idx3-ubyte" "$tmp/$1-again.tflite" 2>/dev/null |
		awk -v name="$1" -v packed="$(wc -c <"$tmp/$1.pack")" -v bytes="$(wc -c <"$tmp/$1.tflite")" '
			/"top1"/ && !right { gsub(/[^0-9.]/, "", $2); right = $2 }
			END { printf "%-14s %9d bytes as .tflite, %6d packed, %.2f %% error\n", name, bytes, packed, 100 - 100 * right }'
}

cat >"$tmp/lenet300.yaml" <<Y
layers:
  - {type: flatten}
  - {type: dense, units: 300, activation: relu}
  - {type: dropout, rate: 0.1}
  - {type: dense, units: 100, activation: relu}
  - {type: dense, activation: softmax}
Y
cat >"$tmp/lenet5.yaml" <<Y
layers:
  - {type: conv2d, filters: 20, kernel: 5, padding: valid}
  - {type: max_pool, kernel: 2}
  - {type: conv2d, filters: 50, kernel: 5, padding: valid}
  - {type: max_pool, kernel: 2}
  - {type: flatten}
  - {type: dense, units: 500, activation: relu}
  - {type: dropout, rate: 0.4}
  - {type: dense, activation: softmax}
Y

echo "as trained"
made base300.tflite train $learn $judge --val 0 --network "$tmp/lenet300.yaml" --shift 1 --schedule cosine --epochs 60
figure base300
made base5.tflite train $learn $judge --val 0 --network "$tmp/lenet5.yaml" --shift 2 --schedule cosine --epochs 14
figure base5

echo "pruned, clustered, packed"
few="--clusters 12 --method optimal --biases 64"
made half300.tflite prune $learn $judge "$tmp/base300.tflite" --sparsity 0.93 --last --epochs 5 --shift 1 --batch 128 --no-latency
made pruned300.tflite prune $learn $judge "$tmp/half300.tflite" --sparsity 0.968 --last --epochs 6 --shift 1 --batch 128 --no-latency
made lenet300.tflite cluster $learn $judge "$tmp/pruned300.tflite" $few
figure lenet300
made pruned5.tflite prune $learn $judge "$tmp/base5.tflite" --sparsity 0.96 --last --epochs 4 --samples 20000 --shift 1 --no-latency
made lenet5.tflite cluster $learn $judge "$tmp/pruned5.tflite" $few
figure lenet5

echo "LeNet-5 with a seventh of its multiply-adds, taught by itself, pruned, clustered; and that as int8"
made narrow.tflite prune $learn $judge "$tmp/base5.tflite" --pattern channels --macs 0.15 --least 2 --parts 1 --epochs 4 --samples 20000 --unlabelled --shift 1 --no-latency
made quarter.tflite prune $learn $judge "$tmp/narrow.tflite" --sparsity 0.72 --last --epochs 3 --rate 0.0015 --shift 1 --no-latency
made narrow28.tflite cluster $learn $judge "$tmp/quarter.tflite" --clusters 24 --method optimal --biases 64
figure narrow28
made narrow28-int8.tflite quantize $learn --samples 1000 "$tmp/narrow28.tflite"
figure narrow28-int8
made narrowpruned.tflite prune $learn $judge "$tmp/narrow.tflite" --sparsity 0.86 --last --epochs 4 --shift 1 --no-latency
made narrowtuned.tflite prune $learn $judge "$tmp/narrowpruned.tflite" --sparsity 0.86 --last --epochs 2 --rate 0.0005 --shift 1 --no-latency
made narrow14.tflite cluster $learn $judge "$tmp/narrowtuned.tflite" $few
figure narrow14
made narrow14-int8.tflite quantize $learn --samples 1000 "$tmp/narrow14.tflite"
figure narrow14-int8

echo "LeNet-300-100 trained on for an epoch, its zeros and shared values kept: what changed"
made next300.tflite cluster $learn $judge "$tmp/lenet300.tflite" --clusters 12 --epochs 1 --seed 2 --shift 1 --biases 64 --batch 128
bin/edgegateway pack --base "$tmp/lenet300.tflite" --out "$tmp/next300.pack" "$tmp/next300.tflite" | tail -n 2
