#!/bin/sh
# Attackers, on MNIST and Fashion-MNIST: twenty participants, all of them in each
# round, with data by Dirichlet(0.5), of which a fifth send noise (its deviation is
# 5 a weight), or three in ten the opposite of what they learned. One line a run:
# the accuracy on the 10,000 pictures of the test file after 40 rounds, and whose
# updates were set aside. The last runs are without attackers.
#
#   scripts/fl-attackers.sh [ROUNDS [STRATEGY...]]
#
# Strategies are fedavg and multi-krum if none is named; median and trimmed-mean are
# others. multi-krum and trimmed-mean are told how many may be hostile. SEED=2 has
# other participants, with other data and other attackers among them; DATA=fashion
# or mnist and ATTACK=sign-flip:0.3 make some of the runs alone.
#
# Needs bin/edgegateway, and Debian's dataset-fashion-mnist for the second.
set -eu
cd "$(dirname "$0")/.."
rounds=${1:-40}
test $# -eq 0 || shift
test $# -gt 0 || set -- fedavg multi-krum
mnist=$(scripts/setup.sh all)/mnist/data
fashion=/usr/share/datasets/fashion-mnist
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT INT TERM

# task STRATEGY HOSTILE writes the task: of a cohort of 20 so many may be hostile.
task() {
	case $1 in
	multi-krum) more=", attackers: $2, rate: 1.5" ;;
	trimmed-mean) more=", trim: 0.$((50 * $2))" ;;
	*) more= ;;
	esac
	cat >"$tmp/task.yaml" <<Y
name: pictures
model:
  input: [28, 28, 1]
  classes: ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
  preset: mlp
data: {stream: pictures, holdout: 0}
local:
  epochs: 3
  batch: 32
  optimizer: {kind: sgd, rate: 0.02, momentum: 0.9}
seed: ${SEED:-1}
strategy: {kind: $1$more}
rounds: $rounds
deadline: 1h
Y
}

# run PICTURES FOLDER ENDING ATTACK STRATEGY
run() {
	hostile=4
	case $4 in sign-flip:*) hostile=6 ;; esac
	task "$5" $hostile
	bin/edgegateway fl simulate "$tmp/task.yaml" --json --participants 20 --partition dirichlet:0.5 ${4:+--attack "$4"} \
		--data "$2/train-images-idx3-ubyte$3" --holdout "$2/t10k-images-idx3-ubyte$3" >"$tmp/out.json" 2>"$tmp/log" || { cat "$tmp/log" >&2; exit 1; }
	awk -v pictures="$1" -v attack="${4:-nobody}" -v strategy="$5" '
		function value() { v = $2; gsub(/[^0-9.eE+-]/, "", v); return v }
		/^  "last"/ { last = 1 }
		last && /"accuracy"/ { accuracy = value(); last = 0 }
		/^  "rounds"/ { rounds = value() }
		/^  "hostile_updates_set_aside"/ { caught = value() }
		/^  "other_updates_set_aside"/ { other = value() }
		/^  "seconds"/ { seconds = value() }
		END { printf "%-14s %-14s %-13s %7.4f after %d rounds, set aside: %d of attackers, %d of others; %.0f s\n", pictures, attack, strategy, accuracy, rounds, caught, other, seconds }' "$tmp/out.json"
}

# both STRATEGY ATTACK
both() {
	test "${DATA:-mnist}" != mnist || run MNIST "$mnist" "" "$2" "$1"
	test "${DATA:-fashion}" != fashion || test ! -d $fashion || run Fashion-MNIST $fashion .gz "$2" "$1"
}

for strategy; do
	for attack in ${ATTACK:-gaussian:0.2:5 sign-flip:0.3}; do
		both "$strategy" "$attack"
	done
done
test -n "${ATTACK:-}" || both "$1" ""
