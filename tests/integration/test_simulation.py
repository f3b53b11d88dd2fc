"""The host service in a simulation (tests/sim): histories from seeds, the same ones twice, and bugs that must be found."""

import os
import pathlib
import subprocess

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
SIM = pathlib.Path(os.environ.get("MOULT_SIM", TOP / "build" / "release" / "tests" / "sim" / "sim"))
SANITIZED = TOP / "build" / "dev" / "tests" / "sim" / "sim"
SOAK = "MOULT_SOAK" in os.environ
SEEDS = 20000 if SOAK else 700
SANITIZED_SEEDS = 2000 if SOAK else 60


def run(*words, program=SIM):
    return subprocess.run([program, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                          timeout=3600)


def mutants():
    return [line.split()[0] for line in run("--mutants").stdout.splitlines()] if SIM.exists() else []


def test_a_seed_is_the_same_history_each_time():
    words = ["--seed", 1, "--seeds", 40, "--digest"]
    first, second = ([line for line in run(*words).stdout.splitlines() if len(line.split()) == 2] for _ in range(2))
    assert len(first) == 40
    assert first == second
    assert len(set(first)) == 40, "another seed is another history"
    # Nor does it matter what ran before in the same process.
    alone = run("--seed", 40, "--digest").stdout.splitlines()[0]
    assert alone == first[-1]


def test_every_history_keeps_every_promise():
    done = run("--seeds", SEEDS, "--jobs", 2)
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith(f"{SEEDS} seeds, 0 failed")


def test_no_history_leaks_or_touches_what_is_not_its_own():
    done = run("--seeds", SANITIZED_SEEDS, "--jobs", 2, program=SANITIZED)
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith(f"{SANITIZED_SEEDS} seeds, 0 failed")


@pytest.mark.parametrize("mutant", mutants() or ["nothing was built"])
def test_a_bug_is_found(mutant):
    done = run("--seeds", SEEDS, "--jobs", 2, "--first", "--mutant", mutant)
    assert done.returncode == 1, f"{mutant} was not found: {done.stdout}"
    assert f"--mutant {mutant}" in done.stdout, f"not an invariant, but something else: {done.stdout}"


def test_there_are_ten_bugs_at_least():
    assert len(mutants()) >= 10
