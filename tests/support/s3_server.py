#!/usr/bin/env python3
"""A real S3-compatible server for tests: OpenStack Swift with its S3 API, in one process.

    s3_server.py DIRECTORY      prints "PORT" when it serves; ends with its standard input

Swift (Debian: python3-swift) checks AWS signatures version 4 against the secret of its user: what is wrongly signed
is answered with 403. One account ("moult"), one user: access key "moult:host", secret "secret/with+signs=". Everything
is below DIRECTORY, which needs extended attributes (any of ext4, btrfs, xfs, tmpfs of a recent kernel). A list of objects comes in
pages of 20.
"""

import os
import pathlib
import sys

import eventlet

eventlet.monkey_patch()

import eventlet.wsgi  # noqa: E402
from swift.common import ring, utils  # noqa: E402
from swift.common.storage_policy import StoragePolicy, StoragePolicyCollection  # noqa: E402

ACCESS_KEY, SECRET_KEY, REGION = "moult:host", "secret/with+signs=", "us-east-1"

PROXY = """
[DEFAULT]
swift_dir = {dir}
log_level = ERROR
[pipeline:main]
pipeline = catch_errors cache listing_formats s3api tempauth slo proxy-server
[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:1
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:s3api]
use = egg:swift#s3api
location = {region}
max_bucket_listing = 20
[filter:tempauth]
use = egg:swift#tempauth
user_moult_host = {secret} .admin
[filter:slo]
use = egg:swift#slo
"""

STORAGE = """
[DEFAULT]
swift_dir = {dir}
devices = {dir}/devices
mount_check = false
fallocate_reserve = 0
log_level = ERROR
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""


def make_ring(directory, name, port):
    builder = ring.RingBuilder(2, 1, 1)
    builder.add_dev({"id": 0, "region": 1, "zone": 1, "weight": 1, "ip": "127.0.0.1", "port": port, "device": "disk"})
    builder.rebalance()
    builder.get_ring().save(str(directory / f"{name}.ring.gz"))


def main():
    directory = pathlib.Path(sys.argv[1]).resolve()
    (directory / "devices/disk").mkdir(parents=True)
    (directory / "swift.conf").write_text("[swift-hash]\nswift_hash_path_suffix = test\nswift_hash_path_prefix = test\n")
    utils.SWIFT_CONF_FILE = str(directory / "swift.conf")
    utils.validate_configuration()
    sockets = {}
    for kind in ("account", "container", "object"):
        sockets[kind] = eventlet.listen(("127.0.0.1", 0))
        make_ring(directory, kind, sockets[kind].getsockname()[1])
    from swift.common import storage_policy, wsgi
    storage_policy.reload_storage_policies()
    for kind, sock in sockets.items():
        (directory / f"{kind}.conf").write_text(STORAGE.format(dir=directory, kind=kind))
        app = wsgi.loadapp(str(directory / f"{kind}.conf"))
        eventlet.spawn(eventlet.wsgi.server, sock, app, log_output=False)
    (directory / "proxy.conf").write_text(PROXY.format(dir=directory, secret=SECRET_KEY, region=REGION))
    proxy = eventlet.listen(("127.0.0.1", 0))
    app = wsgi.loadapp(str(directory / "proxy.conf"))
    eventlet.spawn(eventlet.wsgi.server, proxy, app, log_output=False, custom_pool=eventlet.GreenPool(64))
    print(proxy.getsockname()[1], flush=True)
    eventlet.tpool.execute(sys.stdin.read)
    os._exit(0)


if __name__ == "__main__":
    main()
