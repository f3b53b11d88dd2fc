"""moult release capture from a pilot machine: a real agent, a real moultd, and a tree that somebody worked on."""

import base64
import json
import os
import re
import shutil
import subprocess

import pytest

import moult
import vm as vms
from engine_lab import difference, put, set_time, snapshot
from test_join import Agent, connected

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="owners need root")

NOT_FOUND, REFUSED = 3, 4


@pytest.fixture
def host(tmp_path):
    with moult.Host(tmp_path / "host", tls=True) as daemon:
        yield daemon


@pytest.fixture
def pilot(host, tmp_path):
    """A machine that was made from `golden`, and its agent."""
    golden, root = tmp_path / "golden", tmp_path / "root"
    for n in range(700):                    # more than one question's worth
        put(golden, f"usr/share/many/{n:04}", f"{n}")
    put(golden, "usr/bin/tool", "one" * 3000, 0o755)
    put(golden, "usr/bin/same", "same", 0o755)
    put(golden, "usr/bin-x/y", "between bin and bin/ in one order, not in the other")
    put(golden, "etc/gone", "gone")
    put(golden, "etc/machine-id", "a" * 32)
    put(golden, "var/log/app.log", "old")
    os.link(golden / "usr/bin/same", golden / "usr/bin/alias")
    (golden / "usr/link").symlink_to("bin/tool")
    shutil.copytree(golden, root, symlinks=True)
    (root / "usr/bin/alias").unlink()
    os.link(root / "usr/bin/same", root / "usr/bin/alias")
    (tmp_path / "trust").mkdir()
    host.moult("key", "new", "--out", tmp_path / "ops")
    shutil.copy(tmp_path / "ops.pub", tmp_path / "trust")
    token = re.search(r"moult1:[0-9a-f]{64}:\S+", host.moult("vm", "add", "net-1", "--network", "--token")).group(0)
    with Agent(tmp_path, host, token) as agent:
        agent.wait_for("agent-connected")
        assert connected(host)
        yield Pilot(tmp_path, host, golden, root)


class Pilot:
    def __init__(self, directory, host, golden, root):
        self.dir, self.host, self.golden, self.root = directory, host, golden, root

    def words(self, *options):
        return ["release", "capture", "--from", self.golden, "--to", "vm:net-1", "--name", "fix", "--version", "1",
                "--sign", self.dir / "ops.key", "-o", self.dir / "fix.moult", *options]

    def capture(self, *options):
        self.report = self.host.json(*self.words(*options))
        shown = self.host.json("release", "show", self.dir / "fix.moult", "--entries")
        return {e["path"]: e for e in shown["entries"]}

    def apply_to(self, root):
        subprocess.run([str(moult.HOST_BUILD / "guest-agent/moult-agent"), "apply", "--root", str(root), "--state",
                        str(self.dir / "other-state"), "--trust", str(self.dir / "trust"), str(self.dir / "fix.moult")],
                       check=True, capture_output=True)


def work_on(root):
    """What an administrator does to the pilot."""
    put(root, "usr/bin/tool", "two" * 3000, 0o755)
    put(root, "usr/lib/new/lib.so", os.urandom(700_000))
    put(root, "usr/share/many/0500", "changed")
    put(root, "etc/odd name\n", "x", 0o600, (33, 33), {"user.note": b"\0\1"})
    (root / "etc/gone").unlink()
    (root / "usr/bin/same").chmod(0o750)
    (root / "usr/link").unlink()
    (root / "usr/link").symlink_to("bin/same")
    put(root, "etc/machine-id", "b" * 32)
    put(root, "var/log/app.log", "new and longer")
    put(root, "tmp/x", "x")


def test_what_was_done_to_the_pilot_becomes_a_release(pilot):
    work_on(pilot.root)
    entries = pilot.capture()
    assert set(entries) == {"usr/bin/tool", "usr/lib", "usr/lib/new", "usr/lib/new/lib.so", "usr/share/many/0500", "etc/gone",
                            "usr/bin/same", "usr/bin/alias", "usr/link", "etc/odd name\\x0a"}
    assert {x["path"] for x in pilot.report["left_out"]} == {"etc/machine-id", "var/log/app.log"}
    clone = pilot.dir / "clone"     # a sibling: made from the golden image, and upgraded
    shutil.copytree(pilot.golden, clone, symlinks=True)
    (clone / "usr/bin/alias").unlink()
    os.link(clone / "usr/bin/same", clone / "usr/bin/alias")
    pilot.apply_to(clone)
    a, b = ({p: x[:4] + x[5:] if x[0][0] == "d" else x for p, x in snapshot(root).items()  # when names came and went is its own
             if not p.startswith(("var", "tmp", "etc/machine-id"))} for root in (pilot.root, clone))
    assert not difference(a, b)


def test_a_pilot_that_nobody_touched_has_nothing_to_release(pilot):
    code, out, err = pilot.host.run(*pilot.words())
    assert code == REFUSED and "do not differ" in err, out + err


def test_contents_are_read_where_that_is_asked_for(pilot):
    tool = pilot.root / "usr/bin/tool"
    ns = tool.stat().st_mtime_ns
    tool.write_text("six" * 3000)
    set_time(tool, ns)              # same size, same time: nobody does this by accident
    assert pilot.host.run(*pilot.words())[0] == REFUSED
    assert set(pilot.capture("--checksum")) == {"usr/bin/tool"}


def test_only_what_is_included_is_fetched(pilot):
    work_on(pilot.root)
    assert set(pilot.capture("--include", "/usr/share")) == {"usr/share/many/0500"}


def test_a_time_alone_is_no_difference(pilot):
    set_time(pilot.root / "usr/bin/tool", 1_000_000_000_000_000_000)
    assert pilot.host.run(*pilot.words())[0] == REFUSED


def test_a_vm_that_is_not_known_is_named(pilot):
    words = [w if w != "vm:net-1" else "vm:nobody" for w in pilot.words()]
    code, _, err = pilot.host.run(*words)
    assert code == NOT_FOUND and "nobody" in err


def test_the_api_hands_on_questions_about_files_only(pilot):
    def ask(question):
        done = subprocess.run(["curl", "-s", "--unix-socket", str(pilot.host.socket), "-H", "Content-Type: application/json",
                               "-d", json.dumps({"question": base64.b64encode(question).decode()}),
                               "http://x/v1/vms/net-1/tree"], capture_output=True, check=True)
        return json.loads(done.stdout)
    assert ask(b"\xff\xff\xff")["error"]["code"] == "malformed"
    assert ask(b"\x6a\x00")["error"]["code"] == "refused"       # a Ping
    assert "answer" in ask(b"\xd2\x01\x00")                     # a TreeQuery for all of it


# ---- drift


def drift(pilot, *options):
    code, out, err = pilot.host.run("drift", "net-1", "--golden", pilot.golden, "--json", *options)
    return code, {x["path"]: (x["change"], x["against"]) for x in json.loads(out)["drift"]} if out else err


def test_an_untouched_vm_has_not_drifted(pilot):
    put(pilot.root, "var/log/more.log", "noise")
    assert drift(pilot) == (0, {})


def test_what_was_done_by_hand_is_drift_and_what_a_release_did_is_not(pilot, tmp_path):
    new = tmp_path / "new"
    shutil.copytree(pilot.golden, new, symlinks=True)
    (new / "usr/bin/alias").unlink()
    os.link(new / "usr/bin/same", new / "usr/bin/alias")
    put(new, "usr/bin/tool", "released", 0o755)
    put(new, "usr/bin/two", "released", 0o755)
    put(new, "usr/bin/three", "released", 0o755)
    (new / "etc/gone").unlink()
    pilot.host.moult("release", "capture", "--from", pilot.golden, "--to", new, "--name", "app", "--version", "2", "--sign",
                     pilot.dir / "ops.key", "-o", tmp_path / "app.moult")
    shutil.copy(tmp_path / "ops.pub", pilot.host.trust)
    pilot.host.moult("release", "import", tmp_path / "app.moult")
    pilot.host.moult("push", "app=2", "net-1")
    assert drift(pilot) == (0, {})

    put(pilot.root, "usr/bin/by-hand", "x")
    put(pilot.root, "usr/bin/two", "changed", 0o755)
    (pilot.root / "usr/bin/three").unlink()
    shutil.copy2(pilot.golden / "usr/bin/tool", pilot.root / "usr/bin/tool")
    code, found = drift(pilot)
    assert code == REFUSED
    assert found == {"usr/bin/by-hand": ("create", "golden image"), "usr/bin/two": ("create", "app 2"),
                     "usr/bin/three": ("missing", "app 2"), "usr/bin/tool": ("reverted", "app 2")}


@pytest.mark.parametrize("change", [lambda f: f.chmod(0o4755), lambda f: os.chown(f, 33, 0)])
def test_mode_and_owner_of_what_a_release_put_there_drift_too(pilot, tmp_path, change):
    new = tmp_path / "new"
    shutil.copytree(pilot.golden, new, symlinks=True)
    (new / "usr/bin/alias").unlink()
    os.link(new / "usr/bin/same", new / "usr/bin/alias")
    put(new, "usr/bin/two", "released", 0o755)
    pilot.host.moult("release", "capture", "--from", pilot.golden, "--to", new, "--name", "app", "--version", "2", "--sign",
                     pilot.dir / "ops.key", "-o", tmp_path / "app.moult")
    shutil.copy(tmp_path / "ops.pub", pilot.host.trust)
    pilot.host.moult("release", "import", tmp_path / "app.moult")
    pilot.host.moult("push", "app=2", "net-1")
    assert drift(pilot) == (0, {})
    change(pilot.root / "usr/bin/two")
    assert drift(pilot) == (REFUSED, {"usr/bin/two": ("create", "app 2")})
