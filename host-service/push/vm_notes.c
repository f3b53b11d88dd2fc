/* host-service/push/vm_notes.c - what the manager remembers of each VM while it runs. */
#include "host-service/push/vm_notes.h"

#include "host-service/guests/budget.h"

#define ASK_EVERY_US   (5 * G_USEC_PER_SEC)
#define REQUEST_TOKENS 6u /* of one a second */
#define REQUEST_BURST  (5 * REQUEST_TOKENS)

typedef struct {
        void (*done)(gpointer user);
        gpointer user;
} Waiter;

typedef struct {
        VmNotes *owner;
        gboolean asking, answers;
        gint64 asked_us;
        GSList *waiters; /* Waiter; for the question that is under way */
        GSource *soon;   /* tells them, never from within vm_notes_look() */
        struct budget requests;
} Note;

struct VmNotes {
        const struct host_env *env;
        Guests *guests;
        GHashTable *notes; /* VM name -> Note; kept as long as we run: a hypervisor may still answer to it */
};

static void tell_waiters(Note *note)
{
        GSList *waiters = g_slist_reverse(g_steal_pointer(&note->waiters));

        for (GSList *l = waiters; l; l = l->next) {
                Waiter *w = l->data;
                w->done(w->user);
        }
        g_slist_free_full(waiters, g_free);
}

static gboolean on_soon(gpointer user)
{
        Note *note = user;

        host_timer_clear(&note->soon);
        tell_waiters(note);
        return G_SOURCE_REMOVE;
}

static void tell_waiters_soon(Note *note)
{
        if (note->waiters && !note->soon)
                note->soon = host_timer_add(note->owner->env, 0, on_soon, note);
}

static void note_free(gpointer data)
{
        Note *note = data;

        host_timer_clear(&note->soon);
        tell_waiters(note);
        g_free(note);
}

VmNotes *vm_notes_new(const struct host_env *env, Guests *g)
{
        VmNotes *n = g_new0(VmNotes, 1);

        n->env = env;
        n->guests = g;
        n->notes = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, note_free);
        return n;
}

void vm_notes_free(VmNotes *n)
{
        if (!n)
                return;
        g_hash_table_unref(n->notes);
        g_free(n);
}

static Note *note_of(VmNotes *n, const char *vm)
{
        Note *note = g_hash_table_lookup(n->notes, vm);

        if (note)
                return note;
        note = g_new0(Note, 1);
        note->owner = n;
        note->requests = budget_new(1, REQUEST_BURST);
        g_hash_table_insert(n->notes, g_strdup(vm), note);
        return note;
}

void vm_notes_forget(VmNotes *n, const char *vm)
{
        Note *note = g_hash_table_lookup(n->notes, vm);

        if (!note)
                return;
        note->asking = note->answers = FALSE; /* its hypervisor is another one now */
        note->asked_us = 0;
        tell_waiters_soon(note);
}

gboolean vm_notes_may_request(VmNotes *n, const char *vm)
{
        return budget_take(&note_of(n, vm)->requests, REQUEST_TOKENS, host_monotonic_us(n->env));
}

static void on_status(HypervisorStatus status, const GError *error, gpointer user)
{
        Note *note = user;

        note->asking = FALSE;
        note->answers = !error && status != HYPERVISOR_GONE;
        tell_waiters_soon(note);
}

static void ask(Note *note, Hypervisor *h)
{
        note->asking = TRUE;
        note->asked_us = host_monotonic_us(note->owner->env);
        hypervisor_query_status(h, on_status, note);
}

gboolean vm_notes_qmp_answers(VmNotes *n, const char *vm)
{
        Hypervisor *h = guests_hypervisor(n->guests, vm);
        Note *note = note_of(n, vm);
        gint64 now_us = host_monotonic_us(n->env);

        if (!h)
                return FALSE;
        if (!note->asking && (!note->asked_us || now_us - note->asked_us > ASK_EVERY_US))
                ask(note, h);
        return note->answers;
}

void vm_notes_look(VmNotes *n, const char *vm, void (*done)(gpointer user), gpointer user)
{
        Hypervisor *h = guests_hypervisor(n->guests, vm);
        Note *note = note_of(n, vm);
        Waiter *w = g_new(Waiter, 1);

        *w = (Waiter){done, user};
        note->waiters = g_slist_prepend(note->waiters, w);
        if (!h)
                tell_waiters_soon(note);
        else if (!note->asking)
                ask(note, h);
}
