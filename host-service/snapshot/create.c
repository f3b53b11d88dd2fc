/* host-service/snapshot/create.c - the steps of a snapshot in their order, and what is chosen and written
 * down. */
#include "host-service/snapshot/create_private.h"

#include "common/error.h"
#include "common/events.h"
#include "host-service/catalogue/operations.h"
#include "host-service/catalogue/vms.h"
#include "host-service/hypervisor/libvirt_uri.h"
#include "host-service/snapshot/disk_choice.h"
#include "host-service/snapshot/domain_files.h"

#define STORE_RETRY_MS 1000u

static const step_func way_back[], way_settle[], way_settled_back[], way_taken[], way_off[], way_off_again[],
        way_off_back[];

static void take(SnapshotCreate *s, const step_func *way)
{
        s->steps = way;
        s->k = 0;
        (*s->steps)(s);
}

void create_end_with(SnapshotCreate *s, const GError *error)
{
        s->done(s->r, error, s->user);
}

void create_fail(SnapshotCreate *s, const GError *error)
{
        if (s->settling) {
                create_end_with(s, error);
                return;
        }
        if (!s->error)
                s->error = g_error_copy(error);
        /* From there on the VM may have been started anew, from the new top. */
        if (s->placing)
                create_settle(s);
        else
                create_go_back(s);
}

void create_next(SnapshotCreate *s)
{
        g_autoptr(GError) cancelled = NULL;

        if (!s->switched && !s->settling && !s->error &&
            g_cancellable_set_error_if_cancelled(s->cancellable, &cancelled))
                create_fail(s, cancelled);
        else
                take(s, s->steps + 1);
}

gboolean create_has_first(const SnapshotCreate *s)
{
        for (guint i = 0; i < s->r->disks->len; i++)
                if (s->disks[i].disk->is_first)
                        return TRUE;
        return FALSE;
}

static GError *no_way(const SnapshotCreate *s)
{
        return g_error_new(MOULT_ERROR, MOULT_ERROR_UNSUPPORTED,
                           "the way to the QEMU of \"%s\" was removed meanwhile", s->r->vm);
}

void create_command(SnapshotCreate *s, const char *name, JsonObject *arguments, hypervisor_reply_func done)
{
        Hypervisor *h = s->guests->ops->hypervisor(s->guests->self, s->r->vm);
        g_autoptr(GError) none = NULL;

        if (h) {
                hypervisor_command(h, name, arguments, done, s);
                return;
        }
        if (arguments)
                json_object_unref(arguments);
        none = no_way(s);
        done(NULL, none, s);
}

char *create_file_beside(const struct snapshot_disk *d, const char *name)
{
        g_autofree char *dir = g_path_get_dirname(d->path);

        return g_build_filename(dir, name, NULL);
}

void create_note_why(SnapshotCreate *s, const char *why)
{
        g_free(s->r->why);
        s->r->why = g_strdup(why);
}

/* ---- what is there ---- */

static void on_status(HypervisorStatus status, const GError *error, gpointer user)
{
        SnapshotCreate *s = user;

        s->status = status;
        if (error)
                create_fail(s, error);
        else
                create_next(s);
}

static gboolean find_vm(SnapshotCreate *s, GError **error)
{
        g_autoptr(VmRecord) vm = catalogue_vm_get(s->catalogue, s->r->vm, error);

        if (!vm)
                return FALSE;
        s->is_domain = vm->libvirt != NULL;
        if (!s->is_domain || libvirt_uri_is_local(vm->libvirt))
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_UNSUPPORTED,
                    "VM \"%s\" is a domain of the libvirt %s: the files of its disks are on that host, and a "
                    "snapshot of them is taken by a moultd there",
                    s->r->vm, vm->libvirt);
        return FALSE;
}

void step_ask_status(SnapshotCreate *s)
{
        Hypervisor *h = s->guests->ops->hypervisor(s->guests->self, s->r->vm);
        g_autoptr(GError) error = NULL;

        if (!find_vm(s, &error)) {
                create_fail(s, error);
                return;
        }
        if (h)
                hypervisor_query_status(h, on_status, s);
        else if (s->settling)
                create_fail(s, error = no_way(s));
        else /* the locks on its disks tell */
                on_status(HYPERVISOR_GONE, NULL, s);
}

void create_make_list(SnapshotCreate *s)
{
        s->disks = g_new0(struct making, s->r->disks->len + 1);
        for (guint i = 0; i < s->r->disks->len; i++)
                s->disks[i].disk = s->r->disks->pdata[i];
}

static char *top_node(const GPtrArray *found, const char *device)
{
        for (guint i = 0; i < found->len; i++) {
                const struct vm_disk *d = found->pdata[i];

                if (g_str_equal(d->device, device))
                        return g_strdup(d->node);
        }
        return NULL;
}

static void on_disks(JsonNode *result, const GError *error, gpointer user)
{
        SnapshotCreate *s = user;
        g_autoptr(GError) why = NULL;

        if (error) {
                create_fail(s, error);
                return;
        }
        s->found = vm_disks_of(result);
        if (!s->found)
                why = g_error_new_literal(MOULT_ERROR, MOULT_ERROR_MALFORMED,
                                          "QEMU's answer is no list of drives");
        if (s->found)
                domain_call_by_targets(s->domain, s->found);
        if (!why && disk_choice_make(s->r, s->found, (const char *const *)s->options.disks, s->first_id,
                                     DISK_SEALED, &why))
                create_make_list(s);
        for (guint i = 0; !why && i < s->r->disks->len; i++)
                s->disks[i].top = top_node(s->found, s->disks[i].disk->device);
        if (why)
                create_fail(s, why);
        else
                create_next(s);
}

static void step_choose_disks(SnapshotCreate *s)
{
        if (s->status == HYPERVISOR_GONE) {
                take(s, way_off);
                return;
        }
        s->r->running = s->status == HYPERVISOR_RUNNING;
        create_command(s, "query-block", NULL, on_disks);
}

/* ---- the row ---- */

static gboolean write_rows(SnapshotCreate *s, GError **error)
{
        return catalogue_begin(s->catalogue, error) &&
               catalogue_end(s->catalogue,
                             catalogue_snapshot_add(s->catalogue, s->r, error) && create_add_layers(s, error),
                             error);
}

static void step_write_row(SnapshotCreate *s)
{
        g_autoptr(GError) error = NULL;

        s->r->created_us = host_wall_us(s->env);
        if (write_rows(s, &error))
                create_next(s);
        else
                create_fail(s, error);
}

static gboolean on_store_again(gpointer user)
{
        SnapshotCreate *s = user;

        host_timer_clear(&s->retry);
        (*s->steps)(s);
        return G_SOURCE_REMOVE;
}

static gboolean end_rows(SnapshotCreate *s, GError **error)
{
        return catalogue_begin(s->catalogue, error) &&
               catalogue_end(s->catalogue,
                             catalogue_snapshot_update(s->catalogue, s->r, error) &&
                                     create_end_layers(s, s->r->state == SNAPSHOT_TAKEN, error),
                             error);
}

/* What has happened is true whether it can be written or not. */
static void store(SnapshotCreate *s, SnapshotState state)
{
        g_autoptr(GError) error = NULL;

        s->r->state = state;
        if (end_rows(s, &error)) {
                create_next(s);
                return;
        }
        event_log(EVENT_ERROR, "snapshot-not-stored", error->message, "vm", s->r->vm, "snapshot", s->r->id,
                  NULL);
        s->retry = host_timer_add(s->env, STORE_RETRY_MS, on_store_again, s);
}

static void step_record_taken(SnapshotCreate *s)
{
        if (s->r->taken_us == 0) /* it is not known better */
                s->r->taken_us = host_wall_us(s->env);
        store(s, SNAPSHOT_TAKEN);
}

static void step_record_failed(SnapshotCreate *s)
{
        g_autoptr(SnapshotRecord) kept = catalogue_snapshot_get(s->catalogue, s->r->id, NULL);

        if (!kept) { /* it never came so far */
                create_next(s);
                return;
        }
        g_free(s->r->why);
        s->r->why = g_strdup(s->error->message);
        store(s, SNAPSHOT_FAILED);
}

/* ---- the ways ---- */

static void step_end(SnapshotCreate *s)
{
        create_end_with(s, s->error);
}

static const step_func way_there[] = {
        step_ask_status,  step_ask_domain, step_choose_disks, step_check_domain, step_look_below,
        step_name_domain, step_write_row,  step_make_files,   step_add_nodes,    step_place_before,
        step_define_next, step_freeze,     step_stop,         step_switch,       step_place_after,
        step_go_on,       step_thaw,       step_define_after, step_tidy,         step_record_taken,
        step_end};
static const step_func way_back[] = {step_go_on,      step_thaw,          step_del_nodes,
                                     step_back_files, step_record_failed, step_end};
static const step_func way_settle[] = {step_ask_status, step_ask_domain, step_find_again, step_look_at_files};
/* A VM that stands goes on when its disks' paths are right. */
static const step_func way_settled_back[] = {step_thaw,       step_del_nodes, step_define_back,
                                             step_back_files, step_go_on,     step_record_failed,
                                             step_end};
static const step_func way_off[] = {step_off_find,  step_off_measure,  step_off_choose,
                                    step_write_row, step_off_begin,    step_off_copy,
                                    step_off_check, step_record_taken, step_end};
static const step_func way_off_again[] = {step_ask_status, step_off_again,    step_off_begin, step_off_copy,
                                          step_off_check,  step_record_taken, step_end};
static const step_func way_off_back[] = {step_off_back, step_record_failed, step_end};
static const step_func way_taken[] = {step_define_after, step_place_after,  step_go_on, step_thaw,
                                      step_tidy,         step_record_taken, step_end};

void create_settle(SnapshotCreate *s)
{
        s->settling = TRUE;
        take(s, way_settle);
}

void create_go_back(SnapshotCreate *s)
{
        take(s, s->off ? way_off_back : s->settling ? way_settled_back : way_back);
}

void create_go_on_as_taken(SnapshotCreate *s)
{
        take(s, way_taken);
}

static SnapshotCreate *allocate(const struct host_env *env, Catalogue *c, const struct guest_view *guests,
                                SnapshotRecord *r, snapshot_created_func done, gpointer user)
{
        SnapshotCreate *s = g_new0(SnapshotCreate, 1);

        s->env = env;
        s->catalogue = c;
        s->guests = guests;
        s->r = r;
        s->done = done;
        s->user = user;
        s->cancellable = g_cancellable_new();
        return s;
}

SnapshotCreate *snapshot_create_new(const struct host_env *env, Catalogue *c, const struct guest_view *guests,
                                    SnapshotRecord *r, const struct snapshot_options *options,
                                    snapshot_created_func done, gpointer user)
{
        SnapshotCreate *s = allocate(env, c, guests, r, done, user);

        s->options = *options;
        s->options.disks = g_strdupv(options->disks);
        s->first_id = operation_id_new(c);
        take(s, way_there);
        return s;
}

SnapshotCreate *snapshot_create_settle(const struct host_env *env, Catalogue *c,
                                       const struct guest_view *guests, SnapshotRecord *r,
                                       snapshot_created_func done, gpointer user)
{
        SnapshotCreate *s = allocate(env, c, guests, r, done, user);

        create_make_list(s);
        s->off = create_is_off(r);
        s->resumed = TRUE;
        if (s->off)
                take(s, way_off_again);
        else
                create_settle(s);
        return s;
}

void snapshot_create_cancel(SnapshotCreate *s)
{
        g_cancellable_cancel(s->cancellable);
}

void create_really_free(SnapshotCreate *s)
{
        for (guint i = 0; s->disks && i < s->r->disks->len; i++) {
                g_free(s->disks[i].top);
                g_free(s->disks[i].top_file);
                g_free(s->disks[i].base);
                g_free(s->disks[i].base_identity);
                g_free(s->disks[i].own_name);
                layer_files_free(s->disks[i].files);
        }
        g_free(s->disks);
        g_clear_pointer(&s->found, g_ptr_array_unref);
        g_clear_pointer(&s->domain, json_node_unref);
        quiesce_free(s->quiesce);
        host_timer_clear(&s->retry);
        g_clear_error(&s->error);
        g_object_unref(s->cancellable);
        g_strfreev(s->options.disks);
        g_free(s->first_id);
        snapshot_record_free(s->r);
        g_free(s);
}

void snapshot_create_free(SnapshotCreate *s)
{
        if (!s)
                return;
        g_cancellable_cancel(s->cancellable);
        s->gone = TRUE;
        if (!s->working)
                create_really_free(s);
}
