"""`moult template prepare`: an image without an agent becomes one whose VMs say hello to moultd and take a push; one that stays as it was. What would be
put where, for each kind of init, is tested without images (tests/unit/test_template_fitting.c)."""

import io
import tarfile

import pytest

import vm as vms
from images import appliance, archive, image  # noqa: F401 - fixtures

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
