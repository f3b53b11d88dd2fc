"""Rollbacks of VMs that run: QEMU gets the restore point's disks while the guest stands, and is reset. Real QEMUs without a guest."""

import json
import os

import pytest

from disk_machine import SIZE, Machine, qemu_img, qemu_io
from snapshot_lab import SOAK, add, create_here as create, held, rows, wait_jobs

KINDS = ("drive", "blockdev")


def of_one_kind(machine):
    if machine.kind == "drive" and not SOAK:
        pytest.skip("only with --soak; of the other kind in every run")


def rollback(host, to, *more):
    return host.json("snapshot", "rollback", "web-1", "--to", to, "--restart", *more)["result"]


def check(machine, written):
    """What QEMU has open is what the disk's path names, all the way down, and holds this. Returns the files."""
    image, files = machine.drive()["inserted"]["image"], []
    while image:
        files.append(image["filename"])
        image = image.get("backing-image")
    assert os.path.samefile(files[0], machine.disk)
    by_header = json.loads(qemu_img("info", "-U", "--output=json", "--backing-chain", machine.disk))
    assert files[1:] == [i["filename"] for i in by_header][1:]
    machine.expect(machine.disk, written)
    machine.written = dict(written)
    return files


def test_a_vm_that_runs_goes_back_and_forth(host, machine):
    machine.write(0, 1)
    create(host, "one")
    one = dict(machine.written)
    machine.write(0, 2)
    machine.write(1, 3)
    create(host, "two")
    machine.write(2, 4)
    last = dict(machine.written)
    code, _, err = host.run("snapshot", "rollback", "web-1", "--to", "one")
    assert code != 0 and "--restart" in err and "Nothing was changed" in err
    check(machine, last)
    done = rollback(host, "one")
    assert done["running"] and machine.running()
    machine.qmp.wait_event("RESET")
    files = check(machine, one)
    assert str(machine.disk) not in files
    # Nothing is open any more but what the disk stands on.
    assert machine.node_files() == set(files)
    machine.write(5, 5)
    branch = dict(machine.written)
    back = rollback(host, done["before"])
    check(machine, last)
    assert machine.running()
    # It is a VM like any other: snapshots, a merge, and the other branch.
    for n in range(3):
        machine.write(6 + n, 6)
        create(host, f"after-{n}")
        assert machine.chain_length() <= 4
    check(machine, machine.written)
    rollback(host, back["before"])
    check(machine, branch)
    machine.kill()
    machine.expect(machine.disk, branch)


def test_a_vm_that_an_operator_has_stopped_stays_so(host, machine):
    of_one_kind(machine)
    machine.write(0, 1)
    create(host, "one")
    one = dict(machine.written)
    machine.write(0, 2)
    machine.qmp.command("stop")
    done = rollback(host, "one")
    assert not done["running"] and machine.qmp.command("query-status")["status"] == "prelaunch"
    machine.qmp.command("cont")
    check(machine, one)


def test_a_disk_that_is_not_what_the_last_snapshot_left_is_not_touched(host, machine):
    of_one_kind(machine)
    machine.write(0, 1)
    create(host, "one")
    machine.write(0, 2)
    kept = machine.dir / "kept"
    os.rename(machine.disk, kept)
    machine.disk.write_bytes(kept.read_bytes())
    files = machine.node_files()
    code, _, err = host.run("snapshot", "rollback", "web-1", "--to", "one", "--restart")
    assert code != 0 and str(machine.disk) in err
    assert machine.running() and machine.node_files() == files
    assert machine.drive()["inserted"]["image"]["filename"] in files


def test_a_time_means_the_last_restore_point_before_it(host, machine):
    of_one_kind(machine)
    machine.write(0, 1)
    create(host, "one")
    one = dict(machine.written)
    taken = host.json("snapshot", "list", "web-1")[0]["taken"]
    machine.write(0, 2)
    create(host, "two")
    for wrong, words in (("2h ago", "its first one is"), ("2100-01-01 00:00", "yet to come"), ("nothing", "is no time"), ("2h/ago", "2h ago")):
        code, _, err = host.run("snapshot", "rollback", "web-1", "--to", wrong, "--restart")
        assert code != 0 and words in err, err
    assert rollback(host, taken)["to"] == "one"
    check(machine, one)


def test_a_switch_that_qemu_refuses_has_not_happened(host, machine):
    machine.write(0, 1)
    create(host, "one")
    machine.write(0, 2)
    last, files, layers = dict(machine.written), machine.node_files(), machine.layers()
    # Whoever copies a disk keeps others from putting something over it.
    machine.qmp.command("blockdev-add", **{"driver": "null-co", "node-name": "nowhere", "size": SIZE})
    machine.qmp.command("blockdev-backup", **{"job-id": "j", "device": machine.drive()["inserted"]["node-name"], "target": "nowhere",
                                              "sync": "full", "speed": 1})
    code, _, err = host.run("snapshot", "rollback", "web-1", "--to", "one", "--restart")
    assert code != 0 and "nowhere" not in err, err
    assert machine.running()
    machine.qmp.command("block-job-cancel", device="j", force=True)
    machine.qmp.wait_event("BLOCK_JOB_CANCELLED")
    machine.qmp.command("blockdev-del", **{"node-name": "nowhere"})
    assert (machine.node_files(), machine.layers()) == (files, layers)
    check(machine, last)
    assert [s["name"] for s in host.json("snapshot", "list", "web-1")] == ["one"]


def test_a_qemu_that_ends_at_a_reset_is_started_by_its_owner(new_host, new_machine):
    machine = new_machine
    machine.more = ("-no-reboot",)
    machine.start()
    host = new_host
    host.start()
    add(host, machine)
    machine.write(0, 1)
    create(host, "one")
    one = dict(machine.written)
    machine.write(0, 2)
    assert not rollback(host, "one")["running"]
    machine.process.wait(60)
    machine.kill()
    machine.start()
    check(machine, one)


def test_what_is_not_here_any_more_is_fetched_while_the_guest_goes_on(host, machine):
    of_one_kind(machine)
    machine.write(0, 1)
    layer = machine.dir / create(host, "one")["disks"][0]["layer"]
    one = dict(machine.written)
    machine.write(0, 2)
    host.moult("snapshot", "upload", "web-1", "one")
    host.stop()
    rows(host, "UPDATE layers SET file = NULL, file_on = NULL WHERE vm IS NOT NULL")
    host.start()
    rollback(host, "one")
    files = check(machine, one)
    assert machine.running() and str(layer) not in files
    assert machine.node_files() == set(files)


def test_a_vm_that_is_started_anew_between_switch_and_path_goes_on_as_it_was(host, machine, tmp_path):
    of_one_kind(machine)
    machine.write(0, 1)
    create(host, "one")
    machine.write(0, 2)
    hold = tmp_path / "hold"
    host.stop()
    host.start({"MOULT_FAULT": "rollback-place=hold", "MOULT_FAULT_HOLD": str(hold)})
    command = held(host, hold, "snapshot", "rollback", "web-1", "--to", "one", "--restart")
    machine.kill()
    machine.start()
    machine.write(1, 3)
    hold.unlink()
    assert command.wait(60) != 0
    assert machine.running()
    machine.write(2, 4)
    machine.expect(machine.disk, machine.written)
    machine.kill()
    machine.expect(machine.disk, machine.written)


class TwoDisks(Machine):
    def __init__(self, directory, kind):
        super().__init__(directory, kind)
        self.second = self.dir / "web-1-data.qcow2"
        qemu_img("create", "-q", "-f", "qcow2", self.second, str(SIZE))
        self.more = {"drive": ["-drive", f"file={self.second},format=qcow2,if=virtio,id=disk1"],
                     "blockdev": ["-blockdev", f"driver=file,filename={self.second},node-name=f1", "-blockdev",
                                  "driver=qcow2,file=f1,node-name=d1", "-device", "virtio-blk-pci,drive=d1,id=disk1"]}[kind]

    def write_second(self, at, pattern):
        target = "disk1" if self.kind == "drive" else "-d /machine/peripheral/disk1/virtio-backend"
        for command in (f"write -P {pattern} {at}M 1M", "flush"):
            answer = self.qmp.command("human-monitor-command", **{"command-line": f'qemu-io {target} "{command}"'})
            assert "rror" not in answer, answer


def expect_second(machine, pattern):
    qemu_io(machine.second, f"read -q -P {pattern} 0 1M", options=("-r", "-U"))


@pytest.mark.parametrize("kind", ["drive", "blockdev"])
def test_all_disks_of_the_restore_point_go_back_and_no_other(tmp_path, kind, new_host):
    machine = TwoDisks(tmp_path, kind).start()
    host = new_host
    host.start()
    add(host, machine)
    machine.write(0, 1)
    machine.write_second(0, 1)
    create(host, "both")
    machine.write(0, 2)
    machine.write_second(0, 2)
    create(host, "first", "--disk", machine.drive()["device"] or machine.drive()["qdev"])
    machine.write(0, 3)
    machine.write_second(0, 3)
    rollback(host, "first")
    machine.written[0] = 2
    machine.expect(machine.disk, machine.written)
    expect_second(machine, 3)
    rollback(host, "both")
    machine.written[0] = 1
    check(machine, machine.written)
    expect_second(machine, 1)
    assert machine.running()


# At each of them moultd is killed; what it finds then is the way that it goes on.
POINTS = ("rollback-make", "rollback-add", "rollback-stop", "rollback-switch", "rollback-reopen", "rollback-place", "layer-place",
          "layer-placed", "rollback-reset", "rollback-go-on", "rollback-tidy")
AFTER = {"layer-placed", "rollback-reset", "rollback-go-on", "rollback-tidy"}  # from there on the path names the restore point


def ends(machine, fate):
    """What becomes of QEMU while moultd is not there."""
    if fate != "lives":
        machine.kill()
    if fate == "anew":
        machine.start()


def kill_at(host, machine, point, fate, one):
    machine.write(0, 2)
    last = dict(machine.written)
    host.stop()
    host.start({"MOULT_FAULT": f"{point}=kill"})
    command = host.spawn("snapshot", "rollback", "web-1", "--to", "one", "--restart")
    host.process.wait(60)
    assert host.process.returncode == -9, f"{point} was not passed"
    # Who starts the VM now starts it from one of both, whole.
    machine.expect(machine.disk, one if point in AFTER else last)
    ends(machine, fate)
    host.start()
    assert command.wait(60) == 0, point
    if fate == "dies":
        machine.start()
    assert machine.running(), point
    check(machine, one)
    machine.write(3, 4)
    machine.expect(machine.disk, machine.written)


FEW = {("blockdev", "lives"): ("rollback-switch", "rollback-reopen", "layer-placed", "rollback-go-on"),
       ("blockdev", "dies"): ("rollback-reopen",), ("blockdev", "anew"): ("rollback-reset",), ("drive", "lives"): ("rollback-reopen",)}


@pytest.mark.parametrize("fate", ["lives", "dies", "anew"])
@pytest.mark.parametrize("kind", ["drive", "blockdev"])
def test_a_moultd_that_is_killed_goes_on_from_what_is_there(tmp_path, kind, fate, new_host):
    points = POINTS if SOAK else FEW.get((kind, fate))
    if not points:
        pytest.skip("only with --soak; of the other kind in every run")
    machine = Machine(tmp_path, kind).start()
    host = new_host
    host.start()
    add(host, machine)
    machine.write(0, 1)
    create(host, "one")
    one = dict(machine.written)
    for point in points:
        kill_at(host, machine, point, fate, one)
    wait_jobs(host)


@pytest.mark.parametrize("two", [False, True], ids=["one-disk", "two-disks"])
def test_a_switch_that_cannot_be_finished_is_taken_back_and_the_guest_goes_on(tmp_path, new_host, two):
    """QEMU refuses to put the new tops on the restore point, again and again: the guest does not stand for ever."""
    if not two and not SOAK:
        pytest.skip("only with --soak; two disks in every run")
    machine = (TwoDisks if two else Machine)(tmp_path, "drive" if two else "blockdev").start()
    host = new_host
    host.start({"MOULT_FAULT": ",".join(f"rollback-reopen:{n}=eio" for n in (1, 2, 3))})
    add(host, machine)
    machine.write(0, 1)
    create(host, "one")
    machine.write(0, 2)
    last, files, layers = dict(machine.written), machine.node_files(), machine.layers()
    code, _, err = host.run("snapshot", "rollback", "web-1", "--to", "one", "--restart")
    assert code != 0 and "goes on with those that it had" in err, err
    said = host.log_text(100000)
    assert said.count("snapshot-rollback-stopped") == 3 and "snapshot-rollback-returns" in said
    assert machine.running() and not any(e["event"] == "RESET" for e in machine.qmp.events)
    assert (machine.node_files(), machine.layers()) == (files, layers)
    check(machine, last)
    assert [s["name"] for s in host.json("snapshot", "list", "web-1")] == ["one"]
    machine.write(1, 3)
    # It is a VM like any other.
    rollback(host, "one")
    check(machine, {8: 9, 0: 1})
    machine.kill()
