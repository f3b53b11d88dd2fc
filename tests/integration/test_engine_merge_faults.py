"""Faults of what is merged: a full store, a mount that is gone, errors in the middle. Refused or rolled back, with a text that helps."""

import contextlib
import os
import shutil
import subprocess

import pytest

from engine_lab import FAILED, NOT_FOUND, REFUSED, ROLLED_BACK, copy_tree, mounted, put
from merged_machine import machine, own_mounts  # noqa: F401
from test_engine_faults import fill, hook


@contextlib.contextmanager
def small_store(machine, tmp_path, size_mb=8, mkfs=()):
    """The state directory on a small disk of its own."""
    with mounted(tmp_path / "small", size_mb=size_mb, mkfs=mkfs) as point:
        machine.state = point / "moult"
        yield point
        machine.unmount()


# -- a full store

def test_too_little_space_in_the_store_is_found_before_anything_is_staged(machine, tmp_path):
    with small_store(machine, tmp_path):
        put(machine.new, "usr/big", os.urandom(20 << 20))
        said = machine.apply(machine.pack(), check=REFUSED)
        for text in ("nothing was touched", "the state directory, where merged files are kept", "MiB free", "make room"):
            assert text in said.err, said
        machine.assert_untouched()


@pytest.mark.parametrize("kind", ["files", "links", "directories", "deletions"])
def test_too_few_inodes_in_the_store_are_found_before_anything_is_staged(machine, tmp_path, kind):
    with small_store(machine, tmp_path, mkfs=("-N", "64")):
        for n in range(100):
            if kind == "files":
                put(machine.new, f"usr/many/{n}", f"{n}\n")
            elif kind == "links":
                (machine.new / f"usr/{n}").symlink_to("f")
            elif kind == "directories":
                (machine.new / f"usr/many/{n}").mkdir(parents=True)
            else:
                put(machine.old, f"usr/{n}", "x\n")
                put(machine.original, f"usr/{n}", "x\n")
        if kind == "deletions":
            for n in range(100):
                shutil.copy2(machine.old / f"usr/{n}", machine.original / f"{n}")
            shutil.rmtree(machine.original / "usr")
            machine.before = machine.seen()
        said = machine.apply(machine.pack(), check=REFUSED)
        assert "nothing was touched" in said.err and "inodes" in said.err and "remove files there" in said.err, said
        machine.assert_untouched()


@pytest.mark.parametrize("eat", ["dd if=/dev/zero of={}/eaten/0 bs=64K", "while : >{}/eaten/$((n += 1)); do :; done"])
def test_a_store_that_fills_up_while_it_is_staged(machine, tmp_path, eat):
    """Somebody else takes the space, or the inodes, between the look and the staging."""
    with small_store(machine, tmp_path, mkfs=("-N", "200")) as point:
        (point / "eaten").mkdir()
        put(machine.new, "usr/big", os.urandom(3 << 20))
        for n in range(20):
            put(machine.new, f"usr/many/{n}", f"{n}\n")
        eater = hook(tmp_path, f"({eat.format(point)}) 2>/dev/null; :")
        said = machine.apply(machine.pack("--hook", f"check={eater}", "--compress", "none"), check=None)
        assert said.code == REFUSED, said
        assert "nothing was touched" in said.err and "make room" in said.err, said
        machine.assert_untouched()
        shutil.rmtree(point / "eaten")
        machine.apply(machine.pack())
        assert machine.merges()


def test_a_full_store_serves_starts_and_ways_back(machine, tmp_path):
    with small_store(machine, tmp_path) as point:
        machine.apply(machine.pack())
        first = machine.seen()
        put(machine.new, "usr/f", "3\n")
        put(machine.new, "etc/f", "3\n")
        machine.apply(machine.pack(version="3"), "--allow-drift")
        second = machine.seen()
        assert machine.before != first != second != machine.before
        fill(point)
        machine.unmount()
        machine.mount_usr()
        machine.recover("--boot", "--count-boots")
        assert machine.seen() == second
        machine.rollback()
        assert machine.seen() == first
        machine.rollback()
        machine.assert_untouched()


# -- errors on the way

@pytest.mark.parametrize("point", ["stage-object-taken", "object-take", "object-taken", "object-link", "tree-begin", "tree-node",
                                   "tree-made"])
@pytest.mark.parametrize("error,status,text", [("enospc", REFUSED, "make room"), ("eio", FAILED, "dmesg")])
def test_an_error_while_a_merge_is_staged_leaves_nothing_behind(machine, point, error, status, text):
    pack = machine.pack()
    said = machine.apply(pack, check=status, environment={"MOULT_FAULT": f"{point}={error}"})
    assert "staging failed, nothing was touched" in said.err and text in said.err, said
    machine.assert_untouched()
    machine.apply(pack)
    machine.rollback()
    machine.assert_untouched()


@pytest.mark.parametrize("point", ["merge", "merged"])
def test_an_error_in_the_switch_of_a_merge_takes_everything_back(machine, point):
    said = machine.apply(machine.pack(), check=ROLLED_BACK, environment={"MOULT_FAULT": f"{point}=eio"})
    assert "merge of /usr" in said.err, said
    machine.assert_untouched()


# -- a mount that is gone

@pytest.mark.parametrize("stage,status", [("check", NOT_FOUND), ("pre", ROLLED_BACK)])
@pytest.mark.parametrize("adds_only", [False, True])
def test_a_mount_that_vanishes_between_plan_and_commit(machine, tmp_path, stage, status, adds_only):
    """Not one that only adds names either, which would find nothing of its own missing."""
    away = hook(tmp_path, f"umount -l {machine.usr}")
    if adds_only:
        machine.old = machine.dir / "nothing"
        shutil.rmtree(machine.new / "usr")
        put(machine.new, "usr/comes", "x\n")
        (machine.old / "usr").mkdir(parents=True)
        copy_tree(machine.root / "etc", machine.old / "etc")
    said = machine.apply(machine.pack("--hook", f"{stage}={away}"), check=None)
    assert said.code == status and "/usr" in said.err, said
    if stage == "check":
        assert "nothing was touched" in said.err and "mount it and try again" in said.err, said
    assert not list(machine.usr.iterdir()) and not machine.merges()
    assert (machine.root / "etc/f").read_text() == "1\n"
    machine.mount_usr()
    machine.assert_untouched()


def test_a_mount_that_is_not_there_when_the_machine_starts(machine):
    """The rest of the release is there; what belongs to the mount comes with it."""
    machine.apply(machine.pack())
    after = machine.seen()
    machine.unmount()
    for options in (("--boot",), ()):
        said = machine.recover(*options)
        assert "/usr is not mounted" in said.err, said
        assert not list(machine.usr.iterdir()) and not machine.merges()
        assert (machine.root / "etc/f").read_text() == "2\n"
    machine.mount_usr()
    machine.recover()
    assert machine.seen() == after and len(machine.merges()) == 1
    machine.rollback()
    machine.assert_untouched()


def test_a_rollback_while_the_mount_is_not_there(machine):
    machine.apply(machine.pack())
    put(machine.new, "usr/f", "3\n")
    machine.apply(machine.pack(version="3"), "--allow-drift")
    machine.unmount()
    machine.recover("--boot")
    machine.rollback()
    machine.rollback()
    machine.mount_usr()
    machine.assert_untouched()
