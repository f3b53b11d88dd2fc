/* host-service/push/push_window.c - a push's window in its VM.
 *
 * A hypervisor does its operations in order, so their ends come in the order of these calls; `pending` counts
 * the plugs under way, so that the end of an earlier unplugging does not clear the mark of a later plug.
 * Plugging and taking off have a callback each: a push that is cancelled while its window is being plugged
 * asks for the second before the first has ended, and does not hear of the first any more. */
#include "host-service/push/push_window.h"

#include "common/error.h"
#include "common/events.h"

/* What the hypervisor calls the window is decided there; the row only has to say that there may be one. */
#define MARK      "moult-window"
#define MARK_PMEM "moult-window-pmem"

struct PushWindow {
        const struct host_env *env;
        Guests *guests;
        PushRecord *r;
        const ReleaseRecord *release; /* of the last plug; NULL: none yet */
        Moult__SourceKind kind;       /* plugged; UNSPECIFIED: none */
        HypervisorWindow asked;       /* by the plug that is under way */
        gboolean told; /* the guest hears, or has heard, what came of its wish for the other kind */
        gboolean knows_pmem, climbed, gone, dropping_early;
        GError *first;       /* why the first kind of window was refused, while the second is tried */
        gboolean marked_now; /* the mark is ours, of this plug; not of an earlier daemon */
        guint pending;
        hypervisor_done_func plug_done, drop_done; /* NULL: nobody waits */
        gpointer plug_user, drop_user;
};

PushWindow *push_window_new(const struct host_env *env, Guests *g, PushRecord *r)
{
        PushWindow *w = g_new0(PushWindow, 1);

        w->env = env;
        w->guests = g;
        w->r = r;
        return w;
}

void push_window_free(PushWindow *w)
{
        if (w)
                g_clear_error(&w->first);
        g_free(w);
}

void push_window_mark(PushWindow *w)
{
        if (w->r->plug)
                return;
        w->marked_now = TRUE;
        w->r->plug = g_strdup(MARK);
}

/* It failed before QEMU was asked for anything that could stay. */
static void note_not_plugged(PushWindow *w)
{
        const Hypervisor *h = guests_hypervisor(w->guests, w->r->vm);

        if (w->marked_now && (!h || !hypervisor_is_plugged(h)))
                g_clear_pointer(&w->r->plug, g_free);
}

/* Which kind, so that a restarted daemon does not begin with the other one. */
static void set_mark(PushWindow *w, const char *mark)
{
        g_free(w->r->plug);
        w->r->plug = g_strdup(mark);
}

static void ask(PushWindow *w, HypervisorWindow kind);
static gboolean may_try_pmem(const PushWindow *w);

/* QEMU answered, and said no. One that does not answer would not answer the second question either. */
static gboolean is_answer(const GError *error)
{
        return g_error_matches(error, MOULT_ERROR, MOULT_ERROR_UNSUPPORTED) ||
               g_error_matches(error, MOULT_ERROR, MOULT_ERROR_REFUSED) ||
               g_error_matches(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND);
}

static void log_no_window(const PushWindow *w, const GError *error)
{
        g_autofree char *why =
                w->first ? g_strdup_printf("ivshmem: %s; virtio-pmem: %s", w->first->message, error->message)
                         : g_strdup(error->message);

        event_log(EVENT_NOTICE, "push-no-window",
                  "the pack cannot be plugged into the VM; unless a window was asked for, the push goes on "
                  "over "
                  "the agent's session",
                  "vm", w->r->vm, "why", why, NULL);
}

static void on_plugged(const GError *error, gpointer user)
{
        PushWindow *w = user;

        hypervisor_done_func done = w->plug_done;

        w->pending--;
        if (error && done && may_try_pmem(w) && is_answer(error)) {
                w->first = g_error_copy(error);
                w->climbed = TRUE;
                ask(w, HYPERVISOR_WINDOW_PMEM);
                return;
        }
        if (!error && done)
                w->kind = w->asked == HYPERVISOR_WINDOW_IVSHMEM ? MOULT__SOURCE_KIND__SOURCE_IVSHMEM
                                                                : MOULT__SOURCE_KIND__SOURCE_PMEM;
        if (error && done)
                log_no_window(w, error);
        if (error && w->kind == MOULT__SOURCE_KIND__SOURCE_IVSHMEM)
                set_mark(w, MARK);
        g_clear_error(&w->first);
        if (error && w->pending == 0)
                note_not_plugged(w);
        w->plug_done = NULL;
        if (done)
                done(error, w->plug_user); /* may free us */
}

static char *pack_path(const PushWindow *w)
{
        return w->env->store->path(w->env->self, w->release->file);
}

static void ask(PushWindow *w, HypervisorWindow kind)
{
        Hypervisor *h = guests_hypervisor(w->guests, w->r->vm);
        g_autoptr(GError) error = NULL;
        g_autofree char *path = NULL;

        w->asked = kind;
        w->pending++;
        w->gone = FALSE;
        push_window_mark(w);
        if (!h)
                error = g_error_new(MOULT_ERROR, MOULT_ERROR_UNSUPPORTED,
                                    "VM %s has neither QMP socket nor libvirt, so nothing can be plugged "
                                    "into it; add the VM again with --libvirt or --qmp",
                                    w->r->vm);
        else if (kind != HYPERVISOR_WINDOW_IVSHMEM && !w->knows_pmem)
                error = g_error_new_literal(MOULT_ERROR, MOULT_ERROR_UNSUPPORTED,
                                            "the guest's moult-agent is of a version that cannot read from "
                                            "virtio-pmem; upgrade it, "
                                            "or push over another transport");
        if (error) {
                on_plugged(error, w);
                return;
        }
        if (kind != HYPERVISOR_WINDOW_IVSHMEM)
                set_mark(w, MARK_PMEM);
        path = pack_path(w);
        hypervisor_plug_pack(h, path, w->release->padded_size, kind, on_plugged, w);
}

void push_window_plug(PushWindow *w, const ReleaseRecord *release, gboolean knows_pmem,
                      hypervisor_done_func done, gpointer user)
{
        gboolean forced = w->r->options.transport == PUSH_TRANSPORT_PMEM;
        gboolean was_pmem = g_strcmp0(w->r->plug, MARK_PMEM) == 0;

        w->release = release;
        w->plug_done = done;
        w->plug_user = user;
        w->knows_pmem = knows_pmem;
        w->climbed = was_pmem;
        w->told = FALSE;
        ask(w, forced                   ? HYPERVISOR_WINDOW_PMEM_FORCED
               : was_pmem && knows_pmem ? HYPERVISOR_WINDOW_PMEM
                                        : HYPERVISOR_WINDOW_IVSHMEM);
}

static gboolean may_try_pmem(const PushWindow *w)
{
        return w->r->options.transport == PUSH_TRANSPORT_AUTO && w->release && w->knows_pmem && !w->climbed &&
               guests_hypervisor(w->guests, w->r->vm);
}

gboolean push_window_may_climb(const PushWindow *w)
{
        return w->kind == MOULT__SOURCE_KIND__SOURCE_IVSHMEM && may_try_pmem(w);
}

void push_window_wanted(PushWindow *w, hypervisor_done_func done, gpointer user)
{
        if (w->pending > 0 || w->told)
                return;
        w->told = TRUE;
        if (!push_window_may_climb(w)) {
                done(NULL, user);
                return;
        }
        w->climbed = TRUE;
        w->plug_done = done;
        w->plug_user = user;
        ask(w, HYPERVISOR_WINDOW_PMEM);
}

/* Something of an earlier push stays, not ours. */
static gboolean is_anothers(const PushWindow *w, const GError *error)
{
        const Hypervisor *h = guests_hypervisor(w->guests, w->r->vm);
        g_autofree char *path = w->release ? pack_path(w) : NULL;

        return g_error_matches(error, MOULT_ERROR, MOULT_ERROR_UNSUPPORTED) && h && path &&
               !hypervisor_keeps(h, path);
}

static void note_dropped(PushWindow *w, const GError *error)
{
        if ((error && !is_anothers(w, error)) || w->pending > 0)
                return;
        w->gone = error == NULL;
        g_clear_pointer(&w->r->plug, g_free);
}

static void on_dropped_early(const GError *error, gpointer user)
{
        PushWindow *w = user;

        w->dropping_early = FALSE;
        note_dropped(w, error);
}

void push_window_drop_early(PushWindow *w)
{
        Hypervisor *h = w->r->plug ? guests_hypervisor(w->guests, w->r->vm) : NULL;

        w->kind = MOULT__SOURCE_KIND__SOURCE_UNSPECIFIED;
        if (!h || w->dropping_early)
                return;
        w->dropping_early = TRUE;
        hypervisor_unplug_pack(h, on_dropped_early, w);
}

static void on_dropped(const GError *error, gpointer user)
{
        PushWindow *w = user;

        note_dropped(w, error);
        if (error && w->r->plug)
                event_log(EVENT_WARNING, "push-window-stuck",
                          "the pack's window could not be taken off; the push's outcome stands, live "
                          "migration of the VM is blocked until the window has gone",
                          "vm", w->r->vm, "why", error->message, NULL);
        w->drop_done(error, w->drop_user); /* may free us */
}

void push_window_drop(PushWindow *w, hypervisor_done_func done, gpointer user)
{
        Hypervisor *h = w->r->plug ? guests_hypervisor(w->guests, w->r->vm) : NULL;

        w->plug_done = NULL; /* a plug under way ends first, and is then taken off */
        w->drop_done = done;
        w->drop_user = user;
        w->kind = MOULT__SOURCE_KIND__SOURCE_UNSPECIFIED;
        if (h) {
                hypervisor_unplug_pack(h, on_dropped, w);
                return;
        }
        g_clear_pointer(&w->r->plug, g_free); /* no monitor: nothing was ever plugged */
        done(NULL, user);
}

Moult__SourceKind push_window_kind(const PushWindow *w)
{
        return w->kind;
}

gboolean push_window_is_gone(const PushWindow *w)
{
        return w->gone;
}
