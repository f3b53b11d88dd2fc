"""The models of tests/spin: nothing is violated within their bounds, and bugs put in on purpose are."""

import os
import pathlib
import subprocess
import sys

RUN = pathlib.Path(__file__).resolve().parents[1] / "spin" / "run.py"


def test_no_history_of_the_models_violates_anything_and_each_bug_is_found():
    long = ["--long"] if "MOULT_SOAK" in os.environ else []
    done = subprocess.run([sys.executable, RUN, *long], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert sum("found after" in line for line in lines) >= 18 and sum("nothing violated" in line for line in lines) >= 7, done.stdout
