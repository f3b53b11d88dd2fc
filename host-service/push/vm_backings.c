/* host-service/push/vm_backings.c - who shares a backing file with whom. */
#include "host-service/push/vm_backings.h"

#include "common/events.h"

#define ASKS_MAX 8u /* at once */

typedef struct {
        VmBackings *owner;
        char *vm;
        gboolean asking, known;
        char **files; /* NULL: none, or it cannot be known */
} Disks;

struct VmBackings {
        Guests *guests;
        guint limit, asks;
        GHashTable *disks; /* VM name -> Disks; kept as long as we run: a hypervisor may still answer to it */
        void (*answered)(gpointer user);
        gpointer user;
};

static void disks_free(gpointer data)
{
        Disks *d = data;

        g_strfreev(d->files);
        g_free(d->vm);
        g_free(d);
}

VmBackings *vm_backings_new(Guests *g, guint limit, void (*answered)(gpointer user), gpointer user)
{
        VmBackings *b = g_new0(VmBackings, 1);

        b->guests = g;
        b->limit = limit;
        b->disks = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, disks_free);
        b->answered = answered;
        b->user = user;
        return b;
}

void vm_backings_free(VmBackings *b)
{
        if (!b)
                return;
        g_hash_table_unref(b->disks);
        g_free(b);
}

static Disks *disks_of(VmBackings *b, const char *vm)
{
        Disks *d = g_hash_table_lookup(b->disks, vm);

        if (d)
                return d;
        d = g_new0(Disks, 1);
        d->owner = b;
        d->vm = g_strdup(vm);
        g_hash_table_insert(b->disks, d->vm, d);
        return d;
}

static void set_asking(Disks *d, gboolean asking)
{
        if (asking != d->asking)
                d->owner->asks += asking ? 1u : -1u;
        d->asking = asking;
}

static void on_files(const char *const *files, const GError *error, gpointer user)
{
        Disks *d = user;

        set_asking(d, FALSE);
        d->known = TRUE;
        g_strfreev(d->files);
        d->files = g_strdupv((char **)(gpointer)files);
        if (error)
                event_log(
                        EVENT_INFO, "backing-unknown",
                        "the VM's disks cannot be known; its push counts as one that shares no backing file",
                        "vm", d->vm, "why", error->message, NULL);
        d->owner->answered(d->owner->user);
}

void vm_backings_ask(VmBackings *b, const char *vm)
{
        Disks *d = disks_of(b, vm);
        Hypervisor *h = b->limit ? guests_hypervisor(b->guests, vm) : NULL;

        if (d->known || d->asking)
                return;
        if (!h) {
                d->known = TRUE; /* only its network is known */
                return;
        }
        set_asking(d, TRUE);
        hypervisor_query_backing(h, on_files, d);
}

static guint sharing(VmBackings *b, const GPtrArray *running, const Push *p, const char *file)
{
        guint n = 0;

        for (guint i = 0; i < running->len; i++) {
                const Push *other = running->pdata[i];
                const Disks *d = other != p && push_takes_place(other)
                                         ? g_hash_table_lookup(b->disks, push_record(other)->vm)
                                         : NULL;

                n += d && d->files && g_strv_contains((const char *const *)d->files, file) ? 1 : 0;
        }
        return n;
}

gboolean vm_backings_fit(VmBackings *b, const GPtrArray *running, const Push *p)
{
        const char *vm = push_record(p)->vm;
        Disks *d;

        if (b->limit == 0)
                return TRUE;
        d = disks_of(b, vm);
        if (!d->known && b->asks < ASKS_MAX)
                vm_backings_ask(b, vm);
        if (!d->known)
                return FALSE;
        for (char **file = d->files; file && *file; file++)
                if (sharing(b, running, p, *file) >= b->limit)
                        return FALSE;
        return TRUE;
}

void vm_backings_forget(VmBackings *b, const char *vm)
{
        Disks *d = g_hash_table_lookup(b->disks, vm);

        if (!d)
                return;
        d->known = FALSE;
        g_clear_pointer(&d->files, g_strfreev);
}

void vm_backings_vm_changed(VmBackings *b, const char *vm)
{
        Disks *d = g_hash_table_lookup(b->disks, vm);

        if (!d)
                return;
        vm_backings_forget(b, vm);
        set_asking(d, FALSE);
        b->answered(b->user); /* who waits for the answer asks anew */
}
