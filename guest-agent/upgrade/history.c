/* guest-agent/upgrade/history.c - what this machine went through, from the generations' records. */
#include <string.h>

#include "common/error.h"
#include "guest-agent/upgrade/engine.h"
#include "proto/limits.h"
#include "proto/message.h"

static ProtobufCBinaryData bytes_copy(const void *data, gsize len)
{
        return (ProtobufCBinaryData){.len = len, .data = len > 0 ? g_memdup2(data, len) : NULL};
}

Moult__TransactionPhase history_phase(JournalStep step)
{
        switch (step) {
        case JOURNAL_BEGUN:
                return MOULT__TRANSACTION_PHASE__PHASE_PLANNING;
        case JOURNAL_PLANNED:
                return MOULT__TRANSACTION_PHASE__PHASE_PLANNED;
        case JOURNAL_STAGED:
                return MOULT__TRANSACTION_PHASE__PHASE_STAGED;
        case JOURNAL_COMMIT:
        case JOURNAL_SWITCHED:
        case JOURNAL_HEALTH:
        case JOURNAL_FILLING:
        case JOURNAL_FILLED:
                return MOULT__TRANSACTION_PHASE__PHASE_COMMITTING;
        case JOURNAL_ACTIVE:
                return MOULT__TRANSACTION_PHASE__PHASE_ACTIVE;
        case JOURNAL_COMMITTED:
                return MOULT__TRANSACTION_PHASE__PHASE_COMMITTED;
        case JOURNAL_BACK:
                return MOULT__TRANSACTION_PHASE__PHASE_ROLLING_BACK;
        case JOURNAL_ROLLED_BACK:
                return MOULT__TRANSACTION_PHASE__PHASE_ROLLED_BACK;
        case JOURNAL_REFUSED:
                return MOULT__TRANSACTION_PHASE__PHASE_REFUSED;
        case JOURNAL_FAILED:
                return MOULT__TRANSACTION_PHASE__PHASE_FAILED;
        case JOURNAL_NONE:
                break;
        }
        return MOULT__TRANSACTION_PHASE__PHASE_NONE;
}

char *history_error_text(const GError *error)
{
        return g_strdup_printf("%s: %s", moult_error_name(moult_error_code(error)), error->message);
}

MoultError history_error_parse(const char *record_text, const char **ret_text)
{
        for (int code = 0; code < MOULT_ERROR_MAX; code++) {
                const char *name = moult_error_name((MoultError)code);
                gsize len = strlen(name);
                if (strncmp(record_text, name, len) == 0 && strncmp(record_text + len, ": ", 2) == 0) {
                        *ret_text = record_text + len + 2;
                        return (MoultError)code;
                }
        }
        *ret_text = record_text;
        return MOULT_ERROR_UNSPECIFIED;
}

gboolean history_each(Upgrade *u, gboolean (*each)(Upgrade *u, Generation **g, gpointer user), gpointer user,
                      GError **error)
{
        if (u->state_fd < 0)
                return TRUE;
        g_autoptr(GArray) numbers = generation_list(u->state_fd, error);
        if (numbers == NULL)
                return FALSE;
        for (guint i = numbers->len; i > 0; i--) {
                g_autoptr(GError) why = NULL;
                g_autoptr(Generation) g =
                        generation_open(u->state_fd, g_array_index(numbers, guint64, i - 1), &why);
                /* The agent that is at work may remove an old one meanwhile. */
                if (g == NULL && u->read_only && g_error_matches(why, MOULT_ERROR, MOULT_ERROR_NOT_FOUND))
                        continue;
                if (g == NULL) {
                        g_propagate_error(error, g_steal_pointer(&why));
                        return FALSE;
                }
                if (each(u, &g, user))
                        break;
        }
        return TRUE;
}

gboolean history_is_way_back(const Generation *g)
{
        return journal_last(g->journal) == JOURNAL_COMMITTED &&
               !g_str_equal(journal_last_record(g->journal)->text, HISTORY_NOTHING_CHANGED);
}

static gboolean is_committed(Upgrade *u, Generation **g, gpointer user)
{
        if (!history_is_way_back(*g))
                return FALSE;
        *(Generation **)user = g_steal_pointer(g);
        return TRUE;
}

Generation *history_newest_committed(Upgrade *u, GError **error)
{
        Generation *found = NULL;
        return history_each(u, is_committed, &found, error) ? found : NULL;
}

static gboolean can_roll_back(Upgrade *u, Generation *g)
{
        Moult__Record__Plan *plan = generation_load_plan(g, NULL);
        if (plan == NULL)
                return FALSE;
        struct commit_context c = engine_commit_context(u, g, NULL, plan);
        gboolean can = commit_can_go_back(&c);
        moult__record__plan__free_unpacked(plan, NULL);
        return can;
}

static Moult__HistoryItem *history_item(Upgrade *u, Generation *g, gboolean *seen_committed)
{
        const struct journal_record *r = journal_last_record(g->journal);
        Moult__HistoryItem *i = g_new(Moult__HistoryItem, 1);
        moult__history_item__init(i);
        i->generation = g->number;
        if (g->offer != NULL) {
                i->release = bytes_copy(g->offer->release.data, g->offer->release.len);
                i->manifest_digest =
                        bytes_copy(g->offer->manifest_digest.data, g->offer->manifest_digest.len);
        }
        i->phase = history_phase(journal_last(g->journal));
        if (r != NULL) {
                const char *text;
                history_error_parse(r->text, &text);
                i->time_unix_s = (guint64)r->time_unix_s;
                if (!g_str_equal(text, "-"))
                        i->text = bytes_copy(text, strlen(text));
        }
        if (history_is_way_back(g) && !*seen_committed) {
                *seen_committed = TRUE;
                i->can_roll_back = can_roll_back(u, g);
        }
        return i;
}

struct collecting {
        Moult__History *history;
        unsigned max;
        gboolean seen_committed;
};

static gboolean collect(Upgrade *u, Generation **g, gpointer user)
{
        struct collecting *c = user;
        if (c->history->n_items == c->max)
                return TRUE;
        c->history->items[c->history->n_items++] = history_item(u, *g, &c->seen_committed);
        return FALSE;
}

Moult__History *upgrade_history(Upgrade *u, unsigned max, GError **error)
{
        struct collecting c = {.max = MIN(max == 0 ? LIMIT_HISTORY : max, LIMIT_HISTORY)};
        c.history = g_new(Moult__History, 1);
        moult__history__init(c.history);
        c.history->items = g_new0(Moult__HistoryItem *, c.max + 1);
        if (history_each(u, collect, &c, error))
                return c.history;
        upgrade_history_free(c.history);
        return NULL;
}

void upgrade_history_free(Moult__History *h)
{
        if (h != NULL)
                moult__history__free_unpacked(h, NULL);
}

struct finding {
        const guint8 *push_id;
        Moult__TransactionState *state;
};

static gboolean find_push(Upgrade *u, Generation **g, gpointer user)
{
        struct finding *f = user;
        JournalStep last = journal_last((*g)->journal);
        if (generation_is_push(*g, f->push_id)) {
                if (last < JOURNAL_COMMIT) /* an interrupted staging: it is as if it was never offered */
                        return TRUE;
        } else if (!rollback_is_by_push(*g, f->push_id)) {
                return FALSE;
        }
        const struct journal_record *r = journal_last_record((*g)->journal);
        const char *text;
        Moult__TransactionState *s = g_new(Moult__TransactionState, 1);
        moult__transaction_state__init(s);
        s->push_id = bytes_copy(f->push_id, 16);
        s->generation = (*g)->number;
        s->phase = history_phase(last);
        s->was_committed = generation_is_push(*g, f->push_id) && last != JOURNAL_COMMITTED &&
                           journal_find((*g)->journal, JOURNAL_COMMITTED) != NULL;
        s->error = (Moult__ErrorCode)history_error_parse(r->text, &text);
        if (!g_str_equal(text, "-"))
                s->text = bytes_copy(text, strlen(text));
        if ((*g)->offer != NULL) {
                s->manifest_digest =
                        bytes_copy((*g)->offer->manifest_digest.data, (*g)->offer->manifest_digest.len);
                s->release = bytes_copy((*g)->offer->release.data, (*g)->offer->release.len);
        }
        f->state = s;
        return TRUE;
}

Moult__TransactionState *upgrade_find_push(Upgrade *u, const guint8 push_id[static 16])
{
        struct finding f = {push_id, NULL};
        history_each(u, find_push, &f, NULL);
        return f.state;
}
