"""The real thing where it is hardest: Debian with a read-only /usr takes real package updates, and keeps them."""

import os
import re

import pytest

import updates
from conftest import restart_agent

# Everything that the updates change lies below these, and much that they must not change.
PLACES = ("/usr/bin", "/usr/lib/ssl", "/usr/lib/x86_64-linux-gnu", "/usr/share/doc", "/usr/share/rsync",
          "/usr/share/zoneinfo", "/etc/ssl")
KINDS = ("erofs", "squashfs")
# Each of the two takes minutes: an ordinary run walks the short way on one of them, the long campaign everything.
SOAK = bool(os.environ.get("MOULT_SOAK"))
KINDS_NOW = KINDS if SOAK else KINDS[:1]

# Opens every file of a list again and again, as programs do, and tells at the end how often one was not there.
READER = """
open(my $list, "<", "/run/reader.list") or die; chomp(my @files = <$list>); close $list;
my ($opens, $failed, $rounds, %missing) = (0, 0, 0);
until (-e "/run/reader.stop") {
    for my $file (@files) {
        $opens++;
        if (open(my $f, "<", $file)) { sysread($f, my $byte, 1) or $missing{"$file: empty"}++; close $f }
        else { $failed++; $missing{"$file: $!"}++ }
    }
    if (++$rounds == 1) { open(my $f, ">", "/run/reader.up"); close $f }
}
open(my $out, ">", "/run/reader.new"); print $out "$rounds $opens $failed\\n", map { "$_\\n" } keys %missing; close $out;
rename "/run/reader.new", "/run/reader.result";
"""


class Reader:
    """READER beside what happens in the `with` block; afterwards its counts."""

    def __init__(self, guest, paths):
        self.guest, self.paths = guest, paths
        self.rounds = self.opens = self.failed = None

    def __enter__(self):
        self.guest.write_file("/run/reader.pl", READER)
        self.guest.write_file("/run/reader.list", "".join(f"{path}\n" for path in self.paths))
        self.guest.exec("rm -f /run/reader.stop /run/reader.up /run/reader.result; "
                        "setsid perl /run/reader.pl >/dev/null 2>/run/reader.err </dev/null &")
        self.guest.wait_for("[ -e /run/reader.up ]", timeout=120)
        return self

    def __exit__(self, *exc):
        self.guest.exec("touch /run/reader.stop")
        self.guest.wait_for("[ -e /run/reader.result ]", timeout=120)
        first, *self.missing = self.guest.read_file("/run/reader.result").decode().splitlines()
        self.rounds, self.opens, self.failed = (int(n) for n in first.split())


@pytest.fixture
def debian(request, host, guests):
    """Debian with its /usr on the file system that the test is for, known to moultd as "debian"."""
    guest = guests.new(f"debian-{request.param}", public_key=host.public)
    # As many ways back as this test has releases.
    guest.exec("printf '[upgrade]\\nkeep-generations=6\\n' >>/etc/moult/moult-agent.conf")
    restart_agent(guest)
    guest.exec("systemctl is-system-running --wait", check=False, timeout=300)
    assert guest.exec("stat -f -c %T /usr").text == request.param
    assert guest.exec("touch /usr/bin/openssl /usr/new", check=False).code != 0
    assert guest.exec("readlink /proc/1/exe").text == "/usr/lib/systemd/systemd"
    host.add("debian", guest)
    return guest


@pytest.fixture
def image(debian):
    return debian.image


def tree(guest, *places, links=True):
    """{path: what find and sha256sum say of it}, at will without the number of names: what is merged shares its content
    with moult's store. Two programs for all of it: thousands of small ones take minutes in an emulated machine."""
    where = " ".join(places or PLACES) + r" -xdev \( -name .moult -prune -o "
    shown = r"-printf '%y %m %U %G %s %n %T@ %l\t%p\n' \)"
    sums = guest.exec(f"find {where} -type f -exec sha256sum {{}} + \\)", timeout=600).text.splitlines()
    digests = {line[66:]: line[:64] for line in sums}
    found = {}
    for line in guest.exec(f"find {where} {shown}", timeout=600).text.splitlines():
        about, name = line.split("\t")
        kind, mode, uid, gid, size, names, time, target = about.split(" ", 7)
        # A directory's size, links and time are the file system's own affair.
        own = ("-", "-", "-") if kind == "d" else (size, names if links else "-", time)
        found[name] = (kind, mode, uid, gid, *own, target, digests.get(name))
    return found


def openssl(guest):
    return guest.exec("openssl version").text.split()[1]


def upstream(version):
    return version.split("-")[0]


def usr_mounts(guest):
    """Of the mounts on /usr and below it: the places."""
    return sorted(line.split()[4] for line in guest.exec("cat /proc/self/mountinfo").text.splitlines()
                  if re.match(r"/usr(/|$)", line.split()[4]))


def check_sums(guest, update):
    """Debian's own checksums, inside; and what has none (links, configuration): as in the new package."""
    guest.write_file("/run/md5sums", update.md5sums)
    guest.exec("cd / && md5sum -c --quiet /run/md5sums", timeout=300)
    for path in update.changed():
        new = update.new / path[1:]
        if new.is_symlink():
            assert guest.exec(f"readlink '{path}'").text == os.readlink(new)
        elif not new.exists():
            assert guest.exec(f"test -e '{path}' -o -L '{path}'", check=False).code != 0, path
        elif path.startswith("/etc/"):
            assert guest.read_file(path) == new.read_bytes()


def push(host, update):
    host.release(update.new, update.old, name=update.name, version="1")
    host.moult("push", f"{update.name}=1", "debian")


@pytest.mark.parametrize("debian", KINDS_NOW, indirect=True)
def test_the_openssl_update_on_a_read_only_usr_is_there_at_once_and_after_a_boot_without_host_and_goes(
        host, debian, image, tmp_path):
    update = updates.openssl_update(tmp_path, image)
    before, boot, places = tree(debian), debian.boot_id(), usr_mounts(debian)
    was, now = (upstream(v) for v in update.versions["libssl3"])
    assert openssl(debian) == was != now
    assert places == ["/usr"]
    host.release(update.new, update.old, name=update.name, version="1")

    # The plan says of each entry how it is brought, and touches nothing.
    [dry] = host.json("push", "openssl=1", "debian", "--dry-run")["pushes"]
    plan = {item["path"]: item for item in dry["plan"] if item["action"] != "equal"}
    assert set(update.changed()) <= {f"/{path.lstrip('/')}" for path in plan}
    for path, item in plan.items():
        assert item["merged"] == path.lstrip("/").startswith("usr/"), item
    assert openssl(debian) == was and usr_mounts(debian) == places

    host.moult("push", "openssl=1", "debian")
    assert debian.boot_id() == boot
    assert openssl(debian) == now
    check_sums(debian, update)
    after = tree(debian, links=False)
    changed = set(update.changed())
    assert {n: v for n, v in after.items() if n not in changed} == \
        {n: v[:5] + ("-",) + v[6:] if v[0] != "d" else v for n, v in before.items() if n not in changed}

    # A real boot, with nobody on the host's side. A service like any other is a witness of what it started on.
    debian.write_file("/etc/systemd/system/witness.service", "[Service]\nType=oneshot\nRemainAfterExit=yes\n"
                      "ExecStart=/bin/sh -c 'openssl version >/run/witness'\n"
                      "[Install]\nWantedBy=multi-user.target\n")
    debian.exec("systemctl enable witness.service")
    host.stop()
    debian.reboot()
    debian.exec("systemctl is-system-running --wait", check=False, timeout=300)
    assert debian.boot_id() != boot
    assert debian.exec("cat /run/witness").text.split()[1] == now
    assert debian.exec("systemctl is-active moult-recover moult-agent").text.split() == ["active", "active"]
    assert debian.exec("systemctl --failed --plain --no-legend").text == ""
    # The start was counted, and it was a good one: nothing takes the release back any more.
    assert debian.exec("systemctl is-active moult-boot-ok").text == "active"
    assert debian.exec("cut -d' ' -f1 /var/lib/moult/generations/1/boots").text.split() == ["begun", "good"]
    check_sums(debian, update)
    assert tree(debian, links=False) == after

    host.start()
    host.moult("rollback", "debian")
    assert openssl(debian) == was
    assert tree(debian) == before
    assert usr_mounts(debian) == places


@pytest.mark.skipif(not SOAK, reason="six minutes and more: tests/run.sh --soak")
@pytest.mark.parametrize("debian", KINDS_NOW, indirect=True)
def test_three_more_updates_on_top_without_a_missing_file_and_each_back_again(host, debian, image, tmp_path):
    releases = [updates.openssl_update(tmp_path / "first", image), *updates.later_updates(tmp_path / "later", image)]
    assert len(releases) >= 3, "the archive has too few newer packages"
    boot, states, mounts = debian.boot_id(), [tree(debian)], []
    everything = tree(debian, "/usr")
    # What there is before and after each of them.
    always = [name for name, about in states[0].items() if about[0] == "f" and about[4] != "0" and
              all((u.new / name[1:]).exists() or not (u.old / name[1:]).exists() for u in releases)]
    changed = {path for update in releases for path in update.changed()}
    watched = [name for name in always if name in changed] + always[::40]

    for n, update in enumerate(releases):
        with Reader(debian, watched) as reader:
            push(host, update)
        assert reader.rounds >= 2 and reader.failed == 0 and not reader.missing, (reader.rounds, reader.missing[:5])
        check_sums(debian, update)
        states.append(tree(debian, links=False))
        assert states[-1] != (states[-2] if n else None)
        for earlier in releases[:n]:
            check_sums(debian, earlier)
        mounts.append(usr_mounts(debian))
    assert all(m == mounts[0] for m in mounts), "mounts pile up"
    for program in ("openssl version", "curl --version", "rsync --version"):
        debian.exec(program)

    for n in range(len(releases) - 1, -1, -1):
        with Reader(debian, watched) as reader:
            host.moult("rollback", "debian")
        assert reader.failed == 0 and not reader.missing, reader.missing[:5]
        if n:
            assert tree(debian, links=False) == states[n]
            assert usr_mounts(debian) == mounts[0]
    assert tree(debian) == states[0]
    assert tree(debian, "/usr") == everything
    assert usr_mounts(debian) == ["/usr"]
    assert debian.boot_id() == boot
