"""Power cuts of the host, as tests/powercut/README.md describes them: whatever flush point the record of moultd's, the store's and the VM's file
systems ends at, a new moultd makes of it what was acknowledged. A few of them, chosen by the
seed; with --soak each one, on ext4 and on XFS.

And it can fail: a sync that is left out is noticed."""

import os
import pathlib
import subprocess
import sys

import pytest

SOAK = os.environ.get("MOULT_SOAK") == "1"
SEED = os.environ.get("MOULT_SEED", "1")
CAMPAIGN = pathlib.Path(__file__).resolve().parents[1] / "powercut/host_campaign.py"

FAULTS = pathlib.Path(__file__).resolve().parents[2] / "build/faults"  # what is judged here is no matter for sanitizers

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts")


def campaign(*words):
    build = {"MOULT_HOST_BUILD": str(FAULTS)} if (FAULTS / "host-service/moultd").exists() else {}
    done = subprocess.run([sys.executable, str(CAMPAIGN), "--seed", SEED, *map(str, words)], check=False, capture_output=True, text=True,
                          env=build | os.environ)
    print(done.stdout, done.stderr)
    return done


@pytest.mark.parametrize("fs", ["ext4"] + ["xfs"] * SOAK)
def test_whatever_a_power_cut_leaves_is_what_was_acknowledged(fs):
    done = campaign("--fs", fs, *([] if SOAK else ["--points", 5]), "--states", 1500 if SOAK else 10)
    assert done.returncode == 0, done.stdout + done.stderr


# A sync that is left out, and the step of host_work.py where that is looked for first.
MUTANTS = {
    "object-remove.skip-dirsync": "create six",   # the manifest of a restore point that was pruned comes back
    "atomic-file.skip-fsync": "create three",     # the store has names without content
    "catalogue.skip-sync": "create one",          # a restore point that was acknowledged
}


@pytest.mark.parametrize("fault", list(MUTANTS)[:None if SOAK else 1])
def test_a_sync_that_is_left_out_is_noticed(fault):
    done = campaign("--fault", f"{fault}:*=skip", "--step", MUTANTS[fault], "--states", 100 if SOAK else 4)
    assert done.returncode == 0 and "\nnoticed" in done.stdout, done.stdout + done.stderr
