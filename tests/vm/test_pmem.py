"""The rung below ivshmem: the pack as a virtio-pmem device, for guests whose kernel does not let a PCI BAR be mapped."""

import pytest

import trees
from conftest import arm_fault, the_push, wait_stopped

LOCKDOWN = "lockdown=integrity"


@pytest.fixture
def start(host, guests, reference):
    """Starts a guest "web-1" with the old application, known to moultd, which has the release "app=2"."""
    def started(**options):
        guest = guests.new(public_key=host.public, **options)
        guest.copy_tree(reference.old, "/")
        host.add("web-1", guest)
        host.release(reference.new, reference.old)
        return guest
    return started


def devices(guest):
    """Of moultd's: {id: type} of what is plugged."""
    return {d["name"]: d["type"] for d in guest.qmp.command("qom-list", path="/machine/peripheral")
            if d["name"].startswith("moult-window-")}


def is_locked_down(guest):
    guest.exec("mkdir -p /sys/kernel/security && mount -t securityfs securityfs /sys/kernel/security")
    return "[integrity]" in guest.read_file("/sys/kernel/security/lockdown").decode()


def test_a_locked_down_guest_goes_on_over_persistent_memory_by_itself(host, start, reference):
    guest = start(kernel_args=LOCKDOWN)
    assert is_locked_down(guest)
    boot = guest.boot_id()

    host.moult("push", "app=2", "web-1", "--transport", "auto")
    assert the_push(host)["transport"] == "pmem"
    assert guest.tree("/srv/app") == reference.after
    # The window that was of no use is gone; no QEMU takes off a virtio-pmem device, and moultd says so.
    assert list(devices(guest).values()) == ["child<virtio-pmem-pci>"]
    assert "push-window-stuck" in host.log_text() and "until the VM is powered off" in host.log_text()

    # The same pack is used as it lies there, and nothing more is left behind.
    host.moult("rollback", "web-1")
    assert guest.tree("/srv/app") == reference.before
    host.moult("push", "app=2", "web-1")
    assert guest.tree("/srv/app") == reference.after
    assert len(devices(guest)) == 1
    assert guest.boot_id() == boot


def test_persistent_memory_can_be_asked_for_and_the_guest_cannot_write_it(host, start, reference):
    guest = start(pmem_ports=0)
    host.moult("push", "app=2", "web-1", "--transport", "pmem", "--strict-window")
    assert the_push(host)["transport"] == "pmem"
    assert guest.tree("/srv/app") == reference.after
    guest.exec("dd if=/dev/pmem0 of=/tmp/first bs=4096 count=1 iflag=direct && "
               "dd if=/dev/zero of=/dev/pmem0 bs=4096 count=1 oflag=direct && "
               "dd if=/dev/pmem0 of=/tmp/second bs=4096 count=1 iflag=direct && cmp /tmp/first /tmp/second")


@pytest.mark.parametrize("lack, said", [({"pmem_ports": 0}, "moult-pmem"), ({"maxmem": None}, "maxmem")])
def test_a_vm_that_has_no_place_for_persistent_memory_goes_on_over_its_port(host, start, reference, lack, said):
    guest = start(kernel_args=LOCKDOWN, **lack)
    host.moult("push", "app=2", "web-1")
    assert the_push(host)["transport"] == "virtio-serial"
    assert guest.tree("/srv/app") == reference.after
    assert "push-no-window" in host.log_text() and said in host.log_text()
    assert not devices(guest)


def test_without_maxmem_a_push_that_asks_for_persistent_memory_says_what_is_missing(host, start, reference):
    guest = start(maxmem=None)
    code, out, err = host.run("push", "app=2", "web-1", "--transport", "pmem")
    assert code != 0 and "maxmem" in out + err
    assert guest.tree("/srv/app") == reference.before
    assert not devices(guest)


def test_persistent_memory_that_vanishes_in_the_middle_is_left_for_the_port(host, guests, tmp_path):
    old, new = trees.application(tmp_path / "large", size_mb=24)
    guest = guests.new(public_key=host.public, kernel_args=LOCKDOWN)
    guest.copy_tree(old, "/")
    host.add("web-1", guest)
    host.release(new, old, version="3")
    # The agent stops itself in the middle of staging. What the guest's kernel sees then is a driver that lets go.
    arm_fault(guest, "stage-write:16=stop")
    push = host.spawn("push", "app=3", "web-1")
    wait_stopped(guest)
    guest.exec("for d in /sys/bus/virtio/drivers/virtio_pmem/virtio*; do "
               "echo ${d##*/} >/sys/bus/virtio/drivers/virtio_pmem/unbind; done; "
               f"[ ! -e /dev/pmem0 ]; kill -CONT {guest.agent_pid()}")
    assert push.wait(300) == 0, push.stdout.read()
    push = the_push(host)
    assert (push["transport"], push["transport_changes"]) == ("virtio-serial", 1), push
    guest.exec("mkdir /reference")
    guest.copy_tree(new, "/reference")
    wanted = {name.removeprefix("/reference"): value for name, value in guest.tree("/reference/srv/app").items()}
    guest.exec("rm -rf /reference")
    assert guest.tree("/srv/app") == wanted
