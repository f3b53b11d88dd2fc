#!/usr/bin/python3
"""moult side by side with what else moves files into a running guest.

Every method puts the same bytes into the same debian guest, one after the other, in turn over several rounds, and
is timed on the host from its first byte to "durable in the guest" (the peers end with a sync of the guest's file
system; moult ends when the push is committed, which is durable and verified by then). Ratios come from one run.

    bench.py [--rounds N] [--work many,one] [--methods LIST] [--part transfer,native,fleet,idle,merge,switch,sysext,instant,agents,capture,snapshot-bytes,snapshot-stall,snapshot-rollback] [--json FILE]
"""

import argparse
import base64
import json
import os
import pathlib
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parents[1]
sys.path[:0] = [str(HERE), str(TOP / "tests/support")]

import vm as vms  # noqa: E402
import workload  # noqa: E402

BUILD = pathlib.Path(os.environ.get("MOULT_BUILD", TOP / "build/release"))
MOULT, MOULTD = BUILD / "host-service/moult", BUILD / "host-service/moultd"
AGENT = BUILD / "guest-agent/moult-agent"


def run(*command, **kwargs):
    done = subprocess.run([str(c) for c in command], check=False, **kwargs)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))} ended with {done.returncode}: {done.stdout} {done.stderr}")
    return done


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Host:
    """A moultd of our own, with a signing key and the releases that the bench pushes."""

    def __init__(self, work):
        self.work = work
        self.socket = work / "moultd.sock"
        self.tls_port = free_port()
        (work / "trust").mkdir()
        self.moult("key", "new", "--out", work / "bench.key")
        shutil.copy(work / "bench.pub", work / "trust")
        self.log = open(work / "moultd.log", "wb")
        self.process = subprocess.Popen([str(MOULTD), "--state-dir", str(work / "state"), "--socket", str(self.socket),
                                         "--trust", str(work / "trust"), "--immutable-packs", "no", "--tls-listen", f"0.0.0.0:{self.tls_port}"],
                                        stdout=self.log, stderr=self.log)
        deadline = vms.Deadline(30, "moultd's socket")
        while not self.socket.exists():
            deadline.left()
            time.sleep(0.05)  # nobody announces a listening socket

    def moult(self, *words, **kwargs):
        return run(MOULT, *words, env={**os.environ, "MOULT_SOCKET": str(self.socket)}, capture_output=True, **kwargs)

    def release(self, name, tree, compress):
        pack = self.work / f"{name}.moult"
        self.moult("release", "build", tree, "--name", name, "--version", "1", "--sign", self.work / "bench.key",
                   "--compress", compress, "-o", pack)
        self.moult("release", "import", pack)

    def add(self, name, guest):
        self.moult("vm", "add", name, "--qmp", guest.qmp_socket, "--agent", guest.agent_socket)

    def usage(self):
        """CPU seconds, bytes read from and written to storage by moultd."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        io = dict(line.split(": ") for line in pathlib.Path(f"/proc/{self.process.pid}/io").read_text().splitlines())
        tick = os.sysconf("SC_CLK_TCK")
        return (int(fields[11]) + int(fields[12])) / tick, int(io["read_bytes"]), int(io["write_bytes"])

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        self.log.close()


class Guest:
    """The debian guest with every peer's server side."""

    def __init__(self, work, host, share):
        self.work, self.host, self.share = work, host, share
        self.ssh_port = free_port()
        self.fs_socket, self.qga_socket = work / "virtiofs.sock", work / "qga.sock"
        self.virtiofsd = subprocess.Popen(["/usr/lib/qemu/virtiofsd", f"--socket-path={self.fs_socket}",
                                           "-o", f"source={share}", "-o", "cache=always"],
                                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = vms.Deadline(30, "virtiofsd's socket")
        while not self.fs_socket.exists():
            deadline.left()
            time.sleep(0.05)  # nobody announces a listening socket
        memory = 4096
        self.vm = vms.Vm("debian", memory_mb=memory, network=True, forwards={self.ssh_port: 22}, qemu_args=[
            "-object", f"memory-backend-memfd,id=mem,size={memory}M,share=on", "-numa", "node,memdev=mem",
            "-chardev", f"socket,id=fs,path={self.fs_socket}",
            "-device", "vhost-user-fs-pci,chardev=fs,tag=bench",
            "-chardev", f"socket,id=qga,path={self.qga_socket},server=on,wait=off",
            "-device", "virtserialport,chardev=qga,name=org.qemu.guest_agent.0"]).start()
        self.prepare()
        # The first write to a block of the disk makes the host's image file larger, which costs whoever comes first.
        self.vm.exec("dd if=/dev/zero of=/srv/warm bs=1M count=3000 conv=fsync status=none; rm /srv/warm; sync", timeout=600)

    def prepare(self):
        vm, key = self.vm, self.work / "ssh"
        # Of user-mode networking, 10.0.2.2 is the host.
        vm.write_file("/etc/moult/moult-agent.conf", f"[network]\nhost=10.0.2.2:{self.host.tls_port}\n")
        vm.exec("systemctl restart moult-agent", timeout=120)
        vm.write_file("/etc/moult/trusted.d/bench.pub", (self.work / "bench.pub").read_bytes())
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
        vm.write_file("/root/.ssh/authorized_keys", key.with_suffix(".pub").read_bytes(), 0o600)
        vm.write_file("/root/fsync_probe", (self.work / "fsync_probe").read_bytes(), 0o755)
        vm.exec("mkdir -p /mnt/share && mount -t virtiofs bench /mnt/share && systemctl start ssh qemu-guest-agent", timeout=120)
        # The fastest ciphers that both ends have in hardware or cheap software: as an expert would, on a host link.
        self.ssh = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
                    "-o", "Compression=no", "-i", str(key), "-c", "chacha20-poly1305@openssh.com"]
        self.host.add("bench", vm)

    def clean(self):
        self.vm.exec("rm -rf /usr/lib/bench /srv/bench /.moult/old; sync; echo 3 > /proc/sys/vm/drop_caches", timeout=300)

    def stop(self):
        self.vm.stop()
        self.virtiofsd.terminate()
        self.virtiofsd.wait(10)


def method_limit(guest, tree, name):
    guest.vm.exec(f"mkdir -p /run/tree && mount -t tmpfs -o size=1500m tmpfs /run/tree && cp -a /mnt/share/{name}/. /run/tree/",
                  timeout=600)
    start = time.monotonic()
    guest.vm.exec("cp -a /run/tree /srv/bench && sync -f /srv/bench", timeout=600)
    took = time.monotonic() - start
    guest.vm.exec("umount /run/tree")
    return took


def method_virtiofs(guest, tree, name):
    start = time.monotonic()
    guest.vm.exec(f"cp -a /mnt/share/{name} /srv/bench && sync -f /srv/bench", timeout=900)
    return time.monotonic() - start


def method_rsync(guest, tree, name):
    start = time.monotonic()
    run("rsync", "-aW", "--inplace", "-e", " ".join(["ssh", "-p", str(guest.ssh_port)] + guest.ssh), f"{tree}/",
        "root@127.0.0.1:/srv/bench/")
    guest.vm.exec("sync -f /srv/bench", timeout=300)
    return time.monotonic() - start


def method_scp(guest, tree, name):
    start = time.monotonic()
    run("scp", "-q", "-r", "-P", guest.ssh_port, *guest.ssh, tree, "root@127.0.0.1:/srv/bench")
    guest.vm.exec("sync -f /srv/bench", timeout=300)
    return time.monotonic() - start


def method_qga(guest, tree, name):
    """guest-file-open/write/close of each file, 3 MiB of base64 a call, as virt tools do it."""
    guest.vm.exec(f"cd /mnt/share/{name} && find . -type d -exec mkdir -p /srv/bench/{{}} \\;")
    channel = socket.socket(socket.AF_UNIX)
    channel.connect(str(guest.qga_socket))
    stream = channel.makefile("rb")

    def call(command, **arguments):
        channel.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        answer = json.loads(stream.readline())
        if "error" in answer:
            raise RuntimeError(f"{command}: {answer['error']['desc']}")
        return answer["return"]

    start = time.monotonic()
    for directory, _, files in os.walk(tree):
        for file in files:
            path = os.path.join(directory, file)
            handle = call("guest-file-open", path=f"/srv/bench/{os.path.relpath(path, tree)}", mode="w")
            with open(path, "rb") as f:
                while block := f.read(3 << 20):
                    call("guest-file-write", **{"handle": handle, "buf-b64": base64.b64encode(block).decode()})
            call("guest-file-close", handle=handle)
    guest.vm.exec("sync -f /srv/bench", timeout=300)
    took = time.monotonic() - start
    channel.close()
    return took


def moult_method(transport, compress="none", sync="fast"):
    def method(guest, tree, name):
        start = time.monotonic()
        guest.host.moult("push", f"{name}-{compress}", "bench", "--transport", transport, "--sync", sync, "--wait",
                         timeout=900)
        return time.monotonic() - start
    return method


METHODS = {
    "limit (cp -a from tmpfs + sync)": method_limit,
    "moult ivshmem": moult_method("ivshmem"),
    "moult ivshmem, --sync=gentle": moult_method("ivshmem", sync="gentle"),
    "moult virtio-serial": moult_method("virtio-serial"),
    "moult virtio-serial, zstd": moult_method("virtio-serial", "3"),
    "moult tls": moult_method("tls"),
    "virtiofs + cp + sync": method_virtiofs,
    "rsync over ssh": method_rsync,
    "scp": method_scp,
    "qemu-guest-agent": method_qga,
}

SLOW = ("qemu-guest-agent", "scp", "moult ivshmem, --sync=gentle")  # minutes each; one round is enough to rank them


def transfer(options, work, results):
    share = work / "share"
    share.mkdir()
    host = Host(work)
    guest = None
    try:
        for name in options.work.split(","):
            (share / name).mkdir()
            getattr(workload, name)(str(share / name))
            for compress in ("none", "3"):
                host.release(f"{name}-{compress}", share / name, compress)
        guest = Guest(work, host, share)
        wanted = [m for m in METHODS if not options.methods or any(w in m for w in options.methods.split(","))]
        for name in options.work.split(","):
            seconds = {m: [] for m in wanted}
            latency = {m: [] for m in wanted}
            idle = probe(guest, lambda: time.sleep(20))  # the idle figure is a span of time, not a wait
            for round_number in range(options.rounds):
                for m in wanted:
                    if m in SLOW and round_number > 0:
                        continue
                    guest.clean()
                    lat = probe(guest, lambda m=m: seconds[m].append(METHODS[m](guest, share / name, name)))
                    latency[m].append(lat)
                    if m.startswith("moult"):
                        guest.host.moult("rollback", "bench", "--wait", timeout=300)
                    print(f"{name}: round {round_number + 1}: {m}: {seconds[m][-1]:.1f} s, p99 {lat[1] / 1000:.0f} ms", flush=True)
            results[name] = {"seconds": seconds, "latency_us": latency, "idle_latency_us": idle}
    finally:
        if guest:
            guest.stop()
        host.stop()


def probe(guest, action):
    """(p50, p99, max) in microseconds of the guest's own 4 KiB write + fdatasync while action runs."""
    guest.vm.exec("/root/fsync_probe /srv/probe >/run/probe.out 2>&1 & echo $! >/run/probe.pid")
    try:
        action()
    finally:
        guest.vm.exec("kill -TERM $(cat /run/probe.pid); while kill -0 $(cat /run/probe.pid) 2>/dev/null; do usleep 10000 || sleep 0.01; done",
                      timeout=120)
    words = guest.vm.exec("cat /run/probe.out").text.split()
    return [int(w) for w in words[1:4]]


def native(options, work, results):
    """The agent on this machine, the pack mapped from its file, against cp -a from tmpfs: hardware SHA-256."""
    source = pathlib.Path("/dev/shm/moult-bench")
    shutil.rmtree(source, ignore_errors=True)
    rows = {}
    for name in options.work.split(","):
        tree = source / name
        tree.mkdir(parents=True)
        getattr(workload, name)(str(tree))
        pack = source / f"{name}.moult"
        if not (work / "bench.key").exists():
            run(MOULT, "key", "new", "--out", work / "bench.key", stdout=subprocess.DEVNULL)
            (work / "trust").mkdir(exist_ok=True)
            shutil.copy(work / "bench.pub", work / "trust")
        run(MOULT, "release", "build", tree, "--name", name, "--version", "1", "--sign", work / "bench.key", "--compress", "none",
            "-o", pack, stdout=subprocess.DEVNULL)
        limit, ours = [], []
        for _ in range(max(3, options.rounds)):
            for kind, seconds in (("cp", limit), ("moult", ours)):
                root = work / "native-root"
                shutil.rmtree(root, ignore_errors=True)
                root.mkdir()
                os.sync()
                start = time.monotonic()
                if kind == "cp":
                    run("cp", "-a", tree, root / "copy")
                    run("sync", "-f", root)
                else:
                    run(AGENT, "apply", pack, "--root", root, "--state", root / "state", "--trust", work / "trust",
                        stdout=subprocess.DEVNULL)
                seconds.append(time.monotonic() - start)
        shutil.rmtree(work / "native-root", ignore_errors=True)
        rows[name] = {"limit": limit, "moult": ours}
        print(f"native {name}: cp {statistics.median(limit):.2f} s, moult {statistics.median(ours):.2f} s", flush=True)
    shutil.rmtree(source, ignore_errors=True)
    results["native"] = rows


def fleet(options, work, results):
    """Host cost of 1, 4 and 8 guests that take the same pack over ivshmem."""
    tree = work / "fleet-tree"
    tree.mkdir()
    workload.many(str(tree), count=500, total=64 << 20)
    host = Host(work)
    guests, rows = [], {}
    try:
        host.release("fleet", tree, "none")
        for count in (1, 4, 8):
            while len(guests) < count:
                guest = vms.Vm("tiny", memory_mb=512).start()
                guests.append(guest)
                guest.write_file("/etc/moult/trusted.d/bench.pub", (work / "bench.pub").read_bytes())
                host.add(f"guest{len(guests)}", guest)
            names = [f"guest{i + 1}" for i in range(count)]
            before = host.usage()
            start = time.monotonic()
            host.moult("push", "fleet", *names, "--transport", "ivshmem", "--wait", timeout=900)
            took = time.monotonic() - start
            after = host.usage()
            rows[count] = {"seconds": took, "moultd_cpu_s": after[0] - before[0], "read_bytes": after[1] - before[1],
                           "write_bytes": after[2] - before[2]}
            print(f"fleet {count}: {rows[count]}", flush=True)
            for n in names:
                host.moult("rollback", n, "--wait", timeout=300)
    finally:
        for guest in guests:
            guest.stop()
        host.stop()
    results["fleet"] = rows


def idle(options, work, results):
    """Memory and wake-ups of an agent that has nothing to do, over a minute, with the host connected."""
    host = Host(work)
    guest = vms.Vm("debian").start()
    try:
        host.add("idle", guest)
        guest.exec("systemctl is-active moult-agent")
        pid = guest.exec("systemctl show -p MainPID --value moult-agent").text

        def sample():
            """RSS in KiB, and how often each thread has gone to sleep of its own will: once for each time it woke."""
            text = guest.exec(f"grep -H -E 'VmRSS|^voluntary' /proc/{pid}/task/*/status").text.splitlines()
            rss = next(int(line.split()[1]) for line in text if "VmRSS" in line)
            return rss, {line.split(":")[0]: int(line.split()[-1]) for line in text if "voluntary" in line}

        time.sleep(10)  # the span after the first contact, not a wait
        rss, before = sample()
        time.sleep(60)  # the measured span
        rss, after = sample()
        wakeups = sum(count - before.get(thread, 0) for thread, count in after.items())
        results["idle"] = {"rss_kib": rss, "wakeups_per_minute": wakeups, "threads": len(after)}
        print(f"idle: {results['idle']}", flush=True)
    finally:
        guest.stop()
        host.stop()


def report(results):
    lines = []
    for name in ("many", "one"):
        if name not in results:
            continue
        seconds = {m: statistics.median(v) for m, v in results[name]["seconds"].items() if v}
        limit = seconds.get("limit (cp -a from tmpfs + sync)")
        idle_p99 = results[name]["idle_latency_us"][1]
        lines += [f"\n### {'256 MiB in 2,000 files' if name == 'many' else 'one file of 1 GiB'}\n",
                  "| method | seconds (median) | times the limit's rate | guest p99, ms | of idle |", "|---|---|---|---|---|"]
        for m, s in sorted(seconds.items(), key=lambda x: x[1]):
            p99 = statistics.median(x[1] for x in results[name]["latency_us"][m])
            lines.append(f"| {m} | {s:.1f} | {limit / s if limit else 0:.2f} | {p99 / 1000:.0f} | {p99 / idle_p99:.1f} |")
    if "native" in results:
        lines += ["\n### Natively\n", "| work | cp -a + sync, s | moult apply, s | moult's rate / limit |", "|---|---|---|---|"]
        for name, row in results["native"].items():
            a, b = statistics.median(row["limit"]), statistics.median(row["moult"])
            lines.append(f"| {name} | {a:.2f} | {b:.2f} | {a / b:.2f} |")
    if "fleet" in results:
        lines += ["\n### One pack, many guests (64 MiB, ivshmem)\n",
                  "| guests | seconds | moultd CPU, s | read from storage, bytes | written, bytes |", "|---|---|---|---|---|"]
        for count, row in results["fleet"].items():
            lines.append(f"| {count} | {row['seconds']:.1f} | {row['moultd_cpu_s']:.2f} | {row['read_bytes']} | {row['write_bytes']} |")
    if "idle" in results:
        lines += [f"\nIdle agent: {results['idle']['rss_kib'] / 1024:.1f} MiB RSS, {results['idle']['wakeups_per_minute']} wake-ups a minute "
                  f"({results['idle']['threads']} threads)."]
    return "\n".join(lines)


def merge(options, work, results):
    """Reading through a merge: a program of its own, since it works in a mount namespace of its own."""
    print(subprocess.run([sys.executable, HERE / "merge.py", TOP / "build/release", "--rounds", str(options.rounds)], check=True,
                         stdout=subprocess.PIPE, text=True).stdout)


def program(name, *words):
    """A part that is a program of its own: it makes its own mounts, or a guest for each figure, and prints its table."""
    def part(options, work, results):
        subprocess.run([sys.executable, HERE / name, *words], check=True)
    return part


PARTS = {"transfer": transfer, "native": native, "fleet": fleet, "idle": idle, "merge": merge, "switch": program("switch.py", BUILD),
         "sysext": program("sysext.py", BUILD), "instant": program("instant.py"), "agents": program("many.py", BUILD), "capture": program("capture.py", BUILD),
         "snapshot-bytes": program("snapshot_bytes.py", BUILD), "snapshot-stall": program("snapshot_stall.py", BUILD),
         "snapshot-rollback": program("snapshot_rollback.py", BUILD)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", default="many,one")
    parser.add_argument("--methods", default="")
    parser.add_argument("--part", default=",".join(PARTS))
    parser.add_argument("--json", help="write the raw figures there")
    options = parser.parse_args()
    results = {}
    for part in options.part.split(","):
        work = pathlib.Path(tempfile.mkdtemp(prefix="moult-bench-", dir=os.environ.get("MOULT_BENCH_DIR", "/var/tmp")))
        try:
            run("cc", "-O2", "-static", "-o", work / "fsync_probe", HERE / "fsync_probe.c")
            PARTS[part](options, work, results)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        if options.json:
            pathlib.Path(options.json).write_text(json.dumps(results, indent=1))
    print(report(results))


if __name__ == "__main__":
    main()
