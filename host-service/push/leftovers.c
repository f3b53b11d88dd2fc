/* host-service/push/leftovers.c - windows that may still be plugged although their push has ended. */
#include "host-service/push/leftovers.h"

#include <string.h>

#include "common/events.h"
#include "host-service/catalogue/pushes.h"

#define RETRY_MS 60000u

struct Leftovers {
        const struct host_env *env;
        Catalogue *catalogue;
        Guests *guests;
        gboolean (*is_busy)(const char *vm, gpointer user);
        gpointer user;
        GPtrArray *list;     /* of Leftover, owned */
        GPtrArray *takeoffs; /* of Takeoff, owned: asked of the hypervisor; one for each VM */
        GSource *retry;      /* while the list is not empty */
};

typedef struct {
        char *vm;
        guint8 digest[DIGEST_SIZE];
        gboolean told; /* that it could not be taken off */
} Leftover;

typedef struct {
        Leftovers *owner;
        char *vm;
        gboolean over; /* the VM is another one: of no interest, if it ends at all */
} Takeoff;

static void takeoff_free(gpointer p)
{
        Takeoff *t = p;

        g_free(t->vm);
        g_free(t);
}

static void leftover_free(gpointer p)
{
        Leftover *e = p;

        g_free(e->vm);
        g_free(e);
}

Leftovers *leftovers_new(const struct host_env *env, Catalogue *c, Guests *g,
                         gboolean (*is_busy)(const char *vm, gpointer user), gpointer user)
{
        Leftovers *l = g_new0(Leftovers, 1);

        l->env = env;
        l->catalogue = c;
        l->guests = g;
        l->is_busy = is_busy;
        l->user = user;
        l->list = g_ptr_array_new_with_free_func(leftover_free);
        l->takeoffs = g_ptr_array_new_with_free_func(takeoff_free);
        return l;
}

void leftovers_free(Leftovers *l)
{
        if (!l)
                return;
        host_timer_clear(&l->retry);
        g_ptr_array_unref(l->list);
        g_ptr_array_unref(l->takeoffs);
        g_free(l);
}

static gboolean on_retry(gpointer user);

void leftovers_add(Leftovers *l, const char *vm, const guint8 digest[static DIGEST_SIZE])
{
        Leftover *e = g_new0(Leftover, 1);

        e->vm = g_strdup(vm);
        memcpy(e->digest, digest, DIGEST_SIZE);
        g_ptr_array_add(l->list, e);
        if (!l->retry)
                l->retry = host_timer_add(l->env, RETRY_MS, on_retry, l);
}

static void forget(Leftovers *l, const char *vm)
{
        for (guint i = l->list->len; i > 0; i--)
                if (g_str_equal(((Leftover *)l->list->pdata[i - 1])->vm, vm))
                        g_ptr_array_remove_index_fast(l->list, i - 1);
        if (l->list->len == 0)
                host_timer_clear(&l->retry);
}

void leftovers_forget(Leftovers *l, const char *vm)
{
        forget(l, vm);
        for (guint i = 0; i < l->takeoffs->len; i++) {
                Takeoff *t = l->takeoffs->pdata[i];

                t->over |= g_str_equal(t->vm, vm);
        }
}

void leftovers_gone(Leftovers *l, const char *vm)
{
        g_autoptr(GError) error = NULL;

        forget(l, vm);
        if (!catalogue_push_unplugged(l->catalogue, vm, &error)) /* the next start looks once more */
                event_log(EVENT_WARNING, "push-progress-lost", error->message, "vm", vm, NULL);
}

const char *leftovers_find_digest(const Leftovers *l, const guint8 digest[static DIGEST_SIZE])
{
        for (guint i = 0; i < l->list->len; i++) {
                const Leftover *e = l->list->pdata[i];

                if (memcmp(e->digest, digest, DIGEST_SIZE) == 0)
                        return e->vm;
        }
        return NULL;
}

/* Once for each window, however often it is tried. */
static void tell_stuck(Leftovers *l, const char *vm, const GError *error)
{
        gboolean told = TRUE;

        for (guint i = 0; i < l->list->len; i++) {
                Leftover *e = l->list->pdata[i];

                if (g_str_equal(e->vm, vm)) {
                        told &= e->told;
                        e->told = TRUE;
                }
        }
        if (!told)
                event_log(EVENT_WARNING, "push-window-stuck",
                          "a window that an earlier push left could not be taken off; it is tried again "
                          "every minute",
                          "vm", vm, "why", error->message, NULL);
}

static void on_taken_off(const GError *error, gpointer user)
{
        Takeoff *t = user;
        Leftovers *l = t->owner;

        if (error && !t->over)
                tell_stuck(l, t->vm, error);
        else if (!t->over)
                leftovers_gone(l, t->vm);
        g_ptr_array_remove_fast(l->takeoffs, t);
}

static gboolean is_left(const Leftovers *l, const char *vm)
{
        for (guint i = 0; i < l->list->len; i++)
                if (g_str_equal(((Leftover *)l->list->pdata[i])->vm, vm))
                        return TRUE;
        return FALSE;
}

static gboolean is_asked(const Leftovers *l, const char *vm)
{
        for (guint i = 0; i < l->takeoffs->len; i++)
                if (!((Takeoff *)l->takeoffs->pdata[i])->over &&
                    g_str_equal(((Takeoff *)l->takeoffs->pdata[i])->vm, vm))
                        return TRUE;
        return FALSE;
}

void leftovers_try(Leftovers *l, const char *vm)
{
        Hypervisor *h = guests_hypervisor(l->guests, vm);
        Takeoff *t;

        if (!h || !is_left(l, vm) || is_asked(l, vm) || l->is_busy(vm, l->user))
                return;
        t = g_new0(Takeoff, 1);
        t->owner = l;
        t->vm = g_strdup(vm);
        g_ptr_array_add(l->takeoffs, t);
        hypervisor_unplug_pack(h, on_taken_off, t);
}

static gboolean on_retry(gpointer user)
{
        Leftovers *l = user;

        for (guint i = 0; i < l->list->len; i++) /* asked for from the loop: the list stays as it is */
                leftovers_try(l, ((Leftover *)l->list->pdata[i])->vm);
        return G_SOURCE_CONTINUE;
}

void leftovers_begin(Leftovers *l)
{
        g_autoptr(GPtrArray) left = catalogue_push_left_plugged(l->catalogue, NULL);

        for (guint i = 0; left && i < left->len; i++) {
                const PushRecord *r = left->pdata[i];

                if (guests_hypervisor(l->guests, r->vm))
                        leftovers_add(l, r->vm, r->digest);
        }
        on_retry(l);
}
