#!/bin/bash
# The way mtk replaces, for every service of the site and as the Go service runs it: a ticket per account, one
# condor_vault_storer (and through it htgettoken and condor_store_cred) per service and credd, one after another because
# they share files; then one rsync over ssh per file, service and node, four at a time.
#
# usage, inside a bed: old-way.sh forget | run SERVICES    SERVICES: lines of "account uid issuer role service"
set -euo pipefail
what=$1
R=/run/mtk-bed/root
credds="ap1.mtk.test ap2.mtk.test ap3.mtk.test"
nodes="gss.mtk.test key.mtk.test both.mtk.test"

as() { # ACCOUNT UID CREDD COMMAND...: as the account, with nothing of the caller's environment
  local account=$1 uid=$2 credd=$3
  shift 3
  chroot $R setpriv --reuid "$uid" --regid 100 --clear-groups env -i HOME="/home/$account" \
    PATH=/usr/local/bin:/usr/bin:/usr/sbin KRB5CCNAME="FILE:/tmp/krb5cc_$uid" CONDOR_CONFIG=/etc/condor/ap1.conf \
    _condor_CREDD_HOST="$credd" _condor_COLLECTOR_HOST=condor.mtk.test \
    _condor_SEC_CREDENTIAL_GETTOKEN_OPTS="-a vault.mtk.test" \
    HTGETTOKENOPTS="--vaulttokenminttl=3d --credkey=$account/managedtokens/mtk.mtk.test" \
    sh -c '"$@" 2>&1 | cat' sh "$@"
}

if [ "$what" = forget ]; then # nothing stored, nothing kept: a cold start
  rm -f $R/tmp/vt_* $R/tmp/bt_* $R/tmp/krb5cc_* $R/var/lib/condor/ap*/oauth_credentials/*/*.top
  rm -rf "$R/tmp/old-way"
  exit
fi

services=$2
mkdir -p $R/tmp/old-way
chmod 1777 $R/tmp/old-way
install -m 0444 "$MTK_BED/ssh/known_hosts" $R/tmp/old-way/known_hosts
while read -r account uid issuer role service; do
  install -m 0400 -o "$uid" -g 100 "$MTK_BED/keytabs/$account.keytab" "$R/tmp/old-way/$account.keytab"
  install -m 0400 -o "$uid" -g 100 "$MTK_BED/ssh/robot_ed25519" "$R/tmp/old-way/$account.key"
  as "$account" "$uid" ap1.mtk.test kinit -k -t "/tmp/old-way/$account.keytab" "$account/managedtokens/mtk.mtk.test"
  for credd in $credds; do
    # the Go service keeps one token file per service and credd, so that each credd gets a token of its own
    kept=$R/tmp/old-way/vt_u$uid-$credd-$service
    here=$R/tmp/vt_u$uid-$service
    rm -f "$here"
    [ ! -e "$kept" ] || mv "$kept" "$here"
    as "$account" "$uid" "$credd" condor_vault_storer "$service" >/dev/null </dev/null
    cp -p "$here" "$kept"
  done
done <"$services"

push() { # ACCOUNT UID FILE NODE TARGET
  as "$1" "$2" none rsync -e "ssh -o GSSAPIAuthentication=yes -o BatchMode=yes -o LogLevel=ERROR -i /tmp/old-way/$1.key \
    -o UserKnownHostsFile=/tmp/old-way/known_hosts" --perms --chmod=u=r,go= "$3" "$1@$4:$5" </dev/null
}
export -f push as
export R
while read -r account uid issuer role service; do
  echo "$role" >"$R/tmp/old-way/role-$account-$service"
  chmod 0444 "$R/tmp/old-way/role-$account-$service"
  for node in $nodes; do
    for target in "/tmp/vt_u$uid" "/tmp/vt_u$uid-$service"; do
      printf '%s %s %s %s %s\0' "$account" "$uid" "/tmp/vt_u$uid-$service" "$node" "$target"
    done
    printf '%s %s %s %s %s\0' "$account" "$uid" "/tmp/old-way/role-$account-$service" "$node" \
      "/tmp/jobsub_default_role_${issuer}_$uid"
  done
done <"$services" | xargs -0 -P 4 -n 1 bash -c 'push $1' push
