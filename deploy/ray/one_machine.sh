#!/usr/bin/env bash
# Ray on one machine, for trying and testing: a cluster of two nodes, of which a command may join the first.
# Needs the extra "cluster" in the environment whose bin/ is first on PATH.
#
#   deploy/ray/one_machine.sh start FOLDER    FOLDER: a short absolute path; all is kept in it
#   . FOLDER/environment                      for ray, speakerquant
#   deploy/ray/one_machine.sh stop FOLDER
set -euo pipefail

usage() {
    sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

fail() {
    echo "error: $*" >&2
    exit 1
}

[ $# -eq 2 ] || usage
action=$1
mkdir -p "$2"
folder=$(cd "$2" && pwd)
port=${RAY_PORT:-26379}

# A node that lives as long as a process whose id is kept: `ray stop` would end every Ray of this machine.
node() {
    local name=$1
    shift
    nohup setsid ray start --block --num-cpus=$((($(nproc) + 1) / 2)) \
        --disable-usage-stats "$@" >"$folder/$name.log" 2>&1 &
    echo $! >"$folder/$name.pid"
}

start() {
    command -v ray >/dev/null || fail "ray is not installed; pip install -e '.[cluster]' in speakerquant's folder"
    # Only who has the token may run code here.
    (umask 077 && python -c 'import secrets; print(secrets.token_hex())' >"$folder/token")
    cat >"$folder/environment" <<ENVIRONMENT
export RAY_ADDRESS=127.0.0.1:$port
export RAY_AUTH_MODE=token
export RAY_AUTH_TOKEN_PATH=$folder/token
export RAY_USAGE_STATS_ENABLED=0
ENVIRONMENT
    . "$folder/environment"
    node head --head --port="$port" --temp-dir="$folder/ray" --include-dashboard=false
    wait_for head
    node second --address="$RAY_ADDRESS" --dashboard-agent-listen-port=0
    wait_for second
}

# A node's `ray start` says so when it runs.
wait_for() {
    for _ in $(seq 120); do
        grep -q "Ray runtime started" "$folder/$1.log" 2>/dev/null && return
        kill -0 "$(cat "$folder/$1.pid")" 2>/dev/null || break
        sleep 0.5
    done
    stop
    fail "node $1 did not start; see $folder/$1.log"
}

stop() {
    local name
    [ -e "$folder/environment" ] || fail "nothing was started in $folder"
    for name in second head; do
        [ -e "$folder/$name.pid" ] && kill "$(cat "$folder/$name.pid")" 2>/dev/null || true
    done
}

case $action in
start) start ;;
stop) stop ;;
*) usage ;;
esac
