"""A push and a rollback of the same VM do not meet: a real agent, and a real QEMU without a guest."""

import pytest

import fleet_lab
from snapshot_lab import held, rows, until

CONFLICT = 8


@pytest.fixture
def fleet(tmp_path, machine, monkeypatch):
    """The disks of "vm-00" are the machine's; "vm-01" has none. moultd holds at the second layer that it makes, the agents in the middle of
    their second push."""
    monkeypatch.setenv("MOULT_FAULT", "layer-made:2=hold,stage-file:2=hold")
    monkeypatch.setenv("MOULT_FAULT_HOLD", str(tmp_path / "hold"))
    with fleet_lab.Fleet(tmp_path / "fleet", 2, qmp=[machine.qmp_socket, machine.no_agent]) as lab:
        monkeypatch.delenv("MOULT_FAULT")
        lab.wait_connected()
        yield lab
        (tmp_path / "hold").unlink(missing_ok=True)


def test_neither_begins_while_the_other_is_under_way(fleet, machine, tmp_path):
    host = fleet.host
    machine.write(0, 1)
    host.json("snapshot", "create", "vm-00", "--name", "one", "--no-upload")
    one = dict(machine.written)
    machine.write(0, 2)
    # A push that is asked for while a rollback makes its files begins after it.
    hold = tmp_path / "hold"
    back = held(host, hold, "snapshot", "rollback", "vm-00", "--to", "one", "--restart")
    push = host.spawn("push", fleet.release(), "vm-00", "vm-01", "--transport", "tls")
    until(lambda: fleet.members[1].content() == fleet_lab.NEW, "the push to the other VM", host)
    assert dict(rows(host, "SELECT vm, begun FROM pushes")) == {"vm-00": 0, "vm-01": 1}
    assert fleet.members[0].content() == fleet_lab.OLD
    hold.unlink()
    assert (back.wait(120), push.wait(120)) == (0, 0)
    machine.expect(machine.disk, one)
    assert fleet.members[0].content() == fleet_lab.NEW
    # And the other way about: a rollback that is asked for during a push does not begin.
    push = held(host, hold, "push", fleet.release("3", b"three\n", old=fleet_lab.NEW), "vm-00", "--transport", "tls")
    code, _, err = host.run("snapshot", "rollback", "vm-00", "--to", "one", "--restart")
    assert code == CONFLICT and "a push to VM \"vm-00\" is under way" in err and "Nothing was changed" in err, err
    host.moult("snapshot", "create", "vm-00", "--name", "meanwhile", "--no-upload")  # what is no rollback may be done
    hold.unlink()
    assert push.wait(120) == 0
    assert fleet.members[0].content() == b"three\n"
