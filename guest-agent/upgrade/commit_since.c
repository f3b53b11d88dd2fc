/* guest-agent/upgrade/commit_since.c - what has become of a generation's objects since its switch: can it go
 * back, what would be lost, and what must be kept when its staging areas are removed. */
#include <string.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "guest-agent/upgrade/commit_children.h"
#include "guest-agent/upgrade/commit_walk.h"
#include "guest-agent/upgrade/staging_area.h"
#include "proto/message.h"

#define CHANGED_SHOWN 12u

/* NULL, or why no rename can move the object: going back would stop half-way, and stay there. */
static const char *held_fast(const struct object_facts *o, const struct object_facts *directory)
{
        if (!o->exists)
                return NULL;
        if (o->immutable || o->append_only)
                return "an immutable or append-only flag was set on it since (lsattr, chattr -ia)";
        if (o->mount_id != directory->mount_id)
                return "something was mounted on it since";
        return NULL;
}

static gboolean can_move(const struct commit_places *p, const Moult__Entry *e, GError **error)
{
        struct object_facts live_dir, staged_dir;
        if (!classify_look(p->live_fd, "", &live_dir, error) ||
            !classify_look(p->staged_fd, "", &staged_dir, error))
                return FALSE;
        const char *why = held_fast(&p->live, &live_dir);
        if (why == NULL)
                why = held_fast(&p->staged, &staged_dir);
        if (why == NULL && (live_dir.immutable || live_dir.append_only))
                why = "an immutable or append-only flag was set on its directory since (lsattr -d, chattr "
                      "-ia)";
        if (why == NULL)
                return TRUE;
        g_autofree char *path = message_string(e->path);
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED, "nothing was touched: /%s cannot go back: %s",
                    path, why);
        return FALSE;
}

/* The path that was changed, as the manifest calls it; NULL: the step's object is as the switch left it. */
static char *changed_path(struct commit_walk *w, const Moult__Record__Step *s, const struct commit_places *p)
{
        const Manifest *m = w->c->manifest;
        const Moult__Entry *e = m->entries[s->entry];
        g_autofree char *path = manifest_entry_path(e);
        if (s->kind == MOULT__RECORD__SWITCH__SWITCH_REMOVE)
                return p->live.exists ? g_steal_pointer(&path) : NULL;
        if (!commit_is_new(w, s, &p->live))
                return g_steal_pointer(&path);
        if (S_ISDIR(p->live.mode))
                return commit_children_unexpected(m, p->live_fd, p->live_name, path, CHILDREN_CHANGED);
        if (e->type == MOULT__ENTRY_TYPE__ENTRY_HARDLINK)
                return NULL; /* its file's own entry tells */
        return commit_differs_from_entry(m, &p->live, e) ? g_steal_pointer(&path) : NULL;
}

static gboolean list_changed(struct commit_walk *w, GString *names, guint *n, GError **error)
{
        for (size_t i = 0; i < w->c->plan->n_steps; i++) {
                const Moult__Record__Step *s = w->c->plan->steps[i];
                const Moult__Entry *e = w->c->manifest->entries[s->entry];
                struct commit_places p;
                int found = commit_walk_places(w, s, &p, error);
                if (found < 0 || (found > 0 && !can_move(&p, e, error)))
                        return FALSE;
                g_autofree char *changed = found == 0 ? manifest_entry_path(e) : changed_path(w, s, &p);
                if (changed == NULL || (*n)++ >= CHANGED_SHOWN)
                        continue;
                g_autofree char *shown = message_string(message_bytes(changed));
                g_string_append_printf(names, "%s/%s", *n > 1 ? ", " : "", shown);
        }
        return TRUE;
}

gboolean commit_changed_since(const struct commit_context *c, char **ret, GError **error)
{
        struct commit_context lenient = *c;
        struct commit_walk w;
        g_autoptr(GString) notes = g_string_new(NULL), names = g_string_new(NULL);
        guint n = 0;
        lenient.recovering = TRUE;
        commit_walk_begin(&w, &lenient, notes);
        gboolean ok = list_changed(&w, names, &n, error);
        commit_walk_end(&w);
        if (!ok)
                return FALSE;
        if (n > CHANGED_SHOWN)
                g_string_append_printf(names, " and %u more", n - CHANGED_SHOWN);
        *ret = n > 0 ? g_string_free(g_steal_pointer(&names), FALSE) : NULL;
        return TRUE;
}

gboolean commit_can_go_back(const struct commit_context *c)
{
        struct commit_walk w;
        g_autoptr(GString) notes = g_string_new(NULL);
        gboolean ok = TRUE;
        commit_walk_begin(&w, c, notes);
        for (guint32 i = 0; ok && i < c->plan->n_areas; i++)
                ok = !commit_area_has_steps(c->plan, i) || commit_walk_area(&w, i, NULL) >= 0;
        commit_walk_end(&w);
        return ok;
}

/* The staged directory of the step holds something that is nobody's but the guest's. */
static gboolean holds_precious(struct commit_walk *w, const Moult__Record__Step *s, int area_fd,
                               const char *name)
{
        struct object_facts f;
        if (!classify_look(area_fd, name, &f, NULL) || !f.exists || !S_ISDIR(f.mode))
                return FALSE;
        g_autofree char *path = manifest_entry_path(w->c->manifest->entries[s->entry]);
        g_autofree char *unexpected =
                commit_children_unexpected(w->c->manifest, area_fd, name, path,
                                           commit_is_new(w, s, &f) ? CHILDREN_FOREIGN : CHILDREN_DELETED);
        return unexpected != NULL;
}

static void keep_precious(struct commit_walk *w, guint32 area, int fd, GHashTable *keep)
{
        g_autofree char *area_path = commit_binary_text(w->c->plan->areas[area]->path);
        for (size_t i = 0; i < w->c->plan->n_steps; i++) {
                const Moult__Record__Step *s = w->c->plan->steps[i];
                if (w->c->plan->directories[s->directory]->area != area)
                        continue;
                g_autofree char *name = g_strdup_printf("%u", s->entry);
                if (!holds_precious(w, s, fd, name))
                        continue;
                g_autofree char *text =
                        g_strdup_printf("files that were added to it or changed in it since are kept in "
                                        "/%s%s.moult/%" G_GUINT64_FORMAT "/%s",
                                        area_path, *area_path != '\0' ? "/" : "", w->c->generation, name);
                commit_walk_note(w, s, text);
                g_hash_table_add(keep, g_steal_pointer(&name));
        }
}

static gboolean clean_area(struct commit_walk *w, guint32 area, gboolean look, GError **error)
{
        g_autofree char *path = commit_binary_text(w->c->plan->areas[area]->path);
        g_autoptr(GHashTable) keep = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        int top = commit_walk_top(w, area, error);
        if (top < 0)
                return top == WALK_GONE;
        if (look) {
                scoped_fd int fd =
                        staging_area_open(w->c->root_fd, path, w->c->generation, STAGING_OPEN, NULL);
                if (fd >= 0)
                        keep_precious(w, area, fd, keep);
        }
        return staging_area_remove(w->c->root_fd, path, w->c->generation, w->c->plan->areas[area]->mtime_ns,
                                   keep, error);
}

gboolean commit_clean(const struct commit_context *c, GString *notes, GError **error)
{
        struct commit_walk w;
        g_autoptr(GString) none = g_string_new(NULL);
        g_autoptr(GError) first = NULL;
        commit_walk_begin(&w, c, notes != NULL ? notes : none);
        for (guint32 i = 0; i < c->plan->n_areas; i++) {
                g_autoptr(GError) why = NULL;
                /* Nothing was made where nothing is switched. */
                if (!commit_area_has_steps(c->plan, i) || clean_area(&w, i, notes != NULL, &why))
                        continue;
                if (first == NULL)
                        first = g_steal_pointer(&why);
        }
        commit_walk_end(&w);
        if (first == NULL)
                return TRUE;
        g_propagate_error(error, g_steal_pointer(&first));
        return FALSE;
}
