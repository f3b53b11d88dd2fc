"""History and the layer above it become one file, below a QEMU that goes on: what is in which file, how long the chain is, and what is left
when moultd or QEMU is killed at any step. No guest runs in it; the disk is written to through QEMU's own block layer."""

import json
import os
import shutil
import threading

import pytest

import vm as vms
from disk_machine import SIZE, qemu_img, qemu_io
from snapshot_lab import SOAK, add, begin_and_die, create_here as create, held, rows, settled, until, wait_jobs

KINDS = ("drive", "blockdev")


def merge(host):
    return host.json("snapshot", "merge", "web-1")["result"]["merged"]


def layer_files(host):
    """Of each layer, oldest first: the file where it is the newest."""
    return [f and f.rsplit("/", 1)[1] for f, in rows(host, "SELECT file FROM layers WHERE vm = 'web-1' ORDER BY sealed, id")]


def header(path):
    return json.loads(qemu_img("info", "-U", "--output=json", path)).get("backing-filename")


def check(machine, name):
    qemu_img("check", "-q", "-U", "-f", "qcow2", machine.dir / name)


def swept(host, machine, want):
    """Files go after the job has ended."""
    until(lambda: set(machine.layers()) == set(want), f"only {want} to be left", host)


def top_of(machine):
    return next(n for n in machine.layers() if os.path.samefile(machine.dir / n, machine.disk))


def two_layers(host, machine):
    """base, history, layer, top; what each restore point holds."""
    machine.write(0, 1)
    machine.write(1, 1)
    references = [dict(machine.written)]
    create(host, "one")
    machine.write(1, 2)
    machine.write(2, 2)
    references.append(dict(machine.written))
    create(host, "two")
    machine.write(2, 3)
    machine.write(3, 3)
    return references


def test_two_become_one_and_no_restore_point_is_lost(host, machine):
    references = two_layers(host, machine)
    history, layer = layer_files(host)
    top = top_of(machine)
    assert machine.chain_length() == 4
    assert merge(host) == 1
    first, merged = layer_files(host)
    assert first == history and merged not in (history, layer, top)
    # Nothing is in a store: the older restore point keeps its file; what is above it is in the new one.
    swept(host, machine, [history, merged, top])
    assert machine.chain_length() == 3 and machine.running()
    files = machine.node_files()
    assert str(machine.dir / merged) in files and not {str(machine.dir / history), str(machine.dir / layer)} & files
    assert header(machine.disk) == str(machine.dir / merged) and header(machine.dir / merged) == str(machine.base)
    machine.expect(machine.dir / history, references[0])
    machine.expect(machine.dir / merged, references[1])
    machine.expect(machine.disk, machine.written)
    machine.write(4, 4)
    assert merge(host) == 0
    for name in machine.layers():
        check(machine, name)
    # From the path, with what QEMU finds in the header.
    machine.kill()
    machine.expect(machine.disk, machine.written)
    machine.start()
    assert machine.chain_length() == 3
    machine.write(5, 5)
    machine.expect(machine.disk, machine.written)


def test_the_top_keeps_how_it_is_cached(host, machine):
    """QEMU was started from the path, so the top's node is somebody else's, with options of theirs."""
    two_layers(host, machine)
    machine.kill()
    machine.start()
    node = machine.drive()["inserted"]["node-name"]

    def options():
        n = next(n for n in machine.qmp.command("query-named-block-nodes", flat=True) if n["node-name"] == node)
        return n["cache"], n["detect_zeroes"]

    before = options()
    assert merge(host) == 1
    assert options() == before and machine.chain_length() == 3
    machine.write(6, 6)
    machine.kill()
    machine.expect(machine.disk, machine.written)


def test_what_is_uploaded_goes(host, machine):
    references = two_layers(host, machine)
    history = layer_files(host)[0]
    assert merge(host) == 1
    merged, top = layer_files(host)[1], top_of(machine)
    swept(host, machine, [history, merged, top])
    # Only the older one: the younger one is read against it when it is uploaded.
    for name, left in ((0, [history, merged, top]), (1, [merged, top])):
        host.stop()
        rows(host, "UPDATE layers SET uploaded = 7 WHERE id = (SELECT id FROM layers WHERE vm = 'web-1' ORDER BY sealed LIMIT 1 OFFSET ?)", name)
        rows(host, "UPDATE snapshots SET uploaded = 7")
        host.start()
        host.moult("status")
        swept(host, machine, left)
    assert layer_files(host) == [None, merged]
    until(lambda: not rows(host, "SELECT * FROM merges"), "the merge to be forgotten")  # after its last file has gone
    machine.expect(machine.dir / merged, references[1])
    machine.expect(machine.disk, machine.written)
    machine.kill()


class Watcher(threading.Thread):
    """The longest chain that QEMU had at any time."""

    def __init__(self, machine):
        super().__init__(daemon=True)
        self.qmp, self.over, self.longest, self.looks = vms.Qmp(machine.third), False, 0, 0

    def run(self):
        while not self.over:
            for n in self.qmp.command("query-named-block-nodes"):
                image, length = n.get("image"), 0
                while image and n["drv"] != "file":
                    image, length = image.get("backing-image"), length + 1
                self.longest = max(self.longest, length)
            self.looks += 1


def test_many_in_a_row_never_have_more_than_four_files(machine, new_host):
    count = 50 if SOAK else 12
    machine.kill()
    machine.third = f"{machine.sockets.name}/third"
    machine.more = ["-qmp", f"unix:{machine.third},server=on,wait=off"]
    machine.start()
    host = new_host
    host.start()
    add(host, machine)
    watcher = Watcher(machine)
    watcher.start()
    references = []
    for n in range(count):
        machine.write(n % 15, n + 10)
        machine.write(15, n + 10)
        references.append(dict(machine.written))
        create(host, f"s{n}")
        assert machine.chain_length() <= 4
    watcher.over = True
    watcher.join()
    assert watcher.looks > count and watcher.longest == 4
    files = layer_files(host)
    assert len(files) == count and None not in files
    for name, reference in zip(files, references):
        machine.expect(machine.dir / name, reference)
        check(machine, name)
    top = top_of(machine)
    swept(host, machine, [*files, top])
    machine.kill()
    machine.expect(machine.disk, machine.written)
    # Once the store has them all, the two in the chain are left, and the top.
    host.stop()
    rows(host, "UPDATE layers SET uploaded = 7 WHERE vm IS NOT NULL")
    rows(host, "UPDATE snapshots SET uploaded = 7")
    host.start()
    swept(host, machine, [*files[-2:], top])
    machine.expect(machine.disk, machine.written)


def test_a_raw_disk_becomes_qcow2_and_a_grown_one_stays_grown(new_host, new_machine):
    machine = new_machine
    machine.disk.unlink()
    qemu_img("create", "-q", "-f", "raw", machine.disk, str(SIZE))
    machine.format = "raw"
    machine.written = {}
    machine.start()
    host = new_host
    host.start()
    add(host, machine)
    machine.write(0, 1)
    raw = machine.dir / create(host, "one")["disks"][0]["layer"]
    machine.write(1, 2)
    machine.qmp.command("block_resize", **{"node-name": machine.drive()["inserted"]["node-name"], "size": 2 * SIZE})
    machine.write(20, 5)
    reference = dict(machine.written)
    create(host, "two")
    machine.write(21, 6)
    assert merge(host) == 1
    merged = machine.dir / layer_files(host)[1]
    assert header(merged) is None and machine.chain_length() == 2
    assert json.loads(qemu_img("info", "-U", "--output=json", merged))["virtual-size"] == 2 * SIZE
    machine.expect(merged, reference)
    qemu_io(merged, "read -q -P 5 20M 1M", "read -q -P 0 21M 1M", options=("-r", "-U"))
    assert raw.stat().st_size == SIZE
    machine.kill()
    qemu_io(machine.disk, "read -q -P 5 20M 1M", "read -q -P 6 21M 1M", options=("-r", "-U"))


def test_a_disk_that_is_smaller_than_its_base_shows_zeros_where_it_grew(new_host, new_machine):
    machine = new_machine
    machine.disk.unlink()
    qemu_img("create", "-q", "-f", "qcow2", "-b", machine.base, "-F", "qcow2", machine.disk, "4M")
    machine.written = {}  # the base's data at 8 MiB are beyond its end
    machine.start()
    host = new_host
    host.start()
    add(host, machine)
    machine.write(0, 1)
    create(host, "one")
    machine.qmp.command("block_resize", **{"node-name": machine.drive()["inserted"]["node-name"], "size": SIZE})
    machine.write(5, 2)
    reference = dict(machine.written)
    create(host, "two")
    assert merge(host) == 1
    machine.expect(machine.dir / layer_files(host)[1], reference)
    machine.expect(machine.disk, machine.written)
    machine.kill()


def test_refusals_touch_nothing(tmp_path, host, machine):
    references = two_layers(host, machine)
    before = machine.layers()
    # Another file at the path; a chain that is not the catalogue's.
    moved = machine.dir / "moved"
    os.rename(machine.disk, moved)
    shutil.copy(moved, machine.disk)
    code, _, err = host.run("snapshot", "merge", "web-1")
    assert code != 0 and "Somebody else has changed the chain" in err
    os.rename(moved, machine.disk)
    upper = layer_files(host)[1]
    rows(host, "UPDATE layers SET file_on = 'other' WHERE file = ?", str(machine.dir / upper))
    code, _, err = host.run("snapshot", "merge", "web-1")
    assert code != 0 and "Somebody else has changed the chain" in err
    # And no room for another snapshot.
    code, _, err = host.run("snapshot", "create", "web-1")
    assert code != 0 and "no room for another layer" in err
    rows(host, "UPDATE layers SET file_on = NULL WHERE file = ?", str(machine.dir / upper))
    host.moult("vm", "add", "domain-1", "--libvirt", "qemu+tcp://127.0.0.1:1/system", "--domain", "domain-1")
    code, _, err = host.run("snapshot", "merge", "domain-1", timeout=120)
    assert code != 0 and "by a moultd there" in err
    assert machine.layers() == before and machine.chain_length() == 4
    machine.kill()
    assert merge(host) == 0  # by the catalogue there are no two
    assert machine.layers() == before
    for name, reference in zip(layer_files(host), references):
        machine.expect(machine.dir / name, reference)


def test_a_base_of_many_files_leaves_no_room(new_host, new_machine):
    new_machine.kind = "drive"
    machine = new_machine
    for n in range(2):
        name = machine.dir / f"deep-{n}.qcow2"
        qemu_img("create", "-q", "-f", "qcow2", "-b", machine.base, "-F", "qcow2", name)
        machine.base = name
    qemu_img("rebase", "-u", "-f", "qcow2", "-b", machine.base, "-F", "qcow2", machine.disk)
    machine.start()
    host = new_host
    host.start()
    add(host, machine)
    before = machine.layers()
    code, _, err = host.run("snapshot", "create", "web-1")
    assert code != 0 and "more than 4 files" in err
    assert machine.layers() == before and machine.running()
    machine.kill()


@pytest.mark.parametrize("fault", ["merge-copy=enospc", "merge-copy=eio"])
def test_no_space_takes_nothing_from_the_vm(machine, fault, new_host):
    host = new_host
    host.start({"MOULT_FAULT": fault})
    add(host, machine)
    two_layers(host, machine)
    before = machine.layers()
    code, _, err = host.run("snapshot", "create", "web-1")
    assert code != 0 and ("No space left" if "enospc" in fault else "Input/output error") in err
    assert machine.layers() == before and machine.chain_length() == 4 and machine.running()
    assert rows(host, "SELECT * FROM merges") == []
    machine.write(7, 7)
    create(host, "again")  # the fault was for the first time
    assert machine.chain_length() == 4
    machine.kill()
    machine.expect(machine.disk, machine.written)


POINTS = ("merge-make", "merge-copy", "merge-copied", "merge-compared", "merge-add", "merge-reopen", "merge-header", "merge-record",
          "merge-recorded", "merge-sweep", "merge-swept")


def die_in_a_merge(host):
    assert begin_and_die(host, "snapshot", "merge", "web-1")


def test_somebody_else_who_changes_the_chain_is_left_alone(machine, new_host):
    host = new_host
    host.start({"MOULT_FAULT": "merge-add=kill"})
    add(host, machine)
    two_layers(host, machine)
    die_in_a_merge(host)
    before = machine.layers()
    node = machine.drive()["inserted"]["node-name"]
    machine.qmp.command("blockdev-snapshot-sync", **{"node-name": node, "snapshot-node-name": "theirs",
                                                     "snapshot-file": str(machine.dir / "theirs.qcow2"), "format": "qcow2"})
    host.start()
    [job] = jobs_of(host)
    assert job["state"] == "failed" and "somebody else has changed" in job["error"]["text"]
    assert machine.layers() == before and "merge-foreign" in host.log_text(100000)
    machine.write(7, 7)
    machine.kill()
    machine.expect(machine.dir / "theirs.qcow2", machine.written)


def jobs_of(host):
    return settled(host, "snapshot-merge")


def begin_anew(host, machine, fault):
    """A disk without layers, and a moultd that knows nothing and has @fault before it."""
    host.stop()
    shutil.rmtree(host.state, ignore_errors=True)
    machine.renew().start()
    host.start({"MOULT_FAULT": fault})
    add(host, machine)


@pytest.mark.parametrize("qemu_dies", [False, True], ids=["qemu-lives", "qemu-dies"])
@pytest.mark.parametrize("uploaded", [False, True], ids=["kept", "uploaded"])
def test_killed_at_each_point(machine, uploaded, qemu_dies, new_host):
    if (machine.kind == "blockdev" or uploaded != qemu_dies) and not SOAK:
        pytest.skip("only with --soak; of the other kind, the other way about, in every run")
    host = new_host
    for point in POINTS:
        begin_anew(host, machine, f"{point}=kill")
        references = two_layers(host, machine)
        top = top_of(machine)
        if uploaded:
            rows(host, "UPDATE layers SET uploaded = 7 WHERE vm = 'web-1'")
            rows(host, "UPDATE snapshots SET uploaded = 7")
        die_in_a_merge(host)
        machine.write(4, 4)
        if qemu_dies:
            machine.kill()
            machine.expect(machine.disk, machine.written)
            machine.start()
            machine.write(5, 5)
        host.start()
        [job] = jobs_of(host)
        machine.write(6, 6)
        assert job["state"] == "succeeded", f"{point}: {job}"
        assert machine.running() and machine.chain_length() == 3, point
        files = layer_files(host)
        assert (files[0] is None) == uploaded, point
        swept(host, machine, [f for f in (*files, top) if f])
        for name, reference in zip(files, references):
            if name:
                machine.expect(machine.dir / name, reference)
        for name in machine.layers():
            check(machine, name)
        assert header(machine.disk) == str(machine.dir / files[1])
        assert not [f for f in machine.node_files() if ".moult-" in f and f.rsplit("/", 1)[1] not in (files[1], top)], point
        machine.kill()
        machine.expect(machine.disk, machine.written)


def test_a_vm_that_is_off_when_moultd_comes_back_stays_whole(new_host, machine):
    """It goes on without a QEMU: there the header alone says on what the top stands."""
    if machine.kind == "blockdev" and not SOAK:
        pytest.skip("only with --soak; of the other kind in every run")
    host, ended = new_host, {}
    for point in ("merge-copied", "merge-reopen", "merge-header", "merge-record"):
        begin_anew(host, machine, f"{point}=kill")
        references = two_layers(host, machine)
        top = top_of(machine)
        die_in_a_merge(host)
        machine.kill()
        host.start()
        [job] = jobs_of(host)
        ended[point] = job["state"]
        files = layer_files(host)
        swept(host, machine, [*files, top])
        for name, reference in zip(files, references):
            machine.expect(machine.dir / name, reference)
        machine.expect(machine.disk, machine.written)
        machine.start()
        assert machine.chain_length() == 3
    assert set(ended.values()) == {"succeeded"}


def upload(host, name):
    """Takes a snapshot, and waits for its upload and what that has begun."""
    host.moult("snapshot", "create", "web-1", "--name", name)
    wait_jobs(host)


def started(host, machine, fault=None, **more):
    machine.start()
    host.start(({"MOULT_FAULT": fault} if fault else {}) | more)
    add(host, machine)
    return machine, host


def test_after_an_upload_it_begins_by_itself(tmp_path, new_host, new_machine):
    machine, host = started(new_host, new_machine, fault="merge-room=enospc")
    references = {}
    for n, name in enumerate(("one", "two", "three", "four")):
        machine.write(n, n + 1)
        machine.write(9, n + 1)
        references[name] = dict(machine.written)
        upload(host, name)
        # Of "two" there was no room, and its upload has not failed for that; "three" had to be merged for, and was merged after it.
        assert machine.chain_length() == {"one": 3, "two": 4}.get(name, 3), name
    ended = [j["state"] for j in jobs_of(host)]
    assert sorted(ended) == ["failed", "succeeded", "succeeded"] and "is not merged now" in host.log_text(100000)
    assert all(s["uploaded"] for s in host.json("snapshot", "list", "web-1"))
    swept(host, machine, [layer_files(host)[-1], top_of(machine)])
    for name, reference in references.items():
        host.moult("snapshot", "export", "web-1", name, "--output", tmp_path / f"{name}.qcow2")
        machine.expect(tmp_path / f"{name}.qcow2", reference)
    # Of a VM that is off there is none, and nothing is said of it.
    machine.write(5, 5)
    host.moult("snapshot", "create", "web-1", "--name", "five", "--no-upload")
    machine.kill()
    host.moult("snapshot", "upload", "web-1", "five")
    assert {j["state"] for j in jobs_of(host)} == {"failed", "succeeded"} and len(jobs_of(host)) == 4
    machine.expect(machine.disk, machine.written)
    host.stop()


@pytest.mark.parametrize("new_host", [("--merge-after-upload", "no")], indirect=True, ids=[""])
def test_an_operator_who_wants_none_has_none(new_host, new_machine):
    machine, host = started(new_host, new_machine)
    upload(host, "one")
    upload(host, "two")
    assert machine.chain_length() == 4 and jobs_of(host) == []
    machine.kill()
    host.stop()


@pytest.mark.parametrize("dies", [False, True], ids=["goes-on", "moultd-dies"])
def test_who_comes_while_one_runs_waits_for_it(tmp_path, new_host, new_machine, dies):
    hold = tmp_path / "hold"
    machine, host = started(new_host, new_machine, fault="merge-copied=hold", MOULT_FAULT_HOLD=str(hold))
    machine.write(0, 1)
    upload(host, "one")
    machine.write(1, 2)
    host.moult("snapshot", "create", "web-1", "--name", "two")
    until(hold.exists, "the merge after the upload", host)
    machine.write(2, 3)
    commands = [host.spawn("snapshot", "create", "web-1", "--name", name) for name in ("three", "four", "five")]
    until(lambda: host.log_text(100000).count("snapshot-waits") >= 3, "three that wait", host)
    queued = [j for j in host.json("jobs") if j["kind"] == "snapshot-create"]
    host.moult("jobs", "cancel", queued[1]["id"])  # "four", or whichever came second
    if dies:
        host.kill()
        hold.unlink()
        host.start()
    else:
        hold.unlink()
    codes = [c.wait(120) for c in commands]
    taken = {s["name"] for s in host.json("snapshot", "list", "web-1")}
    assert codes.count(0) == 2 and len(taken) == 4, f"{codes} {taken}"
    assert machine.running() and machine.chain_length() <= 4
    jobs_of(host)
    machine.kill()
    machine.expect(machine.disk, machine.written)
    host.stop()


def off_with_two_layers(host, machine):
    references = two_layers(host, machine)
    top = top_of(machine)
    machine.kill()
    return references, top


def check_merged(host, machine, references, top):
    history, merged = layer_files(host)
    swept(host, machine, [history, merged, top])
    assert header(machine.disk) == str(machine.dir / merged) and header(machine.dir / merged) == str(machine.base)
    for name, reference in zip((history, merged), references):
        machine.expect(machine.dir / name, reference)
        check(machine, name)
    machine.expect(machine.disk, machine.written)
    check(machine, top)


def test_the_history_of_a_vm_that_is_off(tmp_path, new_host, new_machine):
    new_machine.kind = "drive"
    machine = new_machine.start()
    host = new_host
    host.start()
    add(host, machine)
    references, top = off_with_two_layers(host, machine)
    # A header that names another file than the catalogue knows: QEMU would go by it.
    history, layer = layer_files(host)
    for name, wrong in ((layer, machine.base), (top, machine.dir / history)):
        right = header(machine.dir / name)
        qemu_img("rebase", "-u", "-f", "qcow2", "-b", wrong, "-F", "qcow2", machine.dir / name)
        code, _, err = host.run("snapshot", "merge", "web-1")
        assert code != 0 and ("and the catalogue" in err or "Somebody else has changed the chain" in err), err
        qemu_img("rebase", "-u", "-f", "qcow2", "-b", right, "-F", "qcow2", machine.dir / name)
    assert set(machine.layers()) == {history, layer, top}
    assert merge(host) == 1
    check_merged(host, machine, references, top)
    assert merge(host) == 0
    # A copy of the top, and what comes after both.
    reference = dict(machine.written)
    copied = machine.dir / create(host, "off")["disks"][0]["layer"]
    machine.start()
    assert machine.chain_length() == 3
    machine.write(5, 5)
    references = [reference, dict(machine.written)]
    running = machine.dir / create(host, "running")["disks"][0]["layer"]
    machine.write(6, 6)
    machine.kill()
    assert merge(host) == 1  # the copy stands on the lower one, which stays
    for path, content in zip((copied, running), references):
        if path.exists():
            machine.expect(path, content)
    machine.expect(machine.dir / host.json("snapshot", "list", "web-1")[1]["disks"][0]["layer"], reference)
    host.moult("snapshot", "export", "web-1", "running", "--output", tmp_path / "running.qcow2")
    machine.expect(tmp_path / "running.qcow2", references[1])
    machine.expect(machine.disk, machine.written)
    machine.start()
    assert machine.chain_length() == 3
    machine.kill()


@pytest.mark.parametrize("started", [False, True], ids=["stays-off", "is-started"])
def test_killed_at_each_point_while_the_vm_is_off(new_host, new_machine, started):
    host, machine = new_host, new_machine
    machine.kind = "drive"
    points = ("merge-make", "merge-copied", "merge-compared", "merge-off", "merge-off-done", "merge-record", "merge-recorded")
    for point in points if SOAK else ("merge-off",) if started else ("merge-off-done",):
        begin_anew(host, machine, f"{point}=kill")
        references, top = off_with_two_layers(host, machine)
        die_in_a_merge(host)
        machine.expect(machine.disk, machine.written)
        if started:
            machine.start()
            machine.write(7, 7)
        host.start()
        [job] = jobs_of(host)
        assert job["state"] == "succeeded", f"{point}: {job}"
        if started:
            assert machine.running() and machine.chain_length() == 3
            machine.write(9, 9)
            machine.kill()
        check_merged(host, machine, references, top)


@pytest.mark.parametrize("point", ["merge-copied", "merge-off"])
def test_a_vm_that_is_started_while_its_history_is_merged(tmp_path, point, new_host, new_machine):
    """It goes on below QEMU then."""
    hold = tmp_path / "hold"
    new_machine.kind = "drive"
    machine = new_machine.start()
    host = new_host
    host.start({"MOULT_FAULT": f"{point}=hold", "MOULT_FAULT_HOLD": str(hold)})
    add(host, machine)
    references, top = off_with_two_layers(host, machine)
    command = held(host, hold, "snapshot", "merge", "web-1")
    machine.start()
    machine.write(7, 7)
    hold.unlink()
    command.wait(120)
    [job] = jobs_of(host)
    assert job["state"] == "succeeded", job
    assert machine.running() and machine.chain_length() == 3
    machine.write(9, 9)
    machine.kill()
    check_merged(host, machine, references, top)
