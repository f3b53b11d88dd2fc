/* guest-agent/facts_places.c - the file systems on which files are upgraded, and that of the agent's state.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/statvfs.h>

#include "common/fd.h"
#include "fuse-overlay/mount_api.h"
#include "guest-agent/facts.h"
#include "proto/limits.h"

/* A server that is dead must not hold us. */
static gboolean may_be_asked(FsKind kind)
{
        return kind != FS_NETWORK && kind != FS_FOREIGN;
}

static void ask(Moult__FactsPlace *p, int fd)
{
        struct statvfs s;

        if (fstatvfs(fd, &s) < 0)
                return;
        p->size_bytes = (guint64)s.f_blocks * s.f_frsize;
        p->free_bytes = MIN((guint64)s.f_bavail * s.f_frsize, p->size_bytes);
        p->inodes = s.f_files;
        p->free_inodes = MIN(s.f_favail, s.f_files);
}

static Moult__FactsPlace *place_new(const struct mount *m, int fd)
{
        Moult__FactsPlace *p = g_new0(Moult__FactsPlace, 1);
        FsKind kind = fs_kind_of(m->type);

        moult__facts_place__init(p);
        facts_set(&p->point, g_strdup(m->point), LIMIT_PATH_BYTES);
        facts_set(&p->type, g_strdup(m->type), LIMIT_FACTS_WORD);
        p->read_only = m->read_only || m->super_read_only || kind == FS_READ_ONLY_FORMAT;
        if (may_be_asked(kind))
                ask(p, fd);
        return p;
}

struct look {
        Moult__Facts *facts;
        const MountTable *mounts;
        guint64 seen[LIMIT_FACTS_PLACES]; /* ids of mounts, beside facts->places */
};

static void look_at(struct look *l, const char *path, gboolean state)
{
        scoped_fd int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        guint64 id = fd >= 0 ? mount_api_id(fd) : 0;
        const struct mount *m = id ? mount_table_find(l->mounts, id) : NULL;
        size_t n = l->facts->n_places;

        for (size_t i = 0; m && i < n; i++)
                if (l->seen[i] == id) {
                        l->facts->places[i]->state = l->facts->places[i]->state || state;
                        return;
                }
        if (!m || n == LIMIT_FACTS_PLACES)
                return;
        l->facts->places[n] = place_new(m, fd);
        l->facts->places[n]->state = state;
        l->seen[n] = id;
        l->facts->n_places++;
}

void facts_look_places(Moult__Facts *f, const char *root, const char *state)
{
        /* Where distributions put what releases change, and what is often a file system of its own. */
        static const char *const below[] = {"",    "usr", "usr/local", "etc",     "var",
                                            "opt", "srv", "boot",      "boot/efi"};
        g_autoptr(MountTable) mounts = mount_table_load(NULL);
        struct look l = {.facts = f, .mounts = mounts};

        if (!mounts)
                return;
        f->places = g_new0(Moult__FactsPlace *, LIMIT_FACTS_PLACES);
        for (guint i = 0; i < G_N_ELEMENTS(below); i++) {
                g_autofree char *path = g_build_filename(root, below[i], NULL);

                look_at(&l, path, FALSE);
        }
        look_at(&l, state, TRUE);
}
