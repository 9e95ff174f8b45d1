#!/usr/bin/env bash
# How long until the demo works? Seconds from a fresh clone with empty caches to the demo's first job, and what .venv and the
# caches of the installers take on disk, for each checkout in turn, N times:
#
#     benchmarks/setup_time.sh N CHECKOUT...
set -euo pipefail
rounds=$1
shift
unset PIP_CACHE_DIR UV_CACHE_DIR
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

printf '%5s  %-10s %8s %16s %16s\n' round commit seconds .venv/bytes caches/bytes
for ((round = 1; round <= rounds; round++)); do
    for checkout; do
        git clone --quiet "$checkout" "$work/clone"
        export XDG_CACHE_HOME=$work/caches
        mkdir "$XDG_CACHE_HOME" "$work/said"
        : >"$work/said/lines"
        start=$(date +%s.%N)
        setsid make -C "$work/clone" demo >"$work/said/lines" 2>&1 &
        demo=$!
        until grep -q 'Launching .* jobs' "$work/said/lines"; do
            kill -0 $demo 2>/dev/null || { cat "$work/said/lines"; exit 1; }
            sleep 0.1
        done
        seconds=$(awk "BEGIN { print $(date +%s.%N) - $start }")
        kill -- -$demo
        wait $demo || true
        # One call counts a file with several links once, and to .venv, which is named first.
        mapfile -t bytes < <(du -s --block-size=1 "$work/clone/.venv" "$XDG_CACHE_HOME" | cut -f1)
        printf '%5d  %-10s %8.1f %16d %16d\n' $round "$(git -C "$work/clone" rev-parse --short HEAD)" "$seconds" "${bytes[@]}"
        rm -rf "${work:?}"/*
    done
done
