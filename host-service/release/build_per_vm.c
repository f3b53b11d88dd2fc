/* host-service/release/build_per_vm.c - files that are one machine's own, which a release must not spread.
 *
 * A golden image or a pilot VM holds such files too, so a release that is built from one would give all its
 * siblings the same identity, or take theirs away. The table is what `virt-sysprep` and cloud-init clean,
 * less what is merely a cache. */
#include "host-service/release/build_per_vm.h"

#include <fnmatch.h>
#include <stddef.h>

static const struct {
        const char *glob; /* fnmatch without FNM_PATHNAME: '*' also crosses '/' */
        const char *reason;
} per_vm[] = {
        {"etc/machine-id", "names one machine; two with the same get each other's DHCP lease and journal"},
        {"var/lib/dbus/machine-id", "names one machine; two with the same get each other's DHCP lease"},
        {"etc/ssh/ssh_host_*",
         "is one machine's SSH host key; who reads the release could impersonate all VMs"},
        {"etc/hostname", "is one machine's name"},
        {"etc/machine-info", "is one machine's name and place"},
        {"etc/passwd", "is one machine's own list of accounts"},
        {"etc/passwd-", "is one machine's own list of accounts"},
        {"etc/group", "is one machine's own list of groups"},
        {"etc/group-", "is one machine's own list of groups"},
        {"etc/shadow", "holds one machine's own password hashes"},
        {"etc/shadow-", "holds one machine's own password hashes"},
        {"etc/gshadow", "holds one machine's own password hashes"},
        {"etc/gshadow-", "holds one machine's own password hashes"},
        {"etc/subuid", "is one machine's own allotment of user ids"},
        {"etc/subgid", "is one machine's own allotment of group ids"},
        {"etc/fstab", "names one machine's own disks"},
        {"etc/crypttab", "names one machine's own disks"},
        {"etc/resolv.conf", "is written by one machine's own network set-up"},
        {"etc/adjtime", "describes one machine's own clock"},
        {"etc/krb5.keytab", "holds one machine's own Kerberos keys"},
        {"etc/iscsi/initiatorname.iscsi", "names one machine; two with the same write to each other's disks"},
        {"etc/nvme/hostid", "names one machine; two with the same write to each other's disks"},
        {"etc/nvme/hostnqn", "names one machine; two with the same write to each other's disks"},
        {"etc/lvm/devices/system.devices", "names one machine's own disks"},
        {"etc/udev/rules.d/70-persistent-*", "names one machine's own network cards"},
        {"etc/ssl/private/ssl-cert-snakeoil.key", "is one machine's own TLS key"},
        {"etc/NetworkManager/system-connections/*", "is one machine's own network set-up"},
        {"var/lib/NetworkManager/secret_key", "is one machine's own secret"},
        {"var/lib/NetworkManager/seen-bssids", "is one machine's own network history"},
        {"var/lib/NetworkManager/*.lease", "is one machine's own DHCP lease"},
        {"var/lib/dhcp/*", "is one machine's own DHCP lease"},
        {"var/lib/dhclient/*", "is one machine's own DHCP lease"},
        {"var/lib/systemd/random-seed", "is one machine's own randomness; shared, keys become guessable"},
        {"var/lib/systemd/credential.secret", "is one machine's own secret"},
        {"var/lib/urandom/random-seed", "is one machine's own randomness; shared, keys become guessable"},
        {"var/lib/cloud/instance", "is one machine's own cloud-init state"},
        {"var/lib/cloud/instances/*", "is one machine's own cloud-init state"},
        {"var/lib/cloud/data/*", "is one machine's own cloud-init state"},
        {"var/lib/moult/*", "is the agent's own journal and identity in one machine"},
        {".moult/*", "is the agent's own staging area in one machine"},
        {"*/.moult/*", "is the agent's own staging area in one machine"},
        {"root/.ssh/id_*", "is one machine's own SSH key"},
        {"home/*/.ssh/id_*", "is one user's own SSH key"},
};

const char *build_per_vm_reason(const char *path)
{
        for (size_t i = 0; i < sizeof per_vm / sizeof *per_vm; i++)
                if (fnmatch(per_vm[i].glob, path, 0) == 0)
                        return per_vm[i].reason;
        return NULL;
}
