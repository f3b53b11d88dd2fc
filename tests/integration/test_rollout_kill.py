"""moultd is killed again and again in a rollout: every VM ends on the old or the new release, the report says which, and
nothing is pushed or committed twice. Seeded: the moments are points of the program (common/fault.h) and delays that the seed
gives. 6 VMs with real agents, 50 with simulated ones; with MOULT_SOAK=1 50 of both, and 100 kills."""

import json
import os
import random
import signal
import subprocess
import time

import pytest

import agents
import fleet_lab
import moult
import vm as vms

SOAK = bool(os.environ.get("MOULT_SOAK"))
VMS, KILLS = (50, 100) if SOAK else (6, 8)
SEED = int(os.environ.get("MOULT_SEED", "20261129"))
POINTS = (["push-store", "push-stored"] * 3 +
          ["rollout-wave", "rollout-wave-stored", "rollout-ended", "rollout-take-back", "delay"])
SIMULATED, SIMULATED_KILLS = 50, 100 if SOAK else 10
ENDS = ("committed", "rolled-back")
HOOK = '#!/bin/sh\ntest ! -e "$MOULT_ROOT/srv/app/broken"\n'


class Campaign:
    """A host that dies at moments of the seed's choosing while a job runs."""

    def __init__(self, host, seed, points=POINTS, longest_s=0.8):
        self.host, self.rng, self.points, self.longest_s, self.kills = host, random.Random(seed), points, longest_s, 0

    def start(self):
        """A daemon that will die, or None if it died before it answered."""
        self.point = self.rng.choice(self.points)
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

    def run(self, job, kills, goes_on=lambda: True):
        """Until the job is over, or so many kills; then a daemon runs that nobody kills. @goes_on: there is something left that
        a kill can disturb, by somebody else's word than the daemon's."""
        self.host.kill()
        while self.kills < kills:
            self.start()
            if self.point == "delay":
                time.sleep(self.rng.uniform(0, self.longest_s))  # no wait: this is the moment that the seed has chosen
                if not goes_on():
                    break
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
    campaign = Campaign(fleet.host, SEED)
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
    campaign = Campaign(fleet.host, SEED + 1)
    operation = campaign.run(job, KILLS)
    assert campaign.kills > 0
    assert operation["state"] == "cancelled" and operation["rollout"]["state"] == "rolled-back", operation["error"]
    back = fleet.host.json("jobs", "show", operation["rollout"]["rollback"])
    assert back["state"] == "succeeded"
    upgraded = {p["vm"] for p in operation["pushes"] if p["state"] == "done"}
    assert {p["vm"] for p in back["pushes"]} == upgraded and upgraded
    assert [m.content() for m in fleet.members] == before


@pytest.fixture
def simulated(tmp_path):
    """A host with fifty simulated VMs, every tenth of which does not work with the release, and the release's name."""
    tree = tmp_path / "new"
    tree.mkdir()
    (tree / "data").write_bytes(random.Random(SEED).randbytes(200_000))
    with moult.Host(tmp_path / "host", options=["--concurrent-pushes", "4"]) as host:
        host.new_key()
        release = host.release(tree, options=["--compress", "none"])
        with agents.Agents(SIMULATED, "app 2", host.dir / "app-2.moult", step_ms=400 if SOAK else 40,
                           unhealthy=10) as fleet:
            fleet.add_to(host.socket)
            yield host, fleet, release


def test_fifty_vms_outlive_a_hundred_deaths_of_their_host(simulated):
    host, fleet, release = simulated
    job = host.json("push", release, "--all", "--batch", "20%", "--max-failures", str(SIMULATED), "--detach")["id"]
    campaign = Campaign(host, SEED + 2, points=["delay"], longest_s=0.3)
    operation = campaign.run(job, SIMULATED_KILLS, lambda: any(a["phase"] not in ENDS for a in fleet.report()))
    pushes = {push["vm"]: push["state"] for push in operation["pushes"]}
    ends = fleet.report()
    print(f"{campaign.kills} kills; {sorted(pushes.values())}")
    assert campaign.kills == SIMULATED_KILLS, "the rollout was over too early to show anything"
    assert len(pushes) == len(ends) == SIMULATED
    size = (host.dir / "app-2.moult").stat().st_size
    for i, agent in enumerate(ends):
        works = i % 10 != 9
        assert pushes[agents.name(i)] == ("done" if works else "rolled-back"), (i, agent)
        assert agent["release"] == ("app 2" if works else None), (i, agent)
        assert agent["offers"] == 1, f"{agents.name(i)} was given the release twice: {agent}"
        assert agent["commits"] == (1 if works else 0), (i, agent)
        assert agent["fetched"] <= size, f"{agents.name(i)} fetched a part again: {agent}"
    counts = operation["rollout"]["counts"]
    assert counts["done"] == SIMULATED * 9 // 10 and counts["rolled_back"] == SIMULATED // 10
    deadline = vms.Deadline(120, "the host knows what each VM runs")
    while {vm["name"]: vm["last_release"] for vm in host.json("vm", "list")} != {
            agents.name(i): agent["release"] for i, agent in enumerate(ends)}:
        deadline.left()
