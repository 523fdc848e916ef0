#!/bin/sh
# Smaller and faster, on MNIST: an MLP of 2 million weights and a ds-cnn of 512
# channels are pruned to half of their multiply-adds, whole channels and neurons,
# and quantized to int8. One run of evaluate says how many of the 10,000 digits of
# the test file each has right, and its time on the fastest delegate of this box:
#
#   scripts/faster.sh [FOLDER [EPOCHS [SAMPLES]]]
#
# Needs bin/edgegateway, and a box that does nothing else. In FOLDER, where one is
# named, what was made stays, and what is there is not made again. The ds-cnn sees
# SAMPLES digits in each of EPOCHS, the MLP twice as many; where SAMPLES are fewer than
# 10,000, so many of the test file judge.
set -eu
cd "$(dirname "$0")/.."
epochs=${2:-4} samples=${3:-12000}
. scripts/made.sh
learn="--data $mnist/train-images-idx3-ubyte"

cat >"$tmp/mlp.yaml" <<Y
layers:
  - {type: flatten}
  - {type: dense, units: 1024, activation: relu}
  - {type: dense, units: 1024, activation: relu}
  - {type: dense, units: 128, activation: relu}
  - {type: dense, activation: softmax}
Y
cat >"$tmp/ds-cnn.yaml" <<Y
layers:
  - {type: conv2d, filters: 256, kernel: 3, stride: 2, batch_norm: true, activation: relu}
  - {type: depthwise, kernel: 3, batch_norm: true, activation: relu}
  - {type: conv2d, filters: 512, kernel: 1, batch_norm: true, activation: relu}
  - {type: depthwise, kernel: 3, stride: 2, batch_norm: true, activation: relu}
  - {type: conv2d, filters: 512, kernel: 1, batch_norm: true, activation: relu}
  - {type: global_pool}
  - {type: dense, activation: softmax}
Y

# The test file is for evaluate alone: on the way a few digits of the training file judge.
few="--schedule cosine --val 0 --split 0.05 --resume"
cut="--pattern channels --macs 0.5 --no-latency"
made mlp.tflite train $learn $few --network "$tmp/mlp.yaml" --samples $((2 * samples)) --epochs "$epochs"
made mlp-half.tflite prune $learn $cut --samples 2000 "$tmp/mlp.tflite"
made mlp-half-int8.tflite quantize $learn --samples 400 "$tmp/mlp-half.tflite"
made ds-cnn.tflite train $learn $few --network "$tmp/ds-cnn.yaml" --samples "$samples" --epochs "$epochs"
made ds-cnn-half.tflite prune $learn $cut --samples $((samples / 4)) --epochs 1 --parts 1 "$tmp/ds-cnn.tflite"
made ds-cnn-half-int8.tflite quantize $learn --samples 400 "$tmp/ds-cnn-half.tflite"

echo "evaluating" >&2
cd "$tmp"
"$OLDPWD/bin/edgegateway" evaluate --data "$mnist/t10k-images-idx3-ubyte" --samples "$samples" \
	mlp.tflite mlp-half.tflite mlp-half-int8.tflite ds-cnn.tflite ds-cnn-half.tflite ds-cnn-half-int8.tflite >evaluate.txt 2>evaluate.log || { cat evaluate.log >&2; exit 1; }
awk -F '  +' '
	NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i }
	NR == 1 { printf "%-18s %9s %7s %15s %10s %10s %12s  %s\n", "", "right", "lost", "multiply-adds", "bytes", "time", "times faster", "on"; next }
	NF == 0 { exit }
	{
		split($at["BEST TIME"], t, " "); us = t[1] * (t[2] == "ms" ? 1000 : 1); right = $at["TOP1"] + 0
		if ($1 !~ /half/) { was = us; had = right; printf "\n" }
		printf "%-18s %7.2f %% %7.2f %15s %10s %7.1f µs %12.2f  %s\n", $1, right, had - right, $at["MULTIPLY-ADDS"], $at["BYTES"], us, was / us, $at["ON"]
	}' evaluate.txt
