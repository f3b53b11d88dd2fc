"""Layers of snapshots in the shared store, as a directory and as a bucket: there and back, what is verified, what is
collected and never collected, and what a kill leaves. The layers are of raw files (tests/support/layer_tool.c)."""

import json
import os
import pathlib
import random
import subprocess
import sys
import time

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests/support"), str(TOP / "tests/integration")]

import moult  # noqa: E402
from share_lab import Lab, bucket, lab, shared_gc, shared_verify, swift, tree  # noqa: E402, F401

TOOL = moult.HOST_BUILD / "tests/layer_tool"
BLOCK, BLOCKS = 4096, 700
SIZE = BLOCK * BLOCKS
ULID = "01JDX7000000000000000000"


class Layers:
    """A disk of raw files: a base and what was written since, layer by layer."""

    def __init__(self, lab, host):
        self.lab, self.digests, self.disks = lab, {}, []
        self.store = str(lab.tmp_path / "shared")
        if lab.s3:
            self.store = (f"s3://{lab.s3.bucket}/moult,http://127.0.0.1:{lab.proxy.port},"
                          f"{host.dir / 'credentials'}")

    def tool(self, *words, fault=None, code=0):
        environment = os.environ | {"TMPDIR": str(self.lab.tmp_path)} | ({"MOULT_FAULT": fault} if fault else {})
        done = subprocess.run([TOOL, self.store, *map(str, words)], capture_output=True, text=True, timeout=300,
                              env=environment)
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return json.loads(done.stdout) if done.stdout else done.stderr

    def write(self, seed, blocks, zeros=()):
        """The next layer: some blocks of random bytes, some of zeros; the name of its file."""
        below = self.disks[-1] if self.disks else bytes(SIZE)
        rng, data, kinds = random.Random(seed), bytearray(below), ["a"] * BLOCKS
        for b in blocks:
            data[b * BLOCK:(b + 1) * BLOCK] = rng.randbytes(BLOCK)
            kinds[b] = "d"
        for b in zeros:
            data[b * BLOCK:(b + 1) * BLOCK] = bytes(BLOCK)
            kinds[b] = "z"
        self.disks.append(bytes(data))
        file = self.lab.tmp_path / f"layer-{len(self.disks)}-{seed}"
        file.write_bytes(data)
        pathlib.Path(f"{file}.map").write_text("".join(kinds))
        return file

    def upload(self, layer, file, **more):
        result = self.tool("upload", layer, file, **more)
        if "map" in result:
            self.digests[layer] = result["map"]
        return result

    def snapshot(self, number, *layers, vm="web-1"):
        self.tool("snapshot", vm, f"{ULID}{number:02}", f"night-{number}", SIZE,
                  *(f"{i}={self.digests[i]}" for i in layers))

    def restore(self, *newest_first, code=0):
        out = self.lab.tmp_path / "out"
        out.write_bytes(bytes(SIZE))
        self.tool("restore", out, *newest_first, code=code)
        return out.read_bytes()


@pytest.fixture
def host(lab):
    h = lab.host("a")
    with h:
        h.new_key()
        yield h


@pytest.fixture
def layers(lab, host):
    return Layers(lab, host)


def two_snapshots(layers):
    """A base, a layer on it, and another one on that."""
    layers.upload("base", layers.write(1, range(300), zeros=range(400, 500)))
    layers.upload("one", layers.write(2, [5, 100, 101, 450, 600], zeros=[7]))
    layers.upload("two", layers.write(3, range(100, 200)))
    layers.snapshot(1, "base", "one")
    layers.snapshot(2, "base", "one", "two")


def test_what_was_uploaded_comes_back_and_is_whole(layers, host, lab):
    two_snapshots(layers)
    assert layers.restore("two", "one", "base") == layers.disks[2]
    assert layers.restore("one", "base") == layers.disks[1]
    assert layers.restore("base") == layers.disks[0]
    result = shared_verify(host)
    assert result["findings"] == [] and result["unnamed"] == 0
    assert (result["snapshots"], result["layers"], result["releases"]) == (2, 3, 0)
    assert result["chunks"] == len(lab.chunks())
    words = host.moult("store", "verify", "--shared")
    assert "2 snapshots" in words and "everything is whole" in words


def test_chunks_are_shared_with_releases(layers, host, lab):
    host.release(tree(lab.tmp_path / "t1"), version="1")
    host.moult("store", "push", "app=1")
    before = lab.chunks()
    pack = (host.state / "packs" / host.json("release", "list", "app")[0]["file"]).read_bytes()
    disk = lab.tmp_path / "disk"
    disk.write_bytes(bytes(BLOCK) * 10 + pack[:512 * BLOCK])
    sent = layers.upload("base", disk)
    assert len(set(lab.chunks()) - set(before)) <= 2, "what the disk has of the pack is there"
    assert sent["sent_chunks"] <= 2


def test_what_is_damaged_is_found(layers, host, lab):
    two_snapshots(layers)
    layers.upload("other", layers.write(4, range(10)))
    chunks = set(lab.chunks())
    layers.upload("more", layers.write(5, range(250, 290)))
    layers.snapshot(3, "more")
    chunk = sorted(set(lab.chunks()) - chunks)[0]
    lab.store.delete(chunk)
    lab.store.delete("layers/one.layer")
    lab.store.put("layers/base.layer", lab.store.get("layers/other.layer"))
    lab.store.put("layers/two.layer", b"no map at all")
    lab.store.put(f"snapshots/web-1/{ULID}09.json", lab.store.get(f"snapshots/web-1/{ULID}01.json"))
    lab.store.put(f"snapshots/web-1/{ULID}08.json", b"{}")
    before = {k: lab.store.get(k) for k in lab.store.keys()}
    result = shared_verify(host, 13)
    found = {f["file"]: f for f in result["findings"]}
    assert {k: f["kind"] for k, f in found.items()} == {
        chunk: "chunk-missing", "layers/one.layer": "layer-missing", "layers/base.layer": "layer-damaged",
        "layers/two.layer": "layer-damaged", f"snapshots/web-1/{ULID}09.json": "snapshot-damaged",
        f"snapshots/web-1/{ULID}08.json": "snapshot-damaged"}
    assert "web-1 night-1, web-1 night-2" in found["layers/one.layer"]["text"]
    assert "web-1 night-2" in found["layers/two.layer"]["text"]
    assert "not the map" in found["layers/base.layer"]["text"]
    assert "layer more" in found[chunk]["text"] and found[chunk]["release"] is None
    assert "another snapshot" in found[f"snapshots/web-1/{ULID}09.json"]["text"]
    assert result["unnamed"] > 1, "the layer that no snapshot names, and what the damaged ones do not name any more"
    assert {k: lab.store.get(k) for k in lab.store.keys()} == before, "nothing is changed"
    words = host.run("store", "verify", "--shared")[1]
    assert "layers/one.layer" in words and "6 findings" in words

    # What it says to do helps: an upload puts back what is missing, and replaces what is damaged.
    names = {"base": 1, "one": 2, "two": 3, "more": 5}
    for name, seed in names.items():
        file = next(lab.tmp_path.glob(f"layer-*-{seed}"))
        layers.upload(name, file)
    for number in ("09", "08"):
        lab.store.delete(f"snapshots/web-1/{ULID}{number}.json")
    assert shared_verify(host)["findings"] == []


def test_what_no_snapshot_needs_goes_with_its_chunks_in_one_run(layers, host, lab):
    two_snapshots(layers)
    host.release(tree(lab.tmp_path / "t1"), version="1")
    host.moult("store", "push", "app=1")
    needed = lab.store.keys()
    layers.upload("late", layers.write(7, list(range(300)) + list(range(600, 640))))  # a snapshot that did not end
    orphans = sorted(set(lab.store.keys()) - set(needed))
    assert "layers/late.layer" in orphans and len(orphans) > 2
    if not lab.s3:  # puts that were cut off
        for folder in ("layers", "snapshots/web-1"):
            lab.store.put(f"{folder}/.cut-off.new", b"half")
            orphans.append(f"{folder}/.cut-off.new")
    lab.store.put("layers/notes.txt", b"not of moult")
    before = lab.store.keys()
    result = shared_gc(host)
    assert result["removed"] == 0 and lab.store.keys() == before, "an upload may be under way"
    lab.age(3 * 3600)
    result = shared_gc(host, "--dry-run")
    assert result["objects"] == sorted(orphans) and lab.store.keys() == before
    result = shared_gc(host)
    assert result["objects"] == sorted(orphans)
    assert (result["snapshots"], result["releases"]) == (2, 1)
    assert lab.store.keys() == sorted(set(before) - set(orphans))
    assert shared_verify(host)["findings"] == []
    assert layers.restore("two", "one", "base") == layers.disks[2]

    # A restore point goes: what only it needed goes, too.
    lab.store.delete(f"snapshots/web-1/{ULID}02.json")
    assert "layers/two.layer" in shared_gc(host)["objects"]
    assert layers.restore("one", "base") == layers.disks[1]
    result = shared_verify(host)
    assert result["findings"] == [] and result["unnamed"] == 0


def test_nothing_goes_while_a_snapshot_or_a_needed_layer_cannot_be_read(layers, host, lab):
    two_snapshots(layers)
    layers.upload("late", layers.write(7, range(300)))
    lab.store.put("layers/rubbish.layer", b"that nobody needs")
    good = lab.store.get("layers/one.layer")
    for key, rubbish, mended in ((f"snapshots/web-1/{ULID}03.json", b"{}", None), ("layers/one.layer", b"x", good)):
        lab.store.put(key, rubbish)
        lab.age(3 * 3600)
        before = lab.store.keys()
        code, _, err = host.run("store", "gc", "--shared", "--grace", "1")
        assert code == 13 and "nothing was removed" in err and key in err and lab.store.keys() == before
        if mended:
            lab.store.put(key, mended)
        else:
            lab.store.delete(key)
    gone = shared_gc(host)["objects"]
    assert {"layers/late.layer", "layers/rubbish.layer"} <= set(gone)
    assert layers.restore("two", "one", "base") == layers.disks[2]


@pytest.mark.parametrize("uploaded", [True, False], ids=["upload", "snapshot"])
def test_who_finds_a_map_there_in_the_last_moment_keeps_it_and_its_chunks(lab, uploaded):
    """A has chosen to remove the map; it is uploaded again, and found there, or a snapshot names it; then A goes on."""
    hold = lab.tmp_path / "hold"
    a = lab.host("a")
    a.environment = a.environment | {"MOULT_FAULT": "shared-gc-layers-chosen=hold", "MOULT_FAULT_HOLD": str(hold)}
    layers = Layers(lab, a)
    file = layers.write(1, range(300))
    with a:
        layers.upload("late", file)
        lab.age(3 * 3600)
        before = lab.store.keys()
        collecting = a.spawn("store", "gc", "--shared", "--grace", "1", "--json")
        deadline = moult.vms.Deadline(60, "the collection has chosen")
        while not hold.exists():
            deadline.left()
            time.sleep(0.02)  # a file tells nobody that it came
        if uploaded:
            again = layers.upload("late", file)
            assert again["already_there"] and again["sent_bytes"] == 0
        layers.snapshot(1, "late")
        hold.unlink()
        out = collecting.communicate(timeout=300)[0]
        assert json.loads(out)["result"]["removed"] == 0, out
        assert set(before) <= set(lab.store.keys())
        result = shared_verify(a)
        assert result["findings"] == [] and result["unnamed"] == 0


@pytest.mark.parametrize("point", ["shared-gc-layers-chosen", "shared-gc-removed:1", "shared-gc-removed:2",
                                   "shared-gc-removed:3", "shared-gc-chosen", "shared-gc-removed:5"])
def test_a_collection_that_is_killed_leaves_a_sound_store(tmp_path, point):
    lab = Lab(tmp_path, None)
    a, b = lab.host("a"), lab.host("b")
    layers = Layers(lab, a)
    two_snapshots(layers)
    needed = lab.store.keys()
    layers.upload("late", layers.write(7, range(300)))
    layers.upload("later", layers.write(8, range(300)))
    orphans = set(lab.store.keys()) - set(needed)
    assert len(orphans) >= 6
    lab.age(3 * 3600)
    a.start({"MOULT_FAULT": f"{point}=kill"})
    a.run("store", "gc", "--shared", "--grace", "1", "--detach")
    assert a.process.wait(60) == -9
    with b:
        assert shared_verify(b)["findings"] == []
        assert layers.restore("two", "one", "base") == layers.disks[2]
        with a:  # its job goes on, beside another one
            assert b.run("store", "gc", "--shared", "--grace", "1")[0] == 0
            a.moult("jobs", "wait", a.json("jobs", "--all")[0]["id"])
        result = shared_verify(b)
        assert result["findings"] == [] and result["unnamed"] == 0
    assert lab.store.keys() == needed


@pytest.mark.parametrize("point", ["share-chunk-put:1", "share-chunk-put:3", "layer-map:1", "layer-map-put:1"])
def test_an_upload_that_is_killed_goes_on_where_it_was(layers, host, lab, point):
    file = layers.write(1, range(300), zeros=range(300, 310))
    layers.upload("base", file, fault=f"{point}=kill", code=-9)
    assert ("layers/base.layer" in lab.store.keys()) == (point == "layer-map-put:1")
    there = len([k for k in lab.chunks() if k.endswith(".cacnk")])  # and not what was being written
    result = layers.upload("base", file)
    assert result["sent_chunks"] == result["chunks"] - there
    assert result["already_there"] == (point == "layer-map-put:1")
    assert layers.restore("base") == layers.disks[0]
    layers.snapshot(1, "base")
    assert shared_verify(host)["findings"] == []


def test_a_snapshot_of_layers_that_are_not_there_is_not_put(layers, lab, host):
    file = layers.write(1, range(30))
    layers.upload("base", file)
    lab.store.delete("layers/base.layer")
    with pytest.raises(AssertionError, match="not there"):
        layers.snapshot(1, "base")
    assert not [k for k in lab.store.keys() if k.startswith("snapshots/")]
