"""Three real guests in waves: a canary whose health check fails stops the rollout, and the others were never touched."""

import json

import trees

PARTIAL, CANCELLED = 7, 12


def test_a_canary_that_is_not_well_stops_the_rollout_and_a_good_one_goes_on(host, guests, reference, workdir):
    # A release that only machines with a certain mark stand.
    hook = trees.write(workdir, "health", "#!/bin/sh\ntest ! -e /etc/fragile\n", 0o755)
    machines = {}
    for name in ("web-1", "web-2", "web-3"):
        machines[name] = guests.new(public_key=host.public)
        machines[name].copy_tree(reference.old, "/")
        host.add(name, machines[name])
        host.moult("vm", "set", name, "--label", "role=web")
    release = host.release(reference.new, reference.old, options=["--hook", f"health={hook}"])
    machines["web-1"].exec("touch /etc/fragile")

    code, out, err = host.run("push", release, "--label", "role=web", "--canary", "1")
    assert code == PARTIAL and "web-1: taken back" in out and "2 wait" in out, out + err
    assert all(m.tree("/srv/app") == reference.before for m in machines.values())
    [rollout] = json.loads(host.moult("rollout", "list", "--json"))
    assert rollout["rollout"]["state"] == "stopped"
    fleet = {vm["name"]: vm for vm in host.json("fleet")["vms"]}
    assert fleet["web-1"]["push"]["state"] == "rolled-back" and fleet["web-2"]["pending"] == 1

    # Somebody has looked into it: the others are well.
    code, out, err = host.run("rollout", "resume", rollout["id"])
    assert code == PARTIAL and "2 of 3 VMs done" in out, out + err
    assert [m.tree("/srv/app") == reference.after for m in machines.values()] == [False, True, True]
    assert machines["web-1"].tree("/srv/app") == reference.before
