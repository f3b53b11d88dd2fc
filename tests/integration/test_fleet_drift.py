"""Who drifts: `moult drift` over a fleet, and what `moult fleet`, the API and /metrics show of it until something changes."""

import json
import os
import subprocess

import pytest

import fleet_lab

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="owners need root")

USAGE, NOT_FOUND, REFUSED, UNREACHABLE = 2, 3, 4, 6


@pytest.fixture
def fleet(tmp_path):
    """Two web VMs that run, and one that is off."""
    with fleet_lab.Fleet(tmp_path / "fleet", 3, labels=lambda i: ["role=web" if i < 2 else "role=db"]) as lab:
        lab.wait_connected()
        lab.members[2].stop()
        lab.golden = tmp_path / "golden"
        (lab.golden / "srv/app").mkdir(parents=True)
        (lab.golden / "srv/app/version").write_bytes(fleet_lab.OLD)
        yield lab


def states(fleet):
    return [(x["drift"]["state"], x["drift"]["files"]) for x in fleet.host.json("fleet")["vms"]]


def wait_off(fleet, name):
    deadline = fleet_lab.vms.Deadline(120, f"{name} is off")
    while fleet.host.json("vm", "show", name)["connected"]:
        deadline.left()


def check(fleet, *which):
    code, out, err = fleet.host.run("drift", *which, "--golden", fleet.golden)
    return code, out + err


def metric(fleet, name):
    page = subprocess.run(["curl", "-s", "--unix-socket", str(fleet.host.socket), "http://x/metrics"], capture_output=True,
                          check=True, text=True).stdout
    return next(int(line.split()[1]) for line in page.splitlines() if line.startswith(name + " "))


def test_the_fleet_shows_who_drifts_until_a_push_ends(fleet):
    wait_off(fleet, "vm-02")
    assert states(fleet) == [("unchecked", None)] * 3
    (fleet.members[1].root / "srv/app/by-hand").write_text("x")
    (fleet.members[1].root / "srv/app/version").chmod(0o600)

    code, said = check(fleet, "--all")
    assert code == REFUSED, said
    assert "vm-00  in step" in said and "vm-01  drifts (2 files)" in said and "vm-02  not checked: its agent" in said, said
    assert states(fleet) == [("in-step", 0), ("drifts", 2), ("unchecked", None)]
    shown = fleet.host.moult("fleet")
    assert "in step, " in shown and "drifts (2 files, " in shown and "not checked" in shown and "1 drifting" in shown
    assert fleet.host.json("fleet")["counts"]["drifting"] == 1
    assert (metric(fleet, "moult_vms_drifting"), metric(fleet, "moult_vms_in_step")) == (1, 1)

    # A push changes what was looked at; a rehearsal does not.
    release = fleet.release("2", b"two\n")
    fleet.host.moult("push", release, "vm-00", "--dry-run")
    assert states(fleet)[0] == ("in-step", 0)
    fleet.host.moult("push", release, "vm-00")
    assert states(fleet)[0] == ("outdated", 0)
    assert "changed since" in fleet.host.moult("fleet", "--label", "role=web")
    code, said = check(fleet, "vm-00")
    assert code == 0 and "Nothing has drifted" in said and "1 differ from the golden image as a release" in said, said
    assert states(fleet)[0] == ("in-step", 0)


def test_several_results_are_one_document(fleet):
    (fleet.members[0].root / "srv/app/by-hand").write_text("x")
    code, out, err = fleet.host.run("drift", "--label", "role=web", "--golden", fleet.golden, "--json")
    assert code == REFUSED, err
    seen = {x["vm"]: x for x in json.loads(out)["vms"]}
    assert seen["vm-00"]["drift"] == [{"change": "create", "path": "srv/app/by-hand", "against": "golden image"}]
    assert seen["vm-01"]["drift"] == [] and len(seen) == 2
    # What is only looked at leaves the record alone.
    (fleet.members[0].root / "srv/app/by-hand").unlink()
    assert fleet.host.run("drift", "vm-00", "--golden", fleet.golden, "--no-record")[0] == 0
    assert states(fleet)[0] == ("drifts", 1)


def test_a_vm_that_is_off_is_said_and_counts_as_not_checked(fleet):
    wait_off(fleet, "vm-02")
    code, said = check(fleet, "--label", "role=db")
    assert code == UNREACHABLE and "not checked: its agent is not connected" in said, said


def test_what_cannot_be_looked_at_is_said(fleet):
    for words, code, text in [([], USAGE, "takes the names of VMs"),
                              (["vm-00", "--all"], USAGE, "takes the names of VMs"),
                              (["--label", "role=nobody"], NOT_FOUND, "no VM has these labels"),
                              (["vm-99"], NOT_FOUND, "vm-99")]:
        got, said = check(fleet, *words)
        assert got == code and text in said, said
