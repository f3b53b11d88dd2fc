"""Releases shared by hosts: chunks in a directory, and in a real S3-compatible server (OpenStack Swift, which checks
signatures), with a proxy in front of it that fails in every way."""

import pathlib
import shutil
import subprocess
import sys
import time

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests/support"), str(TOP / "tests/integration")]

import moult  # noqa: E402
import s3_client  # noqa: E402
from faulty_proxy import FaultyProxy  # noqa: E402
from share_lab import (ACCESS, SECRET, bucket, pack_bytes, s3_host, settings, swift, tree,  # noqa: E402, F401
                       trust)


def wait_log(host, text):
    deadline = moult.vms.Deadline(60, text)
    while text not in host.log_text(10**6):
        deadline.left()
        time.sleep(0.02)  # a log tells nobody that it grew


def fetched(host):
    """Of each pull, in order."""
    return [int(line.split("fetched=")[1].split()[0].strip('"')) for line in host.log_text(10**6).splitlines()
            if "store-pulled" in line]


def test_two_hosts_store_and_transfer_each_chunk_once(bucket, tmp_path):
    a, b = s3_host(tmp_path / "a", bucket), s3_host(tmp_path / "b", bucket)
    with a, b:
        a.new_key()
        trust(b, a)
        a.release(tree(tmp_path / "t1"), version="1")
        a.release(tree(tmp_path / "t2", changed=2), version="2")
        first = a.json("store", "push", "app=1")["result"]
        assert first["moved"] == first["chunks"] > 10
        second = a.json("store", "push", "app=2")["result"]
        assert 0 < second["moved"] <= second["chunks"] / 3, "what is the same is not sent again"
        assert a.json("store", "push", "app=2")["result"]["already_there"]
        keys = bucket.keys("moult/")
        assert len(keys) == first["moved"] + second["moved"] + 2
        assert "now in moultd" in b.moult("store", "pull", "app=1")
        b.moult("store", "pull", "app=2")
        assert fetched(b) == [first["chunks"], second["moved"]], "what B has from 1 is not fetched for 2"
        for version in ("1", "2"):
            assert pack_bytes(b, version) == pack_bytes(a, version)
        assert b.json("store", "verify")["result"]["findings"] == []
        assert b.json("store", "pull", "app=2")["result"]["already_there"]
        # B has it now, so it sends nothing; and another release of the same name and version is not overwritten.
        assert b.json("store", "push", "app=2")["result"]["moved"] == 0
        b.moult("release", "remove", "app=2")
        b.release(tree(tmp_path / "t3", changed=3), version="2")
        code, _, err = b.run("store", "push", "app=2")
        assert code == 4 and "another release" in err
        for host in (a, b):
            assert SECRET not in host.log_text(10**6)


def test_what_fails_in_passing_is_tried_again_and_nothing_is_lost(bucket, tmp_path):
    """Each object's first attempts meet another fault: by turns of its key."""
    faults = ["500", "503", "close", "cut", "flip", "hang"]
    hangs = []

    def rule(method, path, n):
        fault = faults[sum(path.encode()) % len(faults)]
        if fault == "hang" and n == 1:
            hangs.append(path)
            return "hang" if len(hangs) <= 2 else None  # each costs the time-out
        return fault if n <= 1 and fault != "hang" else None

    with FaultyProxy(bucket.port, rule) as proxy:
        a, b = (s3_host(tmp_path / n, bucket, proxy.port, timeout=2) for n in "ab")
        with a, b:
            a.new_key()
            trust(b, a)
            a.release(tree(tmp_path / "t1"), version="1")
            a.moult("store", "push", "app=1")
            b.moult("store", "pull", "app=1")
            assert pack_bytes(a, "1") == pack_bytes(b, "1")
            tried = {(m, f) for (m, p), n in proxy.seen.items() if n > 1 for f in [faults[sum(p.encode()) % len(faults)]]}
            assert {("HEAD", "500"), ("PUT", "503"), ("PUT", "close"), ("GET", "flip"), ("GET", "cut")} <= tried
            assert "store-retry" in a.log_text(10**6) and "store-retry" in b.log_text(10**6)


def test_a_store_that_is_down_is_waited_for(bucket, tmp_path):
    down = {"now": True}
    with FaultyProxy(bucket.port, lambda *_: "close" if down["now"] else None) as proxy:
        with s3_host(tmp_path / "a", bucket, proxy.port) as a:
            a.new_key()
            a.release(tree(tmp_path / "t1", files=3), version="1")
            job = a.json("store", "push", "app=1", "--detach")["id"]
            wait_log(a, 'attempt=2')
            down["now"] = False
            a.moult("jobs", "wait", job)
            # And one that is waited for can be given up.
            down["now"] = True
            a.release(tree(tmp_path / "t2", changed=2, files=21), version="2")
            job = a.json("store", "push", "app=2", "--detach")["id"]
            wait_log(a, 'pushing app 2')
            a.moult("jobs", "cancel", job)
            assert a.run("jobs", "wait", job)[0] == 12


def test_wrong_credentials_are_told_at_once_and_no_secret_is_logged(bucket, tmp_path):
    with s3_host(tmp_path / "a", bucket, secret="not-the-secret") as a:
        a.new_key()
        a.release(tree(tmp_path / "t1", files=3), version="1")
        code, out, err = a.run("store", "push", "app=1")
        assert code == 9 and "SignatureDoesNotMatch" in err and "s3-credentials" in err
        assert "not-the-secret" not in out + err + a.log_text(10**6) and "store-retry" not in a.log_text(10**6)
    for name, mode, text in (("open", 0o644, "can be read by others"), ("none", 0o600, "aws_access_key_id")):
        h = s3_host(tmp_path / name, bucket, mode=mode)
        if name == "none":
            (h.dir / "credentials").write_text(f"[default]\nsecret = {SECRET}\n{SECRET}\n")
        with pytest.raises(moult.vms.VmError):
            h.start()
        assert text in h.log_text() and SECRET not in h.log_text()


def test_a_bucket_or_a_release_that_is_not_there(bucket, tmp_path):
    nowhere = s3_client.S3(bucket.port, ACCESS, SECRET, bucket="is-not-there")
    with s3_host(tmp_path / "a", nowhere) as a:
        a.new_key()
        a.release(tree(tmp_path / "t1", files=3), version="1")
        code, _, err = a.run("store", "push", "app=1")
        assert code in (3, 4) and "make the bucket first" in err, err
    with s3_host(tmp_path / "b", bucket) as b:
        code, _, err = b.run("store", "pull", "app=1")
        assert code == 3 and "app 1" in err
        code, _, err = b.run("store", "push", "app=1")
        assert code == 3
        assert b.run("store", "pull", "app")[0] == 2


def test_a_store_that_lies_gives_nothing(tmp_path):
    """The list of another release, of an untrusted signer, or one that is none: refused, and nothing stays."""
    shared = tmp_path / "shared"
    a, b = moult.Host(tmp_path / "a"), moult.Host(tmp_path / "b")
    for h in (a, b):
        settings(h, f"shared-store={shared}\n")
    with a, b:
        a.new_key()
        a.release(tree(tmp_path / "t1", files=3), version="1")
        a.moult("store", "push", "app=1")
        b.new_key("other")
        code, _, err = b.run("store", "pull", "app=1")
        assert code == 9, err
        trust(b, a)
        shutil.copy(shared / "releases/app/1.caibx", shared / "releases/app/2.caibx")
        code, _, err = b.run("store", "pull", "app=2")
        assert code == 4 and "app 1" in err
        assert list((b.state / "packs").iterdir()) == [] and b.json("release", "list") == []
        b.moult("store", "pull", "app=1")
        assert pack_bytes(a, "1") == pack_bytes(b, "1")


def test_casync_reads_what_moult_has_stored(tmp_path):
    """The format is casync's: an independent reader puts the pack together."""
    with moult.Host(tmp_path / "a") as a:  # the default: STATE_DIR/objects
        a.new_key()
        a.release(tree(tmp_path / "t1"), version="1")
        a.moult("store", "push", "app=1")
        objects = a.state / "objects"
        out = tmp_path / "out"
        subprocess.run(["casync", "extract", f"--store={objects}/chunks", objects / "releases/app/1.caibx", out], check=True)
        assert out.read_bytes() == pack_bytes(a, "1")


@pytest.mark.parametrize("point, words", [
    ("share-chunk-put:3", ["push", "app=1"]), ("share-index", ["push", "app=1"]),
    ("share-chunk-got:3", ["pull", "app=1"]), ("share-pulled", ["pull", "app=1"]), ("store-sealed", ["pull", "app=1"]),
])
def test_moultd_killed_in_the_middle_goes_on(tmp_path, point, words):
    shared = tmp_path / "shared"
    a = moult.Host(tmp_path / "a")
    settings(a, f"shared-store={shared}\n")
    with a:
        a.new_key()
        a.release(tree(tmp_path / "t1", files=12), version="1")
        if words[0] == "pull":
            a.moult("store", "push", "app=1")
    h = a
    if words[0] == "pull":
        h = moult.Host(tmp_path / "b")
        settings(h, f"shared-store={shared}\n")
        trust(h, a)
    h.start({"MOULT_FAULT": f"{point}=kill"})
    h.run("store", *words, "--detach")
    h.process.wait(60)
    assert h.process.returncode == -9
    h.start()
    h.moult("jobs", "wait", h.json("jobs", "--all")[0]["id"])
    assert len(list((h.state / "packs").iterdir())) == 1 and h.json("store", "verify")["result"]["findings"] == []
    if words[0] == "push":
        assert h.json("store", "push", "app=1")["result"]["already_there"]
    h.stop()
