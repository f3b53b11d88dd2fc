"""Merges by union: what reading costs the server, and that what is read by a shorter way is the same."""

import os
import pathlib
import random

import pytest
from merge_lab import OLD_TIME, MergeLab, all_times, in_own_mounts, put

TREE = "tree=usr@usr"
PAGE = 4096
LENGTHS = [1, PAGE, 32 * 1024, 64 * 1024 - 1, 64 * 1024, 64 * 1024 + 1, 1 << 20, 3 << 20]
O_PATH = 0o10000000


def server(lab):
    """The one that answers: the supervisor is its parent."""
    pids = lab.servers()
    parents = {pid: int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) for pid in pids}
    return next(pathlib.Path(f"/proc/{pid}") for pid, parent in parents.items() if parent in pids)


def lab_with_files(directory, kind, files):
    lab = MergeLab(directory)
    for path, data in files.items():
        put(lab.dir / "source", path, data)
    all_times(lab.dir / "source", OLD_TIME)
    lab.mount_usr(kind, lab.dir / "source")
    return lab


def pages_in_memory(fd, size):
    count = 0
    for offset in range(0, size, PAGE):
        try:
            count += os.preadv(fd, [bytearray(1)], offset, os.RWF_NOWAIT)
        except BlockingIOError:
            pass
    return count


@pytest.mark.parametrize("kind", ["ext4", "erofs", "squashfs"])
@in_own_mounts
def test_reads_of_any_length_give_the_files_bytes(tmp_path, kind):
    old, new = (random.Random(seed).randbytes((2 << 20) + 1234) for seed in (1, 2))
    lab = lab_with_files(tmp_path, kind, {"share/old": old, "share/new": "small"})
    lab.apply(lab.release({"usr/share/new": new}), [TREE], method="union")
    for name, want in ("old", old), ("new", new):
        for round_ in "from a disk", "from memory":
            for flags in os.O_DIRECT, 0:        # the server sees the very lengths; the kernel makes pages of them
                fd = os.open(lab.usr / "share" / name, os.O_RDONLY | flags)
                for length in LENGTHS:
                    for offset in 0, PAGE, 4097, len(want) - 70_000, len(want) - 1, len(want), len(want) + 1:
                        assert os.pread(fd, length, offset) == want[offset:offset + length], (name, round_, flags, length, offset)
                os.close(fd)


@in_own_mounts
def test_what_is_read_through_the_merge_stays_in_memory_for_other_readers(tmp_path):
    data = random.Random(1).randbytes(2 << 20)
    lab = lab_with_files(tmp_path, "ext4", {"share/old": data})
    below = os.open(lab.usr / "share/old", os.O_RDONLY)
    assert os.pread(below, len(data), 0) == data
    lab.apply(lab.release({"usr/share/new": "new"}), [TREE], method="union")
    assert (lab.usr / "share/old").read_bytes() == data
    assert pages_in_memory(below, len(data)) == len(data) // PAGE
    os.close(below)


@in_own_mounts
def test_the_server_does_not_wait_for_all_cpus_each_time_its_descriptors_double(tmp_path):
    lab = lab_with_files(tmp_path, "ext4", {f"share/{i}": str(i) for i in range(300)})
    lab.apply(lab.release({"usr/share/new": "new"}), [TREE], method="union")
    status = dict(line.split(":\t", 1) for line in (server(lab) / "status").read_text().splitlines() if ":\t" in line)
    assert int(status["FDSize"]) >= 8192
    assert sorted(int((lab.usr / f"share/{i}").read_text()) for i in range(300)) == list(range(300))


@in_own_mounts
def test_a_directory_that_was_listed_is_not_opened_again_for_its_names(tmp_path):
    lab = lab_with_files(tmp_path, "ext4", {f"share/{i}/{n}": f"{i} {n}" for i in range(20) for n in range(20)})
    lab.apply(lab.release({"usr/share/new": "new"}), [TREE], method="union")
    for directory, _, files in os.walk(lab.usr):
        for name in files:
            os.stat(os.path.join(directory, name))
    directories = 0
    for fd in (server(lab) / "fd").iterdir():
        if pathlib.PurePath(os.readlink(fd)).parent.name == "share":
            flags = (server(lab) / "fdinfo" / fd.name).read_text().split("flags:\t")[1].split()[0]
            assert int(flags, 8) & O_PATH == 0, "opened by its name, to look things up in it"
            directories += 1
    assert directories == 20
    assert (lab.usr / "share/7/3").read_text() == "7 3"
