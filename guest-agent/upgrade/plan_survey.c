/* guest-agent/upgrade/plan_survey.c - looks at every entry's place and puts the plan together.
 *
 * Theory of operation: entries are sorted, so a directory is met before what lies in it; its own decision
 * says whether its children have names of their own in the live tree, or come (go) inside of it. The only
 * slow thing, hashing live files whose size is right, is put off and done by several threads, a window of
 * entries at a time. Hard links are decided when their targets are. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/fs_beneath.h"
#include "guest-agent/upgrade/plan_select.h"
#include "guest-agent/upgrade/survey.h"
#include "shm/entry_metadata.h"

/* Goes with its directory; its own precondition counts all the same. */
static gboolean survey_removed_within(struct survey *s, guint32 index, GError **error)
{
        struct plan_entry *pe = &s->plan->entries[index];
        const char *name;
        struct object_facts o;
        scoped_fd int fd = fs_beneath_open_parent(s->request->root_fd, pe->path, &name, error);
        if (fd < 0 || !classify_look(fd, name, &o, error))
                return FALSE;
        o.swap = classify_is_swap(s->swaps, &o);
        plan_places_set(s->places, pe->path, PARENT_REMOVED, pe->carrier);
        if (plan_needs_content(s->plan->manifest->entries[index], &o)) {
                struct inspection i = {.entry = index, .object = o};
                g_array_append_val(s->window, i);
                return s->window->len < SURVEY_WINDOW || survey_window_flush(s, error);
        }
        struct content_facts unknown = {0};
        struct decision d = plan_decide(s->plan->manifest->entries[index], &o, &unknown, NULL, NULL);
        if (d.reason == NULL)
                d.reason = g_strdup("goes with its directory");
        survey_conclude(s, index, &o, d, HOW_WITHIN);
        return TRUE;
}

/* Its directory is created or removed as a whole. */
static gboolean survey_within(struct survey *s, guint32 index, const struct parent *parent, GError **error)
{
        struct plan_entry *pe = &s->plan->entries[index];
        const Moult__Entry *e = s->plan->manifest->entries[index];
        gboolean is_delete = e->type == MOULT__ENTRY_TYPE__ENTRY_DELETE;

        pe->carrier = parent->carrier;
        pe->area = s->plan->entries[parent->carrier].area;
        if (parent->kind == PARENT_REMOVED && is_delete)
                return survey_removed_within(s, index, error);
        if (parent->kind == PARENT_REMOVED) {
                survey_block(pe, g_strdup("its directory is removed by the same release"));
                return TRUE;
        }
        struct object_facts absent = {0};
        struct content_facts unknown = {0};
        struct decision d = plan_decide(e, &absent, &unknown, NULL, NULL);
        survey_conclude(s, index, &absent, d, HOW_WITHIN);
        if (e->type == MOULT__ENTRY_TYPE__ENTRY_DIRECTORY && (pe->how == HOW_WITHIN || pe->how == HOW_MERGE))
                plan_places_set(s->places, pe->path, PARENT_CREATED, parent->carrier);
        return TRUE;
}

static gboolean claim_name(struct survey *s, guint32 index, const struct object_facts *o)
{
        Moult__Entry **entries = s->plan->manifest->entries;
        struct plan_entry *pe = &s->plan->entries[index];
        g_autofree char *key = g_strdup_printf("%d/%s", pe->directory, survey_last_component(pe->path));
        gpointer first = g_hash_table_lookup(s->names, key);
        if (first != NULL && S_ISDIR(o->mode) && entries[index]->type == MOULT__ENTRY_TYPE__ENTRY_DIRECTORY &&
            entries[GPOINTER_TO_UINT(first) - 1]->type == MOULT__ENTRY_TYPE__ENTRY_DIRECTORY)
                return TRUE; /* they may agree */
        if (first != NULL) {
                survey_block(pe,
                             g_strdup_printf(
                                     "the same object as /%s here (through a symbolic link to a directory)",
                                     s->plan->entries[GPOINTER_TO_UINT(first) - 1].path));
                return FALSE;
        }
        g_hash_table_insert(s->names, g_steal_pointer(&key), GUINT_TO_POINTER(index + 1));
        return TRUE;
}

static gboolean live_link_target(int parent_fd, const char *name, char **ret, GError **error)
{
        g_autofree char *buf = g_malloc(PATH_MAX + 1);
        ssize_t n = readlinkat(parent_fd, name, buf, PATH_MAX);
        if (n < 0)
                return moult_error_errno(error, errno, "reading the symbolic link %s", name);
        buf[n] = '\0';
        *ret = g_steal_pointer(&buf);
        return TRUE;
}

/* Files, links, devices, fifos and deletions with a name of their own in the live tree. */
static gboolean survey_object(struct survey *s, guint32 index, int parent_fd, const struct object_facts *o,
                              GError **error)
{
        struct plan_entry *pe = &s->plan->entries[index];
        const Moult__Entry *e = s->plan->manifest->entries[index];
        const char *name = survey_last_component(pe->path);
        g_autofree char *metadata = NULL, *target = NULL;
        gboolean is_delete = e->type == MOULT__ENTRY_TYPE__ENTRY_DELETE;

        if (o->exists && !is_delete) {
                struct metadata_object object = {parent_fd, name, -1};
                struct stat st = {
                        .st_mode = o->mode, .st_uid = o->uid, .st_gid = o->gid, .st_mtim = o->mtime};
                g_autoptr(Metadata) have = metadata_read(&object, &st, error);
                if (have == NULL)
                        return FALSE;
                g_autoptr(Metadata) want = metadata_from_entry(e);
                metadata = metadata_difference(have, want, o->mode);
                if (S_ISLNK(o->mode) && !live_link_target(parent_fd, name, &target, error))
                        return FALSE;
        }
        if (plan_needs_content(e, o)) {
                struct inspection i = {.entry = index, .object = *o, .metadata = g_steal_pointer(&metadata)};
                g_array_append_val(s->window, i);
                return s->window->len < SURVEY_WINDOW || survey_window_flush(s, error);
        }
        struct content_facts unknown = {0};
        struct decision d = plan_decide(e, o, &unknown, target, metadata);
        survey_conclude(s, index, o, d, survey_how_of(&d, o, is_delete));
        return TRUE;
}

static gboolean survey_entry(struct survey *s, guint32 index, GError **error)
{
        struct plan_entry *pe = &s->plan->entries[index];
        const Moult__Entry *e = s->plan->manifest->entries[index];
        struct parent parent;

        if (!plan_places_parent(s->places, pe->path, &parent, error))
                return FALSE;
        if (parent.kind == PARENT_CREATED || parent.kind == PARENT_REMOVED) {
                return survey_within(s, index, &parent, error);
        }
        if (parent.kind != PARENT_PRESENT) {
                if (e->type == MOULT__ENTRY_TYPE__ENTRY_DELETE) {
                        pe->action = MOULT__PLAN_ACTION__PLAN_EQUAL;
                        survey_set_reason(pe, g_strdup("not there"));
                } else if (parent.kind == PARENT_MISSING && e->conffile && e->n_old_digests > 0) {
                        pe->action = MOULT__PLAN_ACTION__PLAN_KEPT;
                        survey_set_reason(pe,
                                          g_strdup("a conffile that was deleted here with its directory: it "
                                                   "stays so"));
                } else {
                        survey_block(
                                pe,
                                g_strdup(parent.kind == PARENT_MISSING
                                                 ? "its directory does not exist, and the release does not "
                                                   "make it"
                                                 : "its directory is something else here"));
                }
                return TRUE;
        }
        pe->directory = parent.directory;
        pe->area = plan_directory(s->plan, parent.directory)->area;
        if (plan_places_is_own_state(s->places, parent.directory, survey_last_component(pe->path))) {
                survey_block(pe, g_strdup("moult's own state: it cannot be part of a release"));
                return TRUE;
        }
        int fd = plan_places_open(s->places, parent.directory, error);
        struct object_facts o;
        if (fd < 0 || !classify_look(fd, survey_last_component(pe->path), &o, error))
                return FALSE;
        o.swap = classify_is_swap(s->swaps, &o);
        if (!claim_name(s, index, &o))
                return TRUE;
        if (e->type == MOULT__ENTRY_TYPE__ENTRY_HARDLINK)
                return TRUE; /* when its target is decided */
        if (e->type == MOULT__ENTRY_TYPE__ENTRY_DIRECTORY)
                return survey_directory(s, index, fd, &o, error);
        if (o.exists && S_ISDIR(o.mode))
                return survey_directory_goes(s, index, fd, &o, error);
        return survey_object(s, index, fd, &o, error);
}

/* --- hard links, once the files are decided --- */

/* What is merged has its files in the store, so a file that stays, and gets another name, is copied there. */
static gboolean survey_merged_link(struct survey *s, struct plan_entry *pe, struct plan_entry *target,
                                   GError **error)
{
        if (target->action == MOULT__PLAN_ACTION__PLAN_EQUAL) {
                struct object_facts o;
                int fd = plan_places_open(s->places, target->directory, error);
                if (fd < 0 || !classify_look(fd, survey_last_component(target->path), &o, error))
                        return FALSE;
                struct decision d = {MOULT__PLAN_ACTION__PLAN_METADATA, g_strdup("gets another name")};
                target->copy_live = TRUE;
                survey_conclude(s, (guint32)(target - s->plan->entries), &o, d, HOW_EXCHANGE);
        }
        if (target->how != HOW_MERGE)
                survey_block(
                        pe, g_strdup_printf(
                                    "merged, but a hard link to /%s, which is not: links do not cross mounts",
                                    target->path));
        return TRUE;
}

static gboolean survey_link(struct survey *s, guint32 index, GError **error)
{
        struct plan_entry *pe = &s->plan->entries[index];
        struct plan_entry *target = &s->plan->entries[pe->link_of];
        struct object_facts o = {0};

        if (pe->action == MOULT__PLAN_ACTION__PLAN_BLOCKED)
                return TRUE;
        if (pe->directory >= 0) {
                int fd = plan_places_open(s->places, pe->directory, error);
                if (fd < 0 || !classify_look(fd, survey_last_component(pe->path), &o, error))
                        return FALSE;
                o.swap = classify_is_swap(s->swaps, &o);
                if (o.exists && S_ISDIR(o.mode))
                        return survey_directory_goes(s, index, fd, &o, error);
                gboolean same = o.exists && o.inode == target->old_inode && o.dev == target->old_dev;
                struct content_facts content = {.is_old = TRUE};
                if (!same && !survey_inspect_now(s, index, &o, &content, error))
                        return FALSE;
                struct decision d = plan_decide_link(s->plan->manifest->entries[index], &o, &content,
                                                     target->action, same);
                survey_conclude(s, index, &o, d, survey_how_of(&d, &o, FALSE));
        } else if (target->action == MOULT__PLAN_ACTION__PLAN_BLOCKED) {
                survey_block(pe, g_strdup("the file that it links to is blocked"));
        }
        if (pe->action == MOULT__PLAN_ACTION__PLAN_EQUAL || pe->action == MOULT__PLAN_ACTION__PLAN_BLOCKED ||
            pe->action == MOULT__PLAN_ACTION__PLAN_DRIFT || pe->action == MOULT__PLAN_ACTION__PLAN_KEPT)
                return TRUE;
        if (pe->how == HOW_MERGE)
                return survey_merged_link(s, pe, target, error);
        if (target->how == HOW_MERGE) {
                survey_block(pe,
                             g_strdup_printf("a hard link to /%s, which is merged: links do not cross mounts",
                                             target->path));
                return TRUE;
        }
        if (pe->area != target->area)
                survey_block(pe,
                             g_strdup_printf("a hard link from %s to /%s on %s: links do not cross mounts",
                                             plan_area(s->plan, pe->area)->mount_point, target->path,
                                             plan_area(s->plan, target->area)->mount_point));
        pe->link_live = target->action == MOULT__PLAN_ACTION__PLAN_EQUAL;
        return TRUE;
}

/* --- putting it together --- */

static void steps_of(Plan *p, PlanHow how, gboolean symlinks)
{
        for (guint32 i = 0; i < p->n_entries; i++) {
                const struct plan_entry *pe = &p->entries[i];
                gboolean is_symlink = p->manifest->entries[i]->type == MOULT__ENTRY_TYPE__ENTRY_SYMLINK;
                if (pe->how == how && (how != HOW_EXCHANGE || is_symlink == symlinks))
                        g_array_append_val(p->steps, i);
        }
}

static void count(Plan *p)
{
        for (guint32 i = 0; i < p->n_entries; i++) {
                struct plan_entry *pe = &p->entries[i];
                const Moult__Entry *e = p->manifest->entries[i];
                if (!pe->selected)
                        continue;
                switch (pe->action) {
                case MOULT__PLAN_ACTION__PLAN_EQUAL:
                case MOULT__PLAN_ACTION__PLAN_KEPT:
                        p->n_equal++;
                        continue;
                case MOULT__PLAN_ACTION__PLAN_BLOCKED:
                        p->n_blocked++;
                        continue;
                case MOULT__PLAN_ACTION__PLAN_DRIFT:
                        p->n_drift++;
                        continue;
                default:
                        p->n_change++;
                }
                if (pe->how == HOW_MERGE) {
                        p->n_merged++;
                        if (!pe->object || !plan_is_staged(pe))
                                continue;
                        p->bytes_total += e->size;
                        p->store_inodes++;
                        p->store_bytes = MIN(p->store_bytes + (e->size + 4095) / 4096 * 4096, G_MAXINT64);
                        continue;
                }
                if (pe->how == HOW_IN_PLACE || pe->area < 0)
                        continue;
                struct plan_area *a = plan_area(p, pe->area);
                a->need_inodes += e->type != MOULT__ENTRY_TYPE__ENTRY_HARDLINK;
                guint64 data = e->blob > 0 ? p->manifest->blobs[e->blob - 1]->size : 0;
                if (plan_is_staged(pe) && e->type == MOULT__ENTRY_TYPE__ENTRY_FILE) {
                        p->bytes_total += e->size;
                        /* Equal contents share a blob: their sum has no bound of its own. */
                        a->need_bytes = MIN(a->need_bytes + (data + 4095) / 4096 * 4096, G_MAXINT64);
                } else if (e->type == MOULT__ENTRY_TYPE__ENTRY_DIRECTORY) {
                        a->need_bytes += 4096;
                }
        }
}

/* Directories in which something is switched: their metadata come back on the way back. */
static gboolean read_old_directories(struct survey *s, GError **error)
{
        for (guint32 i = 0; i < s->plan->steps->len; i++) {
                const struct plan_entry *pe = &s->plan->entries[g_array_index(s->plan->steps, guint32, i)];
                struct plan_directory *d = plan_directory(s->plan, pe->directory);
                d->changes = TRUE;
                if (d->old != NULL)
                        continue;
                int fd = plan_places_open(s->places, pe->directory, error);
                if (fd < 0)
                        return FALSE;
                scoped_fd int readable = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                if (readable < 0)
                        return moult_error_errno(error, errno, "opening the directory /%s", d->path);
                struct metadata_object object = {-1, d->path, readable};
                d->old = metadata_read(&object, NULL, error);
                if (d->old == NULL)
                        return FALSE;
        }
        return TRUE;
}

static Plan *plan_blank(const Manifest *m)
{
        Plan *p = g_new0(Plan, 1);
        p->manifest = m;
        p->n_entries = (guint)m->n_entries;
        p->entries = g_new0(struct plan_entry, m->n_entries + 1);
        p->steps = g_array_new(FALSE, FALSE, sizeof(guint32));
        for (guint i = 0; i < p->n_entries; i++) {
                const Moult__Entry *e = m->entries[i];
                struct plan_entry *pe = &p->entries[i];
                pe->path = manifest_entry_path(e);
                pe->directory = pe->carrier = pe->area = pe->link_of = -1;
                if (e->type == MOULT__ENTRY_TYPE__ENTRY_HARDLINK)
                        pe->link_of = (gint32)manifest_find(m, e->link_target.data, e->link_target.len);
        }
        return p;
}

/* A file with names that the release does not list: those keep the old content. */
static void note_broken_links(Plan *p)
{
        g_autoptr(GHashTable) listed = g_hash_table_new(g_direct_hash, g_direct_equal);
        for (guint32 i = 0; i < p->n_entries; i++) {
                const struct plan_entry *pe = &p->entries[i];
                if (pe->link_of < 0 || pe->old_inode != p->entries[pe->link_of].old_inode)
                        continue;
                gpointer key = GINT_TO_POINTER(pe->link_of);
                guint n = GPOINTER_TO_UINT(g_hash_table_lookup(listed, key));
                g_hash_table_insert(listed, key, GUINT_TO_POINTER(n + 1));
        }
        for (guint32 i = 0; i < p->n_entries; i++) {
                struct plan_entry *pe = &p->entries[i];
                guint names = 1 + GPOINTER_TO_UINT(g_hash_table_lookup(listed, GINT_TO_POINTER((gint32)i)));
                if (p->manifest->entries[i]->type != MOULT__ENTRY_TYPE__ENTRY_FILE ||
                    pe->how != HOW_EXCHANGE || pe->old_links <= names || pe->reason != NULL)
                        continue;
                pe->reason =
                        g_strdup_printf("%u other name(s) of the live file, not in the release, keep the old "
                                        "content",
                                        pe->old_links - names);
        }
}

static gboolean survey_all(struct survey *s, GError **error)
{
        Plan *p = s->plan;
        for (guint32 i = 0; i < p->n_entries; i++) {
                if (g_cancellable_set_error_if_cancelled(s->cancellable, error))
                        return FALSE;
                if (p->entries[i].selected && !survey_entry(s, i, error))
                        return FALSE;
        }
        if (!survey_window_flush(s, error))
                return FALSE;
        for (guint32 i = 0; i < p->n_entries; i++)
                if (p->entries[i].selected && p->entries[i].link_of >= 0 && !survey_link(s, i, error))
                        return FALSE;
        note_broken_links(p);
        steps_of(p, HOW_CREATE, FALSE);
        steps_of(p, HOW_EXCHANGE, FALSE);
        steps_of(p, HOW_EXCHANGE, TRUE);
        steps_of(p, HOW_REMOVE, FALSE);
        count(p);
        return read_old_directories(s, error);
}

Plan *plan_survey(const Manifest *m, const struct plan_request *request, GCancellable *cancellable,
                  GError **error)
{
        g_autoptr(Plan) p = plan_blank(m);
        g_autoptr(PlanPlaces) places = plan_places_new(p, request, error);
        if (places == NULL || !plan_select(p, request, error))
                return NULL;
        struct survey s = {
                .plan = p,
                .request = request,
                .places = places,
                .swaps = classify_swap_files(),
                .names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL),
                .inodes = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL),
                .window = g_array_new(FALSE, FALSE, sizeof(struct inspection)),
                .cancellable = cancellable,
        };
        g_array_set_clear_func(s.window, survey_inspection_clear);
        gboolean ok = survey_all(&s, error);
        g_hash_table_unref(s.swaps);
        g_hash_table_unref(s.names);
        g_hash_table_unref(s.inodes);
        g_array_unref(s.window);
        return ok ? g_steal_pointer(&p) : NULL;
}
