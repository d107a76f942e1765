#!/bin/bash
# A Slurm cluster of several machines on one: Debian's packages, no systemd, nothing outside FOLDER.
#   bash tests/e2e/slurm_cluster.sh install          the packages (as root, where apt has them)
#   bash tests/e2e/slurm_cluster.sh start FOLDER 4   the daemons; prints what to export
#   bash tests/e2e/slurm_cluster.sh stop FOLDER      ends them, and the jobs that still run
#   bash tests/e2e/slurm_cluster.sh lose FOLDER n2     kills all that runs on one machine, unasked
#   bash tests/e2e/slurm_cluster.sh revive FOLDER n2   starts the daemon of that machine again
# Machines n1, n2, ... are daemons of this machine with ports of their own; jobs see its files.
set -eu

install() {
  command -v slurmctld > /dev/null && command -v slurmd > /dev/null && command -v munged > /dev/null && return
  [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null || { echo "Slurm is not installed, and only root can install it with apt-get" >&2; exit 1; }
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -qq --yes --no-install-recommends slurmctld slurmd slurm-client munge > /dev/null
}

start() {
  local folder=$1 count=$2 base=${SLURM_BASE_PORT:-17000} host
  [ "$(id -u)" = 0 ] || { echo "Slurm's daemons need root" >&2; exit 1; }
  host=$(hostname -s)
  getent hosts "$host" > /dev/null || echo "127.0.0.1 $host" >> /etc/hosts
  mkdir -p "$folder"/etc "$folder"/state "$folder"/spool "$folder"/log "$folder"/munge
  # munged refuses folders that others may write to, and a key that others may read.
  chmod 755 "$folder"/munge
  [ -f "$folder/munge/key" ] || (umask 077; head -c 1024 /dev/urandom > "$folder/munge/key")
  munged --force --socket="$folder/munge/socket" --key-file="$folder/munge/key" \
    --pid-file="$folder/munge/pid" --log-file="$folder/log/munged.log" --seed-file="$folder/munge/seed"
  # Short times: a lost machine is noticed within seconds, and a requeued job need not wait the two
  # minutes that its old credential would be valid for.
  cat > "$folder/etc/slurm.conf" << CONF
ClusterName=trial
SlurmctldHost=$host
SlurmctldPort=$base
FirstJobId=${SLURM_FIRST_JOB:-1}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket,cred_expire=5
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool/%n
SlurmctldPidFile=$folder/ctld.pid
SlurmdPidFile=$folder/%n.pid
SlurmctldLogFile=$folder/log/ctld.log
SlurmdLogFile=$folder/log/%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdTimeout=8
InactiveLimit=0
KillWait=30
ReturnToService=2
SwitchType=switch/none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MpiDefault=none
NodeName=n[1-$count] NodeHostname=$host NodeAddr=127.0.0.1 Port=[$((base + 1))-$((base + count))] CPUs=2 RealMemory=2000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=1-00:00:00 State=UP
PartitionName=short Nodes=n1 MaxTime=00:10:00 MaxNodes=1 State=UP
PartitionName=closed Nodes=n1 AllowAccounts=others State=UP
PartitionName=spare Nodes=ALL PriorityTier=0 GraceTime=60 State=UP
CONF
  export SLURM_CONF=$folder/etc/slurm.conf
  cd "$folder" # what a daemon leaves in its working folder
  slurmctld
  for number in $(seq "$count"); do
    mkdir -p "$folder/spool/n$number"
    slurmd -N "n$number"
  done
  # One partition only: a machine has a line for each that it is in.
  for _ in $(seq 300); do
    [ "$(sinfo --noheader --format='%T' --partition=main --Node 2> /dev/null | grep -cx idle)" -ge "$count" ] && break
    sleep 0.2
  done
  sinfo >&2
  echo "export SLURM_CONF=$SLURM_CONF"
}

stop() {
  local folder=$1 pids
  export SLURM_CONF=$folder/etc/slurm.conf
  timeout 10 scancel --user="$(id -un)" 2> /dev/null || true
  for _ in $(seq 20); do
    [ -z "$(timeout 5 squeue --noheader 2> /dev/null)" ] && break
    sleep 0.5
  done
  pids=$(cat "$folder"/*.pid "$folder"/munge/pid 2> /dev/null || true)
  [ -z "$pids" ] || kill $pids 2> /dev/null || true
}

lose() {
  local folder=$1 node=$2 pids="" pid parent
  for pid in $(grep -lsz "^SLURMD_NODENAME=$node\$" /proc/[0-9]*/environ | cut -d/ -f3); do
    grep -qsz "^SLURM_CONF=$folder/etc/slurm.conf\$" "/proc/$pid/environ" || continue
    parent=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$pid/status")
    grep -qs slurmstepd "/proc/$parent/comm" && pids="$pids $parent"
    pids="$pids $pid"
  done
  kill -9 "$(cat "$folder/$node.pid")" $pids 2> /dev/null || true
}

revive() {
  export SLURM_CONF=$1/etc/slurm.conf
  cd "$1"
  slurmd -N "$2"
}

word=${1:-}
case "$word" in
  install) install ;;
  start) start "$(realpath -m "$2")" "${3:-4}" ;;
  stop) stop "$(realpath -m "$2")" ;;
  lose) lose "$(realpath -m "$2")" "$3" ;;
  revive) revive "$(realpath -m "$2")" "$3" ;;
  *) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
