#!/usr/bin/python3
"""tests/spin/run.py - checks the models with Spin: all histories within some bounds, and that bugs put in on purpose are found.

    run.py [--long] [--bug N] [--model chain|store]

Prints one line for each run. Ends with 0 when nothing was violated, and each bug was."""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent

# Of chain.pml: begin (0 one file, 1 a chain without room, 2 rolled back to the newer restore point, 3 merged and rolled back to the older one),
# operations, uploads, writes in all, deaths of moultd, falls of QEMU. Of store.pml: collections, deaths of uploaders.
BOUNDS = {
    "chain": ["0 2 9 1 1 1", "1 1 0 4 1 1", "2 1 0 4 1 1", "3 1 0 4 1 1", "1 1 1 3 1 0", "1 2 2 3 0 0"],
    "store": ["1 0"],
}
LONG = {
    "chain": ["1 2 0 4 1 1", "3 1 2 4 1 1", "1 1 1 4 1 1", "0 3 1 1 1 0"],
    "store": ["2 0", "1 1"],
}
# number: (model, what is wrong, bounds in which that is seen)
BUGS = {
    1: ("chain", "the manifest is there before the last chunk", "0 2 9 2 1 1"),
    2: ("chain", "nobody has references to files that are read", "1 1 3 3 0 0"),
    3: ("chain", "the top of a disk that was rolled back needs nothing", "3 1 2 4 1 1"),
    4: ("chain", "the first create gives the path away while QEMU opens its file by it", "0 2 9 2 1 1"),
    5: ("chain", "the first create does not stop the VM", "0 2 9 2 1 1"),
    6: ("chain", "the path is given to the new top without a look at who writes to the old one", "0 2 9 2 1 1"),
    7: ("chain", "the journal is believed, and not QEMU and the files", "0 2 9 2 1 1"),
    8: ("chain", "a merge forgets what only the history has", "1 1 0 4 1 1"),
    9: ("chain", "originals go before the header names the new file", "1 1 0 4 1 1"),
    11: ("chain", "a merge takes no notice of a branch", "2 1 0 4 1 1"),
    12: ("chain", "a rollback of a VM that runs", "0 2 9 2 1 1"),
    13: ("chain", "a file goes while the catalogue names it", "1 1 0 4 1 1"),
    21: ("store", "the manifest is put first", "1 0"),
    23: ("store", "young objects are collected, too", "1 0"),
    24: ("store", "what is found is not made young", "1 0"),
    25: ("store", "chunks are collected before the maps that name them", "1 0"),
    26: ("store", "ages are not asked for once more before something goes", "1 0"),
    27: ("store", "a manifest is put without a look whether its layers are there", "1 0"),
}


def build(model, where):
    """The verifier of a model; returns its path."""
    done = subprocess.run(["spin", "-a", str(HERE / f"{model}.pml")], cwd=where, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0 or "rror" in done.stdout:
        raise SystemExit(f"spin -a {model}.pml: {done.stdout}")
    subprocess.run(["cc", "-O2", "-w", "-DSAFETY", "-DHC4", "-o", f"pan-{model}", "pan.c"], cwd=where, check=True)
    return pathlib.Path(where) / f"pan-{model}"


def verify(pan, bounds, bug=0):
    """(what was violated, or None; number of states)"""
    done = subprocess.run([pan, "-m400000", "-w22"], cwd=pan.parent, env={**os.environ, "BOUNDS": bounds, "BUG": str(bug)}, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    lines = done.stdout.splitlines()
    states = next((int(line.split()[0]) for line in lines if line.endswith("states, stored")), 0)
    errors = next((int(line.rsplit(" ", 1)[1]) for line in lines if "errors:" in line), -1)
    if errors < 0 or any("max search depth too small" in line or "out of memory" in line for line in lines):
        raise SystemExit(f"{pan.name}, bounds {bounds}: the search was not completed:\n{done.stdout}")
    violated = next((line.split(":", 1)[1].strip() for line in lines if "violated" in line and line.startswith("pan:")), None)
    return violated if errors else None, states


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--long", action="store_true", help="wider bounds, too: some minutes, and some GB of memory")
    parser.add_argument("--bug", type=int, choices=BUGS)
    parser.add_argument("--model", choices=BOUNDS)
    options = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="moult-spin-") as where:
        for model in BOUNDS:
            if options.model not in (None, model) or (options.bug and BUGS[options.bug][0] != model):
                continue
            pan = build(model, where)
            for bounds in [] if options.bug else BOUNDS[model] + (LONG[model] if options.long else []):
                violated, states = verify(pan, bounds)
                print(f"{model}, bounds {bounds}: {states} states, {violated or 'nothing violated'}", flush=True)
                wrong += violated is not None
            for number, (of, what, bounds) in BUGS.items():
                if of != model or options.bug not in (None, number):
                    continue
                violated, states = verify(pan, bounds, number)
                print(f"{model}, bug {number} ({what}): {'found' if violated else 'NOT found'} after {states} states: {violated}", flush=True)
                wrong += violated is None
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
