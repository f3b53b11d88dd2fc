"""The store as a whole: what `moult store verify` finds, what `moult store gc` takes and what it never takes, and
moultd killed at every point of it."""

import json
import pathlib
import shutil
import sqlite3
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))

import moult  # noqa: E402

CORRUPT, UNTRUSTED = 13, 9


def tree(directory, version):
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "etc").mkdir(exist_ok=True)
    (directory / "etc/app.conf").write_text(f"version={version}\n")
    (directory / "etc/data").write_bytes(bytes(version.encode() * 3000))
    return directory


@pytest.fixture
def host(tmp_path):
    with moult.Host(tmp_path / "host") as h:
        h.new_key()
        yield h


def add_releases(host, tmp_path, versions, name="app"):
    for v in versions:
        host.release(tree(tmp_path / f"tree-{name}-{v}", v), name=name, version=v)


def files(host):
    return sorted(p.name for p in (host.state / "packs").iterdir())


def versions(host, name="app"):
    return [r["version"] for r in host.json("release", "list", name)]


def file_of(host, version, name="app"):
    return next(host.state / "packs" / r["file"] for r in host.json("release", "list", name) if r["version"] == version)


def sql(host, *statements):
    """What a push would have left on record, without a guest. moultd must not run."""
    with sqlite3.connect(host.state / "catalogue.db") as db:
        for s in statements:
            db.execute(*s)
    db.close()


OPTIONS = {"dry_run": False, "transport": "auto", "sync": "fast", "confirm_timeout_ms": 60000}


def record_vm(host, vm, last_release=None):
    sql(host, ("INSERT INTO vms (name, agent, network, created, last_release) VALUES (?, ?, 0, 1, ?)",
               (vm, f"/nowhere/{vm}.agent", last_release)))


def record_push(host, vm, version, number, state="done"):
    op, now = f"01ARZ3NDEKTSV4RRFFQ69{number:05d}", time.time_ns() // 1000  # what is old is forgotten
    sql(host,
        ("INSERT INTO operations (id, kind, state, request, created, updated) VALUES (?, 'push', ?, '{}', ?, ?)",
         (op, "succeeded" if state == "done" else "running", now, now)),
        ("INSERT INTO pushes (operation, vm, push_id, release_name, release_version, digest, options, state, final, outcome,"
         " generation, created, updated) SELECT ?, ?, randomblob(16), name, version, digest, ?, ?, ?, 'done', ?, ?, ?"
         " FROM releases WHERE name = 'app' AND version = ?",
         (op, vm, json.dumps(OPTIONS), state, state == "done", number, now, now, version)))


def verify(host):
    """(exit code, the operation)"""
    code, out, err = host.run("store", "verify", "--json")
    assert out, err
    return code, json.loads(out)


def wait_for_file(path):
    deadline = moult.vms.Deadline(60, str(path))
    while not path.exists():
        deadline.left()
        time.sleep(0.02)  # a file that appears tells nobody


# -- verify

def test_a_sound_store_is_said_to_be_sound(host, tmp_path):
    add_releases(host, tmp_path, ["1", "2"])
    code, op = verify(host)
    assert code == 0 and op["state"] == "succeeded"
    assert op["result"]["findings"] == [] and op["result"]["releases"] == 2 and op["result"]["files"] == 4
    assert "everything is whole" in host.moult("store", "verify")


def damage_byte(path):
    path.chmod(0o644)
    with open(path, "r+b") as f:
        f.seek(4096)
        byte = f.read(1)
        f.seek(4096)
        f.write(bytes([byte[0] ^ 1]))
    path.chmod(0o444)


def damage_list(path):
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    at = int.from_bytes(data[40:48], "little")  # manifest_offset
    data[at + 3] ^= 1
    path.write_bytes(data)
    path.chmod(0o444)


def cut(path):
    path.chmod(0o644)
    with open(path, "r+b") as f:
        f.truncate(path.stat().st_size // 2)
    path.chmod(0o444)


def test_damage_is_found_with_what_it_affects_and_what_to_do(host, tmp_path):
    """One release for each way in which a file can be wrong, among good ones: the look goes on to the end."""
    ways = {"2": (damage_byte, "pack-damaged"), "3": (damage_list, "pack-damaged"), "4": (cut, "pack-damaged"),
            "5": (lambda p: p.unlink(), "pack-missing"), "6": (lambda p: p.chmod(0o644), "pack-writable")}
    add_releases(host, tmp_path, ["1", *ways, "7"])
    for version, (damage, _) in ways.items():
        damage(file_of(host, version))
    host.stop()
    record_vm(host, "web-1", "app 2")
    host.start()
    code, op = verify(host)
    assert code == CORRUPT and op["state"] == "failed" and op["error"]["code"] == "corrupt"
    found = {f["version"]: f for f in op["result"]["findings"]}
    assert {v: f["kind"] for v, f in found.items()} == {v: kind for v, (_, kind) in ways.items()}
    assert found["2"]["vms"] == [{"vm": "web-1", "use": "on"}] and found["3"]["vms"] == []
    assert all(f["action"] and f["text"] for f in found.values())
    code, out, err = host.run("store", "verify")
    assert code == CORRUPT and "app 2: pack-damaged" in out and "web-1 (is on it)" in out and "to do:" in out
    assert "not sound: 5 findings" in err


def test_a_row_that_differs_from_its_pack_is_found(host, tmp_path):
    add_releases(host, tmp_path, ["1"])
    host.stop()
    sql(host, ("UPDATE releases SET entries = entries + 1", ()))
    host.start()
    code, op = verify(host)
    assert code == CORRUPT and [f["kind"] for f in op["result"]["findings"]] == ["catalogue-differs"]


def test_a_signer_who_is_not_trusted_any_more_is_found_and_is_no_damage(host, tmp_path):
    add_releases(host, tmp_path, ["1"])
    (host.trust / "test.pub").unlink()
    code, op = verify(host)
    assert code == UNTRUSTED and [f["kind"] for f in op["result"]["findings"]] == ["pack-untrusted"]


def test_a_file_that_belongs_to_nothing_is_told_and_is_no_damage(host, tmp_path):
    add_releases(host, tmp_path, ["1"])
    (host.state / "packs/app-0-OLD.moult").write_bytes(b"x")
    code, op = verify(host)
    assert code == 0 and [f["kind"] for f in op["result"]["findings"]] == ["left-over"]
    assert host.json("store", "gc")["result"]["left_over"] == ["app-0-OLD.moult"]
    assert len(files(host)) == 1


def test_a_verify_can_be_cancelled_and_outlives_moultd(host, tmp_path):
    add_releases(host, tmp_path, ["1", "2"])
    hold = tmp_path / "hold"
    host.stop()
    host.start({"MOULT_FAULT": "store-checked=hold", "MOULT_FAULT_HOLD": str(hold)})
    job = host.json("store", "verify", "--detach")["id"]
    wait_for_file(hold)
    host.kill()
    hold.unlink(missing_ok=True)
    host.start({"MOULT_FAULT": "store-checked=hold", "MOULT_FAULT_HOLD": str(hold)})
    wait_for_file(hold)
    host.moult("jobs", "cancel", job)
    hold.unlink()
    code, out, _ = host.run("jobs", "wait", job, "--json")
    assert code == 12 and json.loads(out)["state"] == "cancelled"


# -- gc

def test_only_what_nobody_needs_goes(host, tmp_path):
    add_releases(host, tmp_path, [str(v) for v in range(1, 10)])
    host.stop()
    record_vm(host, "web-1", "app 3 (selected files)")
    record_vm(host, "web-2", "app 33")  # is no release that we have; begins as one
    record_push(host, "web-1", "2", 1)
    record_push(host, "web-1", "3", 2)
    record_push(host, "web-2", "4", 3)
    record_push(host, "web-2", "5", 4)
    record_push(host, "web-2", "6", 5, state="connect")
    record_push(host, "gone", "7", 6)  # a VM that moultd does not know any more
    host.start()
    before = files(host)
    for words in (["--dry-run"], []):
        r = host.json("store", "gc", "--keep", "1", "--ways-back", "1", *words)["result"]
        assert sorted(x["version"] for x in r["removed"]) == ["1", "2", "4", "7", "8"]
        why = {x["version"]: [w["use"] for w in x["why"]] for x in r["kept"]}
        assert why == {"9": ["newest"], "6": ["push"], "5": ["back"], "3": ["on", "back"]}
        assert r["bytes"] > 0 and r["dry_run"] == bool(words)
        assert len(files(host)) == (len(before) if words else 4)
    assert versions(host) == ["9", "6", "5", "3"] and verify(host)[0] == 0
    assert host.json("store", "gc", "--keep", "1", "--ways-back", "1")["result"]["removed"] == []


def test_the_default_keeps_the_newest_two_of_each_name(host, tmp_path):
    add_releases(host, tmp_path, ["1", "2", "10"])
    add_releases(host, tmp_path, ["1"], name="lib")
    assert "app 1 would go" in host.moult("store", "gc", "--dry-run")
    assert "app 1 is removed" in host.moult("store", "gc")
    assert versions(host) == ["10", "2"] and versions(host, "lib") == ["1"]


@pytest.mark.parametrize("words", [["--keep", "-1"], ["--keep", "1001"], ["--ways-back", "-1"], ["now"]])
def test_bad_values_are_refused_and_nothing_goes(host, tmp_path, words):
    add_releases(host, tmp_path, ["1", "2", "3"])
    code, _, err = host.run("store", "gc", *words)
    assert code == 2 and err
    assert len(versions(host)) == 3


def test_moultd_killed_at_every_point_of_a_collection(tmp_path):
    """Whatever is needed stays, and the collection that goes on at the next start takes the rest."""
    with moult.Host(tmp_path / "seed") as seed:
        seed.new_key()
        add_releases(seed, tmp_path, ["1", "2", "3", "4", "5"])
        needed = file_of(seed, "2").name
        newest = file_of(seed, "5").name
        seed.stop()
        record_vm(seed, "web-1", "app 2")

    def collect(name, environment):
        """A copy of that store, and a collection in it."""
        h = moult.Host(tmp_path / name)
        shutil.rmtree(h.dir)
        shutil.copytree(seed.dir, h.dir)
        (h.state / "packs/left-behind.moult").unlink(missing_ok=True)
        h.start(environment)
        (h.state / "packs/left-behind.moult").write_bytes(b"x")
        h.run("store", "gc", "--keep", "1", "--detach")
        return h

    trace = tmp_path / "trace"
    with_trace = collect("traced", {"MOULT_FAULT_TRACE": str(trace)})
    with_trace.moult("jobs", "wait", with_trace.json("jobs", "--all")[0]["id"])
    with_trace.stop()
    points = [p for p in trace.read_text().split() if p.startswith("gc-")]
    assert {"gc-chosen", "gc-release-removed", "gc-file-removed", "gc-done"} == set(points), points
    for point in sorted(set(points)):
        for n in range(1, points.count(point) + 1):
            h = collect(f"killed-{point}-{n}", {"MOULT_FAULT": f"{point}:{n}=kill"})
            h.process.wait(60)
            assert h.process.returncode == -9, (point, n)
            assert {needed, newest} <= set(files(h)), (point, n)
            h.start()
            h.moult("jobs", "wait", h.json("jobs", "--all")[0]["id"])
            assert files(h) == sorted([needed, newest]) and versions(h) == ["5", "2"], (point, n)
            assert verify(h)[0] == 0, (point, n)
            h.stop()
