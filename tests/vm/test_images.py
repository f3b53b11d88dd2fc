"""Images, opened in a machine of their own: captured, upgraded offline, and booted to see that they are equal."""

import hashlib
import os
import pathlib
import subprocess

import pytest

import guest_disk
import moult
import vm as vms
from images import appliance  # noqa: F401 - a fixture

pytestmark = pytest.mark.usefixtures("appliance")

HOOK = """#!/bin/sh
set -e
test "$MOULT_OFFLINE" = 1 && test "$MOULT_ROOT" = / && grep -q moult /etc/os-release
echo "$MOULT_STAGE $(cat /srv/app/version)" >>/var/log/hooks
"""
# Never offline; at the first boot of a VM that was made from the image.
HEALTH = """#!/bin/sh
test -z "$MOULT_OFFLINE" && echo health >>/var/log/hooks
"""


def change(disk, *commands):
    """An ext4 image of which nobody mounts anything."""
    done = subprocess.run(["debugfs", "-w", "-f", "-", str(disk)], input="\n".join(commands) + "\n", text=True, check=True,
                          capture_output=True)
    assert "not found" not in done.stderr, done.stderr


def digest(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def lab(appliance, tmp_path_factory):
    """golden-1.qcow2, and golden-2.qcow2 which somebody has worked on; the release between them, with hooks."""
    directory = tmp_path_factory.mktemp("images")
    files = {"v1": "one\n", "v2": "two and more\n", "big": "content " * 40_000, "id": "f" * 32 + "\n", "hook": HOOK, "health": HEALTH}
    for name, text in files.items():
        (directory / name).write_text(text)
    raw = directory / "disk.raw"
    subprocess.run(["cp", "--sparse=always", str(vms.image_dir("tiny") / "disk.img"), str(raw)], check=True)
    raw.chmod(0o644)
    change(raw, "mkdir /srv/app", f"write {directory}/v1 /srv/app/version", f"write {directory}/v1 /srv/app/obsolete",
           f"write {directory}/v1 /srv/app/tool", "sif /srv/app/tool mode 0100644")
    for n in (1, 2):
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(directory / f"golden-{n}.qcow2")], check=True)
        if n == 1:
            change(raw, "rm /srv/app/version", f"write {directory}/v2 /srv/app/version", "rm /srv/app/obsolete",
                   f"write {directory}/big /srv/app/big", "sif /srv/app/big uid 33", "sif /srv/app/tool mode 0104755",
                   "symlink /srv/app/link big", "ea_set /srv/app/big user.note x", f"write {directory}/id /etc/machine-id")
    raw.unlink()
    host = moult.Host(directory / "host")
    host.new_key()
    host.report = host.json("release", "capture", "--from", directory / "golden-1.qcow2", "--to", directory / "golden-2.qcow2", "--name",
                            "golden", "--version", "2", "--sign", host.dir / "test.key", "--hook", f"pre={directory}/hook",
                            "--hook", f"post={directory}/hook", "--hook", f"health={directory}/health", "-o", directory / "golden.moult")
    host.pack, host.images = directory / "golden.moult", directory
    return host


def test_two_versions_of_an_image_become_a_release(lab):
    entries = {e["path"]: e for e in lab.json("release", "show", lab.pack, "--entries")["entries"]}
    assert set(entries) == {f"srv/app/{name}" for name in ("version", "obsolete", "tool", "big", "link")}
    assert entries["srv/app/obsolete"]["type"] == "delete" and entries["srv/app/big"]["uid"] == 33
    assert [x["path"] for x in lab.report["left_out"]] == ["etc/machine-id"]


def test_an_image_that_was_upgraded_offline_boots_as_the_new_one(lab, guests, workdir):
    old, new = lab.images / "golden-1.qcow2", lab.images / "upgraded.qcow2"
    before = digest(old)
    report = lab.json("release", "apply", "--image", old, "--output", new, "--trust", lab.trust, lab.pack)
    assert report["changed"] == 5 and report["equal"] == 0 and digest(old) == before
    host = moult.Host(workdir / "host")
    with host:
        (host.trust / "test.pub").write_bytes((lab.trust / "test.pub").read_bytes())
        host.moult("release", "import", lab.pack)
        clone = guests.new(base_disk=(new, "qcow2"), public_key=(lab.trust / "test.pub").read_bytes())
        clone.wait_for("grep -q health /var/log/hooks")     # the boot is good
        assert clone.read_file("/var/log/hooks") == b"pre one\npost two and more\nhealth\n"
        assert "golden 2" in clone.exec("moult-agent history").text
        host.add("clone", clone)
        code, out, err = host.run("drift", "clone", "--golden", lab.images / "golden-2.qcow2", "--exclude", "/etc/moult/*")
        assert code == 0 and "Nothing has drifted" in out, out + err


def test_killed_in_the_middle_it_is_the_old_image_and_the_next_one_works(lab):
    image = lab.images / "in-place.qcow2"
    subprocess.run(["cp", str(lab.images / "golden-1.qcow2"), str(image)], check=True)
    before, words = digest(image), ["release", "apply", "--image", str(image), "--trust", str(lab.trust), str(lab.pack)]
    done = subprocess.run([str(moult.MOULT), *words], env=os.environ | {"MOULT_FAULT": "image-applied=kill"}, capture_output=True, text=True)
    assert done.returncode == -9, done.stdout + done.stderr
    assert digest(image) == before and (lab.images / ".in-place.qcow2.moult-new").exists()
    assert lab.json(*words)["changed"] == 5
    assert digest(image) != before and not (lab.images / ".in-place.qcow2.moult-new").exists()


# Each is another start of libguestfs's machine: an ordinary run takes one. Other kinds of them: tests/unit/test_image_image_system.c.
@pytest.mark.parametrize("kind, word", [("damaged", "it is damaged"), *[
    pytest.param(*case, marks=pytest.mark.skipif(not os.environ.get("MOULT_SOAK"), reason="a soak test"))
    for case in (("encrypted", "encrypted inside"), ("foreign", "no operating system"))]])
def test_what_cannot_be_a_golden_image_is_refused(lab, tmp_path, kind, word):
    image = tmp_path / "x.raw"
    image.write_bytes(b"")
    os.truncate(image, 64 << 20)
    if kind == "encrypted":
        subprocess.run(["cryptsetup", "luksFormat", "-q", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", str(image), "-"],
                       input=b"secret", check=True)
    elif kind == "damaged":
        subprocess.run(["mke2fs", "-q", "-t", "ext4", str(image)], check=True)
        change(image, "clri <2>")       # the root directory
    else:
        subprocess.run(["mke2fs", "-q", "-t", "ext4", str(image)], check=True)
    before = digest(image)
    code, _, err = lab.run("release", "apply", "--image", image, "--trust", lab.trust, lab.pack)
    assert code != 0 and word in err, err
    assert digest(image) == before and sorted(os.listdir(tmp_path)) == ["x.raw"]


@pytest.fixture(scope="module")
def layered(lab):
    """An image of many parts after a release that changes a file in each of them; `old` is the tree before."""
    files = {f"{place}/version": "one\n" for place in ("etc/app", "home/app", "srv/app", "opt/app")}
    for name, text in (("old", "one\n"), ("new", "two\n")):
        for path in files:
            (lab.images / name / path).parent.mkdir(parents=True)
            (lab.images / name / path).write_text(text)
    guest_disk.make_layered(lab.images / "layered.qcow2", files)
    lab.moult("release", "build", lab.images / "new", "--from", lab.images / "old", "--name", "app", "--version", "2", "--sign", lab.dir / "test.key",
              "-o", lab.images / "app.moult")
    lab.report = lab.json("release", "apply", "--image", lab.images / "layered.qcow2", "--trust", lab.trust, lab.images / "app.moult")
    lab.files = files
    return lab


def test_a_release_reaches_btrfs_subvolumes_and_ext4_and_xfs_on_lvm(layered):
    assert layered.report["changed"] == 4 and layered.report["equal"] == 0, layered.report


@pytest.mark.skipif(not os.environ.get("MOULT_SOAK"), reason="a soak test: another start of the machine")
def test_a_capture_sees_what_is_on_them(layered):
    pack = layered.images / "seen.moult"
    layered.json("release", "capture", "--from", layered.images / "old", "--to", layered.images / "layered.qcow2", "--name", "seen",
                 "--version", "1", "--sign", layered.dir / "test.key", "--include", "/*/app", "-o", pack)
    entries = {e["path"]: e["type"] for e in layered.json("release", "show", pack, "--entries")["entries"]}
    assert entries == dict.fromkeys(layered.files, "file"), entries
