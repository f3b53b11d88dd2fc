/* guest-agent/upgrade/commit_walk.c - where the steps of a durable plan find their objects. */
#include "guest-agent/upgrade/commit_walk.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/fs_beneath.h"
#include "guest-agent/upgrade/staging_area.h"
#include "proto/message.h"

void commit_walk_begin(struct commit_walk *w, const struct commit_context *c, GString *notes)
{
        *w = (struct commit_walk){.c = c, .notes = notes, .parent_fd = -1, .parent = -1};
        w->tops = g_new(int, c->plan->n_areas + 1);
        w->areas = g_new(int, c->plan->n_areas + 1);
        for (size_t i = 0; i < c->plan->n_areas; i++)
                w->tops[i] = w->areas[i] = -1;
}

void commit_walk_end(struct commit_walk *w)
{
        for (size_t i = 0; i < w->c->plan->n_areas; i++) {
                if (w->tops[i] >= 0)
                        close(w->tops[i]);
                if (w->areas[i] >= 0)
                        close(w->areas[i]);
        }
        g_free(w->tops);
        g_free(w->areas);
        if (w->parent_fd >= 0)
                close(w->parent_fd);
}

char *commit_binary_text(ProtobufCBinaryData b)
{
        return b.len > 0 ? g_strndup((const char *)b.data, b.len) : g_strdup("");
}

void commit_walk_note(struct commit_walk *w, const Moult__Record__Step *s, const char *text)
{
        g_autofree char *path = message_string(w->c->manifest->entries[s->entry]->path);
        g_string_append_printf(w->notes, "/%s: %s\n", path, text);
}

gboolean commit_area_is_overlay(const Moult__Record__Plan *plan, guint32 area)
{
        ProtobufCBinaryData fs = plan->areas[area]->file_system;
        return fs.len == 7 && memcmp(fs.data, "overlay", 7) == 0;
}

gboolean commit_area_is_used(const Moult__Record__Plan *plan, guint32 area)
{
        for (size_t i = 0; i < plan->n_directories; i++)
                if (plan->directories[i]->area == area && plan->directories[i]->old != NULL)
                        return TRUE;
        return FALSE;
}

gboolean commit_area_has_steps(const Moult__Record__Plan *plan, guint32 area)
{
        for (size_t i = 0; i < plan->n_steps; i++)
                if (plan->directories[plan->steps[i]->directory]->area == area)
                        return TRUE;
        return FALSE;
}

/* Only the type of an overlay says something: its directories are numbered anew at each mount. */
static gboolean top_is_known(const Moult__Record__Plan *plan, guint32 area)
{
        return plan->areas[area]->fs_magic != 0 && !commit_area_is_overlay(plan, area);
}

static gboolean top_is_planned(const Moult__Record__Plan *plan, guint32 area, int fd, gboolean *ret,
                               GError **error)
{
        const Moult__Record__Area *a = plan->areas[area];
        struct statfs fs;
        struct object_facts f;
        *ret = TRUE;
        if (a->fs_magic == 0) /* recorded by an older agent */
                return TRUE;
        if (fstatfs(fd, &fs) < 0)
                return moult_error_errno(error, errno, "asking for the type of a file system");
        if (!classify_look(fd, "", &f, error))
                return FALSE;
        *ret = (guint32)fs.f_type == a->fs_magic;
        if (top_is_known(plan, area))
                *ret = *ret && f.inode == a->inode &&
                       (a->birth_ns == 0 || f.birth_ns == 0 || f.birth_ns == a->birth_ns);
        return TRUE;
}

static int gone_with_memory(struct commit_walk *w, guint32 area)
{
        g_autofree char *path = commit_binary_text(w->c->plan->areas[area]->path);
        g_string_append_printf(w->notes, "/%s: was in memory and is gone with the reboot\n", path);
        return WALK_GONE;
}

int commit_walk_top(struct commit_walk *w, guint32 area, GError **error)
{
        if (w->tops[area] != -1)
                return w->tops[area];
        const Moult__Record__Area *a = w->c->plan->areas[area];
        g_autofree char *path = commit_binary_text(a->path);
        g_autoptr(GError) why = NULL;
        gboolean planned = FALSE;
        scoped_fd int fd =
                fs_beneath_open(w->c->root_fd, *path != '\0' ? path : ".", O_RDONLY | O_DIRECTORY, 0, &why);
        if (fd < 0 && errno != ENOENT && errno != ENOTDIR) {
                g_propagate_error(error, g_steal_pointer(&why));
                return WALK_ERROR;
        }
        if (fd >= 0 && !top_is_planned(w->c->plan, area, fd, &planned, error))
                return WALK_ERROR;
        if (planned) {
                w->tops[area] = g_steal_fd(&fd);
        } else if (a->volatile_memory) {
                w->tops[area] = gone_with_memory(w, area);
        } else {
                g_autofree char *mount = commit_binary_text(a->mount),
                                *type = commit_binary_text(a->file_system);
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND,
                            "is %s mounted? /%s is not on the file system (%s) that the upgrade was made on",
                            mount, path, type);
                return WALK_ERROR;
        }
        return w->tops[area];
}

int commit_walk_area(struct commit_walk *w, guint32 area, GError **error)
{
        if (w->areas[area] != -1)
                return w->areas[area];
        int top = commit_walk_top(w, area, error);
        if (top < 0)
                return top;
        const Moult__Record__Area *a = w->c->plan->areas[area];
        g_autofree char *path = commit_binary_text(a->path);
        g_autoptr(GError) why = NULL;
        int fd = staging_area_open(w->c->root_fd, path, w->c->generation, STAGING_OPEN, &why);
        if (fd >= 0)
                return w->areas[area] = fd;
        gboolean missing = g_error_matches(why, MOULT_ERROR, MOULT_ERROR_NOT_FOUND);
        if (missing && a->volatile_memory)
                return w->areas[area] = gone_with_memory(w, area);
        if (missing && top_is_known(w->c->plan, area)) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT,
                            "the files that were kept for it are gone, somebody has removed them: %s",
                            why->message);
                return WALK_ERROR;
        }
        g_autofree char *mount = commit_binary_text(a->mount);
        g_propagate_prefixed_error(error, g_steal_pointer(&why), "is %s mounted? ", mount);
        return WALK_ERROR;
}

int commit_walk_directory(struct commit_walk *w, guint32 index, GError **error)
{
        if (w->parent == (gint64)index)
                return w->parent_fd;
        const Moult__Record__Directory *d = w->c->plan->directories[index];
        int top = commit_walk_top(w, d->area, error);
        if (top < 0)
                return top;
        g_autofree char *path = commit_binary_text(d->path);
        g_autoptr(GError) why = NULL;
        scoped_fd int fd =
                fs_beneath_open(w->c->root_fd, *path != '\0' ? path : ".", O_PATH | O_DIRECTORY, 0, &why);
        struct object_facts f = {0};
        if (fd < 0 && errno != ENOENT && errno != ENOTDIR && errno != ELOOP) {
                g_propagate_error(error, g_steal_pointer(&why));
                return WALK_ERROR;
        }
        if (fd >= 0 && !classify_look(fd, "", &f, error))
                return WALK_ERROR;
        if (fd < 0 || (f.inode != d->inode && !commit_area_is_overlay(w->c->plan, d->area))) {
                if (!w->c->recovering) {
                        g_set_error(error, MOULT_ERROR, MOULT_ERROR_DRIFT,
                                    "the directory /%s was moved meanwhile", path);
                        return WALK_ERROR;
                }
                g_string_append_printf(
                        w->notes, "/%s: the directory is not the planned one any more: left alone\n", path);
                return WALK_GONE;
        }
        if (w->parent_fd >= 0)
                close(w->parent_fd);
        w->parent_fd = g_steal_fd(&fd);
        w->parent = index;
        return w->parent_fd;
}

int commit_walk_places(struct commit_walk *w, const Moult__Record__Step *s, struct commit_places *p,
                       GError **error)
{
        p->staged_fd = commit_walk_area(w, w->c->plan->directories[s->directory]->area, error);
        if (p->staged_fd < 0)
                return p->staged_fd == WALK_GONE ? 0 : -1;
        p->live_fd = commit_walk_directory(w, s->directory, error);
        if (p->live_fd < 0)
                return p->live_fd == WALK_GONE ? 0 : -1;
        memcpy(p->live_name, s->name.data, MIN(s->name.len, (size_t)NAME_MAX));
        p->live_name[MIN(s->name.len, (size_t)NAME_MAX)] = '\0';
        g_snprintf(p->staged_name, sizeof p->staged_name, "%u", s->entry);
        if (!classify_look(p->live_fd, p->live_name, &p->live, error) ||
            !classify_look(p->staged_fd, p->staged_name, &p->staged, error))
                return -1;
        return 1;
}

/* A number alone may have been used again after somebody removed the object. On an overlay the number of a
 * directory lasts as long as the mount: there the time of birth must do. */
static gboolean is_object(const struct commit_walk *w, const Moult__Record__Step *s,
                          const struct object_facts *f, guint64 inode, gint64 birth_ns)
{
        if (!f->exists || inode == 0 || (birth_ns != 0 && f->birth_ns != 0 && f->birth_ns != birth_ns))
                return FALSE;
        return f->inode == inode ||
               (S_ISDIR(f->mode) &&
                commit_area_is_overlay(w->c->plan, w->c->plan->directories[s->directory]->area));
}

gboolean commit_is_new(const struct commit_walk *w, const Moult__Record__Step *s,
                       const struct object_facts *f)
{
        return is_object(w, s, f, s->new_inode, s->new_birth_ns);
}

gboolean commit_is_old(const struct commit_walk *w, const Moult__Record__Step *s,
                       const struct object_facts *f)
{
        return is_object(w, s, f, s->old_inode, s->old_birth_ns);
}
