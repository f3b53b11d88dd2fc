"""Instant mode (push --instant): where bytes come from, and what an agent, a window or a host that goes away in the middle does to it."""

import contextlib
import errno
import os
import signal
import subprocess

import pytest

from engine_lab import BUILD
from instant_lab import CHUNK, InstantLab
from merge_lab import own_mounts

SOAK = bool(os.environ.get("MOULT_SOAK"))
ROLLED_BACK = 5


@pytest.fixture(scope="module", autouse=True)
def mounts():
    if subprocess.run(["grep", "-q", "MOULT_FAULT_POINTS:BOOL=ON", str(BUILD / "CMakeCache.txt")], check=False).returncode:
        pytest.skip("this build has no fault points")
    own_mounts()


@pytest.fixture
def lab(tmp_path):
    made = InstantLab(tmp_path)
    yield made
    made.close()


def read(path, offset=0, size=4096):
    with open(path, "rb", buffering=0) as f:
        return os.pread(f.fileno(), size, offset)


def test_reads_come_out_of_the_window_before_anything_is_copied(lab):
    lab.plug()
    lab.start("fill=hold")
    push = lab.push()
    lab.wait_held()
    big = lab.root / "usr/big"
    assert lab.sources() == {"ivshmem": 0, "pmem": 0, "agent": 0}
    assert not lab.objects() and read(lab.root / "usr/version") == b"2\n"
    first = lab.sources()["ivshmem"]
    assert first > 0 and read(big, 2 * CHUNK) == read(lab.new_tree / "usr/big", 2 * CHUNK)
    sources = lab.sources()
    assert first < sources["ivshmem"] < 2 * CHUNK, "blocks, and what the kernel reads ahead; not the file"
    assert sources["agent"] == 0 and not lab.objects()
    assert b"ivshmem=" in subprocess.run([str(BUILD / "guest-agent/moult-agent"), "which", "/usr/big", *map(str, lab.where)], check=True,
                                         capture_output=True).stdout
    lab.let_go()
    assert push.wait(120) == 0, push.stdout.read()
    assert "moult-overlay" in open("/proc/self/mountinfo", encoding="utf-8").read()
    assert lab.objects() and big.read_bytes() == (lab.new_tree / "usr/big").read_bytes()
    # Nobody needs the server any more, although the agent still answers for this push.
    lab.wait(lambda: "targetfs-read: " in lab.servers_said(), "the server ends")


def test_what_has_no_hash_tree_is_copied_before_the_switch(tmp_path):
    with contextlib.closing(InstantLab(tmp_path, options=("--no-trees",))) as lab:
        lab.plug()
        lab.start("fill=hold")
        push = lab.push()
        lab.wait_held()
        assert (lab.root / "usr/big").read_bytes() == (lab.new_tree / "usr/big").read_bytes()
        assert lab.sources()["ivshmem"] == 0
        lab.let_go()
        assert push.wait(120) == 0, push.stdout.read()


def test_a_block_comes_over_the_agent_when_the_window_is_gone(lab):
    lab.plug()
    lab.start("fill=hold")
    push = lab.push()
    lab.wait_held()
    big, wanted = lab.root / "usr/big", (lab.new_tree / "usr/big").read_bytes()
    assert read(big, 0) == wanted[:4096]
    lab.unplug()
    assert read(big, 3 * CHUNK) == wanted[3 * CHUNK:3 * CHUNK + 4096]
    assert 0 < lab.sources()["agent"] < CHUNK, "a few blocks, not the file"
    assert not lab.objects()
    lab.let_go()
    assert push.wait(120) == 0, push.stdout.read()
    assert big.read_bytes() == wanted


def test_a_block_that_cannot_be_had_is_an_error_with_a_line_in_the_log(lab):
    lab.plug()
    lab.start("fill=hold")
    push = lab.push("--confirm-timeout", "5s")
    lab.wait_held()
    big, wanted = lab.root / "usr/big", (lab.new_tree / "usr/big").read_bytes()
    assert read(big, 0) == wanted[:4096]
    lab.unplug()
    lab.cable.cut(refuse=True)
    with pytest.raises(OSError) as e:
        read(big, 3 * CHUNK)
    assert e.value.errno == errno.EIO
    assert lab.servers_said().count("targetfs-unreadable") == 1 and "usr/big" in lab.servers_said()
    assert "no way to the pack's bytes" in lab.servers_said()
    assert read(big, 0) == wanted[:4096], "what was read before is in the page cache"
    # Nobody came in the dead-man time: what cannot be served is taken back.
    lab.let_go()
    lab.wait_for_phase("PHASE_ROLLED_BACK")
    assert lab.seen() == lab.before
    lab.cable.mend()
    assert push.wait(120) == ROLLED_BACK, push.stdout.read()


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_an_agent_that_is_started_again_goes_on_with_what_it_has(tmp_path, how):
    with contextlib.closing(InstantLab(tmp_path, size_mb=12)) as lab:
        goes_on_with_what_it_has(lab, how)


def goes_on_with_what_it_has(lab, how):
    # Over the network, so that it can be counted. At the 13th write six small files and six of twelve chunks are there.
    lab.start("stage-write:13=hold" if how == "stopped" else "stage-write:13=stop")
    push = lab.push()
    if how == "stopped":
        lab.wait_held()
        lab.process.terminate()
        lab.let_go()
        assert lab.process.wait(60) == 0
    else:
        lab.wait(lambda: open(f"/proc/{lab.process.pid}/stat", encoding="ascii").read().split()[2] == "T", "the fault point")
        lab.kill()
    assert lab.records(1)[-1] == "filling"
    there = lab.cable.to_client
    lab.start()
    assert push.wait(120) == 0, push.stdout.read()
    assert lab.cable.to_client - there < 7 * CHUNK, "what was there was not fetched again"
    assert lab.records(1).count("health") == 1, "hooks and health checks did not run again"
    assert (lab.root / "usr/big").read_bytes() == (lab.new_tree / "usr/big").read_bytes()
    lab.host.moult("rollback", "net-1")
    assert lab.seen() == lab.before


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_reader_waits_for_an_agent_that_is_started_again(lab, end):
    lab.start("fill=hold")
    push = lab.push()
    lab.wait_held()
    wanted = (lab.new_tree / "usr/big").read_bytes()
    # The agent has no host to ask when it is asked, and then it is gone.
    lab.cable.cut(refuse=True)
    lab.wait_for("agent-disconnected")
    reader = subprocess.Popen(["dd", f"if={lab.root}/usr/big", "bs=4096", "count=1", "skip=512", "status=none"], stdout=subprocess.PIPE)
    lab.wait(lambda: "source=agent" in lab.servers_said(), "the agent is asked")
    lab.process.send_signal(end)
    lab.process.wait(60)
    lab.let_go()
    lab.cable.mend()
    lab.start()
    out, _ = reader.communicate(timeout=60)
    assert reader.returncode == 0 and out == wanted[2 * CHUNK:2 * CHUNK + 4096]
    assert "targetfs-unreadable" not in lab.servers_said(), "the kernel has to read ahead in vain before a reader notices"
    assert push.wait(120) == 0, push.stdout.read()


def test_a_reader_whose_answer_is_late_finds_what_was_copied_meanwhile(lab):
    """The host gives no bytes for a push that is done, so whoever asked before that must not go on asking for them."""
    lab.start("fill=kill")
    push = lab.push()
    lab.process.wait(60)
    wanted = (lab.new_tree / "usr/big").read_bytes()
    reader = subprocess.Popen(["dd", f"if={lab.root}/usr/big", "bs=4096", "count=1", "skip=512", "status=none"], stdout=subprocess.PIPE)
    lab.wait(lambda: "source=agent" in lab.servers_said(), "the agent is asked")
    lab.start("pack-answer=hold")
    lab.wait_held()
    lab.wait_for_phase("PHASE_COMMITTED")
    lab.let_go()
    out, _ = reader.communicate(timeout=60)
    assert reader.returncode == 0 and out == wanted[2 * CHUNK:2 * CHUNK + 4096]
    assert "targetfs-unreadable" not in lab.servers_said()
    assert push.wait(120) == 0, push.stdout.read()


def test_without_a_host_it_is_taken_back_when_the_dead_man_time_is_over(lab):
    lab.start("fill=kill")
    push = lab.push("--confirm-timeout", "5s")
    lab.process.wait(60)
    lab.cable.cut(refuse=True)
    lab.start()
    assert read(lab.root / "etc/version") == b"2\n"
    lab.wait_for_phase("PHASE_ROLLED_BACK")
    assert lab.seen() == lab.before
    lab.cable.mend()
    assert push.wait(120) == ROLLED_BACK, push.stdout.read()


def test_the_dead_man_time_does_not_begin_anew_with_a_new_agent_that_got_nothing(lab):
    lab.start("fill=kill")
    push = lab.push("--confirm-timeout", "3600s")
    lab.process.wait(60)
    lab.cable.cut(refuse=True)
    for _ in range(3):
        lab.start()
        lab.kill()
    assert lab.records(1).count("filling") == 1
    lab.cable.mend()
    lab.start()
    assert push.wait(120) == 0, push.stdout.read()


def test_a_command_without_the_daemon_does_not_decide_over_what_is_not_copied(lab):
    lab.start("fill=kill")
    push = lab.push()
    lab.process.wait(60)
    lab.process = None
    said = lab.recover("--confirm", check=1)
    assert "start the daemon" in said.err, said
    assert lab.records(1)[-1] == "filling"
    lab.recover("--back")
    assert lab.seen() == lab.before
    lab.start()
    assert push.wait(120) == ROLLED_BACK, push.stdout.read()


def test_a_restart_of_moultd_does_not_disturb_it_either(lab):
    lab.start("fill=hold")
    push = lab.push()
    lab.wait_held()
    lab.host.kill()
    lab.let_go()
    lab.host.start()
    assert push.wait(120) == 0, push.stdout.read()
    assert (lab.root / "usr/big").read_bytes() == (lab.new_tree / "usr/big").read_bytes()


def points(lab):
    """[(name, n)] that the agent passes in an instant push, each the n-th time. Those of the way back are others' business."""
    trace = lab.dir / "trace"
    lab.start(trace=trace)
    assert lab.push().wait(120) == 0
    names = trace.read_text().split()
    lab.stop()
    count, found = {}, []
    for name in names:
        count[name] = count.get(name, 0) + 1
        found.append((name, count[name]))
    assert {"journal-commit.after", "merge", "journal-filling.after", "fill", "fill-staged", "journal-filled.before", "filled"} <= set(count)
    lab.start()
    lab.host.moult("rollback", "net-1")
    assert lab.seen() == lab.before
    lab.stop()
    if SOAK:
        return found
    # In an ordinary run from the decision to its end, and of what is done for each file the first and the last.
    begin = found.index(("journal-commit.before", 1))
    found = found[begin:found.index(("journal-active.after", 1)) + 1]
    edge = {name: n for name, n in reversed(found)}, dict(found)
    return [(name, n) for name, n in found if not name.startswith(("stage-", "object-")) or n in (edge[0][name], edge[1][name])]


@pytest.fixture
def campaign(lab):
    lab.plug()
    lab.points = points(lab)
    lab.after = None
    yield lab


def killed_at(lab, name, n):
    """A push, and an agent that died at that point of it."""
    lab.start(f"{name}:{n}=kill")
    push = lab.push()
    lab.process.wait(120)
    assert lab.process.returncode == -signal.SIGKILL, f"{name}:{n}: {lab.said()}"
    lab.process = None
    return push


def whole(lab, what):
    """"old" or "new"; nothing else is allowed."""
    now = lab.seen()
    if now == lab.before:
        return "old"
    version = (now["usr/version"], now["etc/version"])
    if lab.after is None:
        assert version[0][3] == version[1][3] == 2 and "usr/big" in now and "usr/goes" not in now
        lab.after = now
    assert now == lab.after, what
    return "new"


def share(lab, which):
    """In an ordinary run the two campaigns take turns at the points; with --soak each takes all."""
    return lab.points if SOAK else lab.points[which::2]


def test_killed_at_every_point_and_started_again(campaign):
    lab, seen = campaign, {}
    for name, n in share(lab, 0):
        what = f"{name}:{n}"
        push = killed_at(lab, name, n)
        decided = "commit" in lab.records(lab.newest())
        lab.start()
        seen[what] = whole(lab, what)
        assert seen[what] == ("new" if decided else seen[what]), what
        assert push.wait(120) == 0, f"{what}: {push.stdout.read()}"
        assert whole(lab, what) == "new", what
        lab.host.moult("rollback", "net-1")
        assert whole(lab, what) == "old", what
        lab.stop()
    print(f"\ninstant, killed and started again: {len(seen)} kills, then {seen}")


def test_killed_at_every_point_and_the_machine_restarted(campaign):
    lab, seen = campaign, {}
    for name, n in share(lab, 1):
        what = f"{name}:{n}"
        push = killed_at(lab, name, n)
        filled = "filled" in lab.records(lab.newest())
        lab.power_cut()
        with lab.another_boot():
            lab.recover("--boot")
            seen[what] = whole(lab, what)
            assert seen[what] == ("new" if filled else "old"), what
            lab.start()
            code = push.wait(120)
            said = push.stdout.read()
            # Before the decision the host offers it again, and it is there in the end.
            assert whole(lab, what) == ("new" if code == 0 else "old") and code in (0, ROLLED_BACK), f"{what}: {code} {said}"
            if code == 0:
                lab.host.moult("rollback", "net-1")
            assert whole(lab, what) == "old"
            lab.stop()
    assert set(seen.values()) == {"old", "new"}
    print(f"\ninstant, killed and the machine restarted: {len(seen)} kills, then {seen}")
