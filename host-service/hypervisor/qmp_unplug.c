/* host-service/hypervisor/qmp_unplug.c - looking at what is plugged, and taking it off until nothing is left.
 */
#include "common/error.h"
#include "host-service/hypervisor/qmp_backend_internal.h"

#define DELETED_WAIT_MS     8000u /* a guest's native PCIe hot-plug waits 5 s after the button press */
#define OBJECT_DEL_RETRY_MS 100u
#define OBJECT_DEL_TRIES    50u
#define PASSES_MAX          (OBJECT_DEL_TRIES + 4 * SURVEY_SLOTS)

static void survey_paths(QmpBackend *b);

static void on_mem_path(JsonNode *result, const GError *error, gpointer user)
{
        QmpBackend *b = user;

        if (error && !qmp_backend_is_refusal(error)) {
                qmp_backend_fail(b, error, "looking for windows in the VM");
                return;
        }
        if (!error && JSON_NODE_HOLDS_VALUE(result) && json_node_get_value_type(result) == G_TYPE_STRING)
                b->survey.slots[b->cursor].path = g_strdup(json_node_get_string(result));
        b->cursor++;
        survey_paths(b);
}

static void survey_paths(QmpBackend *b)
{
        while (b->cursor < SURVEY_SLOTS && !b->survey.slots[b->cursor].object)
                b->cursor++;
        if (b->cursor == SURVEY_SLOTS) {
                if (survey_has_anything(&b->survey))
                        b->plugged = TRUE;
                (qmp_backend_op(b)->kind == OP_PLUG ? qmp_plug_surveyed : qmp_unplug_surveyed)(b);
        } else {
                g_autofree char *path = g_strdup_printf("/objects/moult-pack-%u", b->cursor);
                JsonObject *args = qmp_backend_args("path", path);

                json_object_set_string_member(args, "property", "mem-path");
                qmp_backend_execute(b, "qom-get", args, on_mem_path);
        }
}

static void on_peripherals(JsonNode *result, const GError *error, gpointer user)
{
        QmpBackend *b = user;

        if (error) {
                qmp_backend_fail(b, error, "looking for windows in the VM");
                return;
        }
        survey_add_peripherals(&b->survey, result);
        for (guint i = 0; i < SURVEY_SLOTS; i++)
                b->survey.slots[i].stays =
                        b->survey.slots[i].window && b->survey.slots[i].pmem && (b->staying & 1u << i) != 0;
        b->cursor = 0;
        survey_paths(b);
}

static void on_objects(JsonNode *result, const GError *error, gpointer user)
{
        QmpBackend *b = user;

        if (error) {
                qmp_backend_fail(b, error, "looking for windows in the VM");
                return;
        }
        survey_add_objects(&b->survey, result);
        qmp_backend_execute(b, "qom-list", qmp_backend_args("path", "/machine/peripheral"), on_peripherals);
}

void qmp_survey(QmpBackend *b)
{
        survey_clear(&b->survey);
        qmp_backend_execute(b, "qom-list", qmp_backend_args("path", "/objects"), on_objects);
}

gboolean qmp_unplug_may_try(const QmpBackend *b, guint deadlines)
{
        if (b->passes >= PASSES_MAX)
                return FALSE;
        return survey_has_windows(&b->survey) ? b->deadlines < deadlines : b->object_tries < OBJECT_DEL_TRIES;
}

/* Everything that can go has gone. */
static void finish_unplug(QmpBackend *b)
{
        g_autoptr(GError) error = NULL;

        g_ptr_array_set_size(b->kept, 0);
        for (guint i = 0; i < SURVEY_SLOTS; i++)
                if (b->survey.slots[i].stays)
                        g_ptr_array_add(b->kept,
                                        g_strdup(b->survey.slots[i].path ? b->survey.slots[i].path : ""));
        if (b->kept->len == 0) {
                qmp_backend_finish(b, HYPERVISOR_RUNNING, NULL);
                return;
        }
        error = g_error_new(
                MOULT_ERROR, MOULT_ERROR_UNSUPPORTED,
                "QEMU does not take off a virtio-pmem device (%s); it stays, read-only, until the "
                "VM is powered off, and blocks its live migration until then",
                b->refusal ? b->refusal : "it does not say why");
        qmp_backend_fail(b, error, "unplugging the pack from the VM");
}

void qmp_unplug_surveyed(QmpBackend *b)
{
        g_autoptr(GError) error = NULL;

        if (!survey_has_anything(&b->survey)) {
                b->plugged = FALSE;
                finish_unplug(b);
        } else if (qmp_unplug_may_try(b, UNPLUG_DEADLINES)) {
                qmp_unplug_step(b);
        } else {
                error = g_error_new(
                        MOULT_ERROR, MOULT_ERROR_TIMEOUT,
                        "the guest does not let go of the window; it stays plugged (and blocks live "
                        "migration) until the guest restarts or the next push takes it off");
                qmp_backend_fail(b, error, "unplugging the pack from the VM");
        }
}

static void survey_again(QmpBackend *b)
{
        host_timer_clear(&b->wait);
        qmp_survey(b);
}

static gboolean on_wait_over(gpointer user)
{
        survey_again(user);
        return G_SOURCE_REMOVE;
}

static gboolean on_deadline(gpointer user)
{
        QmpBackend *b = user;

        b->deadlines++;
        survey_again(b);
        return G_SOURCE_REMOVE;
}

static void remove_next(QmpBackend *b);

static void on_removed(JsonNode *result, const GError *error, gpointer user)
{
        QmpBackend *b = user;

        /* "already in the process of unplug", "in use", "not found": the next survey sees what is true. */
        if (error && !qmp_backend_is_refusal(error)) {
                qmp_backend_fail(b, error, "unplugging the pack from the VM");
                return;
        }
        if (error && b->taking_windows && b->survey.slots[b->cursor].pmem) {
                b->staying |= 1u << b->cursor;
                b->survey.slots[b->cursor].stays = TRUE;
                g_free(b->refusal);
                b->refusal = g_strdup(error->message);
        }
        b->cursor++;
        remove_next(b);
}

/* Asks for every window (or, when there are none, every object) of the survey once, then waits. */
static void remove_next(QmpBackend *b)
{
        gboolean windows = b->taking_windows;
        const struct survey_slot *slots = b->survey.slots;

        while (b->cursor < SURVEY_SLOTS &&
               (slots[b->cursor].stays || !(windows ? slots[b->cursor].window : slots[b->cursor].object)))
                b->cursor++;
        if (b->cursor < SURVEY_SLOTS) {
                g_autofree char *id =
                        g_strdup_printf(windows ? "moult-window-%u" : "moult-pack-%u", b->cursor);

                qmp_backend_execute(b, windows ? "device_del" : "object-del", qmp_backend_args("id", id),
                                    on_removed);
        } else if (windows) {
                b->wait = b->deleted || !survey_has_windows(&b->survey)
                                  ? host_timer_add(b->env, 0, on_wait_over, b)
                                  : host_timer_add(b->env, DELETED_WAIT_MS, on_deadline, b);
        } else {
                b->wait = host_timer_add(b->env, b->object_tries++ == 0 ? 0 : OBJECT_DEL_RETRY_MS,
                                         on_wait_over, b);
        }
}

void qmp_unplug_step(QmpBackend *b)
{
        b->passes++;
        b->deleted = FALSE;
        b->cursor = 0;
        b->taking_windows = survey_has_windows(&b->survey);
        remove_next(b);
}

void qmp_unplug_deleted(QmpBackend *b)
{
        if (b->wait) {
                host_timer_clear(&b->wait);
                b->wait = host_timer_add(b->env, 0, on_wait_over, b);
        }
        b->deleted = TRUE;
}
