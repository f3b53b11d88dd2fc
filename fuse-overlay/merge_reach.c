/* fuse-overlay/merge_reach.c - would the machine see what is merged?
 *
 * What is mounted on a mount appears on its peers, too: the mounts with the same peer group, whatever
 * namespace they are in. A service manager's sandboxes copy the namespace and make the copies slaves: then
 * nothing gets out. */
#include "fuse-overlay/merge_reach.h"

#include <sys/stat.h>

#include "common/error.h"

/* What lies on top at @point. */
static const struct mount *top_at(const MountTable *t, const char *point)
{
        for (guint i = mount_table_size(t); i > 0; i--)
                if (g_str_equal(mount_table_get(t, i - 1)->point, point))
                        return mount_table_get(t, i - 1);
        return NULL;
}

static gboolean has_peer(const MountTable *t, guint64 peer_group)
{
        for (guint i = 0; i < mount_table_size(t); i++)
                if (mount_table_get(t, i)->peer_group == peer_group)
                        return TRUE;
        return FALSE;
}

static gboolean is_seen(const MountTable *own, const MountTable *machine, const char *point)
{
        const struct mount *m = top_at(own, point);
        return m != NULL && m->shared && has_peer(machine, m->peer_group);
}

const char *merge_reach_hidden(const Target *t, const MountTable *own, const MountTable *machine)
{
        for (guint i = 0; i < target_n_merges(t); i++) {
                struct target_merge merge = target_get_merge(t, i);
                g_autofree char *point = g_strconcat("/", merge.mount, NULL);
                if (!is_seen(own, machine, point))
                        return merge.path;
        }
        return NULL;
}

/* REACH_HIDDEN: another namespace; the mounts were not compared. */
static enum merge_reach compare_namespaces(void)
{
        struct stat ours, init;
        if (stat("/proc/self/ns/mnt", &ours) < 0 || stat("/proc/1/ns/mnt", &init) < 0)
                return REACH_UNKNOWN;
        return ours.st_ino == init.st_ino && ours.st_dev == init.st_dev ? REACH_SAME : REACH_HIDDEN;
}

enum merge_reach merge_reach_of_root(void)
{
        enum merge_reach reach = compare_namespaces();
        if (reach != REACH_HIDDEN)
                return reach;
        g_autoptr(MountTable) own = mount_table_load(NULL);
        g_autoptr(MountTable) machine = mount_table_load_file("/proc/1/mountinfo", NULL);
        if (own == NULL || machine == NULL)
                return REACH_UNKNOWN;
        return is_seen(own, machine, "/") ? REACH_SHARED : REACH_HIDDEN;
}

gboolean merge_reach_check(const Target *t, GError **error)
{
        /* Where process 1 cannot be looked at, there is no other namespace that we could compare with. */
        if (compare_namespaces() != REACH_HIDDEN)
                return TRUE;
        g_autoptr(MountTable) own = mount_table_load(error);
        g_autoptr(MountTable) machine =
                own != NULL ? mount_table_load_file("/proc/1/mountinfo", error) : NULL;
        if (machine == NULL)
                return FALSE;
        const char *hidden = merge_reach_hidden(t, own, machine);
        if (hidden == NULL)
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                    "/%s cannot be written and has to be merged, but the agent runs in a mount namespace of "
                    "its own: "
                    "nobody else would see the merge. Nothing was touched. Take what makes that namespace "
                    "out of the "
                    "agent's unit (Private*=, Protect*=, ReadOnlyPaths=, MountFlags= and their like: "
                    "\"systemctl cat "
                    "moult-agent\"), restart the agent and push again",
                    hidden);
        return FALSE;
}
