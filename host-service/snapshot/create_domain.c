/* host-service/snapshot/create_domain.c - what a snapshot says to libvirt of a domain's disks.
 *
 * libvirt itself switches them, so that it knows the chain that QEMU has. The definition of the domain names
 * the new top before that: it is empty then, and whatever is started from it finds the same content. */
#include "host-service/snapshot/create_private.h"

#include "common/error.h"
#include "common/events.h"
#include "common/fault.h"
#include "host-service/snapshot/domain_files.h"

void create_ask_domain(SnapshotCreate *s, VirtDisks what, JsonObject *arguments, hypervisor_reply_func done)
{
        Hypervisor *h = s->guests->ops->hypervisor(s->guests->self, s->r->vm);
        g_autoptr(GError) none = NULL;

        if (h) {
                hypervisor_disks(h, what, arguments, done, s);
                return;
        }
        if (arguments)
                json_object_unref(arguments);
        none = g_error_new(MOULT_ERROR, MOULT_ERROR_UNSUPPORTED,
                           "the way to the domain of \"%s\" was removed meanwhile", s->r->vm);
        done(NULL, none, s);
}

/* ---- what libvirt knows ---- */

const char *create_domain_file(const SnapshotCreate *s, const char *where, const struct snapshot_disk *d)
{
        return domain_file(s->domain, where, d->device);
}

/* One that was undefined meanwhile has no definition that could be wrong. */
static void on_domain(JsonNode *result, const GError *error, gpointer user)
{
        SnapshotCreate *s = user;

        g_clear_pointer(&s->domain, json_node_unref);
        if (error && !(s->settling && g_error_matches(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND))) {
                create_fail(s, error);
                return;
        }
        s->domain = result ? json_node_ref(result) : NULL;
        create_next(s);
}

void step_ask_domain(SnapshotCreate *s)
{
        if (s->is_domain)
                create_ask_domain(s, VIRT_DISKS_ASK, NULL, on_domain);
        else
                create_next(s);
}

static GError *refusal(const SnapshotCreate *s, const struct snapshot_disk *d)
{
        const char *defined = create_domain_file(s, "defined", d);

        if (!domain_is(s->domain, "defined"))
                return g_error_new(
                        MOULT_ERROR, MOULT_ERROR_REFUSED,
                        "libvirt keeps no definition of the domain (it is transient): nobody would "
                        "know from which file VM \"%s\" is to be started after a snapshot. Define "
                        "it ('virsh define') first",
                        s->r->vm);
        if (!create_domain_file(s, "live", d))
                return g_error_new(MOULT_ERROR, MOULT_ERROR_REFUSED,
                                   "the disk %s is another file for QEMU than for libvirt: QEMU was told so "
                                   "past libvirt. Nothing was changed; shut the VM down and start it anew",
                                   d->device);
        if (defined && !domain_file_is_of(d->path, defined))
                return g_error_new(MOULT_ERROR, MOULT_ERROR_REFUSED,
                                   "the domain's definition names the file %s for %s, and it runs with %s: "
                                   "somebody else has changed it. Nothing was changed; with another start of "
                                   "the domain, or another definition, they are the same",
                                   defined, d->device, create_domain_file(s, "live", d));
        if (!defined)
                return g_error_new(MOULT_ERROR, MOULT_ERROR_REFUSED,
                                   "the disk %s is not in the domain's definition, and goes when it is shut "
                                   "down; --disk takes a snapshot of others",
                                   d->device);
        return NULL;
}

void step_check_domain(SnapshotCreate *s)
{
        for (guint i = 0; s->is_domain && i < s->r->disks->len; i++) {
                g_autoptr(GError) why = refusal(s, s->disks[i].disk);

                if (why) {
                        create_fail(s, why);
                        return;
                }
        }
        create_next(s);
}

/* ---- from what it is started ---- */

void create_define(JsonObject *changes, const struct snapshot_disk *d, const char *name)
{
        g_autofree char *to = create_file_beside(d, name), *layer = create_file_beside(d, d->layer);
        g_autofree char *next = create_file_beside(d, d->next);
        const char *const from[] = {d->path, layer, next, NULL};

        domain_define(changes, d->device, to, g_str_equal(name, d->next) ? "qcow2" : d->format, from);
}

static JsonObject *all_next(const SnapshotCreate *s)
{
        JsonObject *o = json_object_new();

        for (guint i = 0; i < s->r->disks->len; i++)
                create_define(o, s->disks[i].disk, s->disks[i].disk->next);
        return o;
}

static void on_defined(JsonNode *result, const GError *error, gpointer user)
{
        SnapshotCreate *s = user;

        if (error)
                create_fail(s, error);
        else
                create_next(s);
}

void step_define_next(SnapshotCreate *s)
{
        if (!s->is_domain) {
                create_next(s);
                return;
        }
        fault_point("snapshot-define");
        create_ask_domain(s, VIRT_DISKS_DEFINE, all_next(s), on_defined);
}

/* It has happened, whatever the operator has done to the definition meanwhile. */
static void on_defined_after(JsonNode *result, const GError *error, gpointer user)
{
        SnapshotCreate *s = user;

        if (error && !g_error_matches(error, MOULT_ERROR, MOULT_ERROR_REFUSED) &&
            !g_error_matches(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND)) {
                create_end_with(s, error); /* looked at again */
                return;
        }
        if (error)
                event_log(EVENT_WARNING, "snapshot-definition",
                          "the snapshot is taken, but the domain's definition does not name its new top: "
                          "look at it ('virsh dumpxml --inactive') before the VM is started again",
                          "vm", s->r->vm, "snapshot", s->r->id, "why", error->message, NULL);
        create_next(s);
}

/* Nothing is changed unless somebody else did. */
void step_define_after(SnapshotCreate *s)
{
        if (s->domain)
                create_ask_domain(s, VIRT_DISKS_DEFINE, all_next(s), on_defined_after);
        else
                create_next(s);
}

static void on_defined_back(JsonNode *result, const GError *error, gpointer user)
{
        SnapshotCreate *s = user;

        if (error)
                create_end_with(s, error); /* looked at again */
        else
                create_next(s);
}

/* Before the new tops go. Somebody else's disk stays as it is. */
void step_define_back(SnapshotCreate *s)
{
        JsonObject *changes = json_object_new();

        for (guint i = 0; domain_is(s->domain, "defined") && i < s->r->disks->len; i++) {
                const struct making *m = &s->disks[i];
                const char *defined = create_domain_file(s, "defined", m->disk);

                if (m->settle != SETTLE_FOREIGN && defined && domain_file_is_of(m->disk->path, defined))
                        create_define(changes, m->disk,
                                      m->settle == SETTLE_TAKEN ? m->disk->next : m->disk->layer);
        }
        fault_point("snapshot-define-back");
        if (json_object_get_size(changes) > 0) {
                create_ask_domain(s, VIRT_DISKS_DEFINE, changes, on_defined_back);
                return;
        }
        json_object_unref(changes);
        create_next(s);
}
