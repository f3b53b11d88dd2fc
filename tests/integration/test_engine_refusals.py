"""What cannot be written, or is not what the release expects: refused with the reason, and nothing is touched."""

import contextlib
import fcntl
import json
import os
import struct
import subprocess

import pytest

from engine_lab import (AGENT, BUSY, NOT_FOUND, OK, REFUSED, UNTRUSTED, NEW_TIME, OLD_TIME, Lab, bind, lab, mounted, put,
                        release, set_times, tmpfs)


def refused(lab, pack, *words, check=REFUSED, options=()):
    """Refused by plan and by apply, all the words in the text, and not a bit of the tree is changed."""
    before = lab.tree()
    for command in (lab.plan, lab.apply):
        result = command(pack, *options, check=check)
        for word in words:
            assert word in result.out + result.err, f"{word!r} is missing in {result}"
    lab.assert_tree(before)
    lab.assert_clean()


@contextlib.contextmanager
def flag(path, letter):
    subprocess.run(["chattr", f"+{letter}", str(path)], check=True)
    try:
        yield
    finally:
        subprocess.run(["chattr", f"-{letter}", str(path)], check=True)


# What can be merged is merged, unless the release asks for overwriting or nothing.
OVERWRITE = ("--delivery", "overwrite")


@pytest.mark.parametrize("letter,name", [("i", "immutable"), ("a", "append-only")])
def test_flagged_files_are_blocked(lab, letter, name):
    put(lab.root, "etc/f", "old\n")
    put(lab.new, "etc/f", "new\n")
    with flag(lab.root / "etc/f", letter):
        refused(lab, release(lab, *OVERWRITE), "/etc/f", name, "chattr")


def test_an_immutable_directory_is_blocked_but_what_is_equal_in_it_is_not(lab):
    put(lab.root, "etc/f", "old\n")
    put(lab.new, "etc/f", "new\n")
    set_times(lab.new, NEW_TIME)
    set_times(lab.root, NEW_TIME)
    with flag(lab.root / "etc", "i"):
        refused(lab, release(lab, *OVERWRITE), "/etc/f", "immutable flag is set on its directory")
        put(lab.new, "etc/new", "cannot come without covering the directory\n")
        refused(lab, release(lab), "/etc/new", "immutable flag is set on its directory")
        lab.apply(lab.release(lab.root, "--exclude", ".moult"))


def test_a_file_that_is_a_mount_point_is_blocked(lab, tmp_path):
    put(lab.root, "etc/f", "old\n")
    put(lab.new, "etc/f", "new\n")
    put(tmp_path, "other", "mounted over it\n")
    with bind(tmp_path / "other", lab.root / "etc/f"):
        refused(lab, release(lab), "/etc/f", "mount point")


def test_a_read_only_mount_is_blocked(lab, tmp_path):
    put(lab.root, "usr/f", "old\n")
    put(lab.new, "usr/f", "new\n")
    with bind(lab.root / "usr", lab.root / "usr", "ro"):
        refused(lab, release(lab, *OVERWRITE), "/usr/f", "mounted read-only", str(lab.root / "usr"))


def test_squashfs_is_blocked_and_named(lab, tmp_path):
    if not os.path.exists("/usr/bin/mksquashfs"):
        pytest.skip("mksquashfs is not installed")
    put(lab.new, "usr/f", "new\n")
    put(tmp_path, "content/f", "old\n")
    put(tmp_path, "content/same", "same\n")
    subprocess.run(["mksquashfs", str(tmp_path / "content"), str(tmp_path / "image"), "-quiet"], check=True,
                   stdout=subprocess.DEVNULL)
    (lab.root / "usr").mkdir()
    subprocess.run(["mount", "-o", "loop,ro", str(tmp_path / "image"), str(lab.root / "usr")], check=True)
    try:
        refused(lab, release(lab, *OVERWRITE), "/usr/f", "read-only file system squashfs", str(lab.root / "usr"))
    finally:
        subprocess.run(["umount", str(lab.root / "usr")], check=True)


def test_proc_in_a_release_of_directories_is_left_alone(lab):
    (lab.new / "proc").mkdir(parents=True)
    (lab.root / "proc").mkdir()
    subprocess.run(["mount", "-t", "proc", "proc", str(lab.root / "proc")], check=True)
    try:
        lab.apply(release(lab))
        assert "kept: proc is mounted on it" in lab.plan(lab.release(lab.new), "--all").out
        put(lab.new, "proc/f", "no\n")
        result = lab.apply(release(lab), check=REFUSED)
        assert "pseudo file system proc" in result.err
    finally:
        subprocess.run(["umount", str(lab.root / "proc")], check=True)


def test_a_swap_file_is_blocked(lab, tmp_path):
    with mounted(tmp_path / "disk", size_mb=64) as point:
        lab.root = point / "root"
        swap = put(lab.root, "swapfile", b"\0" * (4 << 20), 0o600)
        subprocess.run(["mkswap", str(swap)], check=True, stdout=subprocess.DEVNULL)
        if subprocess.run(["swapon", str(swap)], check=False).returncode:
            pytest.skip("no swap on this machine")
        try:
            put(lab.new, "swapfile", "new\n")
            refused(lab, release(lab), "/swapfile", "swap file")
        finally:
            subprocess.run(["swapoff", str(swap)], check=True)


def test_a_file_sealed_by_verity_is_blocked_unless_it_is_equal(lab, tmp_path):
    with mounted(tmp_path / "disk", mkfs=("-O", "verity")) as point:
        lab.root = point / "root"
        sealed = put(lab.root, "f", "content\n" * 5000)
        set_times(lab.root, NEW_TIME)
        if subprocess.run(["fsverity", "enable", str(sealed)], check=False).returncode:
            pytest.skip("no fs-verity in this kernel")
        put(lab.new, "f", "content\n" * 5000)
        assert "0 changed" in lab.apply(release(lab)).out
        put(lab.new, "f", "other\n")
        refused(lab, release(lab), "/f", "fs-verity")


def test_a_hard_link_across_mounts_is_blocked(lab, tmp_path):
    put(lab.new, "a/f", "one file\n")
    (lab.new / "b").mkdir()
    os.link(lab.new / "a/f", lab.new / "b/f")
    (lab.root / "a").mkdir()
    with tmpfs(lab.root / "b"):
        refused(lab, release(lab), "/b/f", "links do not cross mounts")


def test_one_release_over_several_mounts(lab, tmp_path):
    """Each mount has its own staging; bind mounts of one file system are mounts too."""
    put(lab.root, "f", "old\n")
    put(lab.root, "bound/f", "old\n")
    for name in ("f", "bound/f", "disk/f", "memory/f", "memory/sub/new"):
        put(lab.new, name, "new\n")
    (lab.root / "disk").mkdir()
    with mounted(tmp_path / "d") as point, bind(point, lab.root / "disk"), tmpfs(lab.root / "memory"), \
            bind(lab.root / "bound", lab.root / "bound"):
        put(lab.root, "disk/f", "old\n")
        set_times(lab.root, OLD_TIME)
        before = lab.tree()
        result = lab.plan(release(lab))
        assert "gone after a reboot" in result.out
        lab.apply(release(lab))
        for name in ("f", "bound/f", "disk/f", "memory/f", "memory/sub/new"):
            assert (lab.root / name).read_text() == "new\n"
        assert {str(p.parent.relative_to(lab.root)) for p in lab.root.rglob(".moult")} == {".", "bound", "disk", "memory"}
        lab.rollback()
        lab.assert_tree(before)
        lab.assert_clean()


def test_a_directory_with_unknown_children_does_not_become_a_file(lab):
    put(lab.root, "d/known", "x\n")
    put(lab.root, "d/mine\n", "not in the release\n")
    put(lab.old, "d/known", "x\n")
    put(lab.new, "d", "a file now\n")
    refused(lab, release(lab, old=lab.old), "/d", "mine\\x0a")


def test_a_directory_with_unknown_children_is_not_deleted(lab):
    put(lab.root, "d/known", "x\n")
    put(lab.root, "d/mine", "not in the release\n")
    put(lab.old, "d/known", "x\n")
    put(lab.old, "keep", "x\n")
    put(lab.root, "keep", "x\n")
    put(lab.new, "keep", "x\n")
    for tree in (lab.root, lab.old, lab.new):
        set_times(tree, OLD_TIME)
    pack = lab.release(lab.new, old=lab.old)
    refused(lab, pack, "/d", "/d/mine")
    before = lab.tree()
    lab.apply(pack, "--allow-drift")
    assert (lab.root / "d/mine").exists() and not (lab.root / "d/known").exists()
    lab.rollback()
    lab.assert_tree(before)


def test_a_missing_directory_that_the_release_does_not_make(lab):
    put(lab.old, "usr/a/f", "1\n")
    put(lab.new, "usr/a/f", "2\n")
    set_times(lab.old, OLD_TIME)
    refused(lab, release(lab, old=lab.old), "/usr/a/f", "its directory does not exist")


def test_a_symbolic_link_to_a_directory_is_kept_and_followed(lab):
    (lab.root / "usr/lib").mkdir(parents=True)
    (lab.root / "lib").symlink_to("usr/lib")
    put(lab.new, "lib/x", "through the link\n")
    before = lab.tree()
    lab.apply(release(lab))
    assert os.readlink(lab.root / "lib") == "usr/lib"
    assert (lab.root / "usr/lib/x").read_text() == "through the link\n"
    lab.rollback()
    lab.assert_tree(before)


@pytest.mark.parametrize("owner,blocked", [(1000, True), (0, False)])
def test_a_link_of_an_unprivileged_user_into_a_directory_of_root(lab, owner, blocked):
    """Who owns /srv/app must not choose which hosts file it is that the release deletes."""
    put(lab.root, "etc/hosts", "old\n")
    put(lab.old, "srv/app/cache/hosts", "old\n")
    put(lab.root, "srv/app/f", "old\n")
    put(lab.old, "srv/app/f", "old\n")
    put(lab.new, "srv/app/f", "new\n")
    for directory in ("srv/app", "srv/app/cache"):
        (lab.new / directory).mkdir(exist_ok=True)
        for tree in (lab.old, lab.new):
            os.chown(tree / directory, 1000, 1000)
    os.chown(lab.root / "srv/app", 1000, 1000)
    (lab.root / "srv/app/cache").symlink_to("/etc")
    os.chown(lab.root / "srv/app/cache", owner, owner, follow_symlinks=False)
    for tree in (lab.root, lab.old):
        set_times(tree, OLD_TIME)
    pack = release(lab, old=lab.old)
    if blocked:
        refused(lab, pack, "/srv/app/cache/hosts", 'link "cache" of user 1000', "/etc")
    else:
        assert "it is /etc/hosts here" in lab.plan(pack).out
        lab.apply(pack)
        assert not (lab.root / "etc/hosts").exists()


def test_a_link_of_a_user_to_a_directory_of_the_same_user_is_followed(lab):
    put(lab.root, "data/f", "old\n")
    os.chown(lab.root / "data", 1000, 1000)
    (lab.root / "current").symlink_to("data")
    os.chown(lab.root / "current", 1000, 1000, follow_symlinks=False)
    put(lab.new, "current/f", "new\n")
    lab.apply(release(lab))
    assert (lab.root / "data/f").read_text() == "new\n" and (lab.root / "current").is_symlink()


def encrypt(directory, mount):
    """An fscrypt policy on an empty directory; skips where the kernel has none."""
    key = bytearray(struct.pack("=II32sII32s", 2, 0, b"", 64, 0, b"") + os.urandom(64))
    try:
        for path, request, argument in ((mount, 0xC0506617, lambda: key),       # FS_IOC_ADD_ENCRYPTION_KEY
                                        (directory, 0x800C6613,                 # FS_IOC_SET_ENCRYPTION_POLICY
                                         lambda: bytearray(struct.pack("=BBBB4s16s", 2, 1, 4, 3, b"", bytes(key[8:24]))))):
            fd = os.open(path, os.O_DIRECTORY)
            try:
                fcntl.ioctl(fd, request, argument())
            finally:
                os.close(fd)
    except OSError as e:
        pytest.skip(f"no fscrypt in this kernel: {e}")


def test_an_encrypted_directory_is_blocked(lab, tmp_path):
    """The kernel lets nothing be moved into it: that must be known before the decision, and not after it."""
    with mounted(tmp_path / "disk", mkfs=("-O", "encrypt")) as point:
        lab.root = point / "root"
        (lab.root / "d").mkdir(parents=True)
        encrypt(lab.root / "d", point)
        put(lab.root, "d/f", "old\n")
        put(lab.root, "e/f", "old\n")
        put(lab.new, "d/f", "new\n")
        refused(lab, release(lab, *OVERWRITE), "/d/f", "encrypted directory")
        put(lab.new, "e/f", "new\n")
        lab.apply(release(lab), "--select", "/e/f")


def test_a_directory_with_a_project_quota_of_its_own_is_blocked(lab, tmp_path):
    with contextlib.ExitStack() as stack:
        try:
            point = stack.enter_context(mounted(tmp_path / "disk", mkfs=("-O", "project")))
        except subprocess.CalledProcessError:
            pytest.skip("no project quota in this kernel")
        lab.root = point / "root"
        put(lab.root, "d/f", "old\n")
        put(lab.new, "d/f", "new\n")
        subprocess.run(["chattr", "-p", "7", "+P", str(lab.root / "d")], check=True)
        refused(lab, release(lab, *OVERWRITE), "/d/f", "project quota")


def test_an_absolute_link_leads_to_the_root_and_not_out_of_it(lab, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (lab.root / "data").symlink_to(outside)
    put(lab.new, "data/f", "must not land outside\n")
    lab.apply(release(lab))
    assert list(outside.iterdir()) == []
    assert (lab.root / "data").is_dir() and not (lab.root / "data").is_symlink()
    (tmp_path / "lab/root2/inside").mkdir(parents=True)
    second = Lab(tmp_path / "lab", root=tmp_path / "lab/root2", state=tmp_path / "lab/state2")
    (second.root / "data").symlink_to("/inside")
    second.apply(release(lab))
    assert (second.root / "inside/f").exists() and (second.root / "data").is_symlink()


def test_two_entries_for_one_object_are_refused(lab):
    (lab.root / "usr/lib").mkdir(parents=True)
    (lab.root / "lib").symlink_to("usr/lib")
    put(lab.new, "lib/x", "one\n")
    put(lab.new, "usr/lib/x", "other\n")
    refused(lab, release(lab), "the same object as /lib/x")


def test_two_entries_for_one_directory_must_agree(lab):
    (lab.root / "usr/lib/sub").mkdir(parents=True)
    (lab.root / "lib").symlink_to("usr/lib")
    put(lab.new, "lib/sub/x", "x\n")
    put(lab.new, "usr/lib/sub/y", "y\n")
    lab.apply(release(lab))
    lab.rollback()
    (lab.new / "lib/sub").chmod(0o700)
    refused(lab, release(lab), "the same directory as /lib/sub")


def test_drift_is_refused_and_can_be_allowed(lab):
    put(lab.old, "f", "version 1\n")
    put(lab.old, "gone", "version 1\n")
    put(lab.old, "stays", "x\n")
    put(lab.new, "f", "version 2\n")
    put(lab.new, "stays", "x\n")
    put(lab.root, "f", "edited by hand\n")
    put(lab.root, "gone", "edited, too\n")
    put(lab.root, "stays", "x\n")
    set_times(lab.old, OLD_TIME)
    pack = release(lab, old=lab.old)
    refused(lab, pack, "/f", "neither the release's nor an old version", "/gone", "allow drift")
    before = lab.tree()
    lab.apply(pack, "--allow-drift")
    assert (lab.root / "f").read_text() == "version 2\n" and not (lab.root / "gone").exists()
    lab.rollback()
    lab.assert_tree(before)


def test_a_missing_old_file_is_drift(lab):
    put(lab.old, "f", "version 1\n")
    put(lab.new, "f", "version 2\n")
    set_times(lab.old, OLD_TIME)
    refused(lab, release(lab, old=lab.old), "/f", "missing here")


def test_a_rollback_over_local_changes_needs_force(lab):
    put(lab.root, "f", "old\n")
    put(lab.new, "f", "new\n")
    put(lab.new, "g", "new\n")
    before = lab.tree()
    lab.apply(release(lab))
    (lab.root / "f").write_text("edited in place since\n")
    (lab.root / "g").unlink()
    put(lab.root, "g", "replaced since\n")
    now = lab.tree()
    result = lab.rollback(check=REFUSED)
    assert "/f" in result.err and "/g" in result.err and "Force" in result.err
    lab.assert_tree(now)
    lab.rollback("--force")
    lab.assert_tree(before)
    lab.assert_clean()


def test_an_automatic_way_back_leaves_foreign_changes_alone(lab):
    put(lab.root, "f", "old\n")
    put(lab.root, "h", "old\n")
    for name in "fgh":
        put(lab.new, name, "new\n")
    lab.apply(release(lab), "--no-confirm")
    (lab.root / "g").unlink()
    put(lab.root, "g", "somebody else's\n")
    result = lab.recover("--back")
    assert "/g" in result.out + result.err, result
    assert (lab.root / "f").read_text() == "old\n" and (lab.root / "g").read_text() == "somebody else's\n"
    lab.assert_clean()


def test_files_added_to_a_new_directory_survive_its_rollback(lab):
    put(lab.new, "d/f", "new\n")
    lab.apply(release(lab))
    put(lab.root, "d/mine", "precious\n")
    result = lab.rollback("--force")
    kept = list(lab.root.rglob("mine"))
    assert len(kept) == 1 and kept[0].read_text() == "precious\n" and ".moult" in kept[0].parts, result
    assert "kept in" in result.out + result.err


def test_selection_takes_what_it_needs_and_no_more(lab):
    put(lab.new, "a/deep/er/f", "1\n")
    put(lab.new, "a/deep/er/g", "2\n")
    os.link(lab.new / "a/deep/er/f", lab.new / "linked")
    put(lab.new, "b/f", "3\n")
    lab.apply(release(lab), "--select", "/a/deep/er/f")
    assert sorted(str(p.relative_to(lab.root)) for p in lab.root.rglob("*") if p.is_file() and ".moult" not in p.parts) == \
        ["a/deep/er/f", "linked"]
    assert (lab.root / "a/deep/er/f").samefile(lab.root / "linked")
    result = lab.apply(release(lab), "--select", "nothing", check=NOT_FOUND)
    assert "/nothing is not in this release" in result.err


def test_a_release_for_another_system_is_refused(lab):
    put(lab.root, "etc/os-release", 'ID=debian\nVERSION_ID="12"\n')
    put(lab.new, "f", "x\n")
    refused(lab, release(lab, "--require", "ID=alpine"), "ID=alpine", "ID=debian")
    refused(lab, release(lab, "--require", "ARCH=sparc"), "ARCH=sparc")
    refused(lab, release(lab, "--require", "CODENAME=x"), "does not say")
    lab.apply(release(lab, "--require", "ID=debian", "--require", "VERSION_ID=12", "--require", f"ARCH={os.uname().machine}"))


def test_the_security_floor_outlives_a_rollback(lab):
    put(lab.new, "f", "1\n")
    low = release(lab, "--security-floor", "1")
    put(lab.new, "f", "2\n")
    high = release(lab, "--security-floor", "2")
    lab.apply(low)
    lab.apply(high)
    lab.rollback()
    assert (lab.root / "f").read_text() == "1\n"
    assert "security floor" in lab.apply(low, check=UNTRUSTED).err
    assert (lab.root / "f").read_text() == "1\n"
    lab.apply(high)


def test_unsigned_and_unknown_keys_are_refused(lab, tmp_path):
    put(lab.new, "f", "x\n")
    pack = release(lab)
    other = Lab(tmp_path / "other")
    other.new = lab.new
    refused(lab, release(other), check=UNTRUSTED)
    (lab.trust / "release.pub").unlink()
    refused(lab, pack, check=UNTRUSTED)


def test_the_state_directory_cannot_be_part_of_a_release(tmp_path):
    lab = Lab(tmp_path / "lab", state=tmp_path / "lab/root/var/lib/moult")
    lab.new = tmp_path / "new"
    put(lab.new, "var/lib/moult/floor", "0\n")
    (lab.root / "var/lib").mkdir(parents=True)
    result = lab.apply(release(lab, "--allow-per-vm", "/var/lib/moult/floor"), check=REFUSED)
    assert "moult's own state" in result.err


def test_a_file_that_changes_while_it_is_prepared_is_noticed(lab, tmp_path):
    """A pre hook plays the editor: it runs after staging and before the second look."""
    put(lab.root, "f", "old\n")
    put(lab.root, "same", "same\n")
    put(lab.new, "f", "new\n")
    put(lab.new, "same", "same\n")
    set_times(lab.root, NEW_TIME)
    for victim in ("f", "same"):
        hook = put(tmp_path, "hook", f"#!/bin/sh\necho edited >> $MOULT_ROOT/{victim}\n", 0o755)
        result = lab.apply(release(lab, "--hook", f"pre={hook}"), check=5)
        assert f"/{victim} was changed by somebody else" in result.err and "no file was switched" in result.err
        assert (lab.root / "f").read_text() in ("old\n", "old\nedited\n")
        lab.assert_clean()


def test_a_file_that_gets_another_name_is_looked_at_again_as_well(lab, tmp_path):
    """Linking changes the file's change time: that must not hide what somebody else does to it."""
    put(lab.root, "a", "same\n")
    put(lab.new, "a", "same\n")
    os.link(lab.new / "a", lab.new / "b")
    os.link(lab.new / "a", lab.new / "c")
    set_times(lab.root, NEW_TIME)
    hook = put(tmp_path, "hook", "#!/bin/sh\necho edited >> $MOULT_ROOT/a\n", 0o755)
    result = lab.apply(release(lab, "--hook", f"pre={hook}"), check=5)
    assert "/a was changed by somebody else" in result.err
    assert not (lab.root / "b").exists()
    lab.assert_clean()


@pytest.mark.parametrize("deed", ["echo mine > $MOULT_ROOT/d/sub/mine", "echo edited >> $MOULT_ROOT/d/sub/f"])
@pytest.mark.parametrize("becomes", ["nothing", "a link"])
def test_a_directory_that_goes_is_looked_into_again(lab, tmp_path, deed, becomes):
    for tree in (lab.root, lab.old):
        put(tree, "d/sub/f", "old\n")
        put(tree, "keep", "old\n")
        set_times(tree, OLD_TIME)
    put(lab.new, "keep", "old\n")
    if becomes == "a link":
        (lab.new / "d").symlink_to("keep")
    hook = put(tmp_path, "hook", f"#!/bin/sh\n{deed}\n", 0o755)
    result = lab.apply(release(lab, "--hook", f"pre={hook}", old=lab.old), check=5)
    assert "was changed by somebody else" in result.err and "/d/sub/" in result.err
    assert (lab.root / "d/sub/f").exists()
    lab.assert_clean()


def test_a_file_changed_below_a_new_directory_is_drift(lab):
    """The directory came as one; what is in it is compared all the same."""
    put(lab.root, "keep", "old\n")
    for name in ("d/f", "d/sub/g", "d/same"):
        put(lab.new, name, "new\n")
    before = lab.tree()
    for edit in (lambda: (lab.root / "d/sub/g").write_text("edited in place\n"),
                 lambda: ((lab.root / "d/sub/g").unlink(), put(lab.root, "d/sub/g", "replaced\n"))):
        lab.apply(release(lab))
        assert lab.rollback(check=None).code == OK
        lab.assert_tree(before)
        lab.apply(release(lab))
        edit()
        mine, now = (lab.root / "d/sub/g").read_text(), lab.tree()
        result = lab.rollback(check=REFUSED)
        assert "/d/sub/g" in result.err and "Force" in result.err
        lab.assert_tree(now)
        result = lab.rollback("--force")
        kept = [p for p in lab.root.rglob("g") if ".moult" in p.parts and p.read_text() == mine]
        assert len(kept) == 1 and "kept in" in result.out + result.err, result
        lab.assert_tree(before)


def test_an_automatic_way_back_keeps_what_was_changed_below_a_new_directory(lab):
    put(lab.new, "d/f", "new\n")
    lab.apply(release(lab), "--no-confirm")
    (lab.root / "d/f").write_text("precious\n")
    result = lab.recover("--back")
    kept = [p for p in lab.root.rglob("f") if p.read_text() == "precious\n"]
    assert len(kept) == 1 and ".moult" in kept[0].parts and "kept in" in result.out + result.err, result


def test_a_file_that_came_into_a_directory_as_it_went_outlives_its_way_back(lab):
    """Who has the directory open can make files in it after the switch; they are not thrown away with the generation."""
    for tree in (lab.root, lab.old):
        put(tree, "d/f", "old\n")
        put(tree, "n", "0\n")
        set_times(tree, OLD_TIME)
    directory = os.open(lab.root / "d", os.O_DIRECTORY)
    put(lab.new, "n", "1\n")
    lab.apply(release(lab, old=lab.old))
    os.close(os.open("late", os.O_CREAT | os.O_WRONLY, dir_fd=directory))
    os.close(directory)
    for n in range(2, 5):
        put(lab.new, "n", f"{n}\n")
        lab.apply(release(lab, version=str(n)))
    assert len(list(lab.root.rglob("late"))) == 1
    assert not (lab.root / "d").exists()


def test_overlay_delivery_is_refused_where_a_merge_would_close_a_directory(lab):
    put(lab.root, "same", "same\n")
    put(lab.new, "same", "same\n")
    set_times(lab.root, NEW_TIME)
    lab.apply(release(lab, "--delivery", "overlay"))
    put(lab.new, "f", "a new name\n")
    refused(lab, release(lab, "--delivery", "overlay"), "/f", "only regular files that exist can be merged")


def test_one_engine_at_a_time(lab, tmp_path):
    put(lab.new, "f", "x\n")
    hook = put(tmp_path, "hook", '#!/bin/sh\n: > "$MOULT_ROOT/started"; cat "$MOULT_ROOT/go" > /dev/null\n', 0o755)
    pack = release(lab, "--hook", f"pre={hook}")
    os.mkfifo(lab.root / "go")
    words = [str(w) for w in ("apply", pack, "--trust", lab.trust, *lab.where)]
    first = subprocess.Popen([str(AGENT), *words], stdout=subprocess.DEVNULL)
    with open(lab.root / "go", "w"):    # opens when the hook reads
        assert (lab.root / "started").exists()
        result = lab.apply(pack, check=BUSY)
        assert "another moult-agent" in result.err
    assert first.wait(60) == OK


def test_the_plan_as_json(lab):
    put(lab.root, "f", "old\n")
    put(lab.new, "f", "new\n")
    items = [json.loads(line) for line in lab.plan(release(lab), "--json").out.splitlines()]
    assert any(item["path"] == "f" and item["action"] == "replace" for item in items), items


def test_an_old_file_with_more_names_is_told(lab):
    put(lab.root, "f", "old\n")
    os.link(lab.root / "f", lab.root / "unlisted")
    put(lab.new, "f", "new\n")
    pack = release(lab)
    assert "1 other name(s) of the live file" in lab.plan(pack).out
    lab.apply(pack)
    assert (lab.root / "unlisted").read_text() == "old\n"


def test_files_that_are_one_here_and_two_in_the_release_become_two(lab):
    put(lab.root, "a", "x\n")
    os.link(lab.root / "a", lab.root / "b")
    put(lab.new, "a", "x\n")
    put(lab.new, "b", "x\n")
    set_times(lab.root, NEW_TIME)
    lab.apply(release(lab))
    assert not (lab.root / "a").samefile(lab.root / "b")


def test_a_link_to_a_file_that_is_equal_joins_it(lab):
    put(lab.root, "a", "x\n")
    put(lab.root, "b", "x\n")
    put(lab.new, "a", "x\n")
    os.link(lab.new / "a", lab.new / "b")
    os.link(lab.new / "a", lab.new / "c")
    set_times(lab.root, NEW_TIME)
    inode, before = (lab.root / "a").stat().st_ino, lab.tree()
    lab.apply(release(lab))
    assert {(lab.root / n).stat().st_ino for n in "abc"} == {inode}
    lab.rollback()
    lab.assert_tree(before)
