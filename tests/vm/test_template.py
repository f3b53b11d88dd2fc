"""`moult template prepare`: an image without an agent becomes one whose VMs say hello to moultd and take a push; one that stays as it was. What would be
put where, for each kind of init, is tested without images (tests/unit/test_template_fitting.c)."""

import io
import shutil
import tarfile

import pytest

import vm as vms
from images import AGENT_BUILD, appliance, archive, image, without_agent  # noqa: F401 - some are fixtures

pytestmark = pytest.mark.usefixtures("appliance")


def test_a_prepared_image_boots_says_hello_and_takes_a_push(host, guests, archive, image, tmp_path):
    words = ("template", "prepare", image, "--agent", archive, "--key", host.dir / "test.pub")
    done = host.json(*words)
    assert done["changed"] and done["init"] == "inittab" and done["agent"].startswith("moult-agent ")
    assert {i["state"] for i in done["items"]} == {"new", "changed", "same"}
    assert not list(tmp_path.glob(".golden*"))
    guest = vms.Vm("tiny", base_disk=(image, "qcow2"))
    guests.machines.append(guest)
    guest.start()
    guest.wait_for("moult-agent status")
    host.add("web-1", guest)
    tree = tmp_path / "tree"
    (tree / "srv").mkdir(parents=True)
    (tree / "srv/version").write_text("2\n")
    host.moult("push", host.release(tree), "web-1")
    assert guest.exec("cat /srv/version").text == "2"
    # Its starts are counted, and this one was good.
    guest.reboot()
    guest.wait_for("grep -q '^good ' /var/lib/moult/generations/1/boots")
    # A VM stands on it now.
    code, _, err = host.run(*words)
    assert code == 8 and "golden.qcow2" in err, err


def test_an_image_in_which_the_agent_does_not_run_is_as_before(host, archive, image, tmp_path):
    code, _, err = host.run("template", "prepare", tmp_path / "nowhere.qcow2", "--agent", archive)
    assert code == 3 and "nowhere.qcow2" in err, err
    # Cut off: as bad as one for another machine, or without its libraries.
    before = image.read_bytes()
    bad = tmp_path / "moult-agent-static_bad.tar"
    with tarfile.open(archive) as old, tarfile.open(bad, "w") as new:
        for member in old.getmembers():
            data = old.extractfile(member).read() if member.isreg() else b""
            if member.name.endswith("sbin/moult-agent"):
                data = data[:4096]
                member.size = len(data)
            new.addfile(member, io.BytesIO(data))
    code, _, err = host.run("template", "prepare", image, "--agent", bad)
    assert code != 0 and "does not run in this image" in err, err
    assert image.read_bytes() == before and not list(tmp_path.glob(".golden*"))


def test_under_systemd_a_prepared_image_runs_the_agent_and_a_push_replaces_it(host, guests, archive, tmp_path):
    golden = without_agent("debian", tmp_path)
    done = host.json("template", "prepare", golden, "--agent", archive, "--key", host.dir / "test.pub")
    assert done["changed"] and done["init"] == "systemd", done
    guest = vms.Vm("debian", base_disk=(golden, "qcow2"))
    guests.machines.append(guest)
    guest.start()
    host.add("web-1", guest)
    host.moult("vm", "wait", "web-1")
    assert guest.exec("systemctl is-enabled moult-agent moult-recover; systemctl is-active moult-agent").text.split() == ["enabled", "enabled", "active"]

    def service():
        guest.exec("systemctl is-active --quiet moult-agent")
        return guest.exec("systemctl show -p MainPID -p NRestarts --value moult-agent").text.split()

    def release(agent, version):
        tree = tmp_path / version
        (tree / "usr/sbin").mkdir(parents=True)
        shutil.copy(agent, tree / "usr/sbin/moult-agent")
        return host.release(tree, None, version=version)

    before = service()
    assert before[1] == "0"
    host.moult("push", release(AGENT_BUILD / "guest-agent/moult-agent-next", "2"), "web-1")
    assert guest.exec("moult-agent version").text == "moult-agent 0.1.0+next"
    assert service() == before, "in the same process: systemd has restarted nothing"
    assert host.json("vm", "show", "web-1")["software"] == "moult-agent 0.1.0+next"
    host.moult("rollback", "web-1")
    host.moult("vm", "wait", "web-1")
    guest.wait_for("[ \"$(moult-agent version)\" = 'moult-agent 0.1.0' ] && moult-agent status")
    assert service() == before
