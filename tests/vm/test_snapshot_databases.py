"""Restore points of a guest whose databases are written to all the time: each boots, each server starts from it with nothing to complain about, and
holds every transaction that was acknowledged before the freeze, and none that was begun after it."""

import dataclasses
import hashlib
import os
import re
import subprocess

import pytest

import moult
import vm as vms

SOAK = bool(os.environ.get("MOULT_SOAK"))
# The chain has 4 files at most: this many restore points on one that began with one file.
POINTS = 3
# Whether the servers are stopped over the freeze, for each. Those that run on are not looked at yet.
STOPPED = (True, True, True)
ROUNDS = 7

HOOKS = {"pre-freeze.d": {"20-services": "services", "50-mariadb": "mariadb", "50-postgresql": "postgresql", "50-sqlite": "sqlite"},
         "post-thaw.d": {"20-services": "services", "50-mariadb": "mariadb", "50-sqlite": "sqlite"}}
# The last before everything stands still, and the first after: what was acknowledged until the one, and begun until the other.
MARK = "#!/bin/sh\nset -e\nrm -rf /run/marks/$1\nmkdir -p /run/marks\ncp -r /run/load /run/marks/$1\n"


@dataclasses.dataclass
class Database:
    name: str
    what: str  # for database_load.py
    ask: str   # what runs a statement
    unit: str = ""
    log: str = ""


# The psql in the path is a program in Perl that looks for this one.
POSTGRESQL = "/usr/lib/postgresql/15/bin"
DATABASES = (
    Database("postgresql", "postgresql:5432", f"{POSTGRESQL}/psql -XAtq -F ' ' -U postgres -c", "postgresql@15-main",
             "/var/log/postgresql/postgresql-15-main.log"),
    Database("mariadb", "mariadb", "mariadb -N load_test -e", "mariadb", "/var/lib/mysql/error.log"),
    Database("sqlite", "sqlite:/srv/load.db", "sqlite3 -separator ' ' /srv/load.db"),
)
SERVERS = [d for d in DATABASES if d.unit]
UNITS = " ".join(d.unit for d in SERVERS)


def prepare(guest):
    for hook in ("mariadb", "postgresql", "services", "sqlite"):
        guest.write_file(f"/usr/share/moult/hooks/{hook}", (moult.TOP / "guest-agent/hooks" / hook).read_bytes(), mode=0o755)
    links = []
    for stage, hooks in HOOKS.items():
        guest.write_file(f"/etc/moult/{stage}/99-mark", MARK, mode=0o755)
        links += [f"ln -s /usr/share/moult/hooks/{hook} /etc/moult/{stage}/{name}" for name, hook in hooks.items()]
    guest.exec(" && ".join(links))
    guest.write_file("/etc/moult/sqlite-databases", "/srv/load.db\n")
    guest.write_file("/run/database_load.py", (moult.TOP / "tests/support/database_load.py").read_bytes())
    guest.exec(f"systemctl start {UNITS} && mariadb -e 'CREATE DATABASE load_test' && mkdir /run/load", timeout=300)


def load(guest):
    guest.exec("; ".join(f"systemd-run --quiet --unit=load-{d.name} python3 /run/database_load.py {d.what} /run/load/{d.name}" for d in DATABASES))
    wait_acked(guest, {d.name: 0 for d in DATABASES})


def numbers(log, word):
    return {int(n) for n in re.findall(rf"^{word} (\d+)\n", log, re.M)}


def wait_acked(guest, after):
    """Each of them has had a transaction acknowledged since."""
    for name, n in after.items():
        guest.wait_for(f"[ $(sed -n 's/^acked //p' /run/load/{name} | tail -n 1 | grep . || echo 0) -gt {n} ]", timeout=300)


@dataclasses.dataclass
class Point:
    layer: object
    stopped: bool  # the servers were, over the freeze
    acked: dict
    begun: dict

    def stands(self, database):
        """Nobody could commit there from before the mark on."""
        return self.stopped or database.name != "postgresql"


def take(host, guest, name, stopped):
    stops = UNITS.replace(" ", "\n") if stopped else "# none: they run on"
    guest.write_file("/etc/moult/snapshot-stops", f"{stops}\n")
    result = host.json("snapshot", "create", "db-1", "--name", name, "--require-quiesce", "--no-upload", timeout=300)["result"]
    assert result["grade"] == "application" and result["hooks"] == 5 and not result["why"], result
    logs = {stage: {d.name: guest.exec(f"cat /run/marks/{stage}/{d.name}").out.decode() for d in DATABASES} for stage in ("freeze", "thaw")}
    point = Point(guest.dir / result["disks"][0]["layer"], stopped, {n: numbers(log, "acked") for n, log in logs["freeze"].items()},
                  {n: numbers(log, "begin") for n, log in logs["thaw"].items()})
    # Everything goes on.
    wait_acked(guest, {n: max(begun) for n, begun in point.begun.items()})
    return point


def check_records(guest, database, point):
    rows = [line.split() for line in guest.exec(f"{database.ask} 'SELECT n, sum FROM records ORDER BY n'", timeout=300).text.splitlines()]
    held = [int(n) for n, _ in rows]
    assert all(s == hashlib.sha256(n.encode()).hexdigest() for n, s in rows)
    assert int(guest.exec(f"{database.ask} 'SELECT n FROM last'").text) == held[-1]
    acked, begun = point.acked[database.name], point.begun[database.name]
    assert acked <= set(held) <= begun, (database.name, sorted(acked - set(held)), sorted(set(held) - begun))
    if point.stands(database):
        # One client: one answer may have been on its way.
        assert len(set(held) - acked) <= 1, (database.name, sorted(set(held) - acked))
    return len(held)


RECOVERS = {"postgresql": "automatic recovery in progress", "mariadb": "Starting crash recovery from checkpoint"}
READY = {"postgresql": "database system is ready to accept connections", "mariadb": "ready for connections"}


def check_log(name, log, stopped):
    assert READY[name] in log and not re.search(r"ERROR|FATAL|PANIC|WARNING|corrupt|marked as crashed", log), log
    if stopped:
        assert not re.search("crash|recover|interrupted|redo", log, re.I), log
    else:
        assert RECOVERS[name] in log, log  # it was not shut down, and has to say so


def check_point(guests, image, point):
    guest = guests.new(image, base_disk=(point.layer, "qcow2"), memory_mb=1536)
    assert "recover" not in guest.exec("dmesg | grep -i ext4; true").text
    sizes = {d.name: int(guest.exec(f"stat -c %s {d.log}").text) for d in SERVERS}
    guest.exec(f"systemctl start {UNITS}", timeout=300)
    for d in SERVERS:
        check_log(d.name, guest.exec(f"tail -c +{sizes[d.name] + 1} {d.log}").out.decode(errors="replace"), point.stopped)
    counts = [check_records(guest, d, point) for d in DATABASES]
    guest.exec(f"{POSTGRESQL}/pg_amcheck --install-missing --heapallindexed -U postgres postgres", timeout=300)
    assert re.search(r"records\s+OK", guest.exec("mariadb-check load_test", timeout=300).text)
    assert guest.exec("sqlite3 /srv/load.db 'PRAGMA integrity_check'").text == "ok"
    if not point.stopped:
        assert re.match(r"binlog\.\d+\s+\d+", guest.exec("cat /var/lib/misc/moult-mariadb-position").text)
    guest.stop()
    return counts


def check_the_hook_for_mariadb(guest):
    """It gives up on a statement that is in its way before that one ends, and its lock ends without a thaw."""
    guest.exec("mariadb load_test -e 'CREATE TABLE own (n INT)'; sed s/HOLD_S=120/HOLD_S=1/ /usr/share/moult/hooks/mariadb >/run/brief")
    guest.exec("mariadb load_test -e 'INSERT INTO own SELECT SLEEP(3600)' >/dev/null 2>&1 &")
    guest.wait_for("mariadb -e 'SHOW PROCESSLIST' | grep -q 'SELECT SLEEP'")
    refused = guest.exec("sh /run/brief freeze", check=False)
    assert refused.code == 1 and "not at rest within 5 s" in refused.text and "Lock wait timeout" in refused.text
    guest.exec("mariadb -N -e \"SELECT CONCAT('KILL ', id) FROM information_schema.processlist WHERE info LIKE 'INSERT INTO own%'\" | mariadb")
    guest.exec("sh /run/brief freeze; mariadb load_test -e 'INSERT INTO own VALUES (1)'")  # which waits for the end of the lock
    guest.exec("sh /run/brief thaw; [ ! -e /run/moult/mariadb ]")


@pytest.mark.skipif(not SOAK, reason="an image of its own, and minutes for each restore point: only with --soak")
@pytest.mark.parametrize("run", range(ROUNDS))
def test_databases_start_from_every_restore_point_with_what_was_acknowledged(host, guests, workdir, run):
    directory = workdir / "vm"
    directory.mkdir()
    image = str(vms.image_dir("debian-databases"))  # once: to find that it is there takes long
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", f"{image}/disk.img", str(directory / "disk.qcow2")], check=True)
    guest = guests.new(image, directory=directory, memory_mb=1536)
    guest.write_file("/etc/moult/moult-agent.conf", "[freeze]\nhook-timeout-s=100\n")
    guest.exec("systemctl reload-or-restart moult-agent", timeout=300)
    prepare(guest)
    if run == 0:
        check_the_hook_for_mariadb(guest)
    load(guest)
    host.add("db-1", guest)
    host.moult("vm", "wait", "db-1")
    points = [take(host, guest, f"point-{run}-{n}", stopped=STOPPED[n]) for n in range(POINTS)]
    guest.stop(keep=True)
    counts = [check_point(guests, image, p) for p in points]
    assert all(a < b for earlier, later in zip(counts, counts[1:]) for a, b in zip(earlier, later)), counts
