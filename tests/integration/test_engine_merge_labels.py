"""SELinux labels of what is merged. No policy is loaded here: the kernel stores them all the same, and what is read back through a
merge is what was stored with its object or in its tree."""

import os
import subprocess

import pytest

from engine_lab import put
from merged_machine import machine, own_mounts  # noqa: F401

LABEL = "security.selinux"
METHODS = ["overlay", "union"]


def set_label(path, text):
    os.setxattr(path, LABEL, text.encode() + b"\0", follow_symlinks=False)


def label(path):
    if LABEL not in os.listxattr(path, follow_symlinks=False):
        return None
    return os.getxattr(path, LABEL, follow_symlinks=False).rstrip(b"\0").decode()


def objects(machine):  # noqa: F811
    return [p for p in (machine.state / "target/objects").rglob("*") if p.is_file()]


@pytest.mark.parametrize("method", METHODS)
def test_labels_of_the_release_are_set_and_read_back(machine, method):  # noqa: F811
    wanted = {"usr/f": "new_f", "usr/l": "new_l", "usr/comes": "new_comes", "usr/comes/x": "new_x"}
    for path, text in wanted.items():
        set_label(machine.new / path, text)
    set_label(machine.original / "f", "old_f")
    pack = machine.pack()
    machine.apply(pack, "--merge", method)
    assert {path: label(machine.root / path) for path in wanted} == wanted
    # In the store, and so in every merge that is made of it.
    assert sorted(label(o) for o in objects(machine)) == ["new_f", "new_x"]
    machine.unmount()
    machine.mount_usr()
    machine.recover("--boot")
    assert {path: label(machine.root / path) for path in wanted} == wanted
    machine.rollback()
    assert label(machine.usr / "f") == "old_f"


@pytest.mark.parametrize("method", METHODS)
def test_labels_that_are_not_listed_are_those_of_the_original(machine, method):  # noqa: F811
    set_label(machine.original, "of_the_directory")
    set_label(machine.original / "f", "of_the_file")
    set_label(machine.original / "l", "of_the_link")
    machine.apply(machine.pack(), "--merge", method)
    assert label(machine.usr / "l") == "of_the_link"
    assert (machine.usr / "f").read_text() == "2\n" and label(machine.usr / "f") == "of_the_file"
    names = (".", "comes", "comes/x")
    assert {name: label(machine.usr / name) for name in names} == dict.fromkeys(names, "of_the_directory")


def test_a_lone_file_that_is_merged_has_its_label(machine):  # noqa: F811
    pinned = put(machine.root, "etc/pinned", "1\n")
    put(machine.old, "etc/pinned", "1\n")
    set_label(pinned, "of_the_file")
    subprocess.run(["chattr", "+i", str(pinned)], check=True)
    try:
        put(machine.new, "etc/pinned", "2\n")
        machine.apply(machine.pack())
        assert (pinned.read_text(), label(pinned)) == ("2\n", "of_the_file")
        set_label(put(machine.new, "etc/pinned", "3\n"), "of_the_release")
        machine.apply(machine.pack(version="3"), "--allow-drift")
        assert (pinned.read_text(), label(pinned)) == ("3\n", "of_the_release")
        machine.rollback()
        assert (pinned.read_text(), label(pinned)) == ("2\n", "of_the_file")
        machine.rollback()
        assert (pinned.read_text(), label(pinned)) == ("1\n", "of_the_file")
    finally:
        subprocess.run(["umount", "-l", str(pinned)], check=False, capture_output=True)
        subprocess.run(["chattr", "-i", str(pinned)], check=True)


def test_a_label_that_was_changed_in_the_store_is_found(machine):  # noqa: F811
    set_label(machine.new / "usr/f", "new_f")
    pack = machine.pack()
    machine.apply(pack)
    [changed] = [o for o in objects(machine) if label(o) == "new_f"]
    set_label(changed, "unconfined")
    machine.unmount()
    machine.mount_usr()
    said = machine.recover("--boot")
    assert "was changed" in said.err and LABEL in said.err and "rolled back at the start" in said.err, said
    assert machine.seen() == machine.before
    machine.apply(pack)
    assert label(machine.usr / "f") == "new_f"
