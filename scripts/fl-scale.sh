#!/bin/sh
# Scale: one round of 784-200-200-10 on MNIST with 1,000 virtual participants and
# one with 10,000, all of them in it, each update signed, sent in chunks, kept and
# summed by the coordinator of the real thing. Prints what each takes, and the
# memory in use at most; the updates lie in files for temporary files, some 2 GB.
#
#   scripts/fl-scale.sh [PARTICIPANTS...]
#
# Needs bin/edgegateway.
set -eu
cd "$(dirname "$0")/.."
test $# -gt 0 || set -- 1000 10000
data=$(scripts/setup.sh all)/mnist/data
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT INT TERM
sed -e 's/^name: .*/name: scale/' -e 's/^rounds: .*/rounds: 1/' -e 's/^cohort: .*/compression: {kind: int8}/' configs/fl/digits.yaml >"$tmp/scale.yaml"
for n; do
	bin/edgegateway fl simulate "$tmp/scale.yaml" --participants "$n" \
		--data "$data/train-images-idx3-ubyte" --holdout "$data/t10k-images-idx3-ubyte"
done
