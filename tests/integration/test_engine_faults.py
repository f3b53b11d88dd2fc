"""Disks that fill up, fail or turn read-only, and hooks that fail or hang: refused or rolled back, with a text that helps."""

import errno
import fcntl
import os
import select
import signal
import subprocess

import pytest

from engine_lab import FAILED, NOT_FOUND, REFUSED, ROLLED_BACK, Lab, mounted, put, set_times, tmpfs, NEW_TIME, OLD_TIME


@pytest.fixture
def lab(tmp_path):
    lab = Lab(tmp_path / "lab")
    lab.new = tmp_path / "new"
    put(lab.root, "f", "old\n")
    put(lab.root, "g", "old\n")
    put(lab.new, "f", "new\n")
    put(lab.new, "g", "new\n" * 1000)
    put(lab.new, "d/h", "new\n")
    (lab.root / "e").mkdir()
    (lab.new / "e").mkdir(mode=0o700)
    (lab.new / "l").symlink_to("f")
    os.mkfifo(lab.new / "p")
    os.link(lab.new / "f", lab.new / "f2")
    set_times(lab.new, NEW_TIME)
    set_times(lab.root, OLD_TIME)
    lab.before = lab.tree()
    return lab


def hook(tmp_path, text, name="hook"):
    return put(tmp_path, name, f"#!/bin/sh\n{text}\n", 0o755)


def assert_untouched(lab):
    lab.assert_tree(lab.before)
    lab.assert_clean()


# -- records that are lost

@pytest.mark.parametrize("what", ["plan", "manifest", "header"])
def test_an_unconfirmed_upgrade_without_its_record_is_an_error_and_not_forgotten(lab, what):
    lab.apply(lab.release(lab.new), "--no-confirm")
    record = lab.state / "generations/1" / what
    kept = record.read_bytes()
    for damaged in (kept[:len(kept) // 2] if what != "plan" else b"\xff" * 10, None):
        record.unlink()
        if damaged is not None:
            record.write_bytes(damaged)
        assert "not confirmed" in lab.recover("--back", check=None).err
        assert lab.apply(lab.release(lab.new, name="other"), check=None).code not in (0, ROLLED_BACK)
    record.write_bytes(kept)
    lab.recover("--back")
    assert_untouched(lab)


# -- what takes the agent down with it

@pytest.mark.parametrize("stage", ["post", "health"])
def test_health_that_kills_the_agent_is_tried_twice_and_not_for_ever(lab, tmp_path, stage):
    runs = tmp_path / "runs"
    deadly = hook(tmp_path, f"echo run >>{runs}; kill -9 $PPID; sleep 1000")
    lab.apply(lab.release(lab.new, "--hook", f"{stage}={deadly}"), check=-signal.SIGKILL)
    lab.recover("--confirm", check=-signal.SIGKILL)
    said = lab.recover("--confirm", check=ROLLED_BACK)
    assert "went down" in said.err + said.out
    assert runs.read_text() == "run\n" * 2
    assert_untouched(lab)


# -- commands that only look, and the tree's own configuration

def state_files(lab):
    return {str(p.relative_to(lab.state)): (p.lstat().st_ino, p.lstat().st_mtime_ns, p.lstat().st_ctime_ns,
                                            p.read_bytes() if p.is_file() else b"")
            for p in lab.state.rglob("*")}


@pytest.mark.parametrize("point", ["journal-staged.after", "switch:2", "journal-switched.after"])
def test_history_and_plan_recover_nothing(lab, point):
    pack = lab.release(lab.new)
    lab.apply(pack, check=-signal.SIGKILL, environment={"MOULT_FAULT": f"{point}=kill"})
    tree, state = lab.tree(), state_files(lab)
    assert "test 1" in lab.history()
    said = lab.plan(pack, check=None)
    assert ("not brought to an end" in said.err) == (point != "journal-staged.after")
    assert (lab.tree(), state_files(lab)) == (tree, state)
    lab.recover("--back")
    assert_untouched(lab)


def test_history_and_plan_make_no_state_directory(lab):
    assert "nothing" in lab.history()
    lab.plan(lab.release(lab.new))
    assert not lab.state.exists()


def test_history_can_be_read_while_another_agent_works(lab):
    lab.apply(lab.release(lab.new))
    with open(lab.state / "lock", "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "test 1" in lab.history()
        lab.plan(lab.release(lab.new))


@pytest.mark.parametrize("text,ways_back", [("", 2), ("[upgrade]\nkeep-generations=3\n", 3), ("[upgrade]\nkeep=3\n", 4)])
def test_as_many_ways_back_are_kept_as_the_trees_configuration_says(lab, text, ways_back):
    """A configuration that cannot be read is no licence to drop anything."""
    put(lab.root, "etc/moult/moult-agent.conf", text)
    for n in range(4):
        put(lab.new, "f", f"{n}\n")
        lab.apply(lab.release(lab.new, version=f"{n}"), "--allow-drift")
    for _ in range(ways_back):
        lab.rollback()
    said = lab.rollback(check=NOT_FOUND if ways_back == 4 else REFUSED)
    assert ("not kept" in said.err) == (ways_back < 4)


@pytest.mark.parametrize("point,text", [("switch:2", "all new"), ("journal-back.after", "all old")])
def test_what_is_done_at_boot_are_the_files_alone(lab, tmp_path, point, text):
    ran = tmp_path / "ran"
    ends = "kill -9 $PPID" if text == "all new" else "exit 1"
    health = hook(tmp_path, f"echo ran >>{ran}; {ends}")
    lab.apply(lab.release(lab.new, "--hook", f"health={health}"), check=-signal.SIGKILL,
              environment={"MOULT_FAULT": f"{point}=kill"})
    before = ran.read_text() if ran.exists() else ""
    assert text in lab.recover("--boot").err
    assert (ran.read_text() if ran.exists() else "") == before
    if text == "all old":
        assert_untouched(lab)
    else:
        assert (lab.root / "f").read_text() == (lab.new / "f").read_text()
        lab.recover("--back")
        assert_untouched(lab)


# -- space

def test_too_little_space_is_found_before_anything_is_staged(lab, tmp_path):
    with mounted(tmp_path / "small", size_mb=8) as point:
        lab.root = point / "root"
        put(lab.new, "big", os.urandom(20 << 20))
        put(lab.root, "f", "old\n")
        lab.before = lab.tree()
        result = lab.apply(lab.release(lab.new), check=REFUSED)
        assert "nothing was touched" in result.err and "MiB free" in result.err and str(point) in result.err
        assert_untouched(lab)


def test_too_few_inodes_are_found_before_anything_is_staged(lab, tmp_path):
    with mounted(tmp_path / "small", size_mb=8, mkfs=("-N", "64")) as point:
        lab.root = point / "root"
        for n in range(100):
            put(lab.new, f"many/{n}", f"{n}\n")
        lab.root.mkdir()
        lab.before = lab.tree()
        result = lab.apply(lab.release(lab.new), check=REFUSED)
        assert "inodes" in result.err and "nothing was touched" in result.err
        assert_untouched(lab)


def test_a_disk_that_fills_up_while_it_is_staged(lab, tmp_path):
    """Somebody else takes the space between the look and the staging: a check hook."""
    with mounted(tmp_path / "small", size_mb=24) as point:
        lab.root = point / "root"
        put(lab.root, "f", "old\n")
        put(lab.new, "big", os.urandom(6 << 20))
        lab.before = lab.tree()
        eater = hook(tmp_path, f"dd if=/dev/zero of={point}/eaten bs=1M 2> /dev/null; :")
        result = lab.apply(lab.release(lab.new, "--hook", f"check={eater}", "--compress", "none"), check=REFUSED)
        assert "staging failed, nothing was touched" in result.err and "make room" in result.err
        assert_untouched(lab)
        (point / "eaten").unlink()
        lab.apply(lab.release(lab.new))


def fill(directory):
    """Not one byte more."""
    with open(directory / "filler", "wb", buffering=0) as f:
        for size in (65536, 1):
            try:
                while True:
                    f.write(b"x" * size)
            except OSError as e:
                assert e.errno == errno.ENOSPC


@pytest.mark.parametrize("fstype", ["tmpfs", "ext4"])
def test_a_rollback_needs_no_space_for_its_record(lab, tmp_path, fstype):
    with tmpfs(tmp_path / "state", "size=2m") if fstype == "tmpfs" else mounted(tmp_path / "disk", size_mb=8) as point:
        lab.state = point / "moult"
        lab.apply(lab.release(lab.new))
        fill(point)
        lab.rollback()
        assert_untouched(lab)


def test_a_confirmation_needs_no_space(lab, tmp_path):
    with tmpfs(tmp_path / "state", "size=2m") as point:
        lab.state = point / "moult"
        lab.apply(lab.release(lab.new, "--security-floor", "7"), "--no-confirm")
        fill(point)
        lab.recover("--confirm")
        assert "committed" in lab.history()
        assert (lab.state / "floor").read_text() == "7\n"


@pytest.mark.parametrize("point", ["stage-create", "stage-write", "stage-object", "stage-link", "stage-directory",
                                   "stage-file"])
@pytest.mark.parametrize("error,text", [("enospc", "make room"), ("eio", "dmesg")])
def test_an_error_anywhere_in_staging_leaves_nothing_behind(lab, point, error, text):
    pack = lab.release(lab.new)
    status = {"enospc": REFUSED, "eio": FAILED}[error]
    result = lab.apply(pack, check=status, environment={"MOULT_FAULT": f"{point}={error}"})
    assert "nothing was touched" in result.err and text in result.err, result
    assert_untouched(lab)
    lab.apply(pack)
    lab.rollback()
    assert_untouched(lab)


@pytest.mark.parametrize("point", ["switch:1", "switch:3", "switched-all", "switch-directory", "sync:2",
                                   "journal-switched.before", "journal-active.before"])
def test_an_error_in_the_switch_takes_everything_back(lab, point):
    result = lab.apply(lab.release(lab.new), check=ROLLED_BACK, environment={"MOULT_FAULT": f"{point}=eio"})
    assert "rolled-back" in result.out
    assert_untouched(lab)
    assert "rolled-back" in lab.history()


def test_a_sync_that_fails_is_an_abort(lab):
    result = lab.apply(lab.release(lab.new), check=FAILED, environment={"MOULT_FAULT": "sync:1=eio"})
    assert "nothing was touched" in result.err
    assert_untouched(lab)


def test_a_commit_record_that_cannot_be_written_is_not_a_commit(lab):
    result = lab.apply(lab.release(lab.new), check=ROLLED_BACK,
                       environment={"MOULT_FAULT": "journal-commit.before=eio"})
    assert "no file was switched" in result.err
    assert_untouched(lab)
    # Nor can the record of that: the next start finds no commit record.
    lab.apply(lab.release(lab.new), check=FAILED,
              environment={"MOULT_FAULT": "journal-commit.before=eio,journal-rolled-back.before=eio"})
    lab.recover()
    assert_untouched(lab)


def test_a_way_back_that_fails_is_taken_up_at_the_next_start(lab):
    lab.apply(lab.release(lab.new))
    result = lab.rollback(check=FAILED, environment={"MOULT_FAULT": "back:2=eio"})
    assert "taken up again at the next start" in result.err
    said = lab.recover()
    assert "all old" in said.err
    assert_untouched(lab)


def test_a_decision_to_go_back_that_cannot_be_written_leaves_the_new_files(lab, tmp_path):
    bad = hook(tmp_path, "exit 1")
    result = lab.apply(lab.release(lab.new, "--hook", f"health={bad}"), check=FAILED,
                       environment={"MOULT_FAULT": "journal-back.before=eio"})
    assert "could not be recorded" in result.err
    said = lab.recover("--confirm", check=ROLLED_BACK)      # health fails again, and now the way back works
    assert "all new" in said.err
    assert_untouched(lab)


def test_a_file_system_that_turns_read_only_in_the_middle(lab, tmp_path):
    """A post hook plays the kernel after an error on the disk. The way back has to wait for a writable disk."""
    with mounted(tmp_path / "disk") as point:
        lab.root = point / "root"
        put(lab.root, "f", "old\n")
        lab.before = lab.tree()
        turn = hook(tmp_path, f"mount -o remount,ro {point}; exit 1")
        result = lab.apply(lab.release(lab.new, "--hook", f"post={turn}"), check=FAILED)
        assert "taken up again at the next start" in result.err and "Read-only file system" in result.err
        assert lab.recover(check=FAILED).code == FAILED
        subprocess.run(["mount", "-o", "remount,rw", str(point)], check=True)
        assert "all old" in lab.recover().err
        assert_untouched(lab)


def test_a_read_only_remount_before_the_switch(lab, tmp_path):
    with mounted(tmp_path / "disk") as point:
        lab.root = point / "root"
        put(lab.root, "f", "old\n")
        lab.before = lab.tree()
        turn = hook(tmp_path, f"mount -o remount,ro {point}")
        lab.apply(lab.release(lab.new, "--hook", f"pre={turn}"), check=FAILED)
        lab.assert_tree(lab.before)
        subprocess.run(["mount", "-o", "remount,rw", str(point)], check=True)
        lab.recover()
        assert_untouched(lab)


# -- hooks

@pytest.mark.parametrize("stage,status,phase", [("check", FAILED, "refused"), ("pre", ROLLED_BACK, "rolled-back"),
                                                ("post", ROLLED_BACK, "rolled-back"),
                                                ("health", ROLLED_BACK, "rolled-back")])
def test_a_hook_that_fails(lab, tmp_path, stage, status, phase):
    bad = hook(tmp_path, "echo the reason why; exit 3", "my-hook")
    result = lab.apply(lab.release(lab.new, "--hook", f"{stage}={bad},name=mine"), check=status)
    for word in (f'{stage} hook "mine" failed', "exit status 3", "the reason why"):
        assert word in result.err, result
    assert phase in lab.history()
    assert_untouched(lab)


@pytest.mark.parametrize("stage", ["pre", "post", "health"])
def test_a_hook_that_hangs_is_killed_with_all_its_children(lab, tmp_path, stage):
    """The hook's children keep its output open, and one ignores what it can."""
    pids = tmp_path / "pids"
    bad = hook(tmp_path, f"trap '' TERM INT HUP\n(sleep 1000 & echo $! >> {pids}; wait) &\necho $$ >> {pids}\nsleep 1000")
    result = lab.apply(lab.release(lab.new, "--hook", f"{stage}={bad},timeout=1s"), check=ROLLED_BACK)
    assert "did not end within 1.000 s" in result.err
    assert_untouched(lab)
    for pid in pids.read_text().split():
        assert gone(pid), f"process {pid} of the hook is still there"


def gone(pid):
    """It was killed before the agent ended; the kernel may still be at it."""
    try:
        descriptor = os.pidfd_open(int(pid))
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], 20)[0])
    finally:
        os.close(descriptor)


def test_a_hook_that_leaves_a_child_behind_does_not_hold_us(lab, tmp_path):
    pids = tmp_path / "pids"
    good = hook(tmp_path, f"sleep 1000 & echo $! > {pids}")
    lab.apply(lab.release(lab.new, "--hook", f"post={good}"), timeout=60)
    assert gone(pids.read_text().strip())


def test_output_of_a_hook_is_bounded(lab, tmp_path):
    loud = hook(tmp_path, "yes 0123456789abcdef | head -c 50000000; echo; echo the end; exit 1")
    result = lab.apply(lab.release(lab.new, "--hook", f"post={loud}"), check=ROLLED_BACK)
    assert "the end" in result.err and len(result.err) < 4000
    assert_untouched(lab)


def test_what_a_hook_sees(lab, tmp_path):
    seen = tmp_path / "seen"
    spy = hook(tmp_path, f"env > {seen}; pwd >> {seen}; readlink /proc/self/fd/0 >> {seen}; cat $MOULT_ROOT/f >> {seen}")
    lab.apply(lab.release(lab.new, "--hook", f"post={spy},name=spy", name="app", version="2.0"),
              environment={"SECRET_OF_THE_AGENT": "1"})
    text = seen.read_text()
    for line in ("MOULT_RELEASE=app", "MOULT_VERSION=2.0", "MOULT_STAGE=post", "MOULT_HOOK=spy", "MOULT_GENERATION=1",
                 f"MOULT_ROOT={lab.root}", "\n/\n", "/dev/null", "new\n"):
        assert line in text, (line, text)
    assert "SECRET" not in text


def test_hooks_run_in_their_order_and_health_last(lab, tmp_path):
    log = tmp_path / "log"
    options = []
    for stage in ("health", "post", "pre", "check"):
        options += ["--hook", f"{stage}={hook(tmp_path, f'echo {stage} $(cat $MOULT_ROOT/f) >> {log}', stage)}"]
    lab.apply(lab.release(lab.new, *options))
    assert log.read_text() == "check old\npre old\npost new\nhealth new\n"


def test_a_dry_run_runs_no_hook(lab, tmp_path):
    mark = tmp_path / "mark"
    lab.plan(lab.release(lab.new, "--hook", f"check={hook(tmp_path, f'touch {mark}')}"))
    assert not mark.exists()


def test_a_damaged_blob_is_found_and_nothing_is_left(lab):
    put(lab.new, "big", os.urandom(3 << 20))
    pack = lab.release(lab.new, "--compress", "none")
    data = bytearray(pack.read_bytes())
    manifest = int.from_bytes(data[40:48], "little")
    for at in range(4096, manifest, 4096):
        data[at] ^= 1
    broken = pack.with_suffix(".broken")
    broken.write_bytes(data)
    result = lab.apply(broken, check=FAILED)
    assert "does not match its digest" in result.err
    assert_untouched(lab)
