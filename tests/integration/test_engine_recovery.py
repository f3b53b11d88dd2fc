"""Recovery on a machine that is not as it was: mounts that come late, objects that nobody can move, other inode numbers."""

import contextlib
import os
import shutil
import subprocess

import pytest

from engine_lab import BUILD, FAILED, OK, REFUSED, ROLLED_BACK, OLD_TIME, bind, lab, mounted, put, release, set_times

KILLED = -9
faults = pytest.mark.skipif(
    subprocess.run(["grep", "-q", "MOULT_FAULT_POINTS:BOOL=ON", str(BUILD / "CMakeCache.txt")], check=False).returncode != 0,
    reason="this build has no fault points")


@contextlib.contextmanager
def flag(path, letter):
    subprocess.run(["chattr", f"+{letter}", str(path)], check=True)
    try:
        yield
    finally:
        subprocess.run(["chattr", f"-{letter}", str(path)], check=False)


# -- mounts

@pytest.fixture
def two_disks(lab, tmp_path):
    """A release over / and a data disk at /srv, which the test takes away and brings back."""
    with mounted(tmp_path / "d") as disk:
        (lab.root / "srv").mkdir()
        with bind(disk, lab.root / "srv"):
            (lab.root / "srv/dir").mkdir()
            for name in ("a", "z", "srv/f"):
                put(lab.root, name, "old\n")
                put(lab.new, name, "new\n")
            (lab.new / "srv/dir").mkdir(mode=0o700)
            set_times(lab.root, OLD_TIME)
            lab.before = lab.tree()
            lab.pack = release(lab)
            lab.disk = disk
            yield lab


@contextlib.contextmanager
def taken_away(lab):
    subprocess.run(["umount", str(lab.root / "srv")], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "--bind", str(lab.disk), str(lab.root / "srv")], check=True)


@faults
@pytest.mark.parametrize("at", ["switch:1", "switch:2", "back:1", "back:2", "back-all", "journal-rolled-back.before"])
def test_recovery_waits_for_a_mount_that_is_late(two_disks, at):
    lab = two_disks
    if at.startswith("switch"):
        lab.apply(lab.pack, "--no-confirm", check=KILLED, environment={"MOULT_FAULT": f"{at}=kill"})
    else:
        lab.apply(lab.pack)
        lab.rollback(check=KILLED, environment={"MOULT_FAULT": f"{at}=kill"})
    with taken_away(lab):
        now = lab.tree()
        result = lab.agent("recover", *lab.where)
        assert result.code not in (OK, ROLLED_BACK) and f"is {lab.root}/srv mounted?" in result.err, result
        lab.assert_tree(now)
    said = lab.recover("--back").err if at.startswith("switch") else lab.recover().err
    assert "left alone" not in said
    lab.assert_tree(lab.before)
    lab.assert_clean()


@faults
def test_a_directory_that_only_changes_its_mode_waits_for_its_mount_too(lab, tmp_path):
    with mounted(tmp_path / "d") as disk:
        (lab.root / "srv").mkdir()
        lab.disk = disk
        with bind(disk, lab.root / "srv"):
            (lab.root / "srv/dir").mkdir()
            put(lab.root, "f", "old\n")
            put(lab.new, "f", "new\n")
            (lab.new / "srv/dir").mkdir(mode=0o700, parents=True)
            set_times(lab.root, OLD_TIME)
            before = lab.tree()
            lab.apply(release(lab))
            lab.rollback(check=KILLED, environment={"MOULT_FAULT": "back:1=kill"})
            with taken_away(lab):
                assert "mounted?" in lab.agent("recover", *lab.where).err
            lab.recover()
            lab.assert_tree(before)


@faults
def test_what_is_kept_on_a_missing_mount_is_removed_when_it_is_back(two_disks):
    lab = two_disks
    lab.apply(lab.pack)
    lab.rollback(check=KILLED, environment={"MOULT_FAULT": "cleanup-area:1=kill"})
    with taken_away(lab):
        assert "could not be removed" in lab.recover().err
    lab.recover()
    lab.assert_tree(lab.before)
    lab.assert_clean()


@contextlib.contextmanager
def booted(lab, tmp_path, upper):
    """One life of a machine with a root of overlayfs, as appliances have it: with each mount it makes up other inode numbers
    for directories, and how many were looked at before matters."""
    subprocess.run(["mount", "-o", "loop,ro", str(tmp_path / "image"), str(tmp_path / "lower")], check=True)
    subprocess.run(["mount", "-t", "overlay", "-o",
                    f"xino=off,index=off,lowerdir={tmp_path}/lower,upperdir={upper}/u,workdir={upper}/w", "none", str(lab.root)],
                   check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(lab.root)], check=True)
        subprocess.run(["umount", str(tmp_path / "lower")], check=True)


@faults
@pytest.mark.parametrize("at", ["switch:2", "switched-all", "back:2", "back-all"])
def test_an_overlay_numbers_its_directories_anew_at_each_boot(lab, tmp_path, at):
    if not shutil.which("mksquashfs"):
        pytest.skip("mksquashfs is not installed")
    for name in ("etc/f", "usr/lib/f"):
        put(lab.old, name, "old\n")
        put(lab.new, name, "new\n")
    put(lab.old, "usr/lib/goes", "old\n")
    put(lab.new, "usr/made/g", "new\n")
    set_times(lab.old, OLD_TIME)
    pack = release(lab, old=lab.old)
    subprocess.run(["mksquashfs", str(lab.old), str(tmp_path / "image"), "-quiet"], check=True, stdout=subprocess.DEVNULL)
    (tmp_path / "lower").mkdir()
    numbers = []
    with mounted(tmp_path / "d") as upper:
        (upper / "u").mkdir()
        (upper / "w").mkdir()
        with booted(lab, tmp_path, upper):
            before = lab.tree()
            if at.startswith("switch"):
                lab.apply(pack, "--no-confirm", check=KILLED, environment={"MOULT_FAULT": f"{at}=kill"})
            else:
                lab.apply(pack)
                lab.rollback(check=KILLED, environment={"MOULT_FAULT": f"{at}=kill"})
            numbers.append((lab.root / "usr/lib").stat().st_ino)
        with booted(lab, tmp_path, upper):
            numbers.append((lab.root / "usr/lib").stat().st_ino)
            said = lab.recover()
            assert "left alone" not in said.err and "taken away" not in said.err, said
            if at.startswith("switch"):
                assert (lab.root / "usr/made/g").read_text() == (lab.root / "usr/lib/f").read_text() == "new\n"
                assert not (lab.root / "usr/lib/goes").exists()
        with booted(lab, tmp_path, upper):
            if at.startswith("switch"):
                lab.recover("--back")
            lab.assert_tree(before)
            lab.assert_clean()
    assert numbers[0] != numbers[1], "this kernel's overlayfs keeps the numbers: nothing was tested"


# -- what came meanwhile

@faults
def test_a_file_that_came_into_a_directory_before_recovery_removes_it(lab):
    for tree in (lab.root, lab.old):
        put(tree, "d/f", "old\n")
        put(tree, "n", "0\n")
        set_times(tree, OLD_TIME)
    put(lab.new, "n", "1\n")
    lab.apply(release(lab, old=lab.old), "--no-confirm", check=KILLED, environment={"MOULT_FAULT": "switch:2=kill"})
    put(lab.root, "d/mine", "precious\n")
    assert "/d: changed by somebody else" in lab.recover().err
    assert (lab.root / "d/mine").read_text() == "precious\n" and (lab.root / "d/f").exists()
    lab.recover("--back")
    assert (lab.root / "d/mine").exists() and (lab.root / "n").read_text() == "0\n"


@faults
def test_staging_is_taken_up_again_below_a_setgid_directory(lab):
    """It was finished already, and hands its group down to what is made in it now."""
    put(lab.new, "var/mail/f", "new\n")
    (lab.new / "var/mail/l").symlink_to("f")
    os.mkfifo(lab.new / "var/mail/p")
    (lab.new / "var/mail/sub").mkdir()
    os.chown(lab.new / "var/mail", 0, 8)
    (lab.new / "var/mail").chmod(0o2755)
    subprocess.run(["setfacl", "-d", "-m", "u:9:rwx", str(lab.new / "var/mail")], check=True)
    pack = release(lab)
    lab.apply(pack, check=KILLED, environment={"MOULT_FAULT": "journal-staged.before=kill"})
    lab.apply(pack)
    assert (lab.root / "var/mail/l").lstat().st_gid == (lab.root / "var/mail/sub").stat().st_gid == 0
    assert (lab.root / "var/mail").stat().st_gid == 8


# -- objects that nobody can move

@pytest.mark.parametrize("letter", ["i", "a"])
def test_a_rollback_that_would_stop_half_way_is_refused_even_with_force(lab, letter):
    for name in ("a", "f", "z"):
        put(lab.root, name, "old\n")
        put(lab.new, name, "new\n")
    set_times(lab.root, OLD_TIME)
    before = lab.tree()
    lab.apply(release(lab))
    now = lab.tree()
    with flag(lab.root / "f", letter):
        for options in ((), ("--force",)):
            result = lab.rollback(*options, check=REFUSED)
            assert "/f cannot go back" in result.err and "chattr" in result.err
            lab.assert_tree(now)
    with flag(lab.root, "i"):
        assert "flag was set on its directory" in lab.rollback(check=REFUSED).err
    lab.rollback()
    lab.assert_tree(before)


def test_one_object_that_cannot_move_does_not_keep_the_rest_from_going_back(lab, tmp_path):
    """The automatic way back has no choice. What is stuck is told, nothing else may begin, and it is tried again."""
    for name in ("a", "f", "z"):
        put(lab.root, name, "old\n")
        put(lab.new, name, "new\n")
    set_times(lab.root, OLD_TIME)
    before = lab.tree()
    hook = put(tmp_path, "hook", "#!/bin/sh\nchattr +i $MOULT_ROOT/f\nexit 1\n", 0o755)
    pack = release(lab, "--hook", f"health={hook}")
    try:
        lab.apply(pack, check=FAILED)
        assert {(lab.root / n).read_text() for n in "az"} == {"old\n"}
        assert (lab.root / "f").read_text() == "new\n"
        result = lab.recover(check=FAILED)
        assert "/f" in result.err and "partly rolled back" in result.err, result
        put(tmp_path / "other", "g", "other\n")
        other = lab.release(tmp_path / "other", version="2")
        result = lab.apply(other, check=None)
        assert result.code != OK and "partly rolled back" in result.err
        assert not (lab.root / "g").exists()
    finally:
        subprocess.run(["chattr", "-i", str(lab.root / "f")], check=False)
        subprocess.run(["chattr", "-i", str(lab.root / ".moult/1/f")], check=False, stderr=subprocess.DEVNULL)
    assert "all old" in lab.recover().err
    lab.assert_tree(before)
    lab.assert_clean()
    lab.apply(other)


def test_a_way_back_that_cannot_be_removed_is_told_and_no_obstacle(lab):
    """Of three generations the oldest goes; something in it has become immutable since."""
    for n in range(5):
        put(lab.new, "f", f"{n}\n")
        if n == 0:
            put(lab.root, "f", "first\n")
        lab.apply(release(lab, version=str(n)))
        if n == 0:
            kept = next((lab.root / ".moult/1").iterdir())
            subprocess.run(["chattr", "+i", str(kept)], check=True)
    try:
        assert "could not be removed" in lab.recover().err
        assert (lab.root / "f").read_text() == "4\n" and kept.exists()
    finally:
        subprocess.run(["chattr", "-i", str(kept)], check=True)
    lab.recover()
    assert not kept.exists()


@pytest.mark.parametrize("letter", ["i", "a"])
def test_a_flagged_file_in_a_directory_that_goes_is_blocked(lab, letter):
    """It could be moved with its directory, but its way back never be removed."""
    for tree in (lab.root, lab.old):
        put(tree, "d/sub/f", "old\n")
        put(tree, "keep", "old\n")
        set_times(tree, OLD_TIME)
    put(lab.new, "keep", "old\n")
    pack = release(lab, old=lab.old)
    with flag(lab.root / "d/sub/f", letter):
        result = lab.apply(pack, check=REFUSED)
        assert "/d/sub/f" in result.err and "chattr" in result.err
    lab.apply(pack)
