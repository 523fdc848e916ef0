#!/bin/sh
# Drift in a real gateway, told beside copies of the same data in another order:
# a room's sensors, a machine's temperature, and pictures of digits that are
# turned, blurred or stand still; how often unchanged data is flagged; and what a
# sample costs:
#
#   scripts/drift.sh
#
# Needs the shared data and the pictures of make setup.
set -eu
cd "$(dirname "$0")/.."
scripts/setup.sh all >/dev/null
go test ./gateway/cli -run 'TestDriftOf' -v -count=1 | grep -vE '^(=== |PASS|ok )'
go test ./infer/drift -run TestFalseAlarms -v -count=1 | grep -vE '^(=== |PASS|ok )'
go test ./infer/drift -run '^$' -bench Monitor | grep '^Bench'
