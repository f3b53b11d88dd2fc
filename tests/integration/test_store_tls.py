"""The shared store over https: a TLS proxy of the test, with a CA of its own, before a real S3-compatible server."""

import pathlib
import sys

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests/support"), str(TOP / "tests/integration")]

import moult  # noqa: E402
from faulty_proxy import FaultyProxy  # noqa: E402
from libvirt import make_certificates  # noqa: E402
from share_lab import bucket, pack_bytes, s3_host, swift, tree, trust  # noqa: E402, F401

TOKEN = "a/session+token=="


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Two CAs, each with a certificate for 127.0.0.1."""
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("ours", "other"):
        make_certificates(folder / name)
    return folder


@pytest.fixture
def proxy(bucket, certificates):
    ours = certificates / "ours"
    with FaultyProxy(bucket.port, tls=(ours / "servercert.pem", ours / "serverkey.pem")) as p:
        yield p


def test_a_service_with_a_ca_of_its_own_and_a_session_token(bucket, proxy, certificates, tmp_path):
    a, b = (s3_host(tmp_path / n, bucket, endpoint=f"https://127.0.0.1:{proxy.port}", token=TOKEN,
                    ca=certificates / "ours/cacert.pem") for n in "ab")
    with a, b:
        a.new_key()
        trust(b, a)
        a.release(tree(tmp_path / "t1", files=5), version="1")
        a.moult("store", "push", "app=1")
        b.moult("store", "pull", "app=1")
        assert pack_bytes(a, "1") == pack_bytes(b, "1")
        assert b.json("store", "verify", "--shared")["result"]["findings"] == []
        assert len(proxy.headers) > 5
        for headers in proxy.headers:  # the server has checked the signatures
            lower = {k.lower(): v for k, v in headers.items()}
            signed = lower["authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
            assert lower["x-amz-security-token"] == TOKEN and "x-amz-security-token" in signed
        assert TOKEN not in a.log_text(10**6) + b.log_text(10**6)


@pytest.mark.parametrize("case", ["the system's CAs", "another CA", "another name"])
def test_a_service_that_does_not_prove_who_it_is_gets_nothing(bucket, proxy, certificates, tmp_path, case):
    ca = {"the system's CAs": None, "another CA": certificates / "other/cacert.pem",
          "another name": certificates / "ours/cacert.pem"}[case]
    host = "localhost" if case == "another name" else "127.0.0.1"
    with s3_host(tmp_path / "a", bucket, endpoint=f"https://{host}:{proxy.port}", token=TOKEN, ca=ca) as a:
        a.new_key()
        a.release(tree(tmp_path / "t1", files=3), version="1")
        code, out, err = a.run("store", "push", "app=1")
        assert code == 9 and "does not prove" in err and "s3-ca" in err, (code, out, err)
        assert ("name" if case == "another name" else "certificate") in err.split("(")[1].split(")")[0]
        assert proxy.headers == [] and "store-retry" not in a.log_text(10**6)


def test_a_file_of_no_certificates_is_told_at_start(bucket, tmp_path):
    for name, text, words in (("none", None, "s3-ca"), ("empty", "", "no certificate"), ("key", "-----BEGIN KEY", "no certificate")):
        ca = tmp_path / f"{name}.pem"
        if text is not None:
            ca.write_text(text)
        h = s3_host(tmp_path / name, bucket, ca=ca)
        with pytest.raises(moult.vms.VmError):
            h.start()
        assert words in h.log_text() and "s3-ca" in h.log_text()
