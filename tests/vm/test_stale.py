"""Who still runs old code in a real guest: a daemon that holds a replaced file is named until it is restarted."""

import json

from conftest import the_push

SCRIPT = """#!/bin/sh
# A daemon that holds /srv/app/version open. Its first restart does nothing, as one that leaves old workers behind.
start() {
        setsid sh -c 'exec 5</srv/app/version; echo $$ >/run/holder.pid; exec sleep 100000' </dev/null >/dev/null 2>&1 &
}
case $1 in
start) start ;;
restart)
        if [ ! -e /run/restarted-once ]; then touch /run/restarted-once; exit 0; fi
        kill "$(cat /run/holder.pid)"
        rm /run/holder.pid
        start
        while [ ! -s /run/holder.pid ]; do usleep 20000; done ;;
esac
"""


def start_holder(guest):
    guest.write_file("/etc/init.d/holder", SCRIPT)
    guest.write_file("/usr/sbin/service", '#!/bin/sh\nexec "/etc/init.d/$1" "$2"\n')
    guest.exec("chmod 755 /etc/init.d/holder /usr/sbin/service; /etc/init.d/holder start")
    guest.wait_for("[ -s /run/holder.pid ] && grep -q sleep /proc/$(cat /run/holder.pid)/cmdline")
    return int(guest.exec("cat /run/holder.pid").text)


def test_a_daemon_with_a_replaced_file_is_named_and_restarted_when_asked(host, guests, reference):
    guest = guests.new(public_key=host.public)
    guest.copy_tree(reference.old, "/")
    host.add("web-1", guest)
    host.release(reference.new, reference.old, options=("--restart", "holder"))
    pid = start_holder(guest)

    out = host.moult("push", "app=2", "web-1")
    stale = the_push(host)["stale"]
    [process] = stale["processes"]
    assert (process["pid"], process["command"], process["unit"]) == (pid, "sleep", "holder")
    assert process["files"] == ["/srv/app/version"] and stale["restarts"] == []
    assert f"{pid} sleep (holder): /srv/app/version" in out
    assert [p["pid"] for p in json.loads(guest.exec("moult-agent stale --json").text)["processes"]] == [pid]

    # On the way back its second restart works: it has the file that is in place again.
    host.moult("rollback", "web-1")
    assert json.loads(guest.exec("moult-agent stale --json", check=False).out or b'{"processes": []}')["processes"] == []

    guest.exec("rm /run/restarted-once")
    pid = int(guest.exec("cat /run/holder.pid").text)
    out = host.moult("push", "app=2", "web-1", "--restart-stale")
    assert "restarted holder" in out and "still run replaced files" not in out
    assert int(guest.exec("cat /run/holder.pid").text) != pid
    assert json.loads(guest.exec("moult-agent stale --json").text)["processes"] == []
