"""Care of restore points: are they sound. A real QEMU without a guest; the store is a directory."""

import json
import pathlib
import subprocess

import pytest

from snapshot_lab import create, objects, rows, until, wait_jobs

OPTIONS = ("--merge-after-upload", "no")  # what is in which file is a test's to say
REFUSED, CORRUPT, NO_SPACE, CANCELLED = 4, 13, 10, 12


@pytest.fixture
def two(host, machine):
    """A restore point in the store and in files, and one on it, in files only."""
    machine.write(0, 1)
    create(host, "one")
    wait_jobs(host)
    machine.write(1, 2)
    create(host, "two", "--no-upload")
    return machine


def verify(host, *words):
    code, out, _ = host.run("snapshot", "verify", *words, "--json")
    result = json.loads(out)["result"]
    assert (code == CORRUPT) == (result["damaged"] > 0), (code, out)
    return result


def states(result):
    return {p["name"]: (p["state"], p["store"], p["files"]) for p in result["snapshots"]}


def kinds(result):
    return {f["kind"]: sorted(s["name"] for s in f["snapshots"]) for f in result["findings"]}


def test_what_is_sound_is_said_to_be_while_the_vm_runs(host, two, tmp_path):
    result = verify(host)
    assert states(result) == {"one": ("good", "whole", "whole"), "two": ("good", "absent", "whole")}
    assert (result["good"], result["findings"]) == (2, [])
    one = verify(host, "web-1", "one", "--deep", "--scratch", tmp_path / "scratch")
    assert [(p["rebuilt"], p["compared"]) for p in one["snapshots"]] == [(True, True)]
    assert list((tmp_path / "scratch").iterdir()) == []
    code, out, _ = host.run("snapshot", "verify", "web-1")
    assert code == 0 and "web-1 two: good (store: absent, files here: whole)" in out
    code, _, err = host.run("snapshot", "verify", "web-1", "three")
    assert code == 3 and "has no snapshot" in err
    code, _, err = host.run("snapshot", "verify", "web-9")
    assert code == 3


def layer_of(host, name):
    file = next(s for s in host.json("snapshot", "list", "web-1") if s["name"] == name)["disks"][0]["layer"]
    return pathlib.Path(host.state) / "objects" / "layers" / file.split(".moult-")[1]


def test_damage_in_the_store_is_named_with_whom_it_affects(host, two):
    host.moult("snapshot", "upload", "web-1", "two")
    layer = layer_of(host, "two")
    whole = layer.read_bytes()
    layer.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    result = verify(host)
    assert kinds(result) == {"layer-damaged": ["two"]}
    assert states(result) == {"one": ("good", "whole", "whole"), "two": ("damaged", "damaged", "whole")}
    assert all(p["rebuildable"] for p in result["snapshots"])
    assert "an upload of the layer" in result["findings"][0]["action"]
    layer.unlink()
    assert kinds(verify(host)) == {"layer-missing": ["two"]}
    layer.write_bytes(whole)
    manifest = objects(host, "snapshots/web-1")[0]  # ids ascend: "one"
    kept = manifest.read_bytes()
    manifest.unlink()
    assert kinds(verify(host)) == {"manifest-missing": ["one"]}
    manifest.write_bytes(objects(host, "snapshots/web-1")[0].read_bytes())
    assert kinds(verify(host)) == {"snapshot-damaged": ["one"]}
    manifest.write_bytes(kept)
    # What both stand on: all chunks, of which the layer of "two" has one.
    chunks = objects(host, "chunks")
    for chunk in chunks:
        chunk.rename(chunk.with_suffix(".away"))
    result = verify(host, "web-1", "one")
    assert [f["kind"] for f in result["findings"]] == ["chunk-missing"] * 2
    assert states(result) == {"one": ("damaged", "damaged", "whole")}
    code, out, _ = host.run("snapshot", "verify")
    assert code == CORRUPT and "affects: web-1 two, web-1 one" in out and "to do:" in out
    for chunk in chunks:
        chunk.with_suffix(".away").rename(chunk)
        chunk.write_bytes(b"no chunk")
    assert set(kinds(verify(host))) == {"chunk-damaged"}


def test_a_layer_that_came_to_the_store_later_than_what_stands_on_it_is_no_damage(host, machine):
    machine.write(0, 1)
    create(host, "one", "--no-upload")
    machine.write(1, 2)
    create(host, "two")  # has the content of both
    wait_jobs(host)
    host.moult("snapshot", "upload", "web-1", "one")
    assert states(verify(host, "--deep")) == {"one": ("good", "whole", "whole"), "two": ("good", "whole", "whole")}


def test_damage_in_files_is_named_with_whom_it_affects(host, two):
    machine = two
    machine.kill()
    path = machine.dir / next(s for s in host.json("snapshot", "list", "web-1") if s["name"] == "two")["disks"][0]["layer"]
    whole = path.read_bytes()
    # Another one below, by its header.
    subprocess.run(["qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", machine.base, path], check=True)
    result = verify(host)
    assert kinds(result) == {"file-differs": ["two"]}
    assert states(result) == {"one": ("good", "whole", "whole"), "two": ("damaged", "absent", "damaged")}
    assert [p["name"] for p in result["snapshots"] if not p["rebuildable"]] == ["two"]
    # A table that points behind the end: only qemu-img check sees it.
    broken = bytearray(whole)
    table = int.from_bytes(whole[40:48], "big")
    broken[table:table + 8] = (1 << 63 | len(whole) + (1 << 30)).to_bytes(8, "big")
    path.write_bytes(broken)
    result = verify(host)
    assert kinds(result) == {"file-damaged": ["two"]} and "qemu-img check says" in result["findings"][0]["text"]
    path.unlink()
    assert kinds(verify(host)) == {"file-missing": ["two"]}
    path.write_bytes(whole)
    # A base that was changed: nothing here can be trusted, the store can.
    machine.base.touch()
    result = verify(host)
    assert kinds(result) == {"base-changed": ["one", "two"]}
    assert states(result)["one"] == ("damaged", "whole", "damaged")


def test_deep_finds_what_looks_whole(host, two, tmp_path):
    machine = two
    machine.kill()
    path = machine.dir / next(s for s in host.json("snapshot", "list", "web-1") if s["name"] == "one")["disks"][0]["layer"]
    data = bytearray(path.read_bytes())
    at = data.index(b"\x01" * 4096)  # what the guest wrote
    data[at] ^= 0xFF
    path.write_bytes(data)
    assert verify(host)["damaged"] == 0  # a data cluster has no digest in files
    result = verify(host, "--deep")
    assert kinds(result) == {"state-differs": ["one"]}
    assert "differs at byte 0" in result["findings"][0]["text"]
    assert not list((pathlib.Path(host.state) / "scratch").iterdir())


def test_deep_asks_for_room_first(host, two, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", small], check=True)
    try:
        code, _, err = host.run("snapshot", "verify", "--deep", "--scratch", small)
        assert code == NO_SPACE and "nothing was written" in err
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", small], check=True)


@pytest.mark.parametrize("how", ["killed", "cancelled"])
def test_one_that_is_interrupted_leaves_nothing_and_is_begun_anew(host, two, tmp_path, how):
    scratch, held = tmp_path / "scratch", tmp_path / "held"
    host.stop()
    host.start({"MOULT_FAULT": f"verify-compare={'kill' if how == 'killed' else 'hold'}", "MOULT_FAULT_HOLD": str(held)})
    words = ("snapshot", "verify", "web-1", "one", "--deep", "--scratch", str(scratch))
    if how == "killed":
        command = host.spawn(*words)
        host.process.wait(120)
        assert len(list(scratch.iterdir())) == 1
        host.start()
        command.wait(120)
        assert [j["state"] for j in host.json("jobs", "--all") if j["kind"] == "snapshot-verify"] == ["succeeded"]
    else:
        job = host.json(*words, "--detach")
        until(held.exists, "the comparison", host)
        host.moult("jobs", "cancel", job["id"])
        held.unlink()
        code, _, _ = host.run("jobs", "wait", job["id"])
        assert code == CANCELLED
    assert list(scratch.iterdir()) == []


def names(host):
    return [s["name"] for s in host.json("snapshot", "list", "web-1")]


def export(host, machine, name, want):
    path = machine.dir / f"{name}-export.qcow2"
    host.moult("snapshot", "export", "web-1", name, "--output", path)
    machine.expect(path, want)
    path.unlink()


def test_what_is_removed_takes_nothing_from_the_others(host, machine):
    """In a store, in the middle of a line, and a branch that was left by a rollback."""
    references = {}
    for n, name in enumerate(("one", "two", "three")):
        machine.write(n, n + 1)
        references[name] = dict(machine.written)
        create(host, name)
        wait_jobs(host)
    code, _, err = host.run("snapshot", "remove", "web-1", "three")
    assert code == REFUSED and "goes on from it" in err
    assert [o["name"] for o in host.json("snapshot", "remove", "web-1", "two")["result"]["removed"]] == ["two"]
    assert names(host) == ["three", "one"] and len(objects(host, "snapshots/web-1")) == 2
    for name in ("one", "three"):
        export(host, machine, name, references[name])
    machine.kill()
    before = host.json("snapshot", "rollback", "web-1", "--to", "one")["result"]["before"]
    machine.written = dict(references["one"])
    machine.start()
    code, _, err = host.run("snapshot", "remove", "web-1", "one")
    assert code == REFUSED and "stands on it" in err
    machine.write(7, 7)
    references["four"] = dict(machine.written)
    create(host, "four", "--no-upload")
    wait_jobs(host)
    files = set(machine.layers())
    for name in (before, "three", "one"):
        host.moult("snapshot", "remove", "web-1", name)
    # The branch goes: "three", and what was above it; what "four" stands on stays.
    until(lambda: len(rows(host, "SELECT id FROM layers WHERE vm = 'web-1'")) == 2, "the rows of the branch to go")
    assert set(machine.layers()) < files and names(host) == ["four"] and objects(host, "snapshots/web-1") == []
    assert rows(host, "SELECT * FROM removals") == []
    export(host, machine, "four", references["four"])
    # What no manifest names is garbage in the store, and is sent again when it is needed.
    for layer in objects(host, "layers"):
        layer.unlink()
    host.moult("snapshot", "upload", "web-1", "four")
    assert verify(host, "--deep")["snapshots"][0]["compared"]
    machine.expect(machine.disk, machine.written)


def test_prune_keeps_what_the_rules_say(host, two):
    machine = two
    code, _, err = host.run("snapshot", "prune", "web-1")
    assert code != 0 and "say what to keep" in err
    dry = host.json("snapshot", "prune", "web-1", "--keep-last", "1", "--dry-run")["result"]
    assert ([o["name"] for o in dry["removed"]], [o["name"] for o in dry["kept"]]) == (["one"], ["two"])
    assert names(host) == ["two", "one"]
    assert [o["name"] for o in host.json("snapshot", "prune", "web-1", "--keep-last", "2")["result"]["removed"]] == []
    code, out, _ = host.run("snapshot", "prune", "web-1", "--keep-hourly", "1")
    assert code == 0 and "one is removed" in out and "two stays: newest" in out
    assert names(host) == ["two"]
    # Its file is a part of the chain, until a merge makes it unneeded: then nothing is left of it.
    machine.write(3, 3)
    want = dict(machine.written)
    create(host, "three", "--no-upload")
    host.moult("snapshot", "prune", "web-1", "--keep-last", "1")
    machine.write(4, 4)
    host.moult("snapshot", "merge", "web-1")
    until(lambda: len(machine.layers()) == 2, "files that only removed restore points had to go")
    export(host, machine, "three", want)
    machine.expect(machine.disk, machine.written)
    assert verify(host)["damaged"] == 0


@pytest.mark.parametrize("point", ["snapshot-removed", "manifest-remove", "layer-sweep", "layer-swept"])
def test_a_removal_that_is_killed_is_brought_to_its_end(host, two, point):
    machine = two
    one = {8: 9, 0: 1}
    machine.kill()
    host.json("snapshot", "rollback", "web-1", "--to", "one")  # "two" and "before" are a branch
    machine.written = dict(one)
    machine.start()
    create(host, "three", "--no-upload")
    wait_jobs(host)
    host.stop()
    host.start({"MOULT_FAULT": f"{point}=kill"})
    command = host.spawn("snapshot", "prune", "web-1", "--keep-last", "1")
    host.process.wait(120)
    host.start()
    command.wait(120)
    assert names(host) == ["three"]
    until(lambda: rows(host, "SELECT * FROM removals") == [], "the manifests to go")
    until(lambda: len(rows(host, "SELECT id FROM layers WHERE vm = 'web-1'")) == 2, "the rows of the branch to go")
    assert objects(host, "snapshots/web-1") == []
    assert len(machine.layers()) == 3  # one's, three's, and the top
    assert verify(host)["damaged"] == 0
    export(host, machine, "three", one)
