/* guest-agent/upgrade/transaction_fill.c - instant mode, after the switch: what is served from the pack
 * becomes local.
 *
 * The merges stand, and health has passed. From the record "filling" on an agent that is started again in the
 * same boot takes the merges as they are and goes on here, with what is in the store and in the incoming
 * directory already; it is taken back only when the bytes cannot be had for the dead-man time. After "filled"
 * it needs neither host nor pack. Before it a reboot takes it back (recovery.c). */
#include <errno.h>
#include <fcntl.h>
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fault.h"
#include "common/fd.h"
#include "guest-agent/upgrade/fill.h"
#include "guest-agent/upgrade/merged.h"
#include "guest-agent/upgrade/moment.h"
#include "guest-agent/upgrade/transaction_parts.h"
#include "proto/limits.h"

/* Each one that got on has a record; an agent that dies of the copying is not started for ever. */
#define RUNS_MAX 32u

static gboolean fills(const Transaction *t)
{
        return t->g != NULL && t->g->offer != NULL && t->g->offer->instant && t->record->merged > 0 &&
               journal_find(t->g->journal, JOURNAL_FILLED) == NULL;
}

static Plan *what_is_missing(Transaction *t, Target *target, struct fill_totals *ret, GError **error)
{
        Merger *merger = engine_merger(t->u, error);
        return merger != NULL
                       ? fill_plan_new(t->manifest, target, merger_store(merger), t->g->number, ret, error)
                       : NULL;
}

static Target *load_target(Transaction *t, GError **error)
{
        g_autoptr(GError) why = NULL;
        Target *target = generation_load_target(t->g, &why);
        if (target == NULL && why == NULL)
                g_set_error(&why, MOULT_ERROR, MOULT_ERROR_CORRUPT,
                            "generation %" G_GUINT64_FORMAT " is merged, but has no target", t->g->number);
        if (why != NULL)
                g_propagate_error(error, g_steal_pointer(&why));
        return target;
}

/* --- the pack, for an agent that was started again --- */

gboolean transaction_wants_pack(Transaction *t, struct transaction_pack *ret, GError **error)
{
        const Moult__Record__Offer *o = t->g != NULL ? t->g->offer : NULL;
        struct pack_header h;
        if (!fills(t) || t->pack != NULL || o->manifest_digest.len != DIGEST_SIZE ||
            progress_get_phase(t->progress) != MOULT__TRANSACTION_PHASE__PHASE_COMMITTING)
                return FALSE;
        g_autoptr(GBytes) header = fd_read_file_at(t->g->dirfd, "header", PACK_HEADER_SIZE, error);
        if (header == NULL)
                return FALSE;
        const char *why = g_bytes_get_size(header) == PACK_HEADER_SIZE
                                  ? pack_header_parse(g_bytes_get_data(header, NULL), G_MAXUINT64, &h)
                                  : "it is cut off";
        if (why != NULL) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT, "the kept pack header: %s", why);
                return FALSE;
        }
        *ret = (struct transaction_pack){.size = h.pack_size, .strict_window = o->strict_window};
        memcpy(ret->manifest_digest, o->manifest_digest.data, DIGEST_SIZE);
        for (size_t i = 0; i < o->n_sources && ret->n_sources < G_N_ELEMENTS(ret->sources); i++)
                ret->sources[ret->n_sources++] = (Moult__SourceKind)o->sources[i];
        return TRUE;
}

gboolean transaction_give_pack(Transaction *t, PackSource *source, GError **error)
{
        g_autoptr(GBytes) header = fd_read_file_at(t->g->dirfd, "header", PACK_HEADER_SIZE, error);
        g_autoptr(GBytes) manifest =
                header != NULL ? fd_read_file_at(t->g->dirfd, "manifest", LIMIT_MANIFEST_BYTES, error) : NULL;
        g_autoptr(GBytes) signature =
                manifest != NULL ? fd_read_file_at(t->g->dirfd, "signature", LIMIT_SIGNATURE_BYTES, error)
                                 : NULL;
        /* Its signature was verified before it was kept, where only root writes. */
        if (signature != NULL)
                t->pack =
                        pack_reader_open_kept(header, manifest, signature, source, /* trust= */ NULL, error);
        if (t->pack == NULL)
                g_prefix_error(error, "opening the kept list of the release: ");
        return t->pack != NULL;
}

gboolean transaction_can_fill(Transaction *t, GError **error)
{
        struct fill_totals totals;
        if (!fills(t) || t->pack != NULL)
                return TRUE;
        g_autoptr(Target) target = load_target(t, error);
        g_autoptr(Plan) p = target != NULL ? what_is_missing(t, target, &totals, error) : NULL;
        if (p == NULL || p->n_merged == 0)
                return p != NULL;
        g_set_error(
                error, MOULT_ERROR, MOULT_ERROR_WRONG_STATE,
                "generation %" G_GUINT64_FORMAT
                " was made visible before it was copied, and its pack cannot be had here: start the daemon, "
                "which goes on with it, or take it back (moult-agent recover --back)",
                t->g->number);
        return FALSE;
}

/* --- how long it may be without its bytes --- */

/* What is here of the release: objects, and what is in the incoming directory. */
static guint64 bytes_here(Transaction *t)
{
        struct fill_totals totals = {0};
        struct dirent *de;
        struct stat st;
        g_autoptr(Target) target = load_target(t, NULL);
        g_autoptr(Plan) p = target != NULL ? what_is_missing(t, target, &totals, NULL) : NULL;
        guint64 sum = totals.bytes - MIN(totals.bytes, totals.bytes_missing);
        int fd = merged_incoming(t->u, t->g->number, /* create= */ FALSE, NULL);
        DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
        while (dir != NULL && (de = readdir(dir)) != NULL)
                if (fstatat(fd, de->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode))
                        sum += MIN((guint64)st.st_size, (guint64)st.st_blocks * 512);
        if (dir != NULL)
                closedir(dir);
        return sum;
}

static gboolean record_filling(Transaction *t, guint64 here, GError **error)
{
        struct moment now;
        moment_now(&now);
        g_autofree char *since = moment_text(&now);
        g_autofree char *text = g_strdup_printf("%s, %" G_GUINT64_FORMAT " bytes", since, here);
        return journal_append(t->g->journal, JOURNAL_FILLING, text, error);
}

static guint64 bytes_then(const char *text)
{
        const char *comma = strchr(text, ',');
        return comma != NULL ? g_ascii_strtoull(comma + 1, NULL, 10) : 0;
}

guint64 transaction_fill_left_ms(Transaction *t, guint64 timeout_ms)
{
        const struct journal_record *r = t->g != NULL ? journal_last_record(t->g->journal) : NULL;
        struct moment since, now;
        if (r == NULL || r->step != JOURNAL_FILLING)
                return timeout_ms;
        guint64 here = bytes_here(t);
        moment_now(&now);
        if (moment_parse(r->text, &since) && moment_is_same_boot(&since, &now) && here <= bytes_then(r->text))
                return moment_left_ms(&since, &now, timeout_ms);
        if (journal_count(t->g->journal, JOURNAL_FILLING) >= RUNS_MAX)
                return 0;
        record_filling(t, here,
                       NULL); /* its space is there; if it fails all the same, the time is that of before */
        return timeout_ms;
}

/* --- copying --- */

static gboolean take_files(Transaction *t, const Plan *p, GError **error)
{
        ObjectStore *store = merger_store(t->u->merger);
        for (guint i = 0; i < p->n_entries; i++) {
                const struct plan_entry *pe = &p->entries[i];
                g_autofree char *name = plan_staged_path(p, i);
                if (pe->seen != NULL &&
                    !transaction_take_object(store, pe->seen, t->incoming_fd, name, pe->path, error))
                        return FALSE;
        }
        return TRUE;
}

/* Who was started again has nothing to say of before. */
static void tell_counts(Transaction *t, const struct fill_totals *totals)
{
        guint change = (guint)t->record->n_steps + t->record->merged;
        if (!t->recovered)
                return;
        progress_counts(t->progress, totals->bytes, MAX((guint)t->manifest->n_entries, change), change, 0, 0,
                        t->record->merged);
        progress_bytes(t->progress, totals->bytes - MIN(totals->bytes, totals->bytes_missing));
}

static gboolean copy(Transaction *t, const Plan *p, GCancellable *c, GError **error)
{
        if (t->incoming_fd < 0)
                t->incoming_fd = merged_incoming(t->u, t->g->number, /* create= */ TRUE, error);
        if (t->incoming_fd < 0)
                return FALSE;
        fault_point("fill");
        if (t->pack != NULL && !transaction_run_staging(t, (Plan *)p, STAGE_DEFERRED, c, error)) {
                g_prefix_error(error, "copying what is visible already: ");
                return FALSE;
        }
        fault_point("fill-staged");
        return take_files(t, p, error) && generation_sync(t->g, error);
}

static gboolean fill(Transaction *t, GCancellable *c, GError **error)
{
        struct fill_totals totals;
        g_autoptr(Target) target = load_target(t, error);
        g_autoptr(Plan) p = target != NULL ? what_is_missing(t, target, &totals, error) : NULL;
        if (p == NULL ||
            (journal_last(t->g->journal) != JOURNAL_FILLING && !record_filling(t, bytes_here(t), error)))
                return FALSE;
        tell_counts(t, &totals);
        g_atomic_int_set(&t->filling, TRUE);
        progress_phase(t->progress, MOULT__TRANSACTION_PHASE__PHASE_COMMITTING, MOULT_ERROR_UNSPECIFIED,
                       "visible already, served from the pack; being copied");
        gboolean ok = copy(t, p, c, error);
        g_atomic_int_set(&t->filling, FALSE);
        return ok && journal_append(t->g->journal, JOURNAL_FILLED, NULL, error);
}

gboolean transaction_is_filling(const Transaction *t)
{
        return g_atomic_int_get(&t->filling);
}

gboolean transaction_fill(Transaction *t, GCancellable *c, GError **error)
{
        g_autoptr(GString) notes = g_string_new(NULL);
        if (t->g->offer == NULL || !t->g->offer->instant || t->record->merged == 0)
                return TRUE;
        if (fills(t) && !fill(t, c, error))
                return FALSE;
        fault_point("filled");
        return merged_apply(t->u, notes, error) && merged_remove_incoming(t->u, t->g->number, error);
}
