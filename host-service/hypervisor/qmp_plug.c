/* host-service/hypervisor/qmp_plug.c - a pack becomes a window: the free root port that suits, object-add,
 * device_add.
 *
 * Both kinds of window are the same memory object; the device in front of it differs. Persistent memory is
 * not mapped into a BAR, so its port needs no reserved room; it takes its addresses from what `-m maxmem=`
 * has left. */
#include "common/error.h"
#include "host-service/hypervisor/qmp_backend_internal.h"

/* The guest's driver maps persistent memory in pieces of 2 MiB, and QEMU puts one device behind the other: a
 * smaller one could not be mapped, nor could the next one after it. */
#define PMEM_SIZE_MIN (UINT64_C(2) << 20)

static gboolean is_pmem(const Op *op)
{
        return op->window != HYPERVISOR_WINDOW_IVSHMEM;
}

static void on_object_withdrawn(JsonNode *result, const GError *error, gpointer user)
{
        QmpBackend *b = user;
        g_autoptr(GError) why = g_steal_pointer(&b->add_error);

        if (error)
                b->plugged = TRUE; /* the file is still held by QEMU */
        qmp_backend_fail(b, why, "plugging the pack into the VM");
}

static void on_device_added(JsonNode *result, const GError *error, gpointer user)
{
        QmpBackend *b = user;
        g_autofree char *id = g_strdup_printf("moult-pack-%d", b->slot);

        if (!error) {
                qmp_backend_finish(b, HYPERVISOR_RUNNING, NULL);
                return;
        }
        if (!qmp_backend_is_refusal(error)) {
                qmp_backend_fail(b, error,
                                 "plugging the pack into the VM"); /* may be in: the next survey tells */
                return;
        }
        b->plugged = survey_has_anything(&b->survey);
        b->add_error = g_error_copy(error);
        qmp_backend_execute(b, "object-del", qmp_backend_args("id", id), on_object_withdrawn);
}

static void on_object_added(JsonNode *result, const GError *error, gpointer user)
{
        QmpBackend *b = user;
        g_autofree char *window = g_strdup_printf("moult-window-%d", b->slot);
        g_autofree char *object = g_strdup_printf("moult-pack-%d", b->slot);
        JsonObject *args;

        if (error) {
                if (qmp_backend_is_refusal(error))
                        b->plugged = survey_has_anything(&b->survey);
                qmp_backend_fail(b, error, "giving the pack to QEMU as memory");
                return;
        }
        args = qmp_backend_args("driver", is_pmem(qmp_backend_op(b)) ? "virtio-pmem-pci" : "ivshmem-plain");
        json_object_set_string_member(args, "id", window);
        json_object_set_string_member(args, "memdev", object);
        if (b->port)
                json_object_set_string_member(args, "bus", b->port);
        qmp_backend_execute(b, "device_add", args, on_device_added);
}

static void add_object(QmpBackend *b)
{
        const Op *op = qmp_backend_op(b);
        g_autofree char *id = NULL;
        JsonObject *args;

        b->slot = survey_free_slot(&b->survey);
        if (b->slot < 0) {
                g_autoptr(GError) error = g_error_new(MOULT_ERROR, MOULT_ERROR_BUSY,
                                                      "the guest has not let go of %u earlier windows; "
                                                      "they go when it restarts",
                                                      SURVEY_SLOTS);

                qmp_backend_fail(b, error, "plugging the pack into the VM");
                return;
        }
        id = g_strdup_printf("moult-pack-%d", b->slot);
        args = qmp_backend_args("qom-type", "memory-backend-file");
        json_object_set_string_member(args, "id", id);
        json_object_set_string_member(args, "mem-path", op->path);
        json_object_set_int_member(args, "size", (gint64)op->size_bytes);
        json_object_set_boolean_member(args, "share", TRUE);
        json_object_set_boolean_member(args, "readonly", TRUE);
        b->plugged = TRUE;
        qmp_backend_execute(b, "object-add", args, on_object_added);
}

static void on_reserve(JsonNode *result, const GError *error, gpointer user);

static void no_port(QmpBackend *b, const Op *op)
{
        g_autoptr(GError) error = NULL;

        if (op->window == HYPERVISOR_WINDOW_PMEM)
                error = g_error_new_literal(
                        MOULT_ERROR, MOULT_ERROR_UNSUPPORTED,
                        "no free pcie-root-port of the VM is meant for virtio-pmem (-device "
                        "pcie-root-port,id=moult-pmem0,...). Such a device stays in the VM until that is "
                        "powered off, so it is plugged elsewhere only if `--transport pmem` asks for it");
        else
                error = g_error_new(MOULT_ERROR, MOULT_ERROR_UNSUPPORTED,
                                    "none of the VM's %u pcie-root-ports is free; give the VM a spare one "
                                    "(-device pcie-root-port,id=...,pref64-reserve=...)",
                                    b->survey.n_ports);
        qmp_backend_fail(b, error, "plugging the pack into the VM");
}

/* Asks each free port how much it reserves, then chooses. */
static void ask_reserves(QmpBackend *b)
{
        const Op *op = qmp_backend_op(b);
        const char *port;

        while (b->cursor < b->survey.n_ports &&
               (!b->survey.ports[b->cursor].seen || b->survey.ports[b->cursor].occupied))
                b->cursor++;
        if (b->cursor < b->survey.n_ports) {
                g_autofree char *path =
                        g_strconcat("/machine/peripheral/", b->survey.ports[b->cursor].id, NULL);
                JsonObject *args = qmp_backend_args("path", path);

                json_object_set_string_member(args, "property", "pref64-reserve");
                qmp_backend_execute(b, "qom-get", args, on_reserve);
                return;
        }
        port = is_pmem(op) ? survey_choose_pmem_port(&b->survey, op->window == HYPERVISOR_WINDOW_PMEM_FORCED)
                           : survey_choose_port(&b->survey, op->size_bytes);
        /* A machine without any root port (i440fx) may take devices on its root bus: QEMU finds the place, or
         * says no. */
        if (!port && (b->survey.n_ports > 0 || op->window == HYPERVISOR_WINDOW_PMEM)) {
                no_port(b, op);
                return;
        }
        g_free(b->port);
        b->port = g_strdup(port);
        add_object(b);
}

static void on_reserve(JsonNode *result, const GError *error, gpointer user)
{
        QmpBackend *b = user;

        if (error && !qmp_backend_is_refusal(error)) {
                qmp_backend_fail(b, error, "looking for a free root port");
                return;
        }
        /* Not set is 2^64-1, which arrives as -1. */
        if (!error && JSON_NODE_HOLDS_VALUE(result) && json_node_get_value_type(result) == G_TYPE_INT64 &&
            json_node_get_int(result) > 0)
                b->survey.ports[b->cursor].reserve_bytes = (guint64)json_node_get_int(result);
        b->cursor++;
        ask_reserves(b);
}

static void on_pci(JsonNode *result, const GError *error, gpointer user)
{
        QmpBackend *b = user;

        if (error) {
                qmp_backend_fail(b, error, "looking for a free root port");
                return;
        }
        survey_add_pci(&b->survey, result);
        b->cursor = 0;
        ask_reserves(b);
}

void qmp_plug_surveyed(QmpBackend *b)
{
        const Op *op = qmp_backend_op(b);
        /* The push's other window does not stand in the way, and a guest may be slow to let it go. */
        gboolean beside = is_pmem(op) && survey_find_path(&b->survey, op->path, FALSE) >= 0;

        if (is_pmem(op) && op->size_bytes < PMEM_SIZE_MIN) {
                g_autoptr(GError) error = g_error_new_literal(
                        MOULT_ERROR, MOULT_ERROR_UNSUPPORTED,
                        "the pack's file is smaller than the 2 MiB that virtio-pmem needs: an earlier moultd "
                        "imported it. Remove the release and import it again");

                qmp_backend_fail(b, error, "plugging the pack into the VM");
        } else if (survey_find_path(&b->survey, op->path, is_pmem(op)) >= 0) {
                /* An earlier moultd, or an unplug that failed, left it: the same bytes. */
                b->plugged = TRUE;
                qmp_backend_finish(b, HYPERVISOR_RUNNING, NULL);
        } else if (!beside && survey_has_anything(&b->survey) && qmp_unplug_may_try(b, /* deadlines= */ 1)) {
                qmp_unplug_step(b); /* comes back here */
        } else {
                qmp_backend_execute(b, "query-pci", NULL, on_pci);
        }
}
