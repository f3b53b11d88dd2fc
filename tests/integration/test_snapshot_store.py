"""Snapshots in the store: what is sent, what is there after kills and failures, and that it is what the disk was. A real
QEMU without a guest; the store is a directory."""

import json
import os
import pathlib

import pytest

from disk_machine import SIZE, qemu_img
from snapshot_lab import add, create, objects, rows, wait_jobs

UPLOADS = ("snapshot-layer-up", "snapshot-manifest", "share-chunk-put")


# Of what is read from the file of each layer, after an upload.
files_stay = pytest.mark.parametrize("new_host", [("--merge-after-upload", "no")], indirect=True, ids=[""])


def snapshot(host, name):
    return next(s for s in host.json("snapshot", "list", "web-1") if s["name"] == name)


def test_a_snapshot_is_uploaded_with_all_that_it_stands_on_and_only_once(host, machine):
    machine.write(0, 1)
    create(host, "one")
    wait_jobs(host)
    assert snapshot(host, "one")["uploaded"]
    assert len(objects(host, "layers")) == 2  # the base, and what was written since
    assert len(objects(host, "snapshots/web-1")) == 1
    chunks = set(objects(host, "chunks"))
    machine.write(1, 2)
    create(host, "two")
    wait_jobs(host)
    assert len(objects(host, "layers")) == 3
    # A mebibyte of one byte: what is new of it is one kind of chunk.
    assert len(set(objects(host, "chunks")) - chunks) <= 2
    again = host.json("snapshot", "upload", "web-1", "two")["result"]
    assert (again["layers"], again["sent_chunks"]) == (0, 0)


def export(host, name, path, source):
    done = host.json("snapshot", "export", "web-1", name, "--output", path)["result"]
    assert done["from"] == source
    return path


@files_stay
def test_every_restore_point_is_what_the_disk_was_from_files_and_from_the_store(host, machine, tmp_path):
    references = {}
    for n, name in enumerate(("one", "two")):
        machine.write(n, n + 1)
        machine.write(8 + n, 0)  # zeros over the base's data are data of the layer
        references[name] = dict(machine.written)
        create(host, name)
    machine.write(3, 9)
    wait_jobs(host)
    for name, reference in references.items():
        machine.expect(export(host, name, tmp_path / f"{name}-files.qcow2", "files"), reference)
    code, _, err = host.run("snapshot", "export", "web-1", "one", "--output", tmp_path / "one-files.qcow2")
    assert code != 0 and "is there already" in err
    # The host loses all that it has: the store has it.
    machine.kill()
    kept = {p: p.read_bytes() for p in machine.dir.glob("*.layer")}
    for path in kept:
        path.unlink()
    forget_files(host)
    for name, reference in references.items():
        path = export(host, name, tmp_path / f"{name}-store.qcow2", "store")
        machine.expect(path, reference)
        assert "backing" not in qemu_img("info", path)


def forget_files(host):
    """What moultd's catalogue says once no file of a layer is here any more."""
    host.stop()
    rows(host, "UPDATE layers SET file = NULL, file_on = NULL WHERE vm IS NOT NULL")
    host.start()


@files_stay
@pytest.mark.parametrize("source", ["files", "store"])
def test_a_vm_that_is_off_goes_back_and_forth(host, machine, source):
    machine.write(0, 1)
    create(host, "one")
    one = dict(machine.written)
    machine.write(0, 2)
    machine.write(1, 2)
    create(host, "two")
    machine.write(2, 3)
    last = dict(machine.written)
    wait_jobs(host)
    code, _, err = host.run("snapshot", "rollback", "web-1", "--to", "one")
    assert code != 0 and "runs: shut it down first" in err and "--restart" in err
    machine.kill()
    if source == "store":
        for s in host.json("snapshot", "list", "web-1"):
            (machine.dir / s["disks"][0]["layer"]).unlink()
        forget_files(host)
    before = host.json("snapshot", "rollback", "web-1", "--to", "one")["result"]["before"]
    machine.expect(machine.disk, one)
    machine.written = dict(one)
    machine.start()
    machine.write(5, 5)
    wait_jobs(host)
    if source == "files":
        # Its own way back.
        machine.kill()
        host.moult("snapshot", "rollback", "web-1", "--to", before)
        machine.expect(machine.disk, last)
        machine.written = dict(last)
        machine.start()
        machine.write(6, 6)
    assert not list(machine.dir.glob("*.part"))


def refuse_layers(host):
    """The store takes no map of a layer any more: where they lie there is a file. Until allow_layers()."""
    directory = pathlib.Path(host.state) / "objects" / "layers"
    directory.rename(directory.with_name("layers-aside"))
    directory.write_text("")


def allow_layers(host):
    directory = pathlib.Path(host.state) / "objects" / "layers"
    directory.unlink()
    directory.with_name("layers-aside").rename(directory)


def test_after_a_failed_upload_the_next_snapshot_has_the_content_of_both(host, machine, tmp_path):
    machine.write(0, 1)
    create(host, "one")
    wait_jobs(host)
    refuse_layers(host)
    machine.write(1, 2)
    create(host, "two", "--no-upload")
    code, _, err = host.run("snapshot", "upload", "web-1", "two")
    assert code != 0 and "layers" in err
    assert not snapshot(host, "two")["uploaded"]
    reference_two = dict(machine.written)
    allow_layers(host)
    # It is in its files all the same.
    machine.expect(export(host, "two", tmp_path / "two.qcow2", "files"), reference_two)
    # The chain has four files: as long as nothing merges them, the VM is started from a copy of all.
    machine.write(2, 3)
    machine.write(1, 4)
    machine.kill()
    rolled = host.json("snapshot", "rollback", "web-1", "--to", "two")["result"]["before"]  # a third snapshot
    wait_jobs(host)
    assert snapshot(host, rolled)["uploaded"]
    # The store has its content in the next one; its state is in its file, and can be brought there by itself.
    assert not snapshot(host, "two")["uploaded"]
    host.moult("snapshot", "upload", "web-1", "two")
    for path in machine.dir.glob("*.layer"):
        path.unlink()
    forget_files(host)
    machine.expect(export(host, rolled, tmp_path / "three.qcow2", "store"), machine.written)
    machine.expect(export(host, "two", tmp_path / "two-again.qcow2", "store"), reference_two)
    host.moult("store", "verify", "--shared")


def test_what_is_not_to_be_uploaded_stays_here_whatever_is_merged(host, machine, tmp_path):
    machine.write(0, 1)
    create(host, "mine", "--no-upload")
    reference = dict(machine.written)
    for n in range(4):
        machine.write(0, 10 + n)
        machine.write(1 + n, 10 + n)
        create(host, f"next-{n}")
        wait_jobs(host)
        assert machine.chain_length() <= 4
    restarted(host)
    assert [s["name"] for s in host.json("snapshot", "list", "web-1") if not s["uploaded"]] == ["mine"]
    machine.expect(export(host, "mine", tmp_path / "mine.qcow2", "files"), reference)
    host.moult("snapshot", "upload", "web-1", "mine")
    machine.kill()
    for path in machine.dir.glob("*.layer"):
        path.unlink()
    forget_files(host)
    machine.expect(export(host, "mine", tmp_path / "mine-again.qcow2", "store"), reference)


def test_an_export_says_of_the_operators_file_what_is_wrong(host, machine, tmp_path):
    create(host, "one", "--no-upload")
    code, _, err = host.run("snapshot", "export", "web-1", "one", "--output", tmp_path / "none" / "one.qcow2")
    assert code != 0 and str(tmp_path / "none" / "one.qcow2") in err and ".part" not in err


def test_a_rate_below_nothing_is_refused(host):
    code, _, err = host.run("snapshot", "upload", "web-1", "one", "--limit-rate", "-1")
    assert code == 2 and "no negative number" in err


def test_a_base_that_was_changed_is_not_uploaded_as_what_it_was(host, machine):
    create_no = host.json("snapshot", "create", "web-1", "--name", "one", "--no-upload")["result"]
    assert create_no["uploaded"] is None
    os.utime(machine.base)
    code, _, err = host.run("snapshot", "upload", "web-1", "one")
    assert code != 0 and "was changed since the snapshot was taken" in err
    assert objects(host, "layers") == []


@pytest.mark.parametrize("point", UPLOADS)
def test_an_upload_that_is_killed_goes_on_where_it_was(machine, point, new_host):
    host = new_host
    host.start({"MOULT_FAULT": f"{point}:2=kill"})
    add(host, machine)
    machine.write(0, 1)
    machine.write(1, 2)
    commands = [host.spawn("snapshot", "create", "web-1", "--name", "one")]
    commands[0].wait(60)
    machine.write(0, 3)
    commands.append(host.spawn("snapshot", "create", "web-1", "--name", "two"))
    host.process.wait(60)
    killed = host.process.returncode
    host.start()
    for command in commands:
        assert command.wait(60) in (0, 11, 12)  # 12: it was being taken when moultd died, and went back; 11: it came too late
    wait_jobs(host)
    assert killed == -9, "the point was not passed"
    for s in host.json("snapshot", "list", "web-1"):
        assert s["uploaded"], s["name"]
        again = host.json("snapshot", "upload", "web-1", s["name"])["result"]
        assert (again["layers"], again["sent_chunks"]) == (0, 0)
    host.moult("store", "verify", "--shared")


@pytest.mark.parametrize("point", ["rollback-make", "layer-made", "rollback-place", "layer-place", "layer-placed"])
def test_a_rollback_that_is_killed_is_finished_or_has_not_happened(machine, point, new_host):
    host = new_host
    host.start()
    add(host, machine)
    machine.write(0, 1)
    host.moult("snapshot", "create", "web-1", "--name", "one")
    one = dict(machine.written)
    machine.write(0, 2)
    last = dict(machine.written)
    wait_jobs(host)
    machine.kill()
    host.stop()
    host.start({"MOULT_FAULT": f"{point}=kill"})
    command = host.spawn("snapshot", "rollback", "web-1", "--to", "one")
    host.process.wait(60)
    assert host.process.returncode == -9, "the point was not passed"
    machine.expect(machine.disk, one if point == "layer-placed" else last)
    host.start()
    assert command.wait(60) == 0
    machine.expect(machine.disk, one)
    before = next(s["name"] for s in host.json("snapshot", "list", "web-1") if s["name"] != "one")
    host.moult("snapshot", "rollback", "web-1", "--to", before)
    machine.expect(machine.disk, last)


def restarted(host):
    host.stop()
    host.start()
    host.moult("store", "verify", "--shared")  # what was to be done at the start has been begun before it


def test_a_file_that_a_rolled_back_vm_stands_on_stays_whatever_is_merged_and_uploaded(host, machine):
    machine.write(0, 1)
    create(host, "one", "--no-upload")
    one = dict(machine.written)
    machine.write(0, 2)
    create(host, "two", "--no-upload")
    machine.write(3, 3)
    host.moult("snapshot", "merge", "web-1")
    machine.kill()
    host.moult("snapshot", "rollback", "web-1", "--to", "one")
    wait_jobs(host)
    for name in ("one", "two"):
        host.run("snapshot", "upload", "web-1", name)
    restarted(host)
    machine.expect(machine.disk, one)
    machine.written = dict(one)
    machine.start()
    for n in range(4):  # the other branch is not in the way of its history
        machine.write(4 + n, 5)
        create(host, f"after-{n}")
        assert machine.chain_length() <= 4
    machine.kill()
    machine.expect(machine.disk, machine.written)


def test_a_disk_that_is_larger_than_its_base_or_grows_later(new_host, new_machine):
    machine = new_machine
    qemu_img("resize", "-f", "qcow2", machine.disk, 2 * SIZE)
    machine.start()
    host = new_host
    host.start()
    add(host, machine)
    machine.write(0, 1)
    create(host, "small")
    wait_jobs(host)
    assert snapshot(host, "small")["uploaded"]
    machine.qmp.command("block_resize", **{"node-name": machine.drive()["inserted"]["node-name"], "size": 3 * SIZE})
    machine.write(1, 2)
    machine.kill()
    before = host.json("snapshot", "rollback", "web-1", "--to", "small")["result"]["before"]
    assert json.loads(qemu_img("info", "--output=json", machine.disk))["virtual-size"] == 2 * SIZE
    wait_jobs(host)
    assert snapshot(host, before)["uploaded"]
    host.moult("snapshot", "rollback", "web-1", "--to", before)
    assert json.loads(qemu_img("info", "--output=json", machine.disk))["virtual-size"] == 3 * SIZE
    machine.expect(machine.disk, machine.written)


def test_a_base_that_was_changed_is_not_believed_when_the_store_has_it(host, machine, tmp_path):
    machine.write(0, 1)
    create(host, "one")
    wait_jobs(host)
    one = dict(machine.written)
    machine.write(2, 2)
    machine.kill()
    with open(machine.base, "r+b") as base:
        base.seek(0, os.SEEK_END)
        base.write(b"\0" * 512)
    machine.expect(export(host, "one", tmp_path / "one.qcow2", "store"), one)
    host.moult("snapshot", "rollback", "web-1", "--to", "one")
    machine.expect(machine.disk, one)
    assert "base.qcow2" not in qemu_img("info", "--backing-chain", machine.disk)
