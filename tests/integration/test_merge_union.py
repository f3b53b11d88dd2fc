"""Merges by union: what is special about a merge that a process serves. What all methods do is in test_merge_methods.py."""

import contextlib
import errno
import os
import pathlib
import select
import signal
import subprocess
import time

import pytest
from merge_lab import OLD_TIME, TOOL, MergeLab, all_times, in_own_mounts, mounts, put

TREE = "tree=usr@usr"
WITHIN_S = 20


def lab_with_usr(directory, kind="squashfs"):
    lab = MergeLab(directory)
    source = lab.dir / "source"
    for path in ("bin/tool", "bin/same", "lib/library"):
        put(source, path, f"old {path}")
    os.link(source / "bin/same", source / "bin/same-too")
    all_times(source, OLD_TIME)
    lab.mount_usr(kind, source)
    return lab


def servers(lab):
    """(supervisor, server) of each merge of this lab that is being served."""
    parents = {}
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            if b"--root=" + os.fsencode(lab.root) in words:
                parents[int(process.name)] = int((process / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            pass
    return [(parent, child) for child, parent in parents.items() if parent in parents]


def wait_end(*pids):
    for pid in pids:
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        assert select.select([fd], [], [], WITHIN_S)[0], f"process {pid} does not end"
        os.close(fd)


def wait_mounts(changed, why):
    """Until @changed() is true, looking again whenever the mount table changes."""
    with open("/proc/self/mountinfo") as table:
        poll = select.poll()
        poll.register(table, select.POLLPRI | select.POLLERR)
        until = time.monotonic() + WITHIN_S
        while not changed():
            assert time.monotonic() < until and poll.poll(WITHIN_S * 1000), f"the mounts do not change: {why()}"
            table.seek(0)
            table.read()


def merge_ids():
    return {line.split()[0] for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines() if "moult-union-" in line}


def log(lab):
    return (lab.state / "target/targetfs.log").read_text()


@pytest.mark.parametrize("fault", ["", "mount-beneath:1=skip,mount-beneath:2=skip,mount-beneath:3=skip"])
@in_own_mounts
def test_a_server_that_dies_is_replaced_and_nobody_sees_the_old_files(tmp_path, fault):
    lab = lab_with_usr(tmp_path)
    lab.environment["MOULT_FAULT"] = fault
    lab.apply(lab.release({"usr/bin/tool": "new"}), [TREE], method="union")
    tool = lab.usr / "bin/tool"
    opened = os.open(lab.usr / "lib/library", os.O_RDONLY)
    for _ in range(3):
        before, [(supervisor, server)] = merge_ids(), servers(lab)
        os.kill(server, signal.SIGKILL)
        seen = set()

        def back():
            try:
                seen.add(tool.read_text())
            except OSError as e:
                assert e.errno in (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO, errno.ESTALE), e
            return merge_ids().isdisjoint(before) and len(merge_ids()) == 1

        wait_mounts(back, lambda: log(lab))
        assert tool.read_text() == "new" and (lab.usr / "bin/same").read_text() == "old bin/same"
        assert seen <= {"new"}
        assert list(lab.status().values())[0][2:] == ("tidy", "alive")
        [(again, replaced)] = servers(lab)
        assert again == supervisor and replaced != server
    with pytest.raises(OSError):        # what was open on the dead mount is lost
        os.pread(opened, 1, 0)
    with contextlib.suppress(OSError):
        os.close(opened)
    assert "targetfs-died" in log(lab) and "targetfs-restarted" in log(lab)
    lab.apply()
    wait_end(supervisor, replaced)
    assert tool.read_text() == "old bin/tool" and not mounts(lab.root)[1:]


@pytest.mark.parametrize("point,seen", [("merge", "old bin/tool"), ("merge-put", None)])
@in_own_mounts
def test_a_server_that_dies_while_it_is_switched_in_is_an_error_and_nothing_else(tmp_path, point, seen):
    """Its supervisor gives up what is not in place yet: the engine has to see it, and takes everything back."""
    lab = lab_with_usr(tmp_path)
    release = lab.release({"usr/bin/tool": "new"})
    lab.apply(release, [TREE], method="union")
    lab.apply()
    words = [TOOL, "apply", lab.root, lab.state, lab.run, "union", f"new={release}", TREE]
    tool = subprocess.Popen(list(map(str, words)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env=os.environ | lab.environment | {"ASAN_OPTIONS": "detect_leaks=0", "MOULT_FAULT": f"{point}=stop"})
    os.waitid(os.P_PID, tool.pid, os.WSTOPPED | os.WNOWAIT)
    [(supervisor, server)] = servers(lab)
    os.kill(supervisor, signal.SIGKILL)     # nor can it help
    os.kill(server, signal.SIGKILL)
    wait_end(supervisor, server)
    os.kill(tool.pid, signal.SIGCONT)
    _, err = tool.communicate()
    assert tool.returncode == 1 and "server died while it was switched in" in err, err
    if seen:
        assert (lab.usr / "bin/tool").read_text() == seen
    lab.apply(release, [TREE], method="union")
    assert (lab.usr / "bin/tool").read_text() == "new"


@in_own_mounts
def test_the_supervisor_is_not_needed_to_serve_and_a_dead_merge_is_made_again(tmp_path):
    lab = lab_with_usr(tmp_path)
    release = lab.release({"usr/bin/tool": "new"})
    lab.apply(release, [TREE], method="union")
    [(supervisor, server)] = servers(lab)
    os.kill(supervisor, signal.SIGKILL)
    wait_end(supervisor)
    assert (lab.usr / "bin/tool").read_text() == "new" and (lab.usr / "bin/same").read_text() == "old bin/same"
    os.kill(server, signal.SIGKILL)
    wait_end(server)
    with pytest.raises(OSError):
        (lab.usr / "lib/library").read_text()
    assert list(lab.status().values())[0][3] == "dead"
    lab.apply(release, [TREE], method="union")
    assert list(lab.status().values())[0][2:] == ("tidy", "alive")
    assert (lab.usr / "bin/tool").read_text() == "new"


@in_own_mounts
def test_a_server_keeps_no_file_system_that_a_release_may_replace(tmp_path):
    lab = lab_with_usr(tmp_path)
    lab.apply(lab.release({"usr/bin/tool": "new"}), [TREE], method="union")
    for pid in servers(lab)[0]:
        process = pathlib.Path("/proc") / str(pid)
        mapped = [line for line in (process / "maps").read_text().splitlines() if int(line.split()[4]) and "memfd" not in line]
        assert not mapped
        assert os.readlink(process / "exe").startswith("/memfd:")
        assert os.readlink(process / "cwd") == "/"
        assert process.joinpath("cmdline").read_bytes().startswith(b"@")


@in_own_mounts
def test_servers_end_with_their_mount_and_those_that_are_in_use_after_it(tmp_path):
    lab = lab_with_usr(tmp_path)
    lab.apply(lab.release({"usr/bin/tool": "first"}), [TREE], method="union")
    [first] = servers(lab)
    opened = os.open(lab.usr / "bin/tool", os.O_RDONLY)
    lab.apply(lab.release({"usr/bin/tool": "second"}), [TREE], method="union")
    assert (lab.usr / "bin/tool").read_text() == "second"
    assert first in servers(lab)
    assert os.pread(opened, 100, 0) == b"first"         # never read before: from the server, of a merge that is gone
    os.close(opened)
    wait_end(*first)
    assert len(servers(lab)) == 1


@in_own_mounts
def test_a_file_that_the_store_lost_is_an_error_with_one_line_in_the_log(tmp_path):
    lab = lab_with_usr(tmp_path)
    lab.apply(lab.release({"usr/bin/tool": "new", "usr/bin/other": "fine"}), [TREE], method="union")
    moved = {}
    for o in (lab.state / "target/objects").glob("*/*"):
        if o.read_text() == "new":
            moved[o] = o.with_name("away")
            o.rename(moved[o])
    assert len(moved) == 1
    for _ in range(5):
        with pytest.raises(OSError) as e:
            (lab.usr / "bin/tool").read_text()
        assert e.value.errno == errno.EIO
    assert (lab.usr / "bin/other").read_text() == "fine"
    assert log(lab).count("targetfs-unreadable") == 1
    for there, away in moved.items():
        away.rename(there)
    assert (lab.usr / "bin/tool").read_text() == "new"


@in_own_mounts
def test_directories_list_each_name_once_and_numbers_tell_files_apart(tmp_path):
    lab = lab_with_usr(tmp_path, "bind")
    names = {f"name-{i:05}-{'x' * (i % 60)}" for i in range(3000)}
    for name in names:
        put(lab.dir / "source", f"share/{name}", name)
    new = {f"usr/share/{name}": f"new {name}" for name in sorted(names)[::3]} | {f"usr/share/more-{i}": "more" for i in range(500)}
    lab.apply(lab.release(new), [TREE], method="union", gone=[f"usr/share/{n}" for n in sorted(names)[1::3]])
    want = names - set(sorted(names)[1::3]) | {f"more-{i}" for i in range(500)}
    for _ in range(2):          # from the server, and from the kernel's cache
        with os.scandir(lab.usr / "share") as entries:
            seen = [(e.name, e.inode()) for e in entries]
        assert len(seen) == len(want) and {name for name, _ in seen} == want
    for name, inode in seen:
        assert os.stat(lab.usr / "share" / name).st_ino == inode
    same = [os.stat(lab.usr / p) for p in ("bin/same", "bin/same-too")]
    assert same[0].st_ino == same[1].st_ino and same[0].st_nlink == 2
    # Equal files of the release are one object, and so one inode; all others have a number of their own.
    inodes = {name: inode for name, inode in seen}
    assert len({inode for name, inode in seen if name.startswith("more-")}) == 1
    assert os.stat(lab.usr / "share/more-1").st_nlink == 500
    others = [inode for name, inode in inodes.items() if not name.startswith("more-")]
    assert len(others) == len(set(others)) and inodes["more-1"] not in others
    with pytest.raises(OSError) as e:
        (lab.usr / "share/more-1").write_text("no")
    assert e.value.errno == errno.EROFS
