"""Merges by union: what reading costs the server, and that what is read by a shorter way is the same."""

import os
import pathlib

from merge_lab import OLD_TIME, MergeLab, all_times, in_own_mounts, put

TREE = "tree=usr@usr"
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
