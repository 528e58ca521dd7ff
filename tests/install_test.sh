#!/usr/bin/env bash
# Install a build into a temporary prefix, then build and run the documented examples against it as
# an outsider would: with pkg-config (shared and static) and with find_package (shared and static).
#
#   tests/install_test.sh BUILD_DIRECTORY
set -euo pipefail
build=$(cd "$1" && pwd)
source=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix

fail() {
	echo "install_test: $*" >&2
	exit 1
}
# run PROGRAM NAME: a fresh store, a free port, and only the installed library.
run() {
	echo "-- $2: $1"
	mkdir -p "$work/home"
	PEERHUB_HOME=$work/home PEERHUB_LISTEN='[::1]:0' LD_LIBRARY_PATH=$libdir \
		timeout 60 "$1" >"$work/out" || { cat "$work/out"; fail "$2 failed"; }
	cat "$work/out"
	case $2 in
	native) grep -qx 'heard hello' "$work/out" || fail "$2 did not hear its echo" ;;
	p2p) grep -qx 'members 1' "$work/out" || fail "$2 did not find itself" ;;
	esac
}

cmake --install "$build" --prefix "$prefix" >"$work/install.log"
libdir=$(dirname "$(find "$prefix" -name libpeerhub.so)")
for file in include/p2p.h include/peerhub.h include/peerhub/win32.h; do
	[ -f "$prefix/$file" ] || fail "$file is not installed"
done
readelf -d "$libdir/libpeerhub.so" | grep -q 'SONAME.*libpeerhub\.so\.0\]' || fail "no SONAME"

# Only public names, each with its version.
nm -D --defined-only "$libdir/libpeerhub.so" | awk '$2 != "A" { print $3 }' >"$work/names"
if grep -v '@@PEERHUB_0\.1$' "$work/names"; then
	fail "exported without the version PEERHUB_0.1: the names above"
fi
# The static library shows the same names, so that nothing of ours meets a name of the program.
nm -g --defined-only "$libdir/libpeerhub.a" | awk 'NF == 3 { print $3 }' | sort >"$work/static"
sed 's/@@.*//' "$work/names" | sort | diff - "$work/static" || fail "the static library differs"
for name in ph_open ph_close PeerGroupOpenDirectConnection PeerGroupCloseDirectConnection; do
	grep -qx "$name@@PEERHUB_0.1" "$work/names" || fail "$name is not exported"
done

export PKG_CONFIG_PATH=$libdir/pkgconfig
[ "$(pkg-config --modversion peerhub)" = 0.1.0 ] || fail "pkg-config gives another version"
warnings=(-std=c11 -Wall -Wextra -Werror)
for example in native p2p; do
	file=$source/docs/examples/$example.c
	# shellcheck disable=SC2046 # the flags are words
	gcc "${warnings[@]}" "$file" -o "$work/$example" $(pkg-config --cflags --libs peerhub)
	run "$work/$example" "$example"
	# Beside the shared library -lpeerhub means that one, so the static one is named by its file.
	libs=$(pkg-config --static --libs peerhub | sed 's/-lpeerhub/-l:libpeerhub.a/')
	# shellcheck disable=SC2046,SC2086
	gcc "${warnings[@]}" "$file" -o "$work/$example-static" $(pkg-config --cflags peerhub) $libs
	run "$work/$example-static" "$example"
	readelf -d "$work/$example-static" | grep -q libpeerhub && fail "$example-static is not static"
done

# The package is used by moving the tree first: nothing in it may hold the old prefix.
mv "$prefix" "$work/moved"
libdir=${libdir/#$prefix/$work/moved}
if grep -rIl --include='*.cmake' --include='*.pc' -F "$prefix" "$work/moved"; then
	fail "the files above hold the prefix of the installation"
fi
cmake -S "$source/tests/install" -B "$work/outside" -G Ninja -DCMAKE_PREFIX_PATH="$work/moved" \
	-DEXAMPLES="$source/docs/examples" >"$work/outside.log" || { cat "$work/outside.log"; exit 1; }
cmake --build "$work/outside" -j 2 >"$work/outside.log" || { cat "$work/outside.log"; exit 1; }
for example in native p2p; do
	run "$work/outside/$example" "$example"
	run "$work/outside/$example-static" "$example"
done

# Programs find the library beside them, and each says what it does.
for program in "$work"/moved/bin/*; do
	[ -x "$program" ] || continue
	timeout 60 "$program" --help >"$work/out" 2>&1 </dev/null || fail "$program --help failed"
	[ -s "$work/out" ] || fail "$program --help says nothing"
done
echo "install_test: all built and ran"
