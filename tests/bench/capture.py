#!/usr/bin/python3
"""What a capture of a pilot VM costs: a debian guest in which `apt-get upgrade` has upgraded 20 packages, against find and tar in the guest, which
is what one would do by hand. Needs root.

    capture.py BUILD [--rounds N]

The guest's image is behind the archive in 9 packages; 11 more are put back to the archive's oldest version before the golden image's tree is
taken. The upgrade comes from a repository of files in the guest, since it has no network.

The peer is given a mark that was set before the upgrade, and writes its archive inside the guest: it sends nothing, and knows nothing of
deletions, metadata, conffiles or what belongs to one machine. `find -newer` compares the time of modification, which dpkg takes from the package: it
misses nearly all of the upgrade. `-cnewer` compares the time of change, which nobody can set; both are measured. moult compares the whole system with
the golden image's files, which are on the host, and builds a signed release there; once as it is built by default (compressed, with deltas),
once plain. All begin with cold caches of the guest. `moult drift --quick` is the same walk without contents."""

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
BY_HAND = ("cd / && find . -xdev -path ./srv -prune -o -{} /srv/mark \\( -type f -o -type l \\) -print0 | "
           "tar --null --no-recursion --xattrs -T - -cf /srv/{}.tar")
# Also as old as the archive has them: util-linux and what is built with it, and two more.
PUT_BACK = ("util-linux", "util-linux-extra", "mount", "bsdutils", "libblkid1", "libfdisk1", "libmount1", "libsmartcols1", "libuuid1",
            "libbrotli1", "qemu-guest-agent")
APT = ("apt-get -q -y -o Dir::Etc::SourceList=/srv/new/list -o Dir::Etc::SourceParts=- -o APT::Sandbox::User=root "
       "-o Dpkg::Options::=--force-confold")


def versions(guest):
    return dict(line.split("=", 1) for line in guest.exec("dpkg-query -W -f '${Package}=${Version}\\n'").text.split())


def put(guest, updates, directory, packages):
    """Packages (name -> version) as files in the guest, with an index for apt."""
    with tempfile.TemporaryDirectory() as folder:
        for name, version in packages.items():
            file = updates.download(name, version)
            shutil.copy(file, folder)
            guest.write_file(f"{directory}/{file.name}", file.read_bytes())
        index = subprocess.run(["dpkg-scanpackages", "-m", "."], cwd=folder, check=True, capture_output=True).stdout
    guest.write_file(f"{directory}/Packages", index)
    guest.write_file(f"{directory}/list", f"deb [trusted=yes] file:{directory} ./\n".encode())


def put_back(guest, updates):
    guest.exec("mkdir /srv/old")
    put(guest, updates, "/srv/old", {name: updates.versions(name)[0] for name in PUT_BACK})
    guest.exec("DEBIAN_FRONTEND=noninteractive dpkg -i --force-downgrade --force-confold /srv/old/*.deb && rm -r /srv/old && sync",
               timeout=1200)


def upgrade(guest, updates):
    """Really, by apt. Returns how many packages."""
    before = versions(guest)
    newest = {name: updates.versions(name)[-1] for name in before if updates.versions(name)}
    guest.exec("touch /srv/mark; mkdir /srv/new")
    put(guest, updates, "/srv/new", {name: version for name, version in newest.items() if version != before[name]})
    guest.exec(f"export DEBIAN_FRONTEND=noninteractive; {APT} update && {APT} upgrade && rm -r /srv/new && sync", timeout=2400)
    after = versions(guest)
    return sum(after.get(name) != version for name, version in before.items())


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


def by_hand(guest, test):
    guest.exec(BY_HAND.format(test, test), timeout=1200)


def measure(work, rounds):
    import moult
    import updates
    import vm as vms
    with moult.Host(work / "host") as host, vms.Vm("debian", memory_mb=2048) as guest:
        guest.write_file("/etc/moult/trusted.d/test.pub", host.new_key())
        guest.exec("systemctl stop systemd-journal-flush apt-daily.timer 2>/dev/null; true")
        put_back(guest, updates)
        golden_tree(guest, work / "golden")
        packages = upgrade(guest, updates)
        host.add("pilot", guest)
        host.moult("vm", "wait", "pilot")

        def capture(options):
            host.moult("release", "capture", "--from", work / "golden", "--to", "vm:pilot", "--exclude", "srv", "--name", "pilot", "--version",
                       "1", "--sign", host.dir / "test.key", *options, "-o", work / "pilot.moult", "--force", timeout=1800)

        def drift():
            code, _, err = host.run("drift", "pilot", "--golden", work / "golden", "--quick", timeout=1800)
            if code != 4:  # all of the upgrade is drift
                raise RuntimeError(f"moult drift ended with {code}: {err}")

        acts = {
            "find -newer + tar": lambda: by_hand(guest, "newer"),
            "find -cnewer + tar": lambda: by_hand(guest, "cnewer"),
            "moult release capture, plain": lambda: capture(PLAIN),
            "moult release capture": lambda: capture(()),
            "moult drift --quick": drift,
        }
        seconds = {name: [] for name in acts}
        for _ in range(rounds):
            for name, act in acts.items():
                cold(guest)
                seconds[name].append(timed(act))
                print(f"{name}: {seconds[name][-1]:.1f} s, load {os.getloadavg()[0]:.1f}", flush=True)
        entries = len(host.json("release", "show", work / "pilot.moult", "--entries")["entries"])
        archives = {test: guest.exec(f"stat -c %s /srv/{test}.tar; tar -tf /srv/{test}.tar | wc -l").text.split()
                    for test in ("newer", "cnewer")}
    print(f"\n{packages} packages upgraded; {entries} entries in the release")
    for test, (size, names) in archives.items():
        print(f"-{test}: {names} names, {size} bytes in the archive")
    print("\n| what | seconds (median) | of find -newer + tar | of find -cnewer + tar |\n|---|---|---|---|")
    median = {name: statistics.median(values) for name, values in seconds.items()}
    for name, value in median.items():
        print(f"| {name} | {value:.1f} | {value / median['find -newer + tar']:.2f} | {value / median['find -cnewer + tar']:.2f} |")


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
