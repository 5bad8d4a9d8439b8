#!/bin/bash
# Run OpenStack Swift with its S3 interface on loopback, one device, as an ordinary process.
#
#     testkit/servers/swift.sh FOLDER PORT
#
# S3 is at http://127.0.0.1:PORT with the key tester:user (user tester of account test: "test:tester") and the secret
# "s3cr3t/+key". The storage servers take the three ports above PORT. FOLDER must be there and on a file system with
# extended attributes; everything is kept below it. The line "ready" on standard output says that it answers. Runs until
# its standard input ends or it gets a signal, and takes its servers with it.
set -eu

folder=$(cd "$1" && pwd)
port=$2
cd "$folder"
mkdir -p conf disks/d1 run

common() { # port of the server
    cat <<END
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = $1
workers = 0
user = $(id -un)
swift_dir = $folder/conf
devices = $folder/disks
mount_check = false
fallocate_reserve = 0
log_statsd_host =
END
}

storage() { # kind, port
    common "$2"
    printf '[pipeline:main]\npipeline = %s-server\n[app:%s-server]\nuse = egg:swift#%s\n' "$1" "$1" "$1"
    printf 'replication_server = false\n'
}

cat >conf/swift.conf <<END
[swift-hash]
swift_hash_path_suffix = bnt
swift_hash_path_prefix = bnt
END
{
    common "$port"
    cat <<'END'
[pipeline:main]
pipeline = catch_errors healthcheck s3api tempauth slo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
s3_acl = false
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = s3cr3t/+key .admin
[filter:slo]
use = egg:swift#slo
END
} >conf/proxy-server.conf

step=1
for kind in account container object; do
    storage $kind $((port + step)) >conf/$kind-server.conf
    ring=conf/$kind.builder
    swift-ring-builder "$ring" create 4 1 1 >/dev/null
    swift-ring-builder "$ring" add "r1z1-127.0.0.1:$((port + step))/d1" 1 >/dev/null
    swift-ring-builder "$ring" rebalance >/dev/null
    step=$((step + 1))
done

servers=()
trap 'kill "${servers[@]}" 2>/dev/null || true; wait' EXIT
trap 'exit 0' TERM INT HUP
for kind in account container object proxy; do
    swift-$kind-server conf/$kind-server.conf >run/$kind.log 2>&1 </dev/null &
    servers+=($!)
done

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
for at in 0 1 2 3; do
    for try in $(seq 300); do
        answers $((port + at)) && break
        kill -0 "${servers[@]}" || { cat run/*.log >&2; exit 1; }
        [ "$try" -lt 300 ] || { echo "nothing listens at port $((port + at))" >&2; exit 1; }
        sleep 0.1
    done
done
echo ready
cat >/dev/null
