"""moultd is killed again and again in a rollout over real agents: every VM ends on the old or the new release, the report
says which, and nothing is committed twice. Seeded: the moments are points of the program (common/fault.h) and delays that
the seed gives. 6 VMs here; with MOULT_SOAK=1 50 VMs and 100 kills."""

import json
import os
import random
import signal
import subprocess
import time

import pytest

import fleet_lab
import vm as vms

SOAK = bool(os.environ.get("MOULT_SOAK"))
VMS, KILLS = (50, 100) if SOAK else (6, 8)
SEED = int(os.environ.get("MOULT_SEED", "20261129"))
POINTS = (["push-store", "push-stored"] * 3 +
          ["rollout-wave", "rollout-wave-stored", "rollout-ended", "rollout-take-back", "delay"])
HOOK = '#!/bin/sh\ntest ! -e "$MOULT_ROOT/srv/app/broken"\n'


class Campaign:
    """A host that dies at moments of the seed's choosing while a job runs."""

    def __init__(self, fleet, seed):
        self.host, self.rng, self.kills = fleet.host, random.Random(seed), 0

    def start(self):
        """A daemon that will die, or None if it died before it answered."""
        self.point = self.rng.choice(POINTS)
        nth = self.rng.randint(1, 8) if self.point.startswith("push") else 1
        fault = {} if self.point == "delay" else {"MOULT_FAULT": f"{self.point}:{nth}=kill"}
        try:
            self.host.start(fault)
        except vms.VmError:
            self.died()

    def died(self):
        assert self.host.process.returncode == -signal.SIGKILL, self.host.log_text()
        self.kills += 1

    def is_alive(self, seconds):
        """Waits for its death at most that long."""
        try:
            self.host.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pass
        return self.host.process.returncode is None

    def is_over(self, job):
        code, out, _ = self.host.run("jobs", "show", job, "--json")
        return code == 0 and json.loads(out)["final"]

    def run(self, job, kills):
        """Until the job is over, or so many kills; then a daemon runs that nobody kills."""
        self.host.kill()
        while self.kills < kills:
            self.start()
            if self.point == "delay":
                time.sleep(self.rng.uniform(0, 0.8))  # no wait: this is the moment that the seed has chosen
                self.host.kill()
                self.died()
            while self.is_alive(0.2) and not self.is_over(job):
                pass
            if self.host.process.poll() is None:
                self.host.kill()
                self.host.start()
                break
            if self.host.process.returncode is not None and self.point != "delay":
                self.died()
        else:
            self.host.start()
        self.host.run("jobs", "wait", job)
        return self.host.json("jobs", "show", job)


@pytest.fixture
def fleet(tmp_path):
    with fleet_lab.Fleet(tmp_path, VMS) as lab:
        for i in range(2, VMS, 5):
            (lab.members[i].root / "srv/app/broken").touch()
        hook = tmp_path / "health"
        hook.write_text(HOOK)
        hook.chmod(0o755)
        lab.hook = ["--hook", f"health={hook}"]
        lab.wait_connected()
        yield lab


def check(fleet, operation, old, new):
    """Each VM is on one of the two, as the report says, and was switched once at most."""
    for push in operation["pushes"]:
        member = fleet.members[int(push["vm"][3:])]
        broken = (member.root / "srv/app/broken").exists()
        assert push["final"], push
        assert push["state"] == ("rolled-back" if broken else "done"), (push["vm"], push["state"], push["error"])
        assert member.content() == (old if broken else new), push["vm"]
        assert member.generations() == (0 if broken else 1), member.log()
    counts = operation["rollout"]["counts"]
    states = [p["state"] for p in operation["pushes"]]
    assert counts["done"] == states.count("done") and counts["rolled_back"] == states.count("rolled-back")
    assert counts["total"] == len(fleet.members) == counts["done"] + counts["rolled_back"]


def test_a_rollout_outlives_its_daemons(fleet):
    release = fleet.release("2", b"two\n", options=fleet.hook)
    job = fleet.host.json("push", release, "--all", "--canary", "1", "--batch", "30%", "--max-failures", str(VMS),
                          "--detach")["id"]
    campaign = Campaign(fleet, SEED)
    operation = campaign.run(job, KILLS)
    print(f"{campaign.kills} kills")
    assert campaign.kills >= KILLS / 3, "they came too late to show anything"
    assert operation["state"] == "partial" and operation["rollout"]["state"] == "done"
    check(fleet, operation, fleet_lab.OLD, b"two\n")


def test_the_way_back_outlives_its_daemons(fleet):
    first = fleet.release("2", b"two\n", options=fleet.hook)
    fleet.host.run("push", first, "--all", "--max-failures", str(VMS))
    before = [m.content() for m in fleet.members]
    second = fleet.release("3", b"three\n", old=b"two\n", options=fleet.hook)
    job = fleet.host.json("push", second, "--all", "--allow-drift", "--batch", "70%", "--pause-between", "24h",
                          "--max-failures", str(VMS), "--detach")["id"]
    deadline = vms.Deadline(600, "the first wave is done")
    while fleet.host.json("rollout", "show", job)["rollout"]["state"] != "pausing":
        deadline.left()
    fleet.host.moult("rollout", "abort", job, "--rollback", "--detach")
    campaign = Campaign(fleet, SEED + 1)
    operation = campaign.run(job, KILLS)
    assert campaign.kills > 0
    assert operation["state"] == "cancelled" and operation["rollout"]["state"] == "rolled-back", operation["error"]
    back = fleet.host.json("jobs", "show", operation["rollout"]["rollback"])
    assert back["state"] == "succeeded"
    upgraded = {p["vm"] for p in operation["pushes"] if p["state"] == "done"}
    assert {p["vm"] for p in back["pushes"]} == upgraded and upgraded
    assert [m.content() for m in fleet.members] == before
