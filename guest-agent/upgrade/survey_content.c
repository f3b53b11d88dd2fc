/* guest-agent/upgrade/survey_content.c - the content of live files, hashed by several threads, a window at a
 * time. */
#include <fcntl.h>
#include <linux/fsverity.h>
#include <string.h>
#include <sys/ioctl.h>

#include "common/digest.h"
#include "common/error.h"
#include "common/fd.h"
#include "common/fs_beneath.h"
#include "guest-agent/upgrade/survey.h"

void survey_inspection_clear(gpointer p)
{
        struct inspection *i = p;
        g_free(i->metadata);
        g_clear_error(&i->error);
}

struct hashing {
        struct survey *survey;
        gint next; /* atomic: index into the window */
};

/* The file system knows the digest of a sealed file. */
static gboolean measured_digest(int fd, guint8 ret[static DIGEST_SIZE])
{
        union {
                struct fsverity_digest head;
                guint8 room[sizeof(struct fsverity_digest) + 64];
        } u = {.head = {.digest_size = 64}};
        if (ioctl(fd, FS_IOC_MEASURE_VERITY, &u) < 0 ||
            u.head.digest_algorithm != FS_VERITY_HASH_ALG_SHA256 || u.head.digest_size != DIGEST_SIZE)
                return FALSE;
        memcpy(ret, u.head.digest, DIGEST_SIZE);
        return TRUE;
}

/* Where the live object is: its physical place, or below a carrier as the list names it. */
static char *live_path(const Plan *p, const struct plan_entry *pe)
{
        if (pe->directory < 0)
                return g_strdup(pe->path);
        const char *dir = plan_directory(p, pe->directory)->path;
        return *dir != '\0' ? g_strdup_printf("%s/%s", dir, survey_last_component(pe->path))
                            : g_strdup(survey_last_component(pe->path));
}

static void inspect(struct survey *s, struct inspection *i, Hasher *h)
{
        const Moult__Entry *e = s->plan->manifest->entries[i->entry];
        const struct plan_entry *pe = &s->plan->entries[i->entry];
        const guint8 *new_digest = e->type == MOULT__ENTRY_TYPE__ENTRY_HARDLINK
                                           ? s->plan->manifest->entries[pe->link_of]->digest.data
                                           : e->digest.data;
        g_autofree char *path = live_path(s->plan, pe);
        scoped_fd int fd = fs_beneath_open(s->request->root_fd, path,
                                           O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOATIME, 0, &i->error);
        if (fd < 0)
                return;
        guint8 digest[DIGEST_SIZE];
        /* A sealed file may carry a salted digest: only a match is an answer. */
        if (i->object.verity && e->type == MOULT__ENTRY_TYPE__ENTRY_FILE && measured_digest(fd, digest) &&
            memcmp(digest, e->digest.data, DIGEST_SIZE) == 0) {
                i->content.is_new = TRUE;
                return;
        }
        if (!verity_digest_fd(h, fd, i->object.size, digest, s->cancellable, &i->error)) {
                g_prefix_error(&i->error, "reading /%s to compare it: ", path);
                return;
        }
        i->content.is_new = new_digest != NULL && memcmp(digest, new_digest, DIGEST_SIZE) == 0;
        for (size_t k = 0; k < e->n_old_digests; k++)
                if (memcmp(digest, e->old_digests[k].data, DIGEST_SIZE) == 0)
                        i->content.is_old = TRUE;
}

/* The few whose content must be known at once. */
gboolean survey_inspect_now(struct survey *s, guint32 index, const struct object_facts *o,
                            struct content_facts *ret, GError **error)
{
        struct inspection i = {.entry = index, .object = *o};
        *ret = (struct content_facts){0};
        if (!plan_needs_content(s->plan->manifest->entries[index], o))
                return TRUE;
        g_autoptr(Hasher) h = hasher_new();
        inspect(s, &i, h);
        if (i.error != NULL) {
                g_propagate_error(error, i.error);
                return FALSE;
        }
        *ret = i.content;
        return TRUE;
}

static gpointer inspect_thread(gpointer p)
{
        struct hashing *work = p;
        g_autoptr(Hasher) h = hasher_new();
        for (;;) {
                guint i = (guint)g_atomic_int_add(&work->next, 1);
                if (i >= work->survey->window->len)
                        return NULL;
                inspect(work->survey, &g_array_index(work->survey->window, struct inspection, i), h);
        }
}

static void split_shared_inode(struct survey *s, const struct inspection *i, struct decision *d)
{
        const struct plan_entry *pe = &s->plan->entries[i->entry];
        if (pe->directory >= 0) {
                /* Nobody can tell by writing, and equal files of the target share an object. */
                struct place_facts place = plan_places_facts(s->places, pe->directory);
                if (classify_is_tree(&place))
                        return;
        }
        if (i->object.links < 2 ||
            s->plan->manifest->entries[i->entry]->type != MOULT__ENTRY_TYPE__ENTRY_FILE)
                return;
        char *key = g_strdup_printf("%" G_GUINT64_FORMAT ":%" G_GUINT64_FORMAT, (guint64)i->object.dev,
                                    i->object.inode);
        gpointer first = g_hash_table_lookup(s->inodes, key);
        if (first == NULL) {
                g_hash_table_insert(s->inodes, key, GUINT_TO_POINTER(i->entry + 1));
                return;
        }
        g_free(key);
        if (d->action == MOULT__PLAN_ACTION__PLAN_EQUAL) {
                d->action = MOULT__PLAN_ACTION__PLAN_METADATA;
                g_free(d->reason);
                d->reason = g_strdup_printf("one file with /%s here, two in the release",
                                            s->plan->entries[GPOINTER_TO_UINT(first) - 1].path);
        }
}

gboolean survey_window_flush(struct survey *s, GError **error)
{
        if (s->window->len == 0)
                return TRUE;
        struct hashing work = {.survey = s};
        guint n = MIN(MAX(s->request->workers, 1u), s->window->len);
        GThread *threads[16];
        n = MIN(n, G_N_ELEMENTS(threads));
        for (guint i = 1; i < n; i++)
                threads[i] = g_thread_new("moult-compare", inspect_thread, &work);
        inspect_thread(&work);
        for (guint i = 1; i < n; i++)
                g_thread_join(threads[i]);
        for (guint k = 0; k < s->window->len; k++) {
                struct inspection *i = &g_array_index(s->window, struct inspection, k);
                const Moult__Entry *e = s->plan->manifest->entries[i->entry];
                if (i->error != NULL) {
                        g_propagate_error(error, g_steal_pointer(&i->error));
                        return FALSE;
                }
                struct decision d = plan_decide(e, &i->object, &i->content, NULL, i->metadata);
                split_shared_inode(s, i, &d);
                gboolean is_delete = e->type == MOULT__ENTRY_TYPE__ENTRY_DELETE;
                s->plan->entries[i->entry].copy_live = d.action == MOULT__PLAN_ACTION__PLAN_METADATA;
                PlanHow how = s->plan->entries[i->entry].carrier >= 0
                                      ? HOW_WITHIN
                                      : survey_how_of(&d, &i->object, is_delete);
                survey_conclude(s, i->entry, &i->object, d, how);
        }
        g_array_set_size(s->window, 0);
        return TRUE;
}
