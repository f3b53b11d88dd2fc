"""A real machine that does not come up well with a release falls back to the one before, by itself: with busybox's init, whose
scripts do what moult-recover.service and moult-boot-ok.service do (test_readonly_usr.py has those)."""

import pytest

from conftest import restart_agent, the_push

# Healthy when it is pushed. A start of an ill machine hangs, or fails, as the file says.
HOOK = "#!/bin/sh\n[ ! -e /etc/ill ] || . /etc/ill\n"
BOOTS = "/var/lib/moult/generations/{}/boots"


@pytest.fixture
def guest(host, guests, tmp_path):
    """With release "app=2", which is merged at /ro/squashfs and written in /srv."""
    old, new = tmp_path / "old", tmp_path / "new"
    for root, version in ((old, "1\n"), (new, "2\n")):
        for place in ("ro/squashfs/app", "srv/app"):
            (root / place).mkdir(parents=True)
            (root / place / "version").write_text(version)
    hook = tmp_path / "hook"
    hook.write_text(HOOK)
    machine = guests.new("tiny-ro", public_key=host.public)
    machine.exec("mkdir -p /srv/app && echo 1 >/srv/app/version")
    host.add("web-1", machine)
    host.release(new, None, options=("--hook", f"health={hook}"))
    host.moult("push", "app=2", "web-1")
    assert the_push(host)["entries_merged"] > 0
    assert versions(machine) == ["2", "2"]
    return machine


def versions(guest):
    return guest.exec("cat /ro/squashfs/app/version /srv/app/version").text.split()


def starts(guest, generation):
    """(begun, good)"""
    lines = guest.exec(f"cat {BOOTS.format(generation)} 2>/dev/null || true").text.splitlines()
    return sum(line.startswith("begun ") for line in lines), sum(line.startswith("good ") for line in lines)


def make_ill(guest, how):
    guest.write_file("/etc/ill", f"{how}\n")
    guest.exec("sync")


def test_a_release_that_three_starts_did_not_get_healthy_with_is_gone_in_the_fourth(host, guest):
    make_ill(guest, "touch /run/hangs; sleep 100000")
    for n in range(1, 4):
        guest.reboot(hard=True)
        assert versions(guest) == ["2", "2"], f"start {n}"
        guest.wait_for("[ -e /run/hangs ]")
        assert starts(guest, 1) == (n, 0)
    guest.reboot(hard=True)
    assert versions(guest) == ["1", "1"]
    assert "was started 3 times with it and did not get healthy" in guest.exec("cat /run/moult-recover.log").text
    assert "moult-overlay" not in guest.exec("cat /proc/self/mountinfo").text
    guest.wait_for("moult-agent status")
    assert "rolled-back" in guest.exec("moult-agent history -n 1").text
    # Nothing is broken by it: the next push goes as ever.
    guest.exec("rm /etc/ill")
    host.moult("push", "app=2", "web-1")
    assert versions(guest) == ["2", "2"]


def test_a_start_whose_health_check_fails_takes_the_release_back_and_a_good_one_ends_the_count(host, guest):
    make_ill(guest, "exit 1")
    guest.reboot()
    boot = guest.boot_id()
    guest.wait_for("[ \"$(cat /srv/app/version /ro/squashfs/app/version)\" = '1\n1' ]")
    guest.wait_for("moult-agent history -n 1 | grep -q rolled-back")
    assert guest.boot_id() == boot, "while it runs"

    guest.exec("rm /etc/ill")
    host.moult("push", "app=2", "web-1")
    guest.reboot()
    guest.wait_for(f"grep -q '^good ' {BOOTS.format(2)}")
    assert starts(guest, 2) == (1, 1)
    make_ill(guest, "exit 1")
    # An agent from before there was a count: it ends with the status of a wrong usage.
    guest.exec("mv /usr/sbin/moult-agent /usr/sbin/moult-agent-new")
    guest.write_file("/usr/sbin/moult-agent", '#!/bin/sh\ncase " $* " in *" boot-ok "* | *" --count-boots "*) exit 2 ;; esac\n'
                     'exec /usr/sbin/moult-agent-new "$@"\n', 0o755)
    guest.reboot()
    assert versions(guest) == ["2", "2"]
    assert starts(guest, 2) == (1, 1)
    # What nobody ends is not begun.
    guest.exec("mv /usr/sbin/moult-agent-new /usr/sbin/moult-agent; sed -i s/^::once.*boot-ok.*// /etc/inittab; "
               f"rm {BOOTS.format(2)}; sync")
    guest.reboot()
    restart_agent(guest)
    assert versions(guest) == ["2", "2"]
    assert starts(guest, 2) == (0, 0)
