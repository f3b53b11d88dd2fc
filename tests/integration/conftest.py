"""What tests of snapshots are given: a QEMU without a guest, and a moultd that knows it as "web-1". Both are ended after the test, whatever came of it."""

import pytest

import moult
import snapshot_lab
from disk_machine import Machine


def pytest_generate_tests(metafunc):
    """`KINDS` of a module: the ways to name a disk to QEMU. Tests of a `machine` are run with each of them, those of a `new_machine` with the last."""
    kinds = getattr(metafunc.module, "KINDS", ())
    if {"machine", "new_machine"} <= set(metafunc.fixturenames) and len(kinds) > 1:  # and not a machine of the module's own
        metafunc.parametrize("new_machine", kinds, indirect=True)


@pytest.fixture
def new_machine(request, tmp_path):
    """It is not started yet."""
    m = Machine(tmp_path, getattr(request, "param", getattr(request.module, "KINDS", ("blockdev",))[-1]))
    yield m
    if m.process and m.process.poll() is None:
        m.kill()


@pytest.fixture
def machine(new_machine):
    return new_machine.start()


@pytest.fixture
def new_host(request, tmp_path):
    """It is not started yet, and knows no VM."""
    h = moult.Host(tmp_path / "host", options=getattr(request, "param", getattr(request.module, "OPTIONS", ())))
    yield h
    h.stop()


@pytest.fixture
def host(new_host, machine):
    new_host.start()
    snapshot_lab.add(new_host, machine)
    return new_host
