"""Hosts that share a store: a directory, or a bucket of a real S3-compatible server."""

import json
import os
import pathlib
import random
import shutil
import subprocess
import sys

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests/support"))

import moult  # noqa: E402
import s3_client  # noqa: E402
from faulty_proxy import FaultyProxy  # noqa: E402

ACCESS, SECRET = "moult:host", "secret/with+signs="


@pytest.fixture(scope="module")
def swift(tmp_path_factory):
    """The server's port."""
    server = subprocess.Popen(["/usr/bin/python3", TOP / "tests/support/s3_server.py", tmp_path_factory.mktemp("swift")],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    port = int(server.stdout.readline())
    yield port
    server.stdin.close()
    server.wait(60)


@pytest.fixture
def bucket(swift, request):
    b = s3_client.S3(swift, ACCESS, SECRET, bucket=f"b{abs(hash(request.node.name)) % 10**9}")
    b.make_bucket()
    return b


def settings(host, text):
    (host.dir / "moultd.conf").write_text("[moultd]\n" + text)
    host.options = ["--config", str(host.dir / "moultd.conf")]


def credentials(host, secret=SECRET, mode=0o600, token=None):
    path = host.dir / "credentials"
    path.write_text(f"[default]\naws_access_key_id = {ACCESS}\naws_secret_access_key = {secret}\n"
                    + (f"aws_session_token = {token}\n" if token else ""))
    path.chmod(mode)
    return path


def s3_host(directory, bucket, port=None, secret=SECRET, mode=0o600, timeout=30, endpoint=None, token=None, ca=None):
    h = moult.Host(directory)
    endpoint = endpoint or f"http://127.0.0.1:{port or bucket.port}"
    settings(h, f"shared-store=s3://{bucket.bucket}/moult\ns3-endpoint={endpoint}\n"
                f"s3-credentials={credentials(h, secret, mode, token)}\ns3-timeout={timeout}\n"
                + (f"s3-ca={ca}\n" if ca else ""))
    return h


def trust(host, other):
    shutil.copy(other.dir / "test.key", host.dir / "test.key")
    shutil.copy(other.trust / "test.pub", host.trust / "test.pub")


def tree(directory, changed=0, files=40):
    """Some 3 MB; of version @changed one file differs, and one is added in front of all others."""
    directory.mkdir(parents=True)
    rng = random.Random(7)
    for i in range(files):
        (directory / f"file-{i:03}").write_bytes(rng.randbytes(80000))
    if changed:
        (directory / "file-020").write_bytes(random.Random(changed).randbytes(80000))
        (directory / "a-new-one").write_bytes(random.Random(-changed).randbytes(5000))
    return directory


def pack_bytes(host, version):
    r = next(r for r in host.json("release", "list", "app") if r["version"] == version)
    return (host.state / "packs" / r["file"]).read_bytes()[:r["size"]]


class Directory:
    """The same few calls as s3_client.S3 has."""

    def __init__(self, path):
        self.path = path

    def keys(self):
        return sorted(str(p.relative_to(self.path)) for p in self.path.rglob("*") if p.is_file())

    def get(self, key):
        return (self.path / key).read_bytes()

    def put(self, key, data):
        (self.path / key).parent.mkdir(parents=True, exist_ok=True)
        (self.path / key).unlink(missing_ok=True)
        (self.path / key).write_bytes(data)

    def delete(self, key):
        (self.path / key).unlink()


class Bucket:
    def __init__(self, s3):
        self.s3 = s3

    def keys(self):
        return sorted(k.removeprefix("moult/") for k in self.s3.keys("moult/"))

    def get(self, key):
        return self.s3.get("moult/" + key)

    def put(self, key, data):
        self.s3.put("moult/" + key, data)

    def delete(self, key):
        self.s3.delete("moult/" + key)


class Lab:
    """Hosts that share a store."""

    def __init__(self, tmp_path, bucket):
        self.tmp_path, self.s3 = tmp_path, bucket
        self.proxy = FaultyProxy(bucket.port) if bucket else None
        self.store = Bucket(bucket) if bucket else Directory(tmp_path / "shared")

    def host(self, name):
        if self.s3:
            return s3_host(self.tmp_path / name, self.s3, self.proxy.port)
        h = moult.Host(self.tmp_path / name)
        settings(h, f"shared-store={self.tmp_path / 'shared'}\n")
        return h

    def age(self, seconds):
        """All objects that there are become so old."""
        if self.s3:
            self.proxy.age(seconds)
            return
        for path in self.store.path.rglob("*"):
            at = path.stat().st_mtime - seconds
            os.utime(path, (at, at))

    def push_two_and_lose_one(self, host):
        """Releases 1 and 2, whose list is then deleted by hand: the chunks that nobody needs any more."""
        host.release(tree(self.tmp_path / "t1"), version="1")
        host.release(tree(self.tmp_path / "t2", changed=2), version="2")
        host.moult("store", "push", "app=1")
        chunks_of_1 = self.chunks()
        host.moult("store", "push", "app=2")
        self.store.delete("releases/app/2.caibx")
        return sorted(set(self.chunks()) - set(chunks_of_1))

    def chunks(self):
        return [k for k in self.store.keys() if k.startswith("chunks/")]


@pytest.fixture(params=["directory", "s3"])
def lab(request, tmp_path):
    made = Lab(tmp_path, request.getfixturevalue("bucket") if request.param == "s3" else None)
    yield made
    if made.proxy:
        made.proxy.__exit__()


def shared_verify(host, code=0):
    got, out, err = host.run("store", "verify", "--shared", "--json")
    assert got == code, (got, out, err)
    return json.loads(out)["result"]


def shared_gc(host, *words):
    return host.json("store", "gc", "--shared", "--grace", "1", *words)["result"]
