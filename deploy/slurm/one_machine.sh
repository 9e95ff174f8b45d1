#!/usr/bin/env bash
# SLURM on one machine, for trying and testing: a controller and two nodes, node1 and node2, of one partition.
# Needs the packages slurm-wlm and munge (Debian, Ubuntu), and root; neither systemd nor cgroups.
#
#   deploy/slurm/one_machine.sh start FOLDER    everything is kept in FOLDER, except munge's own socket folder
#   export SLURM_CONF=FOLDER/slurm.conf         for sbatch, squeue, speakerquant
#   deploy/slurm/one_machine.sh stop FOLDER
set -euo pipefail

usage() {
    sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
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
export SLURM_CONF=$folder/slurm.conf

write_configuration() {
    local cpus memory ports
    mapfile -t ports < <(shuf --input-range=20000-29999 --head-count=3)
    cpus=$((($(nproc) + 1) / 2))
    memory=$(($(free --mebi | awk '/^Mem:/ { print $2 }') / 2))
    cat >"$SLURM_CONF" <<CONF
ClusterName=one_machine
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=${ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
CryptoType=crypto/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool.%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.%n.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.%n.log
SwitchType=switch/none
MpiDefault=none
# What containers without cgroups can do.
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
EnforcePartLimits=ALL
KillWait=10
SlurmdTimeout=20
NodeName=node1 NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=${ports[1]} CPUs=$cpus RealMemory=$memory
NodeName=node2 NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=${ports[2]} CPUs=$cpus RealMemory=$memory
PartitionName=main Nodes=node1,node2 Default=YES MaxTime=INFINITE State=UP
CONF
}

start() {
    for command in munged slurmctld slurmd squeue; do
        command -v "$command" >/dev/null || fail "$command is not installed; apt-get install slurm-wlm munge"
    done
    [ "$(id -u)" -eq 0 ] || fail "SLURM's daemons start jobs as their users, and therefore must be started as root"
    mkdir -p "$folder/state" "$folder/spool.node1" "$folder/spool.node2"
    write_configuration
    [ -e "$folder/munge.key" ] || (umask 077 && head -c 1024 /dev/urandom >"$folder/munge.key")
    munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" \
        --pid-file="$folder/munged.pid" --log-file="$folder/munged.log" --seed-file="$folder/munge.seed"
    slurmctld
    slurmd -N node1
    slurmd -N node2
    for _ in $(seq 60); do
        [ "$(sinfo --noheader --format=%D --states=idle 2>/dev/null)" = 2 ] && return
        sleep 0.5
    done
    fail "the nodes are not idle; see $folder/slurmctld.log"
}

stop() {
    local pid_file
    [ -e "$SLURM_CONF" ] || fail "nothing was started in $folder"
    scancel --me 2>/dev/null || true
    for pid_file in slurmd.node1 slurmd.node2 slurmctld munged; do
        [ -e "$folder/$pid_file.pid" ] && kill "$(cat "$folder/$pid_file.pid")" 2>/dev/null || true
    done
}

case $action in
start) start ;;
stop) stop ;;
*) usage ;;
esac
