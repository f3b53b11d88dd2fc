/* guest-agent/upgrade/commit.c - the switch, and the way back: idempotent, from the durable plan alone. */
#include "guest-agent/upgrade/commit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fault.h"
#include "common/fd.h"
#include "common/metadata.h"
#include "guest-agent/upgrade/commit_children.h"
#include "guest-agent/upgrade/commit_walk.h"
#include "guest-agent/upgrade/record_metadata.h"
#include "guest-agent/upgrade/staging_area.h"
#include "proto/message.h"
#include "shm/entry_metadata.h"

static gboolean is_overlay(const struct commit_walk *w, const Moult__Record__Step *s)
{
        return commit_area_is_overlay(w->c->plan, w->c->plan->directories[s->directory]->area);
}

static gboolean move_fails(const struct commit_walk *w, const Moult__Record__Step *s, GError **error)
{
        int saved = errno;
        g_autofree char *path = message_string(w->c->manifest->entries[s->entry]->path);
        return moult_error_errno(error, saved, "switching /%s", path);
}

/* Somebody else's object is under the live name. */
static gboolean foreign(struct commit_walk *w, const Moult__Record__Step *s, GError **error)
{
        if (w->c->recovering) {
                commit_walk_note(w, s, "changed by somebody else since: left alone");
                return TRUE;
        }
        g_autofree char *path = message_string(w->c->manifest->entries[s->entry]->path);
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_DRIFT, "/%s was changed by somebody else meanwhile",
                    path);
        return FALSE;
}

/* What came out must be what was looked at: between the look and the rename somebody may have replaced it, or
 * put a file into the directory. @flags: those of the rename that puts it back. */
static gboolean check_taken(struct commit_walk *w, const Moult__Record__Step *s,
                            const struct commit_places *p, unsigned flags, GError **error)
{
        struct object_facts out;
        if (!classify_look(p->staged_fd, p->staged_name, &out, error))
                return FALSE;
        gboolean planned = commit_is_old(w, s, &out) || is_overlay(w, s);
        if (planned && S_ISDIR(out.mode)) {
                g_autofree char *path = manifest_entry_path(w->c->manifest->entries[s->entry]);
                g_autofree char *unknown = commit_children_unexpected(w->c->manifest, p->staged_fd,
                                                                      p->staged_name, path, CHILDREN_DELETED);
                planned = unknown == NULL;
        }
        if (planned)
                return TRUE;
        if (renameat2(p->staged_fd, p->staged_name, p->live_fd, p->live_name, flags) < 0)
                return move_fails(w, s, error);
        return foreign(w, s, error);
}

static gboolean forward_one(struct commit_walk *w, const Moult__Record__Step *s, GError **error)
{
        struct commit_places p;
        int found = commit_walk_places(w, s, &p, error);
        if (found <= 0)
                return found == 0;
        if (s->kind == MOULT__RECORD__SWITCH__SWITCH_REMOVE) {
                if (p.staged.exists || !p.live.exists)
                        return TRUE; /* done (or done by somebody else) */
                if (!commit_is_old(w, s, &p.live))
                        return foreign(w, s, error);
                if (renameat2(p.live_fd, p.live_name, p.staged_fd, p.staged_name, RENAME_NOREPLACE) < 0)
                        return move_fails(w, s, error);
                return check_taken(w, s, &p, RENAME_NOREPLACE, error);
        }
        if (commit_is_new(w, s, &p.live))
                return TRUE;
        if (!commit_is_new(w, s, &p.staged)) {
                if (w->c->recovering) {
                        commit_walk_note(w, s, "the new object was taken away by somebody else since");
                        return TRUE;
                }
                return foreign(w, s, error);
        }
        if (s->kind == MOULT__RECORD__SWITCH__SWITCH_CREATE) {
                if (p.live.exists)
                        return foreign(w, s, error);
                if (renameat2(p.staged_fd, p.staged_name, p.live_fd, p.live_name, RENAME_NOREPLACE) < 0)
                        return move_fails(w, s, error);
                return TRUE;
        }
        if (!commit_is_old(w, s, &p.live))
                return foreign(w, s, error);
        if (renameat2(p.staged_fd, p.staged_name, p.live_fd, p.live_name, RENAME_EXCHANGE) < 0)
                return move_fails(w, s, error);
        return check_taken(w, s, &p, RENAME_EXCHANGE, error);
}

static gboolean back_one(struct commit_walk *w, const Moult__Record__Step *s, GError **error)
{
        struct commit_places p;
        int found = commit_walk_places(w, s, &p, error);
        if (found <= 0)
                return found == 0;
        gboolean ours = commit_is_new(w, s, &p.live);
        int r = 0;
        switch (s->kind) {
        case MOULT__RECORD__SWITCH__SWITCH_CREATE:
                if (p.staged.exists || !p.live.exists)
                        return TRUE;
                if (!ours && !w->c->force)
                        return foreign(w, s, error);
                r = renameat2(p.live_fd, p.live_name, p.staged_fd, p.staged_name, RENAME_NOREPLACE);
                break;
        case MOULT__RECORD__SWITCH__SWITCH_REMOVE:
                if (!p.staged.exists)
                        return TRUE;
                if (p.live.exists && !w->c->force)
                        return foreign(w, s, error);
                r = renameat2(p.staged_fd, p.staged_name, p.live_fd, p.live_name,
                              p.live.exists ? RENAME_EXCHANGE : RENAME_NOREPLACE);
                break;
        default:
                /* The new object in staging: not switched, or switched back already. */
                if (!p.staged.exists || commit_is_new(w, s, &p.staged))
                        return TRUE;
                if (!ours && !w->c->force)
                        return foreign(w, s, error);
                if (!commit_is_old(w, s, &p.staged) &&
                    !is_overlay(w, s)) /* an exchange by force that was done */
                        return TRUE;
                r = renameat2(p.staged_fd, p.staged_name, p.live_fd, p.live_name,
                              p.live.exists ? RENAME_EXCHANGE : RENAME_NOREPLACE);
        }
        return r == 0 ? TRUE : move_fails(w, s, error);
}

/* Metadata of an existing directory: the entry's, or as they were. */
static gboolean directory_apply(struct commit_walk *w, guint32 index, gboolean forward, GError **error)
{
        const Moult__Record__Directory *d = w->c->plan->directories[index];
        if (d->old == NULL || (forward && d->entry == 0))
                return TRUE;
        int fd = commit_walk_directory(w, index, error);
        if (fd < 0)
                return fd == WALK_GONE;
        g_autofree char *path = commit_binary_text(d->path);
        scoped_fd int readable = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (readable < 0)
                return moult_error_errno(error, errno, "opening the directory /%s", path);
        struct metadata_object o = {-1, path, readable};
        g_autoptr(Metadata) want = forward ? metadata_from_entry(w->c->manifest->entries[d->entry - 1])
                                           : metadata_from_record(d->old);
        int fake = fault_point(forward ? "switch-directory" : "back-directory");
        if (fake != 0)
                return moult_error_errno(error, fake, "changing the directory /%s", path);
        if (d->entry == 0)
                return metadata_set_mtime(&o, &want->mtime, error);
        if (!metadata_apply(&o, S_IFDIR, want, FALSE, error))
                return FALSE;
        return !forward || w->c->recovering || metadata_verify(&o, S_IFDIR, want, error);
}

/* Deepest first: nothing below a directory is touched after it. */
static gboolean directories_apply(struct commit_walk *w, GError **error)
{
        for (size_t i = w->c->plan->n_directories; i > 0; i--)
                if (!directory_apply(w, (guint32)(i - 1), TRUE, error))
                        return FALSE;
        return TRUE;
}

static gboolean sync_directory(struct commit_walk *w, int dirfd, const char *what, GError **error)
{
        scoped_fd int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || fsync(fd) < 0)
                return moult_error_errno(error, errno, "syncing the directory %s", what);
        return TRUE;
}

/* Before anything is written: syncfs tells of the errors since its descriptor was opened, and a file system
 * that is missing is found while nothing was moved. */
static gboolean open_areas(struct commit_walk *w, GError **error)
{
        for (guint32 i = 0; i < w->c->plan->n_areas; i++)
                if (commit_area_is_used(w->c->plan, i) && commit_walk_top(w, i, error) == WALK_ERROR)
                        return FALSE;
        return TRUE;
}

static gboolean sync_areas(struct commit_walk *w, const char *skip, GError **error)
{
        int fake = fault_point("sync");
        for (guint32 i = 0; i < w->c->plan->n_areas; i++) {
                if (!commit_area_is_used(w->c->plan, i))
                        continue;
                int top = commit_walk_top(w, i, error);
                if (top == WALK_ERROR)
                        return FALSE;
                if (top == WALK_GONE)
                        continue;
                int fd = w->c->area_fds != NULL && w->c->area_fds[i] >= 0 ? w->c->area_fds[i] : top;
                if (fake == 0 && (fault_skip(skip) || syncfs(fd) == 0))
                        continue;
                int saved = fake != 0 ? fake : errno;
                g_autofree char *path = commit_binary_text(w->c->plan->areas[i]->path);
                return moult_error_errno(error, saved, "syncing the file system of /%s", path);
        }
        return TRUE;
}

/* Gentle: no whole file system is flushed, which would make everybody in the guest wait. */
static gboolean sync_gently(struct commit_walk *w, const char *skip, GError **error)
{
        if (fault_skip(skip))
                return TRUE;
        for (guint32 i = 0; i < w->c->plan->n_areas; i++) {
                if (!commit_area_has_steps(w->c->plan, i))
                        continue;
                int fd = commit_walk_area(w, i, error);
                if (fd == WALK_ERROR || (fd >= 0 && !sync_directory(w, fd, "of staged files", error)))
                        return FALSE;
                g_autofree char *path = commit_binary_text(w->c->plan->areas[i]->path);
                if (fd >= 0 && !staging_area_sync(w->c->root_fd, path, error))
                        return FALSE;
        }
        for (guint32 i = 0; i < w->c->plan->n_directories; i++) {
                if (w->c->plan->directories[i]->old == NULL)
                        continue;
                int fd = commit_walk_directory(w, i, error);
                g_autofree char *path = commit_binary_text(w->c->plan->directories[i]->path);
                if (fd == WALK_ERROR || (fd >= 0 && !sync_directory(w, fd, path, error)))
                        return FALSE;
        }
        return TRUE;
}

static gboolean sync_all(struct commit_walk *w, const char *skip, GError **error)
{
        return w->c->gentle ? sync_gently(w, skip, error) : sync_areas(w, skip, error);
}

static gboolean point(const char *name, GError **error)
{
        int fake = fault_point(name);
        return fake == 0 ? TRUE : moult_error_errno(error, fake, "switching");
}

static gboolean is_agent(const Moult__Record__Plan *plan, const Moult__Record__Step *s)
{
        return plan->agent != 0 && s->entry == plan->agent - 1;
}

gboolean commit_forward(const struct commit_context *c, GString *notes, GError **error)
{
        struct commit_walk w;
        commit_walk_begin(&w, c, notes);
        gboolean ok = open_areas(&w, error);
        for (size_t i = 0; ok && i < c->plan->n_steps; i++)
                ok = (c->leave_agent && is_agent(c->plan, c->plan->steps[i])) ||
                     (point("switch", error) && forward_one(&w, c->plan->steps[i], error));
        ok = ok && point("switched-all", error) && directories_apply(&w, error) &&
             sync_all(&w, "sync-switched", error);
        commit_walk_end(&w);
        return ok;
}

static const Moult__Record__Step *agent_step(const Moult__Record__Plan *plan)
{
        for (size_t i = 0; i < plan->n_steps; i++)
                if (is_agent(plan, plan->steps[i]))
                        return plan->steps[i];
        return NULL;
}

static gboolean open_staged_agent(struct commit_walk *w, const Moult__Record__Step *s, int *ret_fd,
                                  GError **error)
{
        struct commit_places p;
        int found = commit_walk_places(w, s, &p, error);
        if (found <= 0)
                return found == 0;
        if (!commit_is_new(w, s, &p.staged))
                return TRUE;
        *ret_fd = openat(p.staged_fd, p.staged_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        return *ret_fd >= 0 ? TRUE : moult_error_errno(error, errno, "opening the new agent");
}

gboolean commit_open_agent(const struct commit_context *c, int *ret_fd, GError **error)
{
        const Moult__Record__Step *s = agent_step(c->plan);
        g_autoptr(GString) notes = g_string_new(NULL);
        struct commit_walk w;
        *ret_fd = -1;
        if (s == NULL)
                return TRUE;
        commit_walk_begin(&w, c, notes);
        gboolean ok = open_staged_agent(&w, s, ret_fd, error);
        commit_walk_end(&w);
        return ok;
}

gboolean commit_forward_agent(const struct commit_context *c, GString *notes, GError **error)
{
        const Moult__Record__Step *s = agent_step(c->plan);
        struct commit_walk w;
        if (s == NULL)
                return TRUE;
        commit_walk_begin(&w, c, notes);
        gboolean ok = open_areas(&w, error) && point("switch-agent", error) && forward_one(&w, s, error) &&
                      directory_apply(&w, s->directory, TRUE, error) &&
                      sync_all(&w, "sync-switched", error) && point("switched-agent", error);
        commit_walk_end(&w);
        return ok;
}

static void keep_first(GError **first, GError *why)
{
        if (*first == NULL)
                *first = why;
        else
                g_error_free(why);
}

/* One object that cannot be moved does not keep the others from going back. */
static gboolean everything_back(struct commit_walk *w, GError **error)
{
        const Moult__Record__Plan *plan = w->c->plan;
        GError *first = NULL, *why = NULL;
        for (size_t i = plan->n_steps; i > 0; i--)
                if (!point("back", &why) || !back_one(w, plan->steps[i - 1], &why))
                        keep_first(&first, g_steal_pointer(&why));
        if (!point("back-all", &why))
                keep_first(&first, g_steal_pointer(&why));
        for (size_t i = plan->n_directories; i > 0; i--)
                if (!directory_apply(w, (guint32)(i - 1), FALSE, &why))
                        keep_first(&first, g_steal_pointer(&why));
        if (first == NULL)
                return TRUE;
        g_propagate_error(error, first);
        return FALSE;
}

gboolean commit_back(const struct commit_context *c, GString *notes, GError **error)
{
        struct commit_context lenient = *c;
        struct commit_walk w;
        lenient.recovering = TRUE; /* the way back never stops at what somebody else did */
        commit_walk_begin(&w, &lenient, notes);
        gboolean ok = open_areas(&w, error) && everything_back(&w, error) &&
                      sync_all(&w, "sync-rolled-back", error);
        commit_walk_end(&w);
        return ok;
}

gboolean commit_sync_staged(const struct commit_context *c, GError **error)
{
        struct commit_walk w;
        g_autoptr(GString) notes = g_string_new(NULL);
        commit_walk_begin(&w, c, notes);
        gboolean ok = sync_all(&w, "sync-staged", error);
        commit_walk_end(&w);
        return ok;
}
