/* guest-agent/upgrade/kept.c - the file lists that are kept with the generations, for those who only look. */
#include "guest-agent/upgrade/kept.h"

#include <fcntl.h>
#include <string.h>

#include "common/error.h"
#include "common/fd.h"
#include "guest-agent/upgrade/engine.h"
#include "proto/message.h"

void kept_release_clear(struct kept_release *k)
{
        g_clear_pointer(&k->release, g_free);
        g_clear_pointer(&k->manifest, manifest_free);
}

struct seeking {
        const guint8 *push_id; /* NULL: the newest committed one */
        Generation *found;
};

static gboolean is_sought(Upgrade *u, Generation **g, gpointer user)
{
        struct seeking *s = user;
        gboolean is = s->push_id == NULL
                              ? history_is_way_back(*g)
                              : generation_is_push(*g, s->push_id) || rollback_is_by_push(*g, s->push_id);
        if (is)
                s->found = g_steal_pointer(g);
        return is;
}

gboolean upgrade_kept_release(Upgrade *u, const guint8 *push_id, struct kept_release *ret, GError **error)
{
        struct seeking s = {push_id, NULL};
        if (!history_each(u, is_sought, &s, error))
                return FALSE;
        g_autoptr(Generation) g = s.found;
        if (g == NULL) {
                g_set_error_literal(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND,
                                    push_id != NULL
                                            ? "this push has left nothing in the history of this machine"
                                            : "moult has no committed upgrade on this machine");
                return FALSE;
        }
        Manifest *m = generation_load_manifest(g, error);
        if (m == NULL)
                return FALSE;
        *ret = (struct kept_release){.generation = g->number, .manifest = m};
        if (g->offer != NULL)
                ret->release = message_string(g->offer->release);
        return TRUE;
}

const char *upgrade_root(const Upgrade *u)
{
        return u->root;
}

int upgrade_kept_directory(const Upgrade *u)
{
        return u->state_fd >= 0 ? fcntl(u->state_fd, F_DUPFD_CLOEXEC, 3) : -1;
}

Manifest *kept_manifest_at(int directory, guint64 generation)
{
        g_autofree char *path = g_strdup_printf("generations/%" G_GUINT64_FORMAT, generation);
        scoped_fd int fd = openat(directory, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        Generation g = {.number = generation, .dirfd = fd};
        return fd >= 0 ? generation_load_manifest(&g, NULL) : NULL;
}

gboolean upgrade_restart_unit(Upgrade *u, const char *unit, GError **error)
{
        struct hook_context c = {.root = u->root, .init_command = u->init_command};
        return unit_restart_one(&c, unit, error);
}
