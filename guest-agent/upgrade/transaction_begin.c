/* guest-agent/upgrade/transaction_begin.c - a transaction comes to be: new, taken up again, or recovered; and
 * its end. */
#include <string.h>

#include "guest-agent/upgrade/transaction_parts.h"
#include "proto/message.h"

#define WORKERS_MAX 16u

static Moult__Record__Offer *offer_record(Transaction *t, const struct transaction_request *r)
{
        Moult__Record__Offer *o = g_new(Moult__Record__Offer, 1);
        const struct pack_header *h = pack_reader_header(t->pack);
        g_autofree char *name = message_string(t->manifest->name),
                        *version = message_string(t->manifest->version);
        moult__record__offer__init(o);
        o->push_id = (ProtobufCBinaryData){16, g_memdup2(r->push_id, 16)};
        o->manifest_digest = (ProtobufCBinaryData){DIGEST_SIZE, g_memdup2(h->manifest_digest, DIGEST_SIZE)};
        char *release = g_strdup_printf("%s %s", name, version);
        o->release = (ProtobufCBinaryData){strlen(release), (guint8 *)release};
        o->root = (ProtobufCBinaryData){strlen(t->u->root), (guint8 *)g_strdup(t->u->root)};
        o->allow_drift = r->allow_drift;
        o->sync_mode = r->sync_mode;
        o->confirm_timeout_ms = r->confirm_timeout_ms;
        o->workers = r->workers;
        o->merge = r->merge;
        o->instant = r->instant;
        o->strict_window = r->strict_window;
        if (r->n_sources > 0)
                o->sources = g_new(guint32, r->n_sources);
        for (gsize i = 0; i < r->n_sources; i++)
                o->sources[o->n_sources++] = (guint32)r->sources[i];
        guint n = r->selection != NULL ? g_strv_length((char **)r->selection) : 0;
        if (n > 0)
                o->selection = g_new0(ProtobufCBinaryData, n);
        for (guint i = 0; i < n; i++)
                o->selection[o->n_selection++] =
                        (ProtobufCBinaryData){strlen(r->selection[i]), (guint8 *)g_strdup(r->selection[i])};
        return o;
}

/* The generation that an interrupted staging of the same pack left; others like it are removed. */
static gboolean find_interrupted(Transaction *t, guint64 *ret_next, GError **error)
{
        g_autoptr(GArray) numbers = generation_list(t->u->state_fd, error);
        if (numbers == NULL)
                return FALSE;
        *ret_next = 1;
        for (guint i = 0; i < numbers->len; i++) {
                guint64 n = g_array_index(numbers, guint64, i);
                g_autoptr(Generation) g = generation_open(t->u->state_fd, n, error);
                if (g == NULL)
                        return FALSE;
                *ret_next = n + 1;
                JournalStep last = journal_last(g->journal);
                if (last >= JOURNAL_COMMIT && !journal_step_is_final(last)) {
                        g_set_error(
                                error, MOULT_ERROR, MOULT_ERROR_WRONG_STATE,
                                "generation %" G_GUINT64_FORMAT
                                " is neither confirmed nor taken back yet: restart moult-agent, which goes "
                                "on with it",
                                n);
                        return FALSE;
                }
                if (last == JOURNAL_NONE || last >= JOURNAL_COMMIT)
                        continue;
                gboolean same = t->g == NULL && g->offer != NULL &&
                                g->offer->manifest_digest.len == DIGEST_SIZE &&
                                memcmp(g->offer->manifest_digest.data,
                                       pack_reader_header(t->pack)->manifest_digest, DIGEST_SIZE) == 0;
                if (same)
                        t->g = g_steal_pointer(&g);
                else if (!recovery_discard(t->u, g, JOURNAL_FAILED,
                                           "cancelled: interrupted, then something else came", error))
                        return FALSE;
        }
        return TRUE;
}

static gboolean begin(Transaction *t, const struct transaction_request *r, GError **error)
{
        guint64 next;
        if (!find_interrupted(t, &next, error))
                return FALSE;
        t->resumed = t->g != NULL;
        if (t->g == NULL)
                t->g = generation_create(t->u->state_fd, next, error);
        return t->g != NULL && generation_save_offer(t->g, offer_record(t, r), error) &&
               journal_append(t->g->journal, JOURNAL_BEGUN, NULL, error);
}

Transaction *transaction_new(Upgrade *u, PackReader *pack, const struct transaction_request *request,
                             transaction_observer observer, gpointer user, GError **error)
{
        g_assert(!u->read_only || request->dry_run);
        if (!engine_claim(u, error))
                return NULL;
        g_autoptr(Transaction) t = g_new0(Transaction, 1);
        t->incoming_fd = -1;
        t->u = u;
        t->pack = pack_reader_ref(pack);
        t->manifest = pack_reader_manifest(pack);
        memcpy(t->push_id, request->push_id, sizeof t->push_id);
        t->allow_drift = request->allow_drift;
        t->dry_run = request->dry_run;
        t->gentle = request->sync_mode == MOULT__SYNC_MODE__SYNC_GENTLE;
        t->selection = g_strdupv((char **)request->selection);
        t->merge_forced = request->merge;
        t->instant = request->instant;
        t->workers = request->workers != 0 ? MIN(request->workers, WORKERS_MAX) : u->workers;
        t->progress = progress_new(t->push_id, observer, user);
        if (!t->dry_run && !begin(t, request, error))
                return NULL;
        progress_release(t->progress, t->manifest, pack_reader_header(pack)->manifest_digest,
                         t->g != NULL ? t->g->number : 0);
        return g_steal_pointer(&t);
}

Transaction *upgrade_recovered_transaction(Upgrade *u, transaction_observer observer, gpointer user)
{
        g_autoptr(Generation) g = g_steal_pointer(&u->recovered);
        if (g == NULL || !engine_claim(u, NULL))
                return NULL;
        g_autoptr(Transaction) t = g_new0(Transaction, 1);
        t->incoming_fd = -1;
        t->u = u;
        t->recovered = TRUE;
        t->g = g_steal_pointer(&g);
        t->manifest = t->own_manifest = g_steal_pointer(&u->recovered_manifest);
        t->record = g_steal_pointer(&u->recovered_plan);
        guint8 digest[DIGEST_SIZE] = {0};
        const Moult__Record__Offer *o = t->g->offer;
        if (o != NULL && o->push_id.len == sizeof t->push_id)
                memcpy(t->push_id, o->push_id.data, sizeof t->push_id);
        if (o != NULL && o->manifest_digest.len == DIGEST_SIZE)
                memcpy(digest, o->manifest_digest.data, DIGEST_SIZE);
        t->workers = o != NULL && o->workers != 0 ? MIN(o->workers, WORKERS_MAX) : u->workers;
        t->gentle = o != NULL && o->sync_mode == MOULT__SYNC_MODE__SYNC_GENTLE;
        t->progress = progress_new(t->push_id, observer, user);
        progress_release(t->progress, t->manifest, digest, t->g->number);
        progress_phase(t->progress, history_phase(journal_last(t->g->journal)), MOULT_ERROR_UNSPECIFIED,
                       "recovered after a restart");
        return g_steal_pointer(&t);
}

void transaction_free(Transaction *t)
{
        if (t == NULL)
                return;
        transaction_close_areas(t);
        transaction_free_merges(t);
        for (guint i = 0; t->items != NULL && t->items[i] != NULL; i++)
                moult__plan_item__free_unpacked(t->items[i], NULL);
        g_free(t->items);
        if (t->record != NULL)
                moult__record__plan__free_unpacked(t->record, NULL);
        plan_free(t->plan);
        generation_free(t->g);
        manifest_free(t->own_manifest);
        if (t->pack != NULL)
                pack_reader_unref(t->pack);
        g_strfreev(t->selection);
        progress_free(t->progress);
        engine_release(t->u);
        g_free(t);
}
