#!/bin/sh
# Fuzzes every target for $1 seconds each; with $2, only as many targets as fit
# in $2 seconds, beginning at a target that differs from day to day.
set -eu
each=$1 total=${2:-0}
targets=$(grep -rnoE '^func (Fuzz[A-Za-z0-9_]+)' --include='*_test.go' . | sed -E 's|^\./||; s|/[^/]*_test\.go:[0-9]+:func | |' | sort)
n=$(printf '%s\n' "$targets" | grep -c . || true)
[ "$n" -gt 0 ] || { echo "no fuzz targets"; exit 0; }
first=$(( $(date +%j | sed 's/^0*//') % n ))
spent=0
printf '%s\n%s\n' "$targets" "$targets" | sed -n "$((first + 1)),$((first + n))p" | while read -r dir name; do
	if [ "$total" -gt 0 ] && [ $((spent + each)) -gt "$total" ]; then break; fi
	spent=$((spent + each))
	echo "fuzz $dir $name ${each}s"
	# Inputs are hardly made smaller: that would take most of so short a time.
	said=$(go test "./$dir" -run '^$' -fuzz "^$name\$" -fuzztime "${each}s" -fuzzminimizetime 20x -parallel 2 2>&1) || {
		printf '%s\n' "$said"
		# Go before 1.27 now and then takes the end of the time for a failure
		# (golang/go#75804): nothing is found then, and this is all it says.
		found=$(printf '%s\n' "$said" | grep -vE "^(fuzz: |--- FAIL: $name \(|    context deadline exceeded\$|FAIL|exit status 1)" || true)
		if [ -n "$found" ] || ! printf '%s\n' "$said" | grep -q '^    context deadline exceeded$'; then
			echo "FAIL fuzz $dir $name"
			exit 1
		fi
		continue
	}
	printf '%s\n' "$said" | grep -vE '^(fuzz: elapsed|PASS)' || true
done
