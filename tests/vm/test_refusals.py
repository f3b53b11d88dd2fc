"""What must not be applied is not: the guest's tree stays as it was, the command's exit code says why."""

import pytest

import trees

REFUSED, ROLLED_BACK, UNTRUSTED, NO_SPACE, CORRUPT = 4, 5, 9, 10, 13


def push_fails(host, *options):
    code, out, err = host.run("push", "app=2", "web-1", *options)
    assert code != 0, out
    return code, out + err


def import_anyway(host, pack):
    """moultd may refuse a pack at its own door: that is a refusal as good as the guest's."""
    code, out, err = host.run("release", "import", pack)
    return code, out + err


@pytest.fixture
def bare(host, guests, reference):
    """As `prepared`, without the release."""
    guest = guests.new(public_key=host.public)
    guest.copy_tree(reference.old, "/")
    host.add("web-1", guest)
    return guest


def test_an_unsigned_release_is_refused(host, bare, reference):
    pack = host.build(reference.new, reference.old, key=None)
    code, text = import_anyway(host, pack)
    if code == 0:
        code, text = push_fails(host)
    assert code == UNTRUSTED, text
    assert bare.tree("/srv/app") == reference.before


def test_a_release_signed_by_a_key_that_only_the_host_trusts_is_refused_by_the_guest(host, bare, reference):
    host.new_key("stranger")
    host.release(reference.new, reference.old, key="stranger")
    code, text = push_fails(host)
    assert code == UNTRUSTED, text
    assert bare.tree("/srv/app") == reference.before


def test_content_that_was_changed_in_the_store_is_refused_by_the_guest(host, bare, reference):
    host.release(reference.new, reference.old)
    stored = [p for p in host.state.rglob("*") if p.is_file() and p.stat().st_size > 1 << 20 and "db" not in p.name]
    assert len(stored) == 1, stored
    import subprocess
    subprocess.run(["chattr", "-i", str(stored[0])], check=False, capture_output=True)
    stored[0].chmod(0o644)
    data = (reference.new / "srv/app/big").read_bytes()[4096:8192]
    content = bytearray(stored[0].read_bytes())
    at = content.find(data)
    assert at > 0, "random bytes are stored raw"
    content[at + 100] ^= 1
    stored[0].write_bytes(content)

    code, text = push_fails(host)
    assert code == CORRUPT, text
    assert bare.tree("/srv/app") == reference.before


def test_a_failing_health_hook_takes_everything_back(host, bare, reference, workdir):
    hook = trees.write(workdir, "health", "#!/bin/sh\ncat /srv/app/version\necho the health check is not amused >&2\nexit 7\n", 0o755)
    host.release(reference.new, reference.old, options=["--hook", f"health={hook}"])
    code, text = push_fails(host)
    assert code == ROLLED_BACK, text
    assert "not amused" in text
    assert bare.tree("/srv/app") == reference.before


def test_a_hook_that_hangs_is_ended_and_everything_taken_back(host, bare, reference, workdir):
    hook = trees.write(workdir, "health", "#!/bin/sh\nsleep 1000 &\nsleep 1000\n", 0o755)
    host.release(reference.new, reference.old, options=["--hook", f"health={hook},timeout=2s"])
    code, text = push_fails(host)
    assert code == ROLLED_BACK, text
    assert bare.tree("/srv/app") == reference.before
    assert bare.exec("pidof sleep", check=False).text == ""


def test_a_failing_check_hook_refuses_before_anything_is_touched(host, bare, reference, workdir):
    hook = trees.write(workdir, "check", "#!/bin/sh\necho this guest is busy\nexit 1\n", 0o755)
    host.release(reference.new, reference.old, options=["--hook", f"check={hook}"])
    code, text = push_fails(host)
    assert code == REFUSED, text
    assert "this guest is busy" in text
    assert bare.tree("/srv/app") == reference.before


def test_a_full_disk_is_noticed_in_the_plan(host, prepared, reference):
    prepared.exec("free=$(df -k / | awk 'NR==2{print $4}'); dd if=/dev/zero of=/srv/fill bs=1024 count=$((free - 1000)) 2>/dev/null; sync",
                  timeout=300)
    code, text = push_fails(host)
    assert code in (NO_SPACE, REFUSED), text
    assert "space" in text or "free" in text
    assert prepared.tree("/srv/app") == reference.before
    prepared.exec("rm /srv/fill")
    host.moult("push", "app=2", "web-1")
    assert prepared.tree("/srv/app") == reference.after


def test_a_file_that_drifted_is_refused_with_its_name_and_replaced_when_allowed(host, prepared, reference):
    prepared.exec("echo changed by an administrator >/srv/app/lib/00.so")
    before = prepared.tree("/srv/app")
    code, text = push_fails(host)
    assert code == REFUSED, text
    assert "srv/app/lib/00.so" in text
    assert prepared.tree("/srv/app") == before
    host.moult("push", "app=2", "web-1", "--allow-drift")
    assert prepared.tree("/srv/app") == reference.after
    host.moult("rollback", "web-1")
    assert prepared.tree("/srv/app") == before


def test_what_must_be_overwritten_and_cannot_be_is_named_in_the_plan(host, bare, reference):
    bare.exec("chattr +i /srv/app/version && mount --bind /srv/app/lib /srv/app/lib && mount -o remount,ro,bind /srv/app/lib")
    before = bare.tree("/srv/app")
    host.release(reference.new, reference.old, options=["--delivery", "overwrite"])
    code, text = push_fails(host)
    assert code == REFUSED, text
    assert "srv/app/version" in text and "immutable" in text
    assert "srv/app/lib/00.so" in text and "read-only" in text
    assert bare.tree("/srv/app") == before
