"""Snapshots that moultd takes by itself, of a real QEMU. That time has gone by is what the catalogue is told; what follows from it is moultd's."""

import time

import pytest

from snapshot_lab import create_here, first_end, rows, wait_jobs

KINDS = ("blockdev",)
EVERY = ("--every", "1h", "--no-upload")


def make_due(host, since_s=1):
    """As if so much time had gone by since the next one was due. moultd does not run."""
    rows(host, "UPDATE schedules SET next = ?", int((time.time() - since_s) * 1e6))


def schedule(host):
    [only] = host.json("snapshot", "schedule")
    return only


def schedule_is_set(host, *more):
    return host.json("snapshot", "schedule", "web-1", *EVERY, *more)


def points(host):
    return [s for s in host.json("snapshot", "list") if s["state"] == "taken"]


def ended(host):
    """The schedule, when nothing is under way for it any more."""
    while True:
        wait_jobs(host)
        now = schedule(host)
        if now["last"] and not now["operation"]:
            return now
        time.sleep(0.05)  # it looks 100 ms after the last job has ended


def test_what_is_due_is_taken_and_old_ones_go_and_none_is_taken_for_each_that_was_missed(host):
    create_here(host, "by-hand")
    assert schedule_is_set(host, "--keep-last", "1")["options"] == {"quiesce": True, "upload": False, "keep_last": 1}
    assert len(points(host)) == 1  # the first one is due in an hour
    host.stop()
    make_due(host, since_s=10 * 3600 + 5)
    host.start()
    done = ended(host)
    assert done["last"]["ok"] and done["failures"] == 0, done
    [left] = points(host)
    assert left["name"] != "by-hand"
    jobs = [j["kind"] for j in host.json("jobs", "--all")]
    assert jobs.count("snapshot-create") == 2 and jobs.count("snapshot-prune") == 1, jobs
    text = host.moult("snapshot", "schedule")
    assert "web-1" in text and "1 h" in text and "keep_last" in text, text

    host.moult("snapshot", "schedule", "web-1", "--off")
    assert host.json("snapshot", "schedule") == []
    code, _, err = host.run("snapshot", "schedule", "web-1", "--off")
    assert code != 0 and "web-1" in err, err
    assert len(points(host)) == 1


@pytest.mark.parametrize("point", ["schedule-begin", "schedule-begun"])
def test_killed_when_it_begins_one_it_is_taken_once(host, point):
    schedule_is_set(host)
    host.stop()
    make_due(host)
    host.start({"MOULT_FAULT": f"{point}=kill"})
    first_end(host.process, what="end of moultd")
    host.start()
    assert ended(host)["last"]["ok"]
    assert len(points(host)) == 1


def test_one_that_fails_is_seen_and_prunes_nothing(host, machine):
    create_here(host, "by-hand")
    schedule_is_set(host, "--keep-last", "0", "--keep-daily", "1")
    host.stop()
    make_due(host)
    machine.kill()
    machine.disk.rename(machine.disk.with_suffix(".away"))
    host.start()
    failed = ended(host)
    assert not failed["last"]["ok"] and failed["failures"] == 1 and "snapshot-create" in failed["last"]["text"], failed
    assert [s["name"] for s in points(host)] == ["by-hand"]
    assert "snapshot-schedule-failed" in host.log_text()


@pytest.mark.parametrize("words, why", [
    (("--every", "30s"), "1 minute"), (("--every", "5h", "--at", "03:00"), "whole days"), (("--every", "1d", "--at", "25:00"), "time of day"),
    (("--at", "03:00"), "--every"), (("--every", "1h", "--off"), "--off")])
def test_what_cannot_be_is_refused(host, words, why):
    code, _, err = host.run("snapshot", "schedule", "web-1", *words)
    assert code != 0 and why in err, err
    assert host.json("snapshot", "schedule") == []
