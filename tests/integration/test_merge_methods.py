"""The methods of a merge, all by the same tests: what a release can bring, over each kind of what cannot be written."""

import os
import shutil
import struct

import pytest
from engine_lab import difference
from merge_lab import (NEW_TIME, OLD_TIME, MergeLab, all_times, checked, everything, in_own_mounts, libc, mounts, put,
                       run)

TREE_METHODS = ["overlay", "union"]
FILE_METHODS = ["bind", "union"]
KINDS = ["squashfs", "erofs", "ext4", "bind"]

CAP_NET_RAW = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)
# user::rw-, user:33:r--, group::r--, mask::r--, other::---
ACL = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in [
    (1, 6, 0xffffffff), (2, 4, 33), (4, 4, 0xffffffff), (16, 4, 0xffffffff), (32, 0, 0xffffffff)])


def original(source):
    put(source, "bin/tool", "#!/bin/sh\necho old\n", 0o755)
    put(source, "bin/same", "stays")
    put(source, "bin/gone", "goes")
    put(source, "lib/a/1", "one")
    put(source, "lib/a/2", "two")
    put(source, "lib/whole/x", "x")
    put(source, "lib/whole/y/z", "z")
    put(source, "lib/file-to-directory", "file")
    put(source, "lib/directory-to-file/inside", "inside")
    put(source, "share/private/secret", "old", 0o600)
    (source / "share/private").chmod(0o750)
    os.chown(source / "share/private", 7, 8)
    os.symlink("tool", source / "bin/link")
    os.symlink("a", source / "lib/link-to-directory")
    all_times(source, OLD_TIME)
    return source


def fill(folder):
    """What the release brings: a folder, {directory that it lists}, [what it deletes]."""
    put(folder, "usr/bin/tool", "#!/bin/sh\necho new\n", 0o755)
    put(folder, "usr/bin/setuid", "s", 0o4755, (3, 4))
    put(folder, "usr/bin/capable", "c", 0o755, xattrs={"security.capability": CAP_NET_RAW})
    put(folder, "usr/bin/marked", "m", xattrs={"user.note": b"hello", "trusted.note": b"\0\1"})
    put(folder, "usr/bin/listed", "acl", 0o640, xattrs={"system.posix_acl_access": ACL})
    put(folder, "usr/bin/large", os.urandom(300_000))
    put(folder, "usr/bin/empty", "")
    put(folder, "usr/bin/first", "one inode", 0o755)
    os.link(folder / "usr/bin/first", folder / "usr/bin/second")
    os.symlink("nowhere at all", folder / "usr/bin/dangling")
    put(folder, "usr/lib/a/2", "two, new")
    put(folder, "usr/lib/new/deep/file", "deep")
    put(folder, "usr/lib/file-to-directory/now", "a directory")
    put(folder, "usr/lib/directory-to-file", "a file")
    put(folder, "usr/lib/link-to-directory", "a file, too")
    put(folder, "usr/share/private/secret", "new", 0o600, (9, 9))
    put(folder, "usr/share/a name with blanks, \"quotes\"\nand a line", "odd")
    os.mknod(folder / "usr/lib/null", 0o020666, os.makedev(1, 3))
    os.mkfifo(folder / "usr/lib/fifo", 0o640)
    (folder / "usr/lib/empty").mkdir()
    directories = ["usr/lib/new", "usr/lib/new/deep", "usr/lib/file-to-directory", "usr/lib/empty"]
    (folder / "usr/lib/new/deep").chmod(0o2775)
    os.chown(folder / "usr/lib/empty", 11, 12)
    all_times(folder, NEW_TIME)
    return directories, ["usr/bin/gone", "usr/lib/a/1", "usr/lib/whole"]


def expected(source, folder, directories, gone, to):
    """The same by cp and rm."""
    run("cp", "-a", source, to)
    for path in [*gone, "usr/lib/file-to-directory", "usr/lib/directory-to-file", "usr/lib/link-to-directory"]:
        path = to / path.removeprefix("usr/")
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    run("cp", "-a", f"{folder}/usr/.", to)
    # Directories that the release does not list stay as they are.
    for directory, names, _ in os.walk(source):
        rel = os.path.relpath(directory, source)
        if f"usr/{rel}" not in directories and (to / rel).is_dir():
            st = os.stat(directory)
            os.chown(to / rel, st.st_uid, st.st_gid)
            (to / rel).chmod(st.st_mode & 0o7777)
            os.utime(to / rel, ns=(st.st_mtime_ns, st.st_mtime_ns))
    return to


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", TREE_METHODS)
@in_own_mounts
def test_all_that_a_release_can_bring_is_seen_and_nothing_else_changes(tmp_path, method, kind):
    lab = MergeLab(tmp_path)
    source = original(lab.dir / "source")
    lab.mount_usr(kind, source)
    folder = lab.dir / "new"
    directories, gone = fill(folder)
    want = everything(expected(source, folder, directories, gone, lab.dir / "expected"))
    before = everything(lab.usr)
    want["."] = before["."]     # mkfs does not take the folder's own time
    lab.apply(folder, ["tree=usr@usr"], gone, directories, method)
    seen = everything(lab.usr)
    assert seen == want, difference(seen, want)
    assert os.stat(lab.usr / "bin/first").st_ino == os.stat(lab.usr / "bin/second").st_ino
    assert run(lab.usr / "bin/tool") == "new\n"
    assert lab.status()["usr"][0] == method
    lab.apply()
    assert everything(lab.usr) == before
    assert not lab.originals()


@pytest.mark.parametrize("method", TREE_METHODS)
@in_own_mounts
def test_a_merged_tree_cannot_be_written_to(tmp_path, method):
    lab = MergeLab(tmp_path)
    lab.mount_usr("squashfs", original(lab.dir / "source"))
    lab.apply(lab.release({"usr/bin/tool": "new"}), ["tree=usr/bin@usr"], method=method)
    for attempt in (lambda: (lab.usr / "bin/tool").write_text("x"), lambda: (lab.usr / "bin/other").write_text("x"),
                    lambda: (lab.usr / "bin/tool").unlink(), lambda: (lab.usr / "bin/tool").rename(lab.usr / "bin/u"),
                    lambda: (lab.usr / "bin/tool").chmod(0o777), lambda: os.utime(lab.usr / "bin/same")):
        with pytest.raises(OSError) as e:
            attempt()
        assert e.value.errno == 30      # EROFS
    assert [o.read_text() for o in lab.objects()] == ["new"]


@pytest.mark.parametrize("method", FILE_METHODS)
@in_own_mounts
def test_an_immutable_file_is_merged_alone_and_its_directory_stays_writable(tmp_path, method):
    lab = MergeLab(tmp_path)
    etc = lab.root / "etc"
    etc.mkdir()
    lab.disk("etc", "8M", etc)
    put(etc, "locked", "old", time=OLD_TIME)
    run("chattr", "+i", etc / "locked")
    folder = lab.release({"etc/locked": lambda f: put(f.parent, f.name, "new", 0o4751, (5, 6), {"user.note": b"x"})})
    want = everything(folder / "etc")["locked"]
    try:
        lab.apply(folder, ["file=etc/locked@etc"], method=method)
        assert everything(etc)["locked"] == want
        (etc / "neighbour").write_text("can be written")
        with pytest.raises(OSError):
            (etc / "locked").write_text("x")
        assert lab.status()["etc/locked"][0] == method
        lab.apply()
        assert (etc / "locked").read_text() == "old"
        assert not lab.originals()
    finally:
        run("umount", "--quiet", etc / "locked") if os.path.ismount(etc / "locked") else None
        run("chattr", "-i", etc / "locked")


@pytest.mark.parametrize("method,what", [("overlay", "tree=usr/bin@usr"), ("union", "tree=usr/bin@usr"),
                                         ("bind", "file=usr/bin/tool@usr"), ("union", "file=usr/bin/tool@usr")])
@pytest.mark.parametrize("options", ["nosuid,nodev", "noexec", ""])
@in_own_mounts
def test_the_flags_are_those_of_the_original_not_of_the_disk_with_our_state(tmp_path, method, what, options):
    lab = MergeLab(tmp_path, state_options="nosuid,nodev,noexec")
    lab.mount_usr("squashfs", original(lab.dir / "source"), options)
    lab.apply(lab.release({"usr/bin/tool": lambda f: put(f.parent, f.name, "#!/bin/sh\necho new\n", 0o755)}), [what],
              method=method)
    path = lab.usr / "bin/tool"
    shown = os.statvfs(path).f_flag
    for flag, name in ((os.ST_NOSUID, "nosuid"), (os.ST_NODEV, "nodev"), (os.ST_NOEXEC, "noexec")):
        assert bool(shown & flag) == (name in options), name
    assert shown & os.ST_RDONLY
    if "noexec" in options:
        with pytest.raises(PermissionError):
            run(path)
    else:
        assert run(path) == "new\n"


@pytest.mark.parametrize("method", TREE_METHODS)
@in_own_mounts
def test_open_files_and_working_directories_stay_with_the_release_that_they_are_of(tmp_path, method):
    lab = MergeLab(tmp_path)
    lab.mount_usr("erofs", original(lab.dir / "source"))
    with open(lab.usr / "bin/tool") as first:
        lab.apply(lab.release({"usr/bin/tool": "second"}), ["tree=usr/bin@usr"], method=method)
        with open(lab.usr / "bin/tool") as second:
            lab.apply(lab.release({"usr/bin/tool": "third"}), ["tree=usr/bin@usr"], method=method)
            lab.apply(None)
            assert first.read() == "#!/bin/sh\necho old\n"
            assert second.read() == "second"


@in_own_mounts
def test_a_method_that_cannot_serve_a_place_is_refused_with_the_reason(tmp_path):
    lab = MergeLab(tmp_path)
    lab.mount_usr("squashfs", original(lab.dir / "source"))
    release = lab.release({"usr/bin/tool": "new"})
    assert "single file" in lab.refuse(release, ["tree=usr/bin@usr"], method="bind")
    assert "directories" in lab.refuse(release, ["file=usr/bin/tool@usr"], method="overlay")
    # Over an upper directory of another overlay with these names, overlayfs itself says no; so the one who asks is told why.
    text = lab.refuse(lab.release({"usr/bin/nothing": "new"}), ["file=usr/bin/nothing@usr"], method="bind")
    assert "is gone" in text


@in_own_mounts
def test_what_is_mounted_below_comes_along_and_goes_back(tmp_path):
    lab = MergeLab(tmp_path)
    source = original(lab.dir / "source")
    (source / "local").mkdir()
    (source / "extra").mkdir()
    lab.mount_usr("squashfs", source)
    run("mount", "-t", "tmpfs", "local", lab.usr / "local")
    put(lab.usr, "local/mine", "mine")
    (lab.usr / "local/inner").mkdir()
    run("mount", "-t", "tmpfs", "inner", lab.usr / "local/inner")
    put(lab.usr, "local/inner/deep", "deep")
    before = mounts(lab.root)
    paths = [lab.usr / "bin/tool", lab.usr / "local/mine", lab.usr / "local/inner/deep"]
    with lab.watched(*paths), open(lab.usr / "local/log", "w") as log:
        for i in range(3):
            lab.apply(lab.release({"usr/bin/tool": f"{i}"}), ["tree=usr@usr"])
            assert (lab.usr / "bin/tool").read_text() == f"{i}"
            log.write(f"{i}\n")
            put(lab.usr, f"local/{i}", "written")
        lab.apply()
    assert (lab.usr / "local/log").read_text() == "0\n1\n2\n"
    assert {p.name for p in (lab.usr / "local").iterdir()} == {"mine", "inner", "log", "0", "1", "2"}
    assert mounts(lab.root) == before


@in_own_mounts
def test_what_is_mounted_on_a_merge_is_carried_along_but_not_dropped(tmp_path):
    lab = MergeLab(tmp_path)
    source = original(lab.dir / "source")
    (source / "extra").mkdir()
    lab.mount_usr("squashfs", source)
    lab.apply(lab.release({"usr/bin/tool": "1"}), ["tree=usr@usr"])
    run("mount", "-t", "tmpfs", "extra", lab.usr / "extra")
    put(lab.usr, "extra/file", "kept")
    lab.apply(lab.release({"usr/bin/tool": "2"}), ["tree=usr@usr"])
    assert (lab.usr / "extra/file").read_text() == "kept"
    text = lab.refuse()
    assert "usr/extra was mounted on the merge since: unmount it first" in text
    assert (lab.usr / "bin/tool").read_text() == "2"
    run("umount", lab.usr / "extra")
    lab.apply()
    assert (lab.usr / "bin/tool").read_text() == "#!/bin/sh\necho old\n"


@in_own_mounts
def test_a_release_that_leaves_no_place_for_a_mount_is_refused(tmp_path):
    lab = MergeLab(tmp_path)
    lab.mount_usr("squashfs", original(lab.dir / "source"))
    run("mount", "-t", "tmpfs", "x", lab.usr / "lib/a")
    text = lab.refuse(None, ["tree=usr/lib@usr"], gone=["usr/lib/a"])
    assert "would hide the release's files" in text or "leaves no place for it" in text
    text = lab.refuse(lab.release({"usr/lib/a/2": "below the mount"}), ["tree=usr/lib@usr"])
    assert "usr/lib/a was mounted there, and would hide the release's files" in text


@in_own_mounts
def test_read_only_mounts_in_one_another_each_have_their_merge(tmp_path):
    lab = MergeLab(tmp_path)
    source = original(lab.dir / "source")
    (source / "local").mkdir()
    lab.mount_usr("squashfs", source)
    run("mkfs.erofs", lab.dir / "local.img", original(lab.dir / "local"))
    run("mount", "-o", "loop,ro", lab.dir / "local.img", lab.usr / "local")
    before = mounts(lab.root)
    merges = ["tree=usr@usr", "tree=usr/local/bin@usr/local"]
    for i in range(4):
        lab.apply(lab.release({"usr/bin/tool": f"outer {i}", "usr/local/bin/tool": f"inner {i // 2}"}), merges)
        assert (lab.usr / "bin/tool").read_text() == f"outer {i}"
        assert (lab.usr / "local/bin/tool").read_text() == f"inner {i // 2}"
        assert sorted(lab.status()) == ["usr", "usr/local/bin"]
    lab.apply()
    assert mounts(lab.root) == before


@in_own_mounts
def test_a_damaged_or_missing_object_is_refused_and_named(tmp_path):
    lab = MergeLab(tmp_path)
    lab.mount_usr("squashfs", original(lab.dir / "source"))
    for merge in ("tree=usr/bin@usr", "file=usr/bin/tool@usr"):
        release = lab.release({"usr/bin/tool": f"good {merge}"})
        lab.apply(release, [merge])
        lab.apply()
        (damaged,) = [o for o in lab.objects() if o.read_text() == f"good {merge}"]
        st = damaged.stat()
        with open(damaged, "r+b") as f:
            f.write(b"b")
        os.utime(damaged, ns=(st.st_mtime_ns, st.st_mtime_ns))
        text = lab.refuse(release, [merge], MERGE_TOOL_NO_STORE="1")
        assert "usr/bin/tool is not fit to be merged" in text
        damaged.unlink()
        text = lab.refuse(release, [merge], MERGE_TOOL_NO_STORE="1")
        assert "usr/bin/tool is not fit to be merged" in text
        lab.apply(release, [merge])     # brought again
        assert (lab.usr / "bin/tool").read_text() == f"good {merge}"
        lab.apply()


@in_own_mounts
def test_a_place_that_vanished_or_was_mounted_over_is_refused(tmp_path):
    lab = MergeLab(tmp_path)
    lab.mount_usr("squashfs", original(lab.dir / "source"))
    release = lab.release({"usr/bin/tool": "1"})
    assert "usr/none of a merge is gone" in lab.refuse(release, ["tree=usr/bin@usr", "tree=usr/none@usr"])
    lab.apply(release, ["tree=usr/bin@usr"])
    run("mount", "-t", "tmpfs", "over", lab.usr / "bin")
    assert "mounted over the merge" in lab.refuse(lab.release({"usr/bin/tool": "2"}), ["tree=usr/bin@usr"])
    run("umount", lab.usr / "bin")
    # The whole mount goes, and with it the merge: what is wanted then has no place, and waits; nothing wanted is fine.
    run("umount", "-l", lab.usr)
    (lab.usr / "bin").mkdir()
    waits = lab.try_apply(release, ["tree=usr/bin@usr"])
    assert waits.returncode == 0 and "/usr is not mounted" in waits.stdout, waits.stdout + waits.stderr
    assert not list((lab.usr / "bin").iterdir()), "not on the bare directory"
    (lab.usr / "bin").rmdir()
    lab.apply()
    assert not lab.originals()
    # It comes back, and the merge with it.
    lab.mount_usr("bind", lab.dir / "source")
    lab.apply(release, ["tree=usr/bin@usr"])
    assert (lab.usr / "bin/tool").read_text() == "1"


@in_own_mounts
def test_a_link_in_the_way_is_not_followed(tmp_path):
    lab = MergeLab(tmp_path)
    etc = lab.root / "etc"
    put(etc, "real/file", "old")
    os.symlink("real", etc / "link")
    text = lab.refuse(lab.release({"etc/link/file": "new"}), ["file=etc/link/file@"])
    assert "a link has been put in its way" in text
    assert (etc / "real/file").read_text() == "old"


@in_own_mounts
def test_who_merges_in_a_mount_namespace_of_his_own_is_told(tmp_path):
    try:
        os.stat("/proc/1/ns/mnt")
    except PermissionError:
        pytest.skip("this machine does not let us look at init's mount namespace")
    lab = MergeLab(tmp_path)
    lab.mount_usr("squashfs", original(lab.dir / "source"))
    notes = lab.apply(lab.release({"usr/bin/tool": "1"}), ["tree=usr/bin@usr"])
    assert "the agent is in a mount namespace of its own" in notes


@in_own_mounts
def test_our_own_folder_of_mounts_is_seen_nowhere_else(tmp_path):
    lab = MergeLab(tmp_path, shared=True)
    lab.mount_usr("squashfs", original(lab.dir / "source"))
    lab.apply(lab.release({"usr/bin/tool": "1"}), ["tree=usr/bin@usr"])
    ours = [m for m in mounts(lab.run) if m[0] == str(lab.run)]
    assert [m[5] for m in ours] == [False]
    assert os.stat(lab.run).st_mode & 0o7777 == 0o700
    checked(libc.umount2(os.fsencode(lab.run), 2))
    # Without the originals a release cannot be composed; that is said, and the merge stays.
    text = lab.refuse(lab.release({"usr/bin/tool": "2"}), ["tree=usr/bin@usr"])
    assert "is not kept in" in text and "reboot" in text
    assert (lab.usr / "bin/tool").read_text() == "1"
