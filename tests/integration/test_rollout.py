"""Rollouts in waves over real agents: `moult push --all` and `moult rollout`, from the command line down to the files."""

import contextlib
import json
import subprocess

import pytest

import fleet_lab

PARTIAL, CANCELLED, USAGE, NOT_FOUND, CONFLICT = 7, 12, 2, 3, 8


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    with fleet_lab.Fleet(tmp_path_factory.mktemp("fleet"), 4, ["--concurrent-pushes", "2", "--concurrent-bytes", "1M"],
                         lambda i: ["role=web" if i < 3 else "role=db"]) as lab:
        lab.wait_connected()
        yield lab


def contents(fleet):
    return [m.content() for m in fleet.members]


def test_a_label_in_waves_then_all_the_others(fleet):
    release = fleet.release("2", b"two\n")
    out = fleet.host.moult("push", release, "--label", "role=web", "--canary", "1", "--batch", "50%")
    assert "done; 3 of 3 VMs done" in out
    assert contents(fleet) == [b"two\n"] * 3 + [fleet_lab.OLD]
    rollout = fleet.host.json("rollout", "list")[0]
    shown = fleet.host.json("rollout", "show", rollout["id"])
    assert [(p["vm"], p["wave"]) for p in shown["pushes"]] == [("vm-00", 0), ("vm-01", 1), ("vm-02", 1)]
    # Those that have it are left alone: no second generation.
    out = fleet.host.moult("push", release, "--all")
    assert "1 of 4 VMs done, 3 skipped" in out
    assert [m.generations() for m in fleet.members] == [1, 1, 1, 1]
    assert contents(fleet) == [b"two\n"] * 4


def test_a_canary_whose_health_hook_fails_stops_it_and_the_way_back_is_one_command(fleet, tmp_path):
    hook = tmp_path / "health"
    hook.write_text("#!/bin/sh\nexit 3\n")
    hook.chmod(0o755)
    good = fleet.release("3", b"three\n", old=b"two\n")
    bad = fleet.release("4", b"four\n", old=b"three\n", options=["--hook", f"health={hook}"])
    assert fleet.host.run("push", good, "--all")[0] == 0
    code, out, err = fleet.host.run("push", bad, "--all", "--canary", "1")
    assert code == PARTIAL and "stopped, wave 1 of 2" in out and "3 wait" in out, out + err
    assert "1 of 4 VMs failed, and at most 0 may" in out
    assert contents(fleet) == [b"three\n"] * 4
    stopped = fleet.host.json("rollout", "list")[0]["id"]
    code, _, err = fleet.host.run("rollout", "stop", stopped)
    assert code == CONFLICT and "it is stopped" in err
    code, out, err = fleet.host.run("rollout", "abort", stopped)
    assert code == CANCELLED and "3 cancelled" in out, out + err
    # The good one is taken back everywhere.
    one = fleet.release("5", b"five\n", old=b"three\n")
    job = fleet.host.json("push", one, "--all", "--batch", "3", "--pause-between", "24h", "--detach")
    deadline = fleet_lab.vms.Deadline(120, "the first wave is done")
    while fleet.host.json("rollout", "show", job["id"])["rollout"]["state"] != "pausing":
        deadline.left()
    assert sorted(contents(fleet)) == sorted([b"five\n"] * 3 + [b"three\n"])
    code, out, err = fleet.host.run("rollout", "abort", job["id"], "--rollback")
    assert code == CANCELLED and "rolled-back" in out, out + err
    assert contents(fleet) == [b"three\n"] * 4


def test_a_dry_run_of_all_changes_nothing(fleet):
    release = fleet.release("6", b"six\n", old=b"three\n")
    out = fleet.host.moult("push", release, "--all", "--dry-run")
    assert "4 of 4 VMs done" in out
    assert b"six\n" not in contents(fleet)


@pytest.mark.parametrize("words, code, text", [
    (["app", "--all", "vm-00"], USAGE, "one of the three"),
    (["app"], USAGE, "--all"),
    (["app", "--all", "--batch", "0"], USAGE, "batch"),
    (["app", "--all", "--batch", "101%"], USAGE, "batch"),
    (["app", "--all", "--canary", "x"], USAGE, "--canary"),
    (["app", "--all", "--pause-between", "soon"], USAGE, "--pause-between"),
    (["app", "--label", "role"], USAGE, "KEY=VALUE"),
    (["app", "--label", "role=none"], NOT_FOUND, "no VM has these labels"),
    (["nothing", "--all"], NOT_FOUND, "nothing"),
])
def test_bad_words_begin_nothing(fleet, words, code, text):
    before = fleet.host.json("rollout", "list")
    got, _, err = fleet.host.run("push", *words)
    assert got == code and text in err
    assert [r["id"] for r in fleet.host.json("rollout", "list")] == [r["id"] for r in before]


def test_rollout_commands_know_what_is_no_rollout(fleet):
    code, _, err = fleet.host.run("rollout", "resume", "01ARZ3NDEKTSV4RRFFQ69G5FAV")
    assert code == NOT_FOUND and "rollout" in err
    assert json.loads(fleet.host.run("rollout", "list", "--format", "json")[1])


def test_the_fleet_at_a_glance(fleet):
    fleet.members[3].stop()
    deadline = fleet_lab.vms.Deadline(60, "its absence is seen")
    while fleet.host.json("vm", "show", "vm-03")["connected"]:
        deadline.left()
    try:
        seen = fleet.host.json("fleet")
        rows = {vm["name"]: vm for vm in seen["vms"]}
        assert sum(r["vms"] for r in seen["releases"]) == 4 == seen["counts"]["vms"]
        assert seen["counts"]["connected"] == 3
        assert all(vm["last_release"] == "app 3" for vm in rows.values()), rows
        assert rows["vm-00"]["unseen_s"] == 0 and rows["vm-03"]["unseen_s"] < 60 and not rows["vm-03"]["connected"]
        assert rows["vm-00"]["labels"] == {"role": "web"} and rows["vm-00"]["pending"] == 0
        assert rows["vm-00"]["push"]["rollback"] and rows["vm-00"]["push"]["state"] == "done"
        # One that waits, and one that fails.
        job = fleet.host.json("push", "app=3", "vm-03", "--detach")["id"]
        assert {vm["name"]: vm["pending"] for vm in fleet.host.json("fleet", "--label", "role=db")["vms"]} == {"vm-03": 1}
        assert "1 pending" in fleet.host.moult("fleet")
        fleet.host.moult("jobs", "cancel", job)
        text = fleet.host.moult("fleet")
        assert "4 VMs, 3 connected" in text and "ago" in text and "app 3" in text
    finally:
        fleet.members[3].start()
    assert "No VM has these labels" in fleet.host.moult("fleet", "--label", "role=none")


def test_clones_of_one_image_take_turns_within_a_wave(tmp_path):
    """Three pushes may run, but only one of those that read the same golden image; QEMU says who does."""
    for name in ("golden", "other"):
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(tmp_path / f"{name}.qcow2"), "1M"], check=True)
    begun, go = tmp_path / "begun", tmp_path / "go"
    hook = tmp_path / "check"
    hook.write_text(f"#!/bin/sh\necho x >> {begun}\nwhile [ ! -e {go} ]; do sleep 0.05; done\n")
    hook.chmod(0o755)
    with contextlib.ExitStack() as stack:
        qmp = [stack.enter_context(fleet_lab.Disks(tmp_path, f"disk-{i}", tmp_path / f"{'golden' if i < 2 else 'other'}.qcow2")).qmp
               for i in range(3)]
        lab = stack.enter_context(fleet_lab.Fleet(tmp_path / "fleet", 3, ["--concurrent-pushes", "3", "--concurrent-per-backing", "1"],
                                                  qmp=qmp))
        lab.wait_connected()
        job = lab.host.json("push", lab.release(options=["--hook", f"check={hook}"]), "--all", "--transport", "tls", "--detach")["id"]
        deadline = fleet_lab.vms.Deadline(120, "a clone and the other VM are in the middle of their pushes")
        while not begun.exists() or len(begun.read_text().split()) < 2:
            deadline.left()
        go.touch()
        assert lab.host.run("jobs", "wait", job)[0] == 0
        lines = lab.host.moult("events", "--after", "0", "--json").splitlines()
    steps = [(e["vm"], e["type"]) for e in map(json.loads, lines) if e["type"].startswith("push.")]
    spans = {vm: (steps.index((vm, "push.offer")), steps.index((vm, "push.unplug"))) for vm in ("vm-00", "vm-01", "vm-02")}
    first, second = sorted((spans["vm-00"], spans["vm-01"]))
    assert first[1] < second[0], steps
    assert spans["vm-02"][0] < first[1], steps
