"""The shared store as a whole, as a directory and as a bucket: what `moult store verify --shared` finds, and what
`moult store gc --shared` takes, and never takes."""

import json
import pathlib
import sys
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests/support"), str(TOP / "tests/integration")]

import moult  # noqa: E402
from share_lab import Lab, bucket, lab, settings, shared_gc, shared_verify, swift, tree, trust  # noqa: E402, F401


def test_what_is_damaged_in_the_shared_store_is_found_and_a_push_puts_back_what_is_missing(lab):
    with lab.host("a") as a:
        a.new_key()
        assert shared_verify(a)["releases"] == 0, "a store that nobody has pushed to is whole"
        a.release(tree(lab.tmp_path / "t1"), version="1")
        a.release(tree(lab.tmp_path / "t2", changed=2), version="2")
        a.moult("store", "push", "app=1")
        chunks_of_1 = lab.chunks()
        a.moult("store", "push", "app=2")
        only_2 = [k for k in lab.chunks() if k not in chunks_of_1]
        result = shared_verify(a)
        assert result["findings"] == [] and result["unnamed"] == 0
        assert (result["releases"], result["chunks"]) == (2, len(lab.chunks()))
        assert "everything is whole" in a.moult("store", "verify", "--shared")

        # A chunk of both is away, one of 2 has the bytes of another, one more belongs to nothing.
        list_of_2 = lab.store.get("releases/app/2.caibx")
        missing = next(k for k in chunks_of_1 if bytes.fromhex(pathlib.Path(k).stem) in list_of_2)
        damaged = only_2[0]
        lab.store.delete(missing)
        lab.store.put(damaged, lab.store.get(chunks_of_1[0]))
        lab.store.put("chunks/0000/" + "0" * 64 + ".cacnk", b"whatever")
        lab.store.put("releases/app/3.caibx", b"no list at all" * 20)
        before = {k: lab.store.get(k) for k in lab.store.keys()}
        result = shared_verify(a, 13)
        found = {f["file"]: f for f in result["findings"]}
        assert {k: f["kind"] for k, f in found.items()} == {
            missing: "chunk-missing", damaged: "chunk-damaged", "releases/app/3.caibx": "list-damaged"}
        assert (found[damaged]["release"], found[damaged]["version"]) == ("app", "2")
        assert (found["releases/app/3.caibx"]["version"]) == "3"
        assert result["unnamed"] == 1
        assert found[missing]["version"] == "1" and "also of app 2" in found[missing]["text"]
        assert {k: lab.store.get(k) for k in lab.store.keys()} == before, "nothing is changed"
        words = a.run("store", "verify", "--shared")[1]
        assert missing in words and "moult store push" in words and "3 findings" in words
        assert "store-damaged" in a.log_text(10**6)

        # What it says to do helps.
        lab.store.delete(damaged)
        lab.store.delete("releases/app/3.caibx")
        for version in "12":
            assert a.json("store", "push", f"app={version}")["result"]["already_there"]
        assert shared_verify(a)["findings"] == []
    with lab.host("b") as b:
        trust(b, a)
        b.moult("store", "pull", "app=2")
        assert b.json("store", "verify")["result"]["findings"] == []


def test_many_objects_are_listed_page_by_page(bucket, tmp_path):
    """More than the server tells at once."""
    lab = Lab(tmp_path, bucket)
    for i in range(43):
        lab.store.put(f"chunks/{i:04x}/{i:04x}{i:060x}.cacnk", b"")
    with lab.host("a") as a:
        assert shared_verify(a)["unnamed"] == 43


def test_a_host_without_a_shared_store_says_so(tmp_path):
    h = moult.Host(tmp_path / "a")
    settings(h, "shared-store=none\n")
    with h:
        code, _, err = h.run("store", "verify", "--shared")
        assert code != 0 and "no shared store" in err


def test_what_no_release_names_goes_once_it_is_old(lab):
    with lab.host("a") as a:
        a.new_key()
        assert shared_gc(a)["removed"] == 0, "there may be nothing at all"
        orphans = lab.push_two_and_lose_one(a)
        if not lab.s3:  # a put that was cut off
            orphans.insert(0, "chunks/0000/.cut-off.new")
            lab.store.put(orphans[0], b"half")
        lab.store.put("chunks/notes.txt", b"not of moult")
        before = lab.store.keys()
        result = shared_gc(a)
        assert (result["removed"], result["young"]) == (0, len(orphans)) and lab.store.keys() == before
        assert "a push may be under way" in a.moult("store", "gc", "--shared")

        lab.age(3 * 3600)
        assert a.json("store", "gc", "--shared")["result"]["removed"] == 0, "a day, unless told otherwise"
        result = shared_gc(a, "--dry-run")
        assert result["objects"] == orphans and result["removed"] == len(orphans) and result["young"] == 0
        assert lab.store.keys() == before
        words = a.moult("store", "gc", "--shared", "--grace", "1")
        assert f"{len(orphans)} (" in words and "are removed" in words
        assert lab.store.keys() == [k for k in before if k not in orphans]
        assert shared_verify(a)["unnamed"] == 1, "what is not of moult is left alone"
        assert "store-shared-collected" in a.log_text(10**6)
        for bad in (["--grace", "0"], ["--keep", "1"], ["--ways-back", "1"]):
            assert a.run("store", "gc", "--shared", *bad)[0] == 2, bad
        assert a.run("store", "gc", "--grace", "5")[0] == 2
    with lab.host("b") as b:
        trust(b, a)
        b.moult("store", "pull", "app=1")
        assert b.json("store", "verify")["result"]["findings"] == []


def test_a_push_that_counts_on_garbage_keeps_it(lab):
    """A has chosen what to remove; B pushes a release that has just these chunks; then A goes on."""
    a, b = lab.host("a"), lab.host("b")
    hold = lab.tmp_path / "hold"
    with b:
        b.new_key()
        orphans = lab.push_two_and_lose_one(b)
        lab.age(3 * 3600)
        a.environment = a.environment | {"MOULT_FAULT": "shared-gc-chosen=hold", "MOULT_FAULT_HOLD": str(hold)}
        with a:
            collecting = a.spawn("store", "gc", "--shared", "--grace", "1", "--json")
            deadline = moult.vms.Deadline(60, "the collection has chosen")
            while not hold.exists():
                deadline.left()
                time.sleep(0.02)  # a file tells nobody that it came
            pushed = b.json("store", "push", "app=2")["result"]
            assert pushed["moved"] == 0, "everything is there, so nothing is sent"
            hold.unlink()
            out = collecting.communicate(timeout=300)[0]
            assert json.loads(out)["result"]["removed"] == 0, out
        assert set(orphans) <= set(lab.chunks())
        result = shared_verify(b)
        assert result["findings"] == [] and result["unnamed"] == 0
        if lab.s3:
            assert len(lab.proxy.copies) >= len(orphans), "made young without being sent"


def test_a_chunk_that_goes_before_its_list_is_there_is_put_back(lab):
    """As by a removal that was under way when the push looked."""
    hold = lab.tmp_path / "hold"
    a = lab.host("a")
    a.environment = a.environment | {"MOULT_FAULT": "share-index:3=hold", "MOULT_FAULT_HOLD": str(hold)}
    with a:
        a.new_key()
        orphans = lab.push_two_and_lose_one(a)
        pushing = a.spawn("store", "push", "app=2", "--json")
        deadline = moult.vms.Deadline(60, "all chunks are there")
        while not hold.exists():
            deadline.left()
            time.sleep(0.02)  # a file tells nobody that it came
        lab.store.delete(orphans[0])
        hold.unlink()
        out = pushing.communicate(timeout=300)[0]
        assert json.loads(out)["result"]["moved"] == 1, out
        assert shared_verify(a)["findings"] == []


def test_killed_in_the_middle_or_two_at_once_leave_a_sound_store(tmp_path):
    lab = Lab(tmp_path, None)
    a, b = lab.host("a"), lab.host("b")
    with a:
        a.new_key()
        orphans = lab.push_two_and_lose_one(a)
        assert len(orphans) >= 2
        lab.age(3 * 3600)
    a.start({"MOULT_FAULT": "shared-gc-removed:2=kill"})
    a.run("store", "gc", "--shared", "--grace", "1", "--detach")
    assert a.process.wait(60) == -9
    with b:
        assert shared_verify(b)["findings"] == []
        left = b.json("store", "gc", "--shared", "--grace", "1", "--dry-run")["result"]["objects"]
        assert set(left) < set(orphans)
        with a:  # its job goes on
            assert b.run("store", "gc", "--shared", "--grace", "1")[0] == 0
            a.moult("jobs", "wait", a.json("jobs", "--all")[0]["id"])
        result = shared_verify(b)
        assert result["findings"] == [] and result["unnamed"] == 0 and not set(orphans) & set(lab.chunks())


def test_nothing_goes_while_a_list_cannot_be_read(tmp_path):
    """What its release needs is not known."""
    lab = Lab(tmp_path, None)
    with lab.host("a") as a:
        a.new_key()
        lab.push_two_and_lose_one(a)
        lab.store.put("releases/app/3.caibx", b"no list at all" * 20)
        lab.age(3 * 3600)
        before = lab.store.keys()
        code, _, err = a.run("store", "gc", "--shared", "--grace", "1")
        assert code == 13 and "nothing was removed" in err and lab.store.keys() == before
