#!/usr/bin/python3
"""Run OpenStack Swift with its S3 interface on loopback, one device, as one ordinary process.

    testkit/servers/s3_of_swift.py FOLDER PORT

S3 is at http://127.0.0.1:PORT; the key is "test:tester" and its secret "s3cr3t/+key". The storage
servers take the three ports above PORT. FOLDER must be there, and everything is kept below it; its
file system must have extended attributes. The line "ready" on standard output says that it answers.
Runs until its standard input ends or it gets a signal.
"""
import os
import sys

import eventlet
import eventlet.wsgi

eventlet.monkey_patch(thread=False)

from swift.common import utils, wsgi  # after the patch
from swift.common.ring import RingBuilder

COMMON = """[DEFAULT]
swift_dir = {folder}/conf
devices = {folder}/disks
mount_check = false
fallocate_reserve = 0
"""
STORAGE = """[pipeline:main]
pipeline = server
[app:server]
use = egg:swift#{kind}
"""
PROXY = """[pipeline:main]
pipeline = catch_errors s3api tempauth slo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = s3cr3t/+key .admin
[filter:slo]
use = egg:swift#slo
"""


class Memory:
    """What the proxy asks of memcached, in this process and without an end of time."""

    def __init__(self):
        self.kept = {}

    def get(self, key, *_, **__):
        return self.kept.get(key)

    def set(self, key, value, *_, **__):
        self.kept[key] = value

    def incr(self, key, delta=1, **_):
        self.kept[key] = int(self.kept.get(key) or 0) + delta
        return self.kept[key]

    def delete(self, key, *_, **__):
        self.kept.pop(key, None)


def remembering(app):
    memory = Memory()

    def call(env, start_response):
        env["swift.cache"] = memory
        return app(env, start_response)
    return call


def write(path, text):
    with open(path, "w", encoding="ascii") as f:
        f.write(text)


def make_ring(folder, kind, port):
    builder = RingBuilder(4, 1, 1)
    builder.add_dev({"region": 1, "zone": 1, "weight": 1, "ip": "127.0.0.1", "port": port,
                     "device": "d1"})
    builder.rebalance()
    builder.get_ring().save(f"{folder}/conf/{kind}.ring.gz")


def serve(folder, kind, port):
    path = f"{folder}/conf/{kind}-server.conf"
    text = PROXY if kind == "proxy" else STORAGE.format(kind=kind)
    write(path, COMMON.format(folder=folder) + text)
    logger = utils.get_logger({"log_name": kind}, log_to_console=True, log_route=kind)
    socket = eventlet.listen(("127.0.0.1", port))
    app = remembering(wsgi.loadapp(path))
    eventlet.spawn(eventlet.wsgi.server, socket, app, logger, protocol=wsgi.SwiftHttpProtocol)


def main():
    folder, port = os.path.realpath(sys.argv[1]), int(sys.argv[2])
    os.makedirs(f"{folder}/conf", exist_ok=True)
    os.makedirs(f"{folder}/disks/d1", exist_ok=True)
    write(f"{folder}/conf/swift.conf", "[swift-hash]\nswift_hash_path_suffix = bnt\n")
    utils.set_swift_dir(f"{folder}/conf")
    kinds = ("account", "container", "object")
    for i, kind in enumerate(kinds):
        make_ring(folder, kind, port + 1 + i)
    for i, kind in enumerate(kinds):
        serve(folder, kind, port + 1 + i)
    serve(folder, "proxy", port)
    print("ready", flush=True)
    eventlet.tpool.execute(sys.stdin.read)


if __name__ == "__main__":
    main()
