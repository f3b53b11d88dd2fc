"""The switch of a merge: no moment without the files, nothing piles up, and a kill at any point is made good by applying again."""

import os
import pathlib

import pytest
from merge_lab import OLD_TIME, WAYS, MergeLab, all_times, in_own_mounts, mounts, put, run

SOAK = bool(os.environ.get("MOULT_SOAK"))
TREE, FILE = "tree=usr/bin@usr", "file=usr/bin/tool@usr"
METHODS = [("overlay", TREE), ("union", TREE), ("bind", FILE), ("union", FILE)]


def usr(source):
    for path in ("bin/tool", "bin/same", "lib/library", "share/text"):
        put(source, path, f"old {path}")
    all_times(source, OLD_TIME)
    return source


def lab_with_usr(directory, way="beneath", **options):
    lab = MergeLab(directory, **options)
    lab.environment["MOULT_FAULT"] = WAYS[way]
    lab.mount_usr("squashfs", usr(lab.dir / "source"))
    return lab


def trace(lab, action):
    """The fault points that an action passes, in order, with the number of each passing."""
    file = lab.dir / "trace"
    file.write_text("")
    action(MOULT_FAULT_TRACE=str(file))
    count, points = {}, []
    for name in file.read_text().split():
        count[name] = count.get(name, 0) + 1
        points.append(f"{name}:{count[name]}")
    return [p for p in points if not p.startswith("mount-beneath:")]


@pytest.mark.parametrize("shared", [False, True], ids=["private", "shared"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method,merge", METHODS)
@in_own_mounts
def test_ten_releases_and_back_without_a_gap_and_without_leaving_anything(tmp_path, method, merge, way, shared):
    lab = lab_with_usr(tmp_path, way, shared=shared)
    before, watched = mounts(lab.root), [lab.usr / "bin/tool", lab.usr / "bin/same", lab.usr / "lib/library"]
    counts = set()
    with lab.watched(*watched), lab.watched(*watched, slave=True) as reader:
        for i in range(1, 11):
            lab.apply(lab.release({"usr/bin/tool": f"release {i}"}), [merge], method=method)
            assert (lab.usr / "bin/tool").read_text() == f"release {i}"
            assert list(lab.status().values())[0][2:] == ("tidy", "alive")
            if shared:      # a slave namespace follows at once
                seen = pathlib.Path(f"/proc/{reader.pid}/root/{lab.usr}/bin/tool").read_text()
                assert seen == f"release {i}"
            counts.add((len(mounts(lab.root)), len(lab.originals())))
            in_slave = pathlib.Path(f"/proc/{reader.pid}/mountinfo").read_text()
            counts.add(("slave", in_slave.count(f" {lab.usr}")))
        assert len(counts) == 2, counts
        lab.apply()
        assert (lab.usr / "bin/tool").read_text() == "old bin/tool"
    assert mounts(lab.root) == before
    assert not lab.originals()
    assert not [m for m in mounts(lab.run) if m[0] != str(lab.run)]
    lab.wait_without_servers()


@pytest.mark.parametrize("way", WAYS)
@in_own_mounts
def test_a_merge_that_grows_covers_the_narrow_ones_and_takes_them_away(tmp_path, way):
    lab = lab_with_usr(tmp_path, way)
    before = mounts(lab.root)
    watched = [lab.usr / p for p in ("bin/tool", "lib/library", "share/text")]
    narrow = lab.release({"usr/bin/tool": "1", "usr/lib/library": "1"})
    wide = lab.release({"usr/bin/tool": "2", "usr/lib/library": "2", "usr/share/text": "2"})
    with lab.watched(*watched):
        for _ in range(3):
            lab.apply(narrow, [TREE, "tree=usr/lib@usr"])
            assert [p.read_text() for p in watched] == ["1", "1", "old share/text"]
            lab.apply(wide, ["tree=usr@usr"])
            assert [p.read_text() for p in watched] == ["2", "2", "2"]
            assert list(lab.status()) == ["usr"]
            assert len(lab.originals()) == 1
            # It does not shrink while the machine runs: what is narrower is served at the wide place.
            lab.apply(narrow, [TREE, "tree=usr/lib@usr"])
            assert [p.read_text() for p in watched] == ["1", "1", "old share/text"]
            assert list(lab.status()) == ["usr"]
            lab.apply()
            assert mounts(lab.root) == before
            assert not lab.originals()


@in_own_mounts
def test_a_merge_that_is_as_wanted_is_not_touched(tmp_path):
    lab = lab_with_usr(tmp_path)
    bin_ids = []
    for i in range(3):
        files = {"usr/bin/tool": "same", "usr/lib/library": f"{i}"}
        lab.apply(lab.release(files), [TREE, "tree=usr/lib@usr"])
        bin_ids.append(os.stat(lab.usr / "bin").st_dev)
        assert (lab.usr / "lib/library").read_text() == f"{i}"
    assert len(set(bin_ids)) == 1


@pytest.mark.parametrize("way", WAYS)
@in_own_mounts
def test_a_bind_is_recognised_after_the_name_of_its_object_was_removed(tmp_path, way):
    lab = lab_with_usr(tmp_path, way)
    lab.apply(lab.release({"usr/bin/tool": "1"}), [FILE])
    (link,) = [p for p in (lab.state / "target/trees").iterdir() if p.is_file()]
    link.unlink()       # as a collection that is ahead of its time would
    assert lab.status()["usr/bin/tool"][0] == "bind"
    lab.apply(lab.release({"usr/bin/tool": "2"}), [FILE])
    assert (lab.usr / "bin/tool").read_text() == "2"
    lab.apply()
    assert (lab.usr / "bin/tool").read_text() == "old bin/tool"


def old_or_new(lab, paths, old, new):
    for path in paths:
        content = (lab.usr / path).read_text()
        assert content in (old[path], new[path]), f"{path}: {content}"




@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("step,method", [("first", "auto"), ("next", "auto"), ("last", "auto"), ("wider", "auto"),
                                         ("next", "union")])
@in_own_mounts
def test_a_kill_at_any_point_is_made_good(tmp_path, step, method, way):
    """Killed at each point of a change, then either carried on or taken back: as if nothing had happened."""
    lab = lab_with_usr(tmp_path, way, shared=True)
    (lab.dir / "nothing").mkdir()
    run("mount", "-t", "tmpfs", "text", lab.usr / "share")     # comes along where /usr is merged as a whole
    put(lab.usr, "share/text", "old share/text")
    before = mounts(lab.root)
    paths = ["bin/tool", "lib/library", "share/text"]
    original = {p: f"old {p}" for p in paths}
    one = {**original, "bin/tool": "one", "lib/library": "one"}
    two = {**original, "bin/tool": "two", "lib/library": "two"}
    first = lab.release({f"usr/{p}": c for p, c in one.items() if c == "one"})
    second = lab.release({f"usr/{p}": c for p, c in two.items() if c == "two"})
    narrow, wide = [TREE, "tree=usr/lib@usr"], ["tree=usr@usr"]

    old_state, new_state, old, new = {
        "first": ((), (first, narrow), original, one),
        "next": ((first, wide), (second, wide), one, two),
        "last": ((first, narrow), (), one, original),
        "wider": ((first, narrow), (second, wide), one, two),
    }[step]

    def settle(state, want):
        lab.apply(*state, method=method)
        assert {p: (lab.usr / p).read_text() for p in paths} == want
        merged = [m.split("=")[1].split("@")[0] for m in (state[1] if state else ())]
        # What was merged as a whole is not made smaller again.
        assert sorted(lab.status()) in ([*merged], ["usr"] if merged else [])
        assert all(s[2] == "tidy" for s in lab.status().values()), lab.status()
        assert len(lab.originals()) == len(lab.status())
        assert not mounts(lab.run / "staging")

    settle(old_state, old)
    normal = len(mounts(lab.root))
    # The first time makes objects and trees as well; tests of their own kill that.
    settle(new_state, new)
    lab.apply()
    settle(old_state, old)
    points = trace(lab, lambda **e: lab.apply(*new_state, method=method, **e))
    assert any(p.startswith("merged:") for p in points), points
    lab.apply()
    assert mounts(lab.root) == before
    if way == "propagation" and step == "next":
        assert {"merge-covered:1", "merge-handle:1", "merge-beneath:1"} <= set(points)

    with lab.watched(*(lab.usr / p for p in paths)):
        for n, point in enumerate(points):
            both = ("carried on", "taken back")
            # In an ordinary run they take turns; the other way of switching has the same points.
            for after in both if SOAK else (both[(n + (way == "beneath")) % 2],):
                settle(old_state, old)
                assert len(mounts(lab.root)) == normal, point
                r = lab.try_apply(*new_state, method=method, fault=f"{point}=kill")
                assert r.returncode == -9, f"{point}: {r.stdout}{r.stderr}"
                old_or_new(lab, paths, old, new)
                if after == "carried on":
                    settle(new_state, new)
                else:
                    settle(old_state, old)
                lab.apply()
                assert mounts(lab.root) == before, f"{point}, {after}"
                assert not lab.originals(), f"{point}, {after}"
    lab.wait_without_servers()


@pytest.mark.parametrize("way", WAYS)
@in_own_mounts
def test_after_an_error_in_the_middle_it_can_be_carried_on_or_taken_back(tmp_path, way):
    lab = lab_with_usr(tmp_path, way)
    before = mounts(lab.root)
    release = lab.release({"usr/bin/tool": "1", "usr/lib/library": "1"})
    merges = [TREE, "tree=usr/lib@usr"]
    r = lab.try_apply(release, merges, fault="merge:2=eio")
    assert r.returncode == 1
    assert "switching the merge of /usr/lib" in r.stderr
    assert list(lab.status()) == ["usr/bin"]
    lab.apply(release, merges)
    assert list(lab.status()) == ["usr/bin", "usr/lib"]
    lab.apply()
    assert mounts(lab.root) == before
