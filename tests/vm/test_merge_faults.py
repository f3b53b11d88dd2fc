"""Something dies while a release is merged, in a running guest: the machine, the file servers of a union. After it all places are
all old or all new, and the push goes on. (The agent alone, at every point: test_engine_kill.py; power cuts: test_powercut.py.)"""

import os

import pytest

from conftest import arm_fault, restart_agent, wait_stopped

SOAK = os.environ.get("MOULT_SOAK") == "1"
PLACES = ("/ro/squashfs", "/ro/erofs", "/ro/ext4", "/srv")

# Where the agent stops itself, and what the machine comes up with when it is killed then. "merge:N": N - 1 of the places are
# switched, and those that can be written. An ordinary run takes the middle of each command.
PUSH = [("merge:2", 2)] + [("stage-object-taken:2", 1), ("tree-made:2", 1), ("journal-staged.before", 1),
                           ("journal-commit.before", 1), ("journal-commit.after", 2), ("merge:1", 2), ("merged:3", 2),
                           ("journal-switched.before", 2)] * SOAK
ROLLBACK = [("merge:2", 1)] * SOAK + [("journal-back.after", 1)]


@pytest.fixture
def guest(host, guests, tmp_path):
    """Known to moultd, with three file systems that cannot be written and one that can; and release "app=2" for all four."""
    old, new = tmp_path / "old", tmp_path / "new"
    for place in PLACES:
        for root, version in ((old, 1), (new, 2)):
            directory = root / place[1:] / "app"
            directory.mkdir(parents=True)
            (directory / "version").write_text(f"{version}\n")
        # The image has these two, too (trees.application).
        (old / place[1:] / "app/obsolete").write_text("to be deleted\n")
        (new / place[1:] / "app/comes").write_text("new\n")
    machine = guests.new("tiny-ro", public_key=host.public)
    machine.exec("mkdir -p /srv/app && cd /srv/app && echo 1 >version && echo to be deleted >obsolete && sync")
    host.add("web-1", machine)
    host.release(new, old)
    return machine


def version(guest):
    """The one that all places have, by all that a release changes, brings and takes."""
    files = {guest.exec(f"cd {place}/app && echo $(cat version; ls | grep -x 'comes\\|obsolete')").text for place in PLACES}
    assert files in ({"1 obsolete"}, {"2 comes"}), f"mixed: {files}"
    return int(files.pop().split()[0])


def test_the_machine_is_killed_in_the_middle_of_a_merge(host, guest):
    for point, expected in PUSH:
        kill_machine_at(host, guest, point, ("push", "app=2", "web-1"), expected, 2)
        host.moult("rollback", "web-1")
        assert version(guest) == 1
    host.moult("push", "app=2", "web-1")
    for point, expected in ROLLBACK:
        kill_machine_at(host, guest, point, ("rollback", "web-1"), expected, 1)


def kill_machine_at(host, guest, point, words, expected, after):
    arm_fault(guest, f"{point}=stop")
    command = host.spawn(*words)
    wait_stopped(guest)
    guest.kill()
    guest.start()
    assert version(guest) == expected, point
    code, text = command.wait(300), command.stdout.read()
    assert code == 0, f"{point}: {text}"
    assert version(guest) == after, point


def servers(guest):
    """[(supervisor, server)] of every merge by union."""
    table = guest.exec("for p in $(pidof moult-targetfs); do echo $p $(cut -d' ' -f4 /proc/$p/stat); done").text.splitlines()
    parents = dict(line.split() for line in table)
    return [(parent, child) for child, parent in parents.items() if parent in parents]


def kill_all(guest):
    """Supervisors first, which else would start new servers."""
    pairs = servers(guest)
    assert pairs
    guest.exec("kill -9 " + " ".join([*(s for s, _ in pairs), *(s for _, s in pairs)]))


def test_file_servers_are_killed(host, guest):
    host.moult("push", "app=2", "web-1", "--merge", "union")
    assert version(guest) == 2
    pairs = servers(guest)
    assert len(pairs) == len(PLACES) - 1

    # A server: its supervisor replaces it.
    guest.exec("kill -9 " + " ".join(server for _, server in pairs))
    guest.wait_for(" && ".join(f"cat {place}/app/version" for place in PLACES))
    assert version(guest) == 2

    # Both: nothing answers there any more but the kernel's cache, and nothing old; the agent's next start makes it good.
    kill_all(guest)
    said = guest.exec("cat /ro/squashfs/app/version", check=False)
    assert said.out == b"2\n" or said.code != 0 and not said.out, "never the old content"
    said = guest.exec("echo 3 >/proc/sys/vm/drop_caches; cat /ro/squashfs/app/version", check=False)
    assert said.code != 0 and not said.out, "never the old content"
    restart_agent(guest)
    assert version(guest) == 2

    # And the way back does not need them.
    kill_all(guest)
    host.moult("rollback", "web-1")
    assert version(guest) == 1
    assert "moult-union" not in guest.exec("cat /proc/self/mountinfo").text

    # While they are switched in: the upgrade fails as a whole, and says why.
    arm_fault(guest, "merge:2=stop")
    push = host.spawn("push", "app=2", "web-1", "--merge", "union")
    wait_stopped(guest)
    kill_all(guest)
    guest.exec(f"kill -CONT {guest.agent_pid()}")
    code, text = push.wait(300), push.stdout.read()
    assert code != 0 and "server died while it was switched in" in text, text
    assert version(guest) == 1
    assert "moult-union" not in guest.exec("cat /proc/self/mountinfo").text
    host.moult("push", "app=2", "web-1", "--merge", "union")
    assert version(guest) == 2


def test_an_agent_in_a_mount_namespace_of_its_own_refuses_what_nobody_would_see(host, guest):
    """As PrivateTmp= and the like in its unit would make one."""
    pack = (host.dir / "app-2.moult").read_bytes()
    guest.write_file("/tmp/app.moult", pack)
    plan = "moult-agent plan /tmp/app.moult --trust /etc/moult/trusted.d"
    guest.exec(plan)
    said = guest.exec(f"unshare -m {plan}", check=False)
    text = said.err.decode()
    assert said.code == 4 and "a mount namespace of its own" in text and "Private*=" in text, (said.code, text)
    assert "Nothing was touched" in text and version(guest) == 1
    # Where the mounts are shared with it, the machine sees what is mounted there.
    guest.exec("mount --make-rshared /")
    guest.exec(f"unshare -m --propagation shared {plan}")  # as its peers: busybox cannot leave them as they are
