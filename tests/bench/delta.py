#!/usr/bin/python3
"""Bytes on the wire for real Debian package updates: moult's deltas over TLS, and what else there is.

    tests/bench/delta.py [BUILD_DIR] [--sets openssl,curl,...]     as root; BUILD_DIR: build/release

Old and new trees are packages as dpkg-deb extracts them, the oldest and the newest version that the archive has. Counted:
  moult        all bytes of the TLS connection, both ways, from the push's first to its last: list, signature, deltas, handshakes
               of messages, everything; a real agent and moultd with a relay between them
  moult, whole the same without deltas
  rsync -z     what rsync itself says it sent and received, to a second rsync through a pipe (--checksum, --delete, level 9)
  zstd         --patch-from of the new tree as one tar over the old tree's, -19 and --ultra -22
  xdelta3      -9 of the same two tars
  casync       new chunks of the new tree's archive that the old one's store does not have, and its index
The last three know what the guest has, as moult does; they verify nothing, and the guest keeps both tars."""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests/support"), str(TOP / "tests/integration")]

SETS = {
    "openssl": ("openssl", "libssl3"),
    "curl": ("curl", "libcurl4"),
    "python": ("python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib"),
    "tzdata": ("tzdata",),
    "linux": ("linux-image-cloud",),  # two versions side by side: other paths
}


def versions(package):
    """(name, version) of the oldest and the newest that the archive has."""
    if package == "linux-image-cloud":
        names = re.findall(r"^linux-image-6\.1\.0-(\d+)-cloud-amd64 ", subprocess.run(
            ["apt-cache", "search", "^linux-image-6.1.0-.*-cloud-amd64"], check=True, capture_output=True, text=True).stdout, re.M)
        return [(f"linux-image-6.1.0-{n}-cloud-amd64", None) for n in sorted(names, key=int)[-2:]]
    found = [line.split("|")[1].strip() for line in subprocess.run(
        ["apt-cache", "madison", package], check=True, capture_output=True, text=True).stdout.splitlines()]
    oldest = newest = found[0]
    for version in found:
        if subprocess.run(["dpkg", "--compare-versions", version, "lt", oldest], check=False).returncode == 0:
            oldest = version
        if subprocess.run(["dpkg", "--compare-versions", version, "gt", newest], check=False).returncode == 0:
            newest = version
    return [(package, oldest), (package, newest)]


def extract(directory, packages):
    """The trees old and new, and a line that says which."""
    said = []
    for package in packages:
        pair = versions(package)
        said.append(" to ".join(" ".join(filter(None, one)) for one in pair))
        for tree, (name, version) in zip((directory / "old", directory / "new"), pair):
            tree.mkdir(exist_ok=True)
            scratch = directory / "deb"
            scratch.mkdir()
            subprocess.run(["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download",
                            f"{name}={version}" if version else name], check=True, cwd=scratch, stdout=subprocess.DEVNULL)
            for deb in scratch.iterdir():
                subprocess.run(["dpkg-deb", "-x", str(deb), str(tree)], check=True)
            shutil.rmtree(scratch)
    return "; ".join(said)


def size_of(command):
    """Bytes that a command writes to its standard output."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    count = 0
    while block := process.stdout.read(1 << 20):
        count += len(block)
    if process.wait() != 0:
        raise RuntimeError(f"{command} failed")
    return count


def rsync(directory):
    copy = directory / "rsync"
    subprocess.run(["cp", "-a", str(directory / "old"), str(copy)], check=True)
    out = subprocess.run(["rsync", "-a", "--checksum", "--delete", "--no-whole-file", "-z", "--zl=9", "--stats",
                          f"{directory / 'new'}/", f"{copy}/"], check=True, capture_output=True, text=True).stdout
    return sum(int(n.replace(",", "")) for n in re.findall(r"Total bytes (?:sent|received): ([\d,]+)", out))


def casync(directory):
    sizes = []
    for tree in ("old", "new"):
        subprocess.run(["casync", "make", f"--store={directory}/store.castr", f"{directory}/{tree}.caidx", f"{directory}/{tree}"],
                       check=True, stdout=subprocess.DEVNULL)
        sizes.append(sum(p.stat().st_size for p in (directory / "store.castr").rglob("*") if p.is_file()))
    return sizes[1] - sizes[0] + (directory / "new.caidx").stat().st_size


def moult_push(directory, options):
    """(bytes on the wire, the push) of a release from old to new, into a copy of old."""
    import moult
    import relay as relays
    import test_join

    where = pathlib.Path(tempfile.mkdtemp(dir=directory))
    root = where / "root"
    subprocess.run(["cp", "-a", str(directory / "old"), str(root)], check=True)
    (where / "trust").mkdir()
    with moult.Host(where / "host", tls=True) as host:
        (where / "trust/test.pub").write_bytes(host.new_key())
        release = host.release(directory / "new", directory / "old", options=options)
        token = re.search(r"moult1:[0-9a-f]{64}:\S+", host.moult("vm", "add", "net-1", "--network", "--token")).group(0)
        cable = relays.Relay(("127.0.0.1", host.tls_port))
        agent = test_join.Agent(where, host, token)
        agent.words = [w.replace(f"127.0.0.1:{host.tls_port}", f"127.0.0.1:{cable.address[1]}")
                       if w.startswith("--host") else w for w in agent.words]
        with agent:
            agent.wait_for("agent-connected")
            test_join.connected(host)
            before = cable.to_client + cable.to_target
            push = host.json("push", release, "net-1")["pushes"][0]
            count = cable.to_client + cable.to_target - before
    if subprocess.run(["diff", "-rq", "--no-dereference", "--exclude=.moult", str(directory / "new"), str(root)],
                      check=False, stdout=subprocess.DEVNULL).returncode != 0:
        raise RuntimeError("the guest's tree is not the new one")
    return count, push


def measure(name):
    with tempfile.TemporaryDirectory(prefix="moult-delta-", dir="/var/tmp") as text:
        directory = pathlib.Path(text)
        print(f"{name}: {extract(directory, SETS[name])}", flush=True)
        for tree in ("old", "new"):
            subprocess.run(["tar", "--sort=name", "--numeric-owner", "-cf", f"{directory}/{tree}.tar", "-C", f"{directory}/{tree}", "."],
                           check=True)
        old, new = f"{directory}/old.tar", f"{directory}/new.tar"
        count, push = moult_push(directory, ("--delta-level", "19"))
        rows = [("moult", count),
                ("  of that, deltas", push["deltas"]["bytes"]),
                ("moult, whole", moult_push(directory, ("--no-deltas",))[0]),
                ("rsync -z", rsync(directory)),
                ("zstd -19 --patch-from", size_of(["zstd", "-q", "-c", "-19", "--long=31", f"--patch-from={old}", new])),
                ("zstd --ultra -22 --patch-from", size_of(["zstd", "-q", "-c", "--ultra", "-22", "--long=31", f"--patch-from={old}", new])),
                ("xdelta3 -9", size_of(["xdelta3", "-9", "-S", "djw", "-B", "268435456", "-e", "-c", "-s", old, new]))]
        if shutil.which("casync"):
            rows.append(("casync", casync(directory)))
        best = min(n for method, n in rows if "moult" not in method and not method.startswith(" "))
        for method, n in rows:
            print(f"  {method:32}{n:>12,}  {n / best:6.3f} of the best of the others", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("build", nargs="?", default=str(TOP / "build/release"))
    parser.add_argument("--sets", default=",".join(SETS))
    arguments = parser.parse_args()
    os.environ["MOULT_HOST_BUILD"] = arguments.build
    for name in arguments.sets.split(","):
        measure(name)


if __name__ == "__main__":
    main()
