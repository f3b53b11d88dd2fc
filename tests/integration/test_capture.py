"""moult release capture: two directories, two sets of packages, and what an agent does with the result."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))

import engine_lab  # noqa: E402
import packread  # noqa: E402
from engine_lab import AGENT, MOULT, OK, REFUSED, USAGE, put  # noqa: E402

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="owners need root")


class Capture:
    """A key, the commands, and one machine's root to apply to."""

    def __init__(self, directory):
        self.dir = directory
        self.lab = engine_lab.Lab(directory / "lab")
        self.root = self.lab.root

    def run(self, old, new, *options, out="r.moult"):
        words = [w for o in old for w in ("--from", o)] + [w for n in new for w in ("--to", n)]
        return subprocess.run([str(MOULT), "release", "capture", *map(str, words), "--name", "app", "--version", "2",
                               "--sign", str(self.lab.dir / "release.key"), "-o", str(self.dir / out),
                               *map(str, options)], capture_output=True, text=True, check=False)

    def capture(self, old, new, *options):
        done = self.run(old, new, "--json", *options)
        assert done.returncode == OK, done.stderr
        self.report = json.loads(done.stdout)
        shown = subprocess.run([str(MOULT), "release", "show", str(self.dir / "r.moult"), "--entries", "--json"],
                               capture_output=True, text=True, check=True)
        return {e["path"]: e for e in json.loads(shown.stdout)["entries"]}

    def agent(self, command, *options):
        return subprocess.run([str(AGENT), command, "--root", str(self.root), "--state", str(self.lab.state), "--trust",
                               str(self.lab.trust), *options, str(self.dir / "r.moult")], capture_output=True, text=True,
                              check=False)

    def apply(self, *options):
        done = self.agent("apply", *options)
        assert done.returncode == OK, done.stdout + done.stderr

    def plan(self):
        lines = self.agent("plan", "--json", "--all").stdout.splitlines()
        return {i["path"]: i for i in map(json.loads, lines) if "path" in i}


@pytest.fixture
def lab(tmp_path):
    return Capture(tmp_path)


# ---- directories


@pytest.fixture
def images(tmp_path):
    """Two versions of a golden image, unpacked, the second of which has been running."""
    old, new = tmp_path / "golden-1", tmp_path / "golden-2"
    for root in (old, new):
        put(root, "usr/bin/same", "same", 0o755)
        put(root, "etc/machine-id", f"{root.name}\n")
        put(root, "etc/app.conf", "a\n")
        put(root, "var/log/app/old.log", root.name)
    put(old, "usr/bin/tool", "one", 0o755)
    put(new, "usr/bin/tool", "two", 0o755)
    put(new, "usr/share/app/data", "data")
    put(old, "usr/bin/gone", "gone")
    put(new, "etc/ssh/ssh_host_rsa_key", "secret", 0o600)
    put(new, "var/log/new/x.log", "noise")
    put(new, "run/x", "noise")
    # By its short name: addresses of Unix sockets have 108 bytes.
    subprocess.run(["/usr/bin/python3", "-c", "import socket; socket.socket(socket.AF_UNIX).bind('socket')"], cwd=new / "usr/bin", check=True)
    return old, new


def test_two_directories_become_a_release_without_what_belongs_to_one_machine(lab, images):
    entries = lab.capture([images[0]], [images[1]])
    assert set(entries) == {"etc/ssh", "usr/bin/gone", "usr/bin/tool", "usr/share", "usr/share/app", "usr/share/app/data",
                            "var/log/new"}
    assert entries["usr/bin/gone"]["type"] == "delete"
    assert {x["path"] for x in lab.report["left_out"]} == {
        "etc/machine-id", "etc/ssh/ssh_host_rsa_key", "var/log/app/old.log", "var/log/new/x.log"}
    assert all(x["reason"] for x in lab.report["left_out"])


def test_the_captured_release_makes_the_old_image_the_new_one(lab, images):
    lab.capture([images[0]], [images[1]])
    shutil.copytree(images[0], lab.root, symlinks=True, dirs_exist_ok=True)
    lab.apply()
    assert (lab.root / "usr/bin/tool").read_text() == "two"
    assert (lab.root / "usr/share/app/data").read_text() == "data"
    assert not (lab.root / "usr/bin/gone").exists()
    assert (lab.root / "etc/machine-id").read_text() == "golden-1\n"


def test_the_words_say_what_was_left_out(lab, images):
    done = lab.run([images[0]], [images[1]])
    assert done.returncode == OK, done.stderr
    assert "4 that differ belong to one machine and are left out:" in done.stdout
    assert "/etc/machine-id names one machine" in done.stdout


def test_include_and_exclude_narrow_it(lab, images):
    assert set(lab.capture([images[0]], [images[1]], "--include", "/usr/bin", "--exclude", "gone")) == {"usr/bin/tool"}
    done = lab.run([images[0]], [images[1]], "--include", "/nowhere", "-f")
    assert done.returncode == REFUSED and "--include" in done.stderr


def test_the_operators_own_list_replaces_the_one_that_comes_along(lab, images, tmp_path):
    (tmp_path / "list").write_text("[noise]\nusr/share/app/* is ours\nrun/\nvar/log/*\n")
    entries = lab.capture([images[0]], [images[1]], "--per-vm-list", tmp_path / "list")
    assert "etc/machine-id" in entries and "usr/share/app/data" not in entries
    (tmp_path / "list").write_text("[nose]\n")
    done = lab.run([images[0]], [images[1]], "-f", "--per-vm-list", tmp_path / "list")
    assert done.returncode == REFUSED and "line 1" in done.stderr


def test_what_differs_in_identity_only_is_no_release(lab, tmp_path):
    for n in ("1", "2"):
        put(tmp_path / n, "etc/machine-id", n)
    done = lab.run([tmp_path / "1"], [tmp_path / "2"])
    assert done.returncode == REFUSED and "one machine only" in done.stderr
    assert not (tmp_path / "r.moult").exists()


# ---- packages


def deb(tmp_path, name, version, files, conffiles=(), scripts=()):
    tree = tmp_path / f"{name}-{version}"
    for path, data in files.items():
        put(tree, path, data)
    put(tree, "DEBIAN/control", f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: x <x@y.z>\n"
                                "Description: x\n")
    if conffiles:
        put(tree, "DEBIAN/conffiles", "".join(f"/{c}\n" for c in conffiles))
    for script in scripts:
        put(tree, f"DEBIAN/{script}", "#!/bin/sh\n", 0o755)
    result = tmp_path / f"{name}_{version}_all.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", str(tree), str(result)], check=True, capture_output=True)
    return result


CONF = "etc/app.conf"
OLD_CONF, NEW_CONF = "port=1\n", "port=2\n"


@pytest.fixture
def packages(tmp_path):
    old = deb(tmp_path, "app", "1", {"usr/bin/app": "1", "usr/share/app/gone": "x", CONF: OLD_CONF, "etc/same.conf": "s",
                                     "etc/obsolete.conf": "o"}, (CONF, "etc/same.conf", "etc/obsolete.conf"))
    new = deb(tmp_path, "app", "2", {"usr/bin/app": "2", CONF: NEW_CONF, "etc/same.conf": "s", "etc/new.conf": "n"},
              (CONF, "etc/same.conf", "etc/new.conf"), ("postinst",))
    return [old], [new]


def test_packages_become_a_release_with_their_conffiles(lab, packages):
    entries = lab.capture(*packages)
    assert set(entries) == {"usr/bin/app", "usr/share/app/gone", CONF, "etc/new.conf"}
    assert entries[CONF]["conffile"] and entries["etc/new.conf"]["conffile"] and "conffile" not in entries["usr/bin/app"]
    assert entries[CONF]["uid"] == 0
    assert any("app_2_all.deb has maintainer scripts (postinst)" in w for w in lab.report["warnings"])
    assert packread.Pack((lab.dir / "r.moult").read_bytes())     # the other implementation can read it


@pytest.mark.parametrize("live, after, action", [
    (OLD_CONF, NEW_CONF, "replace"),             # nobody touched it
    ("port=9\n", "port=9\n", "kept"),            # the administrator did
    (NEW_CONF, NEW_CONF, "equal"),
    (None, None, "kept"),                        # deleted by the administrator
], ids=["untouched", "changed", "already-new", "deleted"])
def test_a_conffile_is_treated_as_dpkg_treats_it(lab, packages, tmp_path, live, after, action):
    lab.capture(*packages)
    root = tmp_path / "dpkg"        # the same upgrade by dpkg itself, as the oracle
    for where in (lab.root, root):
        where.mkdir(exist_ok=True)
        subprocess.run(["dpkg-deb", "-x", str(packages[0][0]), str(where)], check=True)
    (root / "var/lib/dpkg").mkdir(parents=True)
    dpkg = ["dpkg", "--root", str(root), "--force-confdef,confold,not-root,script-chrootless", "-i"]
    subprocess.run([*dpkg, str(packages[0][0])], check=True, capture_output=True)
    for where in (lab.root, root):
        if live is None:
            (where / CONF).unlink()
        else:
            (where / CONF).write_text(live)
    assert lab.plan()[CONF]["action"].lower() == action
    subprocess.run([*dpkg, str(packages[1][0])], check=True, capture_output=True, stdin=subprocess.DEVNULL)
    lab.apply()
    by_dpkg, by_moult = ((where / CONF).read_text() if (where / CONF).exists() else None for where in (root, lab.root))
    assert by_moult == by_dpkg == after
    for path in ("usr/bin/app", "etc/same.conf", "etc/new.conf", "etc/obsolete.conf"):
        assert (lab.root / path).read_text() == (root / path).read_text(), path
    assert not (lab.root / "usr/share/app/gone").exists() and not (root / "usr/share/app/gone").exists()


def test_a_rollback_after_a_kept_conffile_gives_the_old_tree(lab, packages):
    lab.capture(*packages)
    subprocess.run(["dpkg-deb", "-x", str(packages[0][0]), str(lab.root)], check=True)
    (lab.root / CONF).write_text("port=9\n")
    before = engine_lab.snapshot(lab.root)
    lab.apply()
    done = subprocess.run([str(AGENT), "rollback", "--offline", "--root", str(lab.root), "--state", str(lab.lab.state)],
                          capture_output=True, text=True, check=False)
    assert done.returncode == OK, done.stderr
    assert not engine_lab.difference(before, engine_lab.snapshot(lab.root))


def test_packages_that_cannot_be_installed_together_are_refused(lab, tmp_path, packages):
    twin = deb(tmp_path, "twin", "1", {"usr/bin/app": "other"})
    done = lab.run(packages[0], [*packages[1], twin])
    assert done.returncode == REFUSED and "/usr/bin/app is in two of the packages" in done.stderr


def test_a_damaged_package_is_refused(lab, tmp_path, packages):
    damaged = tmp_path / "damaged.deb"
    data = packages[1][0].read_bytes()
    damaged.write_bytes(data[:len(data) - 100])
    done = lab.run(packages[0], [damaged])
    assert done.returncode == REFUSED and "damaged.deb" in done.stderr, done.stderr
    assert not (tmp_path / "r.moult").exists()


def test_mixed_sides_are_a_usage_error(lab, tmp_path, packages):
    assert lab.run([tmp_path], packages[1]).returncode == USAGE
    assert lab.run([tmp_path, tmp_path], [tmp_path]).returncode == USAGE
