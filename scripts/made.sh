# Read by scripts that show the workshop, in the repository's folder, where $1 is
# the folder to work in or nothing: sets $mnist, where MNIST is, and $tmp, a folder
# that stays where it was named and goes at the end where it was not.
mnist=$(scripts/setup.sh all)/mnist/data
if [ -n "${1:-}" ]; then
	mkdir -p "$1"
	tmp=$1
else
	tmp=$(mktemp -d)
	trap 'rm -rf "$tmp"' EXIT INT TERM
fi

# made OUT COMMAND FLAG...: makes what is not there and says its errors.
made() {
	out=$tmp/$1
	shift
	if [ -e "$out" ] && [ ! -e "$out.checkpoint" ]; then return; fi
	bin/edgegateway "$@" --out "$out" >"$out.log" 2>&1 || { cat "$out.log" >&2; exit 1; }
}
