#!/bin/sh
# Runs all tests and ends with how many were skipped and why.
# $1: the Debian packages they use.
set -eu

missing=
for p in $1; do
	dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $p"
done
if [ -n "$missing" ]; then
	if ! command -v apt-get >/dev/null; then
		echo "test: without apt-get the tests that need$missing are skipped" >&2
	elif [ "$(id -u)" = 0 ]; then
		echo "test: installing$missing" >&2
		apt-get update -qq >&2
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >&2
	else
		echo "the tests need: sudo apt-get install -y --no-install-recommends$missing" >&2
		exit 1
	fi
fi

EDGEGATEWAY_CACHE=$(scripts/setup.sh test | tail -n 1)
export EDGEGATEWAY_CACHE
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
{ go test -json ${TESTFLAGS:-} -timeout 14m ./... || echo $? >"$log.status"; } | go run ./scripts/summary.go || status=1
[ ! -e "$log.status" ] || { status=1; rm -f "$log.status"; }
exit $status
