#!/bin/sh
# Measures the gateway beside its echo and beside the Node.js way (mqtt.js,
# tfjs-tflite-node, mosquitto), all in one run:
#
#   scripts/node/bench.sh MODEL.tflite [flags of edgegateway bench]
#
# Needs bin/edgegateway, node with npm, and mosquitto.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
model=$1
shift
form=raw
for a in "$@"; do [ "$a" = --json ] && form=json; done
cache=${EDGEGATEWAY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/edgegateway}/node
mkdir -p "$cache"
cp "$here/package.json" "$here/gateway.js" "$cache/"
[ -d "$cache/node_modules/tfjs-tflite-node" ] || (cd "$cache" && npm install --no-audit --no-fund --no-package-lock >&2)

tmp=$(mktemp -d)
port=$(node -e 'const s=require("net").createServer().listen(0,"127.0.0.1",()=>{console.log(s.address().port);s.close()})')
cat >"$tmp/mosquitto.conf" <<CONF
listener $port 127.0.0.1
allow_anonymous true
set_tcp_nodelay true
max_queued_messages 0
max_inflight_messages 0
CONF
mosquitto -c "$tmp/mosquitto.conf" >"$tmp/mosquitto.log" 2>&1 &
broker=$!
trap 'kill $broker $peer 2>/dev/null; rm -rf "$tmp"' EXIT INT TERM
peer=
sleep 0.5
node "$cache/gateway.js" "tcp://127.0.0.1:$port" "$model" $form >"$tmp/node.log" 2>&1 &
peer=$!
until grep -q '^ready' "$tmp/node.log"; do
	kill -0 $peer 2>/dev/null || { cat "$tmp/node.log" >&2; exit 1; }
	sleep 0.2
done
"$here/../../bin/edgegateway" bench --model "$model" --peer "tcp://127.0.0.1:$port" --peer-pids "$peer,$broker" "$@"
