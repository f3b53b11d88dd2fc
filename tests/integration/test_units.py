"""What the packages' files for other programs say to those: systemd, AppArmor, dpkg."""

import os
import pathlib
import re
import subprocess

import pytest

import moult

TOP = moult.TOP

# `systemd-analyze security`, 0 (nothing is left) to 10. The units say what each service cannot do without.
EXPOSURE = {"host-service/moultd.service": 1.5, "host-service/disk-helper/moult-disks@.service": 1.2, "guest-agent/moult-agent.service": 6.9}


def exposure(unit):
    done = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)], check=True, capture_output=True, text=True)
    return float(re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout + done.stderr).group(1))


@pytest.mark.parametrize("unit", EXPOSURE)
def test_a_service_may_do_no_more_than_was_decided(unit, tmp_path):
    assert exposure(TOP / unit) <= EXPOSURE[unit]
    # The measure sees what is taken away.
    text = (TOP / unit).read_text()
    bare = tmp_path / pathlib.Path(unit).name
    bare.write_text(re.sub(r"^(Protect|Private|Restrict|SystemCall|Capability|NoNew|User|Memory)\w*=.*\n", "", text, flags=re.M))
    assert exposure(bare) > EXPOSURE[unit] + 1


@pytest.mark.parametrize("unit", ["host-service/moultd.service", "host-service/disk-helper/moult-disks@.service", *(f"guest-agent/moult-{n}.service" for n in ("agent", "recover", "boot-ok"))])
def test_systemd_knows_every_line_of_a_unit(unit, tmp_path):
    """With programs and users of this machine: they are not installed here."""
    text = (TOP / unit).read_text()
    copy = tmp_path / pathlib.Path(unit).name
    copy.write_text(re.sub(r"(User|Group)=moult\S*", r"\1=root", re.sub(r"/usr/sbin/moult\S*", "/bin/true", text)))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(copy)], check=False, capture_output=True, text=True)
    ours = [line for line in done.stderr.splitlines() if copy.name in line and "Unit moult-" not in line]
    assert not ours, done.stderr


def test_nothing_of_the_agent_gets_a_mount_namespace_of_its_own():
    """Whatever else is taken away: what it mounts must be seen by the machine."""
    text = (TOP / "guest-agent/moult-agent.service").read_text()
    settings = re.findall(r"^(\w+)=", text, flags=re.M)
    assert "CapabilityBoundingSet" in settings
    assert not [s for s in settings if re.match(r"(Protect|Private|ReadOnly|ReadWrite|Inaccessible|Bind|Temporary|Root|MountFlags|DynamicUser)", s)]


@pytest.mark.parametrize("profile", ["usr.sbin.moultd", "disk-helper/usr.sbin.moult-disks"])
def test_the_profile_is_one_that_apparmor_reads(tmp_path, profile):
    profile = TOP / "host-service" / profile
    words = ["apparmor_parser", "--skip-kernel-load", "--skip-cache", "--ofile", "/dev/null"]
    done = subprocess.run([*words, str(profile)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    broken = tmp_path / "broken"
    broken.write_text(profile.read_text().replace("network unix s", "network unix x"))
    assert subprocess.run([*words, str(broken)], check=False, capture_output=True).returncode != 0


@pytest.mark.parametrize("words, completed", [
    (["st"], ["stale", "status"]),
    (["history", "--js"], ["--json"]),
    (["nonsense", "--"], []),
])
def test_the_shell_completes_commands_and_options_of_the_agent(words, completed):
    script = 'source "$1"; shift; COMP_WORDS=(moult-agent "$@"); COMP_CWORD=$#; _moult_agent; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", script, "bash", str(TOP / "docs/moult-agent.bash-completion"), *words], check=True, capture_output=True, text=True,
                          env=os.environ | {"PATH": f"{moult.HOST_BUILD / 'guest-agent'}:{os.environ['PATH']}"})
    assert done.stdout.split() == completed
