/* host-service/snapshot/rollback_domain.c - from what a domain of libvirt's is started, before and after its
 * disks were rolled back.
 *
 * Its definition is given the new tops before any path is: for all disks in one step, and that step is the
 * rollback. What is left to do then is done by whoever looks next. */
#include "common/error.h"
#include "common/fault.h"
#include "host-service/catalogue/vms.h"
#include "host-service/snapshot/domain_files.h"
#include "host-service/snapshot/rollback_private.h"

static char *beside(const struct snapshot_disk *d, const char *name)
{
        g_autofree char *dir = g_path_get_dirname(d->path);

        return g_build_filename(dir, name, NULL);
}

static void on_asked(JsonNode *result, const GError *error, gpointer user)
{
        struct rollback *t = user;

        t->asking = FALSE;
        if (t->owner->closing)
                return;
        if (error) {
                rollback_fail(t, error);
                return;
        }
        t->saved = domain_is_saved(result);
        for (guint i = 0; i < t->to->disks->len; i++) {
                struct way *w = &t->ways[i];
                g_autofree char *next = beside(w->before, w->before->next);

                w->is_defined = g_strcmp0(domain_file(result, "defined", w->before->device), next) == 0;
        }
        t->then(t);
}

void rollback_ask_domain(struct rollback *t, void (*then)(struct rollback *))
{
        g_autoptr(GError) error = NULL;
        g_autoptr(VmRecord) vm = catalogue_vm_get(t->owner->catalogue, t->vm, &error);
        Hypervisor *h = t->owner->guests.ops->hypervisor(t->owner->guests.self, t->vm);

        t->is_domain = vm && vm->libvirt && h;
        if (!t->is_domain) {
                then(t);
                return;
        }
        t->then = then;
        t->asking = TRUE;
        hypervisor_disks(h, VIRT_DISKS_ASK, NULL, on_asked, t);
}

static JsonObject *changes_of(const struct rollback *t)
{
        JsonObject *changes = json_object_new();

        for (guint i = 0; i < t->to->disks->len; i++) {
                const struct snapshot_disk *d = t->ways[i].before;
                g_autofree char *to = beside(d, d->next), *top = beside(d, d->layer);
                const char *const from[] = {d->path, top, NULL};

                domain_define(changes, d->device, to, "qcow2", from);
        }
        return changes;
}

static void on_defined(JsonNode *result, const GError *error, gpointer user)
{
        struct rollback *t = user;

        t->asking = FALSE;
        if (t->owner->closing)
                return;
        if (error)
                rollback_place_failed(t, error); /* a look tells whether it has happened */
        else
                t->then(t);
}

void rollback_define(struct rollback *t, void (*then)(struct rollback *))
{
        Hypervisor *h = t->owner->guests.ops->hypervisor(t->owner->guests.self, t->vm);

        if (!t->is_domain || !h) {
                then(t);
                return;
        }
        fault_point("rollback-define");
        t->then = then;
        t->asking = TRUE;
        hypervisor_disks(h, VIRT_DISKS_DEFINE, changes_of(t), on_defined, t);
}
