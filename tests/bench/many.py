#!/usr/bin/python3
"""One moultd and up to a thousand simulated VMs: what an idle host costs, what each agent costs, what a push to all costs.

    many.py BUILD [--counts 100,300,1000] [--idle-s 30] [--concurrent 8,64]

The agents are those of tests/support/agent_fleet.c, all in one process, behind Unix sockets as QEMU's chardevs are; each fetches
the whole release (1 MiB, not compressed) over its session and compares it. No QMP socket, so no window. Memory is moultd's alone:
what is private or its share (Pss), once with the VMs known and nobody listening, once with a session with each."""

import argparse
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[0] / "support")]


def status(pid, file, key):
    return next(int(line.split()[1]) for line in pathlib.Path(f"/proc/{pid}/{file}").read_text().splitlines()
                if line.startswith(key))


def cpu_s(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def load():
    return os.getloadavg()[0]


def measure(moult, agents, work, count, idle_s, concurrent):
    """One row: a new host and new agents."""
    import vm as vms
    tree = work / "tree"
    tree.mkdir()
    (tree / "data").write_bytes(random.Random(1).randbytes(1 << 20))
    host = moult.Host(work / "host", options=["--concurrent-pushes", concurrent])
    with host:
        pid = host.process.pid
        host.new_key()
        host.release(tree, options=["--compress", "none"])
        with agents.Agents(count, "app 2", host.dir / "app-2.moult") as fleet:
            before = status(pid, "smaps_rollup", "Pss:")
            fleet.add_to(host.socket)
            deadline = vms.Deadline(300, "all agents are connected")
            while sum(vm["connected"] for vm in host.json("vm", "list")) < count:
                deadline.left()
                time.sleep(0.2)  # the daemon is left alone meanwhile
            time.sleep(5)  # the span after the first contact, not a wait
            memory = status(pid, "smaps_rollup", "Pss:") - before
            busy = cpu_s(pid)
            time.sleep(idle_s)  # the measured span
            idle = (cpu_s(pid) - busy) / idle_s
            busy, fleet_busy, start = cpu_s(pid), cpu_s(fleet.process.pid), time.monotonic()
            code, out, err = host.run("push", "app=2", "--all", "--progress", "none",
                                      timeout=1800)
            took = time.monotonic() - start
            ends = fleet.report()
            if code != 0 or any(a["release"] != "app 2" or a["offers"] != 1 for a in ends):
                raise RuntimeError(f"the push ended with {code}: {out[-1000:]} {err[-1000:]}")
            return {"memory_kib": memory / count, "idle": idle, "seconds": took, "moultd_cpu_s": cpu_s(pid) - busy,
                    "agents_cpu_s": cpu_s(fleet.process.pid) - fleet_busy,
                    "after_kib": (status(pid, "smaps_rollup", "Pss:") - before) / count}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--counts", default="100,300,1000")
    parser.add_argument("--concurrent", default="8,64")
    parser.add_argument("--idle-s", type=float, default=30)
    options = parser.parse_args()
    os.environ["MOULT_HOST_BUILD"] = str(options.build.resolve())
    subprocess.run(["cmake", "--build", options.build, "--target", "agent_fleet"], check=True, stdout=subprocess.DEVNULL)
    import agents
    import moult
    print("\n### One host, many agents (1 MiB each over its session)\n")
    print("| agents | pushes at once | load | KiB each | idle CPU | push to all, s | ms each | moultd CPU, ms each | agents' CPU, ms each |"
          " KiB each after it |")
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for concurrent in options.concurrent.split(","):
        for count in map(int, options.counts.split(",")):
            work = pathlib.Path(tempfile.mkdtemp(prefix="moult-many-", dir=os.environ.get("MOULT_BENCH_DIR", "/var/tmp")))
            try:
                row = measure(moult, agents, work, count, options.idle_s, concurrent)
            finally:
                shutil.rmtree(work, ignore_errors=True)
            print(f"| {count} | {concurrent} | {load():.1f} | {row['memory_kib']:.1f} | {row['idle'] * 100:.2f} % | {row['seconds']:.1f} "
                  f"| {row['seconds'] / count * 1000:.1f} | {row['moultd_cpu_s'] / count * 1000:.1f} "
                  f"| {row['agents_cpu_s'] / count * 1000:.1f} | {row['after_kib']:.1f} |", flush=True)


if __name__ == "__main__":
    main()
