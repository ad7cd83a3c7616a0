#!/bin/bash
# Files onto nodes, as the Go service brings them and as mtk does: one sshd on as many loopback addresses as there are
# nodes; for each service and node a ping and three rsync over ssh, all at once, four pairs at a time; then mtk's way.
#
# usage, inside a bed: push-bench.sh NODE-ROOT PUSH-RATE SERVICES NODES
# says: old SECONDS, then what PUSH-RATE says
set -euo pipefail
node=$1 push_rate=$2 services=$3 nodes=$4
R=/run/mtk-bed/root
export R PORT=2022 HERE=/tmp/push-bench
rm -rf "$R$HERE" "$node/run/push-bench" "$node"/tmp/bench-*
mkdir -p "$R$HERE" "$node/run/push-bench"
chmod 0700 "$R$HERE"
for key in user host; do chroot $R ssh-keygen -q -t ed25519 -N "" -C "" -f $HERE/$key; done
install -m 0600 "$R$HERE/host" "$node/run/push-bench/host"
install -m 0644 "$R$HERE/user.pub" "$node/run/push-bench/authorized"
echo "[127.60.*]:$PORT $(cat "$R$HERE/host.pub")" >"$R$HERE/known_hosts"
head -c 100 /dev/zero | tr '\0' h >"$R$HERE/token"
cat >"$node/run/push-bench/sshd_config" <<END
ListenAddress 0.0.0.0:$PORT
HostKey /run/push-bench/host
PidFile none
UseDNS no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
GSSAPIAuthentication no
AuthorizedKeysFile /run/push-bench/authorized
StrictModes no
PerSourcePenalties no
MaxStartups 1000
Subsystem sftp /usr/lib/openssh/sftp-server
END
chroot "$node" /usr/sbin/sshd -D -e -f /run/push-bench/sshd_config 2>"$R$HERE/log" &
sshd=$!
trap 'kill $sshd; rm -rf "$R$HERE" "$node/run/push-bench" "$node"/tmp/bench-*' EXIT
for _ in $(seq 100); do
  (exec 3<>/dev/tcp/127.60.0.1/$PORT) 2>/dev/null && break
  sleep 0.05
done

pair() { # SERVICE ADDRESS
  ! command -v ping >/dev/null || ping -q -c 1 -W 10 "$2" >/dev/null
  local pids=() kind
  for kind in default service role; do
    chroot "$R" rsync -e "ssh -p $PORT -i $HERE/user -o BatchMode=yes -o LogLevel=ERROR -o UserKnownHostsFile=$HERE/known_hosts" \
      --perms --chmod=u=r,go= $HERE/token "dunepro@$2:/tmp/bench-old-$2-$1-$kind" </dev/null &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid"; done
}
export -f pair
everything() {
  local s n
  for s in $(seq "$services"); do for n in $(seq "$nodes"); do echo "$s 127.60.0.$n"; done; done |
    xargs -P 4 -L 1 bash -ec 'pair "$@"' pair
}
TIMEFORMAT=%R
echo "old $( { time everything >&2; } 2>&1 | tail -n 1)"
command -v ping >/dev/null || echo "note ping is not installed, so the old way goes without"
got=$(find "$node/tmp" -maxdepth 1 -name 'bench-old-*' | wc -l)
[ "$got" = $((services * nodes * 3)) ] || { echo "the old way brought $got files" >&2; exit 1; }
rm -f "$node"/tmp/bench-*
"$push_rate" "$R$HERE/user" "$R$HERE/known_hosts" 127.60.0. $PORT "$services" "$nodes"
