"""What was changed in one real guest becomes a release, and reaches its sibling."""

import json
import shutil

import pytest



@pytest.fixture
def golden(reference, tmp_path):
    """What both guests have below /srv; the rest of the image is not the capture's business here."""
    tree = tmp_path / "golden"
    shutil.copytree(reference.old, tree, symlinks=True)
    return tree


@pytest.mark.parametrize("transport", ["virtio-serial"])
def test_a_pilots_change_reaches_its_sibling(host, guests, reference, golden, tmp_path, transport):
    pilot, sibling = (guests.new(public_key=host.public) for _ in range(2))
    for name, guest in (("pilot", pilot), ("sibling", sibling)):
        guest.copy_tree(reference.old, "/")
        host.add(name, guest)
    pilot.exec("echo changed > /srv/app/version; mkdir /srv/app/made; head -c 1500000 /dev/urandom > /srv/app/made/big; "
               "chmod 4755 /srv/app/made/big; rm -f /srv/app/obsolete; echo noise > /var/log/x.log; sync")
    report = json.loads(host.moult("release", "capture", "--from", golden, "--to", "vm:pilot", "--include", "/srv", "--name",
                                   "fix", "--version", "1", "--sign", host.dir / "test.key", "-o", tmp_path / "fix.moult", "--json"))
    assert report["changes"]["delete"] == 1 and report["changes"]["create"] == 2, report
    host.moult("release", "import", tmp_path / "fix.moult")
    host.moult("push", "fix=1", "sibling", "--transport", transport)
    there, here = pilot.tree("/srv/app"), sibling.tree("/srv/app")
    assert there.keys() == here.keys()
    assert there["/srv/app/made/big"] == here["/srv/app/made/big"] and there["/srv/app/version"] == here["/srv/app/version"]
