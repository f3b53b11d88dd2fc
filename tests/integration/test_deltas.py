"""Deltas, from the build to a tree: a real agent takes a release from a real moultd over TLS, and the bytes are counted."""

import concurrent.futures
import os
import random
import re
import signal
import struct
import subprocess

import pytest

import moult
import relay as relays
import test_join
import vm as vms

SIZE = 3 << 20
BIG = 5 << 20       # two of them do not go into one frame


@pytest.fixture
def host(tmp_path):
    with moult.Host(tmp_path / "host", tls=True) as daemon:
        yield daemon


class Lab:
    """One agent behind a relay that counts, with an old tree; a release with deltas against that tree."""

    def __init__(self, host, directory):
        self.host, self.dir = host, directory
        self.old, self.new, self.root = directory / "old", directory / "new", directory / "root"
        rng = random.Random(3)
        for tree in (self.old, self.new):
            (tree / "usr/lib").mkdir(parents=True)
        large = bytearray(rng.randbytes(SIZE))
        self.write(self.old, "usr/lib/large-1.0", bytes(large))
        for i in range(0, SIZE, 200_000):
            large[i] ^= 255
        self.write(self.new, "usr/lib/large-1.1", bytes(large))  # of another name, as a library's new version is
        for i in range(40):
            text = rng.randbytes(2000)
            self.write(self.old, f"usr/lib/small{chr(97 + i // 26)}{chr(97 + i % 26)}", text)
            self.write(self.new, f"usr/lib/small{chr(97 + i // 26)}{chr(97 + i % 26)}", text[:1000] + b"!" + text[1000:])
        same = rng.randbytes(1 << 20)
        for tree in (self.old, self.new):
            self.write(tree, "usr/lib/same", same)
        self.public = host.new_key()

    @staticmethod
    def write(tree, path, content):
        (tree / path).write_bytes(content)
        os.utime(tree / path, (1_700_000_000, 1_700_000_000))

    def install(self):
        subprocess.run(["cp", "-a", f"{self.old}/.", self.root], check=True)

    def connect(self):
        token = re.search(r"moult1:[0-9a-f]{64}:\S+", self.host.moult("vm", "add", "net-1", "--network", "--token"))
        self.cable = relays.Relay(("127.0.0.1", self.host.tls_port))
        (self.dir / "trust").mkdir(exist_ok=True)
        (self.dir / "trust/test.pub").write_bytes(self.public)
        agent = test_join.Agent(self.dir, self.host, token.group(0))
        agent.words = [w.replace(f"127.0.0.1:{self.host.tls_port}", "127.0.0.1:%d" % self.cable.address[1])
                       if w.startswith("--host") else w for w in agent.words]
        return agent

    def push(self, release, *words):
        """(bytes towards the guest, how the push is told)."""
        before = self.cable.to_client
        push = self.host.json("push", release, "net-1", *words)["pushes"][0]
        return self.cable.to_client - before, push

    def is_new(self):
        return subprocess.run(["diff", "-r", "--exclude=.moult", self.new, self.root], check=False).returncode == 0


@pytest.fixture
def lab(host, tmp_path):
    made = Lab(host, tmp_path)
    (tmp_path / "root").mkdir()
    made.install()
    with made.connect() as agent:
        agent.wait_for("agent-connected")
        assert test_join.connected(host)
        yield made


def test_only_deltas_travel(lab):
    release = lab.host.release(lab.new, lab.old)
    count, push = lab.push(release)
    assert lab.is_new()
    assert count < 200_000, "3 MiB with 16 bytes changed, 40 small files with one, and 1 MiB that is there"
    assert push["deltas"]["files"] == 41 and push["deltas"]["failed"] == 0
    assert push["deltas"]["saved_bytes"] > SIZE - 100_000


def test_without_deltas_all_that_changed_travels_and_nothing_else(lab):
    release = lab.host.release(lab.new, lab.old, options=("--no-deltas",))
    count, push = lab.push(release)
    assert lab.is_new()
    assert SIZE < count < SIZE + 600_000
    assert push["deltas"]["files"] == 0


def test_old_files_that_are_others_are_no_reason_to_fail(lab):
    release = lab.host.release(lab.new, lab.old)
    lab.write(lab.root, "usr/lib/smallaa", b"changed here")
    count, push = lab.push(release, "--allow-drift")
    assert lab.is_new()
    assert push["deltas"]["unsuited"] > 0 and push["deltas"]["failed"] == 0
    assert count < SIZE + 600_000


def damage(pack, how):
    """Deltas are not signed: moultd has no way to see it."""
    data = bytearray(pack.read_bytes())
    manifest = struct.unpack_from("<Q", data, 40)[0]
    trailer = manifest - 64
    assert data[trailer:trailer + 8] == b"MOULTDX1"
    index, stored = struct.unpack_from("<QI", data, trailer + 8)
    if how == "index":
        data[index + stored // 2] ^= 1
    elif how == "trailer":
        data[trailer + 9] ^= 1
    elif how == "frames":  # before the index; the last of them ends there
        data[index - 40] ^= 255
        data[index - 300] ^= 255
    pack.chmod(0o644)
    pack.write_bytes(data)


@pytest.mark.parametrize("how", ("index", "trailer", "frames"))
def test_damaged_deltas_cost_bytes_and_never_the_upgrade(lab, how):
    pack = lab.host.build(lab.new, lab.old)
    damage(pack, how)
    lab.host.moult("release", "import", pack)
    _, push = lab.push("app=2")
    assert lab.is_new()
    assert push["state"] == "done" and push["deltas"]["failed"] > 0 and push["deltas"]["text"]


def test_a_lost_connection_in_the_middle_is_gone_on_with(lab):
    release = lab.host.release(lab.new, lab.old, options=("--no-trees",))
    lab.cable.cut_after(30_000)
    count, push = lab.push(release)
    assert lab.is_new() and push["state"] == "done"
    assert count < SIZE


def test_deltas_against_several_old_trees(lab, tmp_path):
    other = tmp_path / "other"
    subprocess.run(["cp", "-a", lab.old, other], check=True)
    lab.write(other, "usr/lib/smallaa", b"of an older version")
    release = lab.host.release(lab.new, options=("--delta-from", other, "--delta-from", lab.old, "--exclude", "same"))
    count, push = lab.push(release)
    assert count < 200_000 and push["deltas"]["files"] == 41
    assert push["deltas"]["unsuited"] > 0


def test_a_release_tells_its_deltas(lab):
    pack = lab.host.build(lab.new, lab.old)
    shown = lab.host.json("release", "show", pack)
    assert shown["deltas"]["files"] == 41 and 0 < shown["deltas"]["bytes"] < 200_000
    assert "Deltas:" in lab.host.moult("release", "show", pack)
    bare = lab.host.build(lab.new, lab.old, version="3", options=("--no-deltas",))
    assert lab.host.json("release", "show", bare)["deltas"]["frames"] == 0


def manual(version):
    """Compressed as Debian does: little of the text changes, and every byte behind it."""
    lines = [f"what every line of it begins with: {i * 7919 % 100003:08x}" for i in range(4000)]
    text = "\n".join([f".TH MANUAL 1 {version}", *lines, f"end of {version}"]).encode()
    return subprocess.run(["gzip", "-9n"], input=text, capture_output=True, check=True).stdout


def test_gzip_files_go_by_what_is_in_them(lab):
    lab.write(lab.old, "usr/lib/manual.1.gz", manual("1.0"))
    lab.write(lab.root, "usr/lib/manual.1.gz", manual("1.0"))
    lab.write(lab.new, "usr/lib/manual.1.gz", manual("1.1"))
    with_gzip = lab.host.release(lab.new, lab.old, options=("--exclude", "large-*", "--exclude", "small*"))
    _, push = lab.push(with_gzip)
    assert (lab.root / "usr/lib/manual.1.gz").read_bytes() == manual("1.1")
    assert push["deltas"]["files"] == 1 and push["deltas"]["failed"] == 0
    assert push["deltas"]["bytes"] < 300 < 20 * 300 < len(manual("1.1"))


# The parts of 41 files are written: the first ones, one in the middle, the last.
@pytest.mark.parametrize("at", (1, 2, 20, 41))
def test_an_agent_that_is_killed_while_it_applies_deltas_goes_on_when_it_is_back(host, tmp_path, monkeypatch, at):
    lab = Lab(host, tmp_path)
    lab.root.mkdir()
    lab.install()
    release = host.release(lab.new, lab.old)
    agent = lab.connect()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with monkeypatch.context() as patch:
            patch.setenv("MOULT_FAULT", f"stage-delta-write:{at}=kill")
            with agent:
                agent.wait_for("agent-connected")
                assert test_join.connected(host)
                pushing = pool.submit(lab.push, release)
                agent.process.wait(120)
                assert agent.process.returncode == -signal.SIGKILL
        assert not lab.is_new(), "nothing is switched before all is there"
        with agent:
            count, push = pushing.result(300)
    assert push["state"] == "done" and lab.is_new()
    assert push["deltas"]["failed"] == 0
    assert count < SIZE, "what was not written yet came from deltas as well"


def test_a_disk_that_is_full_for_a_delta_is_no_reason_to_fail(host, tmp_path, monkeypatch):
    lab = Lab(host, tmp_path)
    lab.root.mkdir()
    lab.install()
    release = host.release(lab.new, lab.old)
    monkeypatch.setenv("MOULT_FAULT", "stage-delta-write:5=enospc")
    with lab.connect() as agent:
        agent.wait_for("agent-connected")
        assert test_join.connected(host)
        _, push = lab.push(release)
    assert push["state"] == "done" and lab.is_new()
    assert push["deltas"]["failed"] == 1 and "No space" in push["deltas"]["text"]


def neighbours(lab, tmp_path):
    """A release that adds files beside ones that stay as they are: what their deltas look back at is no part of the release."""
    old, new = tmp_path / "old-2", tmp_path / "new-2"
    rng = random.Random(4)
    for tree in (old, new):
        (tree / "usr/lib").mkdir(parents=True)
    for name in ("one", "two"):
        content = bytearray(rng.randbytes(BIG))
        for tree in (old, new):
            lab.write(tree, f"usr/lib/{name}-1.0", bytes(content))
        content[BIG // 2] ^= 255
        lab.write(new, f"usr/lib/{name}-1.1", bytes(content))
        lab.write(lab.root, f"usr/lib/{name}-1.0", (old / f"usr/lib/{name}-1.0").read_bytes())
    return old, new


def are_new(lab, new):
    return all((lab.root / f"usr/lib/{name}-1.1").read_bytes() == (new / f"usr/lib/{name}-1.1").read_bytes() for name in ("one", "two"))


def test_an_old_file_that_changes_after_the_plan_costs_its_bytes_only(lab, tmp_path):
    old, new = neighbours(lab, tmp_path)
    hook = tmp_path / "check"       # runs between plan and staging
    hook.write_text(f"#!/bin/sh\nprintf changed >>{lab.root}/usr/lib/one-1.0\n")
    hook.chmod(0o755)
    release = lab.host.release(new, old, name="more", options=["--hook", f"check={hook}"])
    count, push = lab.push(release)
    assert push["state"] == "done" and are_new(lab, new)
    assert (push["deltas"]["unsuited"], push["deltas"]["failed"], push["deltas"]["files"]) == (1, 0, 1), push["deltas"]
    assert BIG < count < BIG + 600_000
    assert (lab.root / "usr/lib/one-1.0").read_bytes().endswith(b"changed"), "it is no part of the release"


def test_old_files_that_change_while_deltas_are_applied_cost_their_bytes_only(host, tmp_path, monkeypatch):
    lab = Lab(host, tmp_path)
    lab.root.mkdir()
    lab.install()
    old, new = neighbours(lab, tmp_path)
    release = host.release(new, old, name="more")
    held = tmp_path / "held"
    monkeypatch.setenv("MOULT_FAULT", "stage-delta-write:1=hold")
    monkeypatch.setenv("MOULT_FAULT_HOLD", str(held))
    with lab.connect() as agent, concurrent.futures.ThreadPoolExecutor(1) as pool:
        agent.wait_for("agent-connected")
        assert test_join.connected(host)
        pushing = pool.submit(lab.push, release)
        deadline = vms.Deadline(120, "the first delta is about to be written")
        while not held.exists():
            deadline.left()
        for name in ("one", "two"):     # the first one's bytes are read, the other's are not
            with open(lab.root / f"usr/lib/{name}-1.0", "r+b") as file:
                file.write(b"changed")
        held.unlink()
        count, push = pushing.result(300)
    assert push["state"] == "done" and are_new(lab, new)
    assert (push["deltas"]["unsuited"], push["deltas"]["failed"], push["deltas"]["files"]) == (1, 0, 1), push["deltas"]
    assert BIG < count < BIG + 600_000
