#!/usr/bin/python3
"""What a capture of a pilot VM costs: a debian guest in which dpkg has upgraded every package that the archive has a newer one of,
against `find -newer` and tar in the guest, which is what one would do by hand. Needs root.

    capture.py BUILD [--rounds N]

The peer is given a mark that was set before the upgrade, and writes its archive inside the guest: it sends nothing, and knows nothing of
deletions, metadata, conffiles or what belongs to one machine. moult compares the whole system with the golden image's files, which are on
the host, and builds a signed release there; once as it is built by default (compressed, with deltas), once plain. Both begin with cold caches
of the guest."""

import argparse
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[0] / "support")]

PLAIN = ("--compress", "none", "--no-deltas", "--no-trees")
BY_HAND = ("cd / && find . -xdev -path ./srv/peer.tar -prune -o -newer /srv/mark \\( -type f -o -type l \\) -print0 | "
           "tar --null --no-recursion --xattrs -T - -cf /srv/peer.tar")


def upgrade(vms, updates, guest):
    """Really, by dpkg. Returns how many packages."""
    installed = dict(line.split("=", 1) for line in (vms.image_dir("debian") / "packages").read_text().split())
    newer = {name: updates._newest(name) for name, version in installed.items()}
    newer = {name: version for name, version in newer.items() if version and version != installed[name]}
    guest.exec("touch /srv/mark; mkdir /srv/debs")
    for name, version in newer.items():
        file = updates._download(name, version)
        guest.write_file(f"/srv/debs/{file.name}", file.read_bytes())
    guest.exec("DEBIAN_FRONTEND=noninteractive dpkg -i --force-confold /srv/debs/*.deb && rm -r /srv/debs && sync", timeout=1200)
    return len(newer)


def golden_tree(guest, directory):
    """The golden image's files, with owners, attributes and times."""
    # Exit status 1: something was written to meanwhile, like a log; that is no difference that matters here.
    archive = guest.exec("cd / && tar --one-file-system --format=pax --xattrs --numeric-owner -cf - . 2>/dev/null; [ $? -le 1 ]", timeout=1200).out
    directory.mkdir()
    subprocess.run(["tar", "-C", str(directory), "--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf", "-"], input=archive, check=True)


def cold(guest):
    guest.exec("sync; echo 3 >/proc/sys/vm/drop_caches")


def timed(function):
    start = time.monotonic()
    function()
    return time.monotonic() - start


def measure(work, rounds):
    import moult
    import updates
    import vm as vms
    seconds = {"find -newer + tar": [], "moult release capture, plain": [], "moult release capture": []}
    with moult.Host(work / "host") as host, vms.Vm("debian", memory_mb=2048) as guest:
        guest.write_file("/etc/moult/trusted.d/test.pub", host.new_key())
        guest.exec("systemctl stop systemd-journal-flush apt-daily.timer 2>/dev/null; true")
        golden_tree(guest, work / "golden")
        packages = upgrade(vms, updates, guest)
        host.add("pilot", guest)
        host.moult("vm", "wait", "pilot")

        def capture(options):
            host.moult("release", "capture", "--from", work / "golden", "--to", "vm:pilot", "--exclude", "srv", "--name", "pilot", "--version",
                       "1", "--sign", host.dir / "test.key", *options, "-o", work / "pilot.moult", "--force", timeout=1800)

        for _ in range(rounds):
            for name, act in (("find -newer + tar", lambda: guest.exec(BY_HAND, timeout=1200)),
                              ("moult release capture, plain", lambda: capture(PLAIN)), ("moult release capture", lambda: capture(()))):
                cold(guest)
                seconds[name].append(timed(act))
                print(f"{name}: {seconds[name][-1]:.1f} s, load {os.getloadavg()[0]:.1f}", flush=True)
        entries = len(host.json("release", "show", work / "pilot.moult", "--entries")["entries"])
        size = int(guest.exec("stat -c %s /srv/peer.tar").text)
    print(f"\n{packages} packages upgraded; {entries} entries in the release; the peer's archive has {size} bytes\n")
    print("| what | seconds (median) | of the peer |\n|---|---|---|")
    peer = statistics.median(seconds["find -newer + tar"])
    for name, values in seconds.items():
        print(f"| {name} | {statistics.median(values):.1f} | {statistics.median(values) / peer:.2f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    os.environ["MOULT_HOST_BUILD"] = os.environ["MOULT_BUILD"] = options.build
    work = pathlib.Path(tempfile.mkdtemp(prefix="moult-bench-", dir=os.environ.get("MOULT_BENCH_DIR", "/var/tmp")))
    try:
        measure(work, options.rounds)
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
