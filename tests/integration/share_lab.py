"""Hosts that share a store: a directory, or a bucket of a real S3-compatible server."""

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
