/* host-service/snapshot/rollback_ask.c - what QEMU says during a rollback, and how it is told something. */
#include "common/error.h"
#include "host-service/hypervisor/qmp_message.h"
#include "host-service/snapshot/rollback_private.h"

static Hypervisor *qemu_of(const struct rollback *t)
{
        return t->owner->guests.ops->hypervisor(t->owner->guests.self, t->vm);
}

gboolean rollback_came_back(struct rollback *t)
{
        t->asking = FALSE;
        return !t->owner->closing;
}

void rollback_command(struct rollback *t, const char *name, JsonObject *arguments, hypervisor_reply_func done)
{
        Hypervisor *h = qemu_of(t);
        g_autoptr(GError) none = NULL;

        t->asking = TRUE;
        if (h) {
                hypervisor_command(h, name, arguments, done, t);
                return;
        }
        if (arguments)
                json_object_unref(arguments);
        none = g_error_new(MOULT_ERROR, MOULT_ERROR_UNSUPPORTED,
                           "the way to the QEMU of \"%s\" was removed meanwhile", t->vm);
        done(NULL, none, t);
}

gboolean rollback_is_running(const struct rollback *t)
{
        return g_strcmp0(t->status, "running") == 0;
}

gboolean rollback_is_migrating(const struct rollback *t)
{
        static const char *const states[] = {
                "inmigrate", "postmigrate", "finish-migrate", "save-vm", "restore-vm", "colo", NULL};

        return t->status && g_strv_contains(states, t->status);
}

/* ---- what is there ---- */

static void on_disks(JsonNode *result, const GError *error, gpointer user)
{
        struct rollback *t = user;
        g_autoptr(GError) odd = NULL;

        if (!rollback_came_back(t))
                return;
        t->found = error ? NULL : vm_disks_of(result);
        if (t->found) {
                t->asked(t);
                return;
        }
        if (!error)
                odd = g_error_new_literal(MOULT_ERROR, MOULT_ERROR_MALFORMED,
                                          "QEMU's answer is no list of drives");
        rollback_fail(t, error ? error : odd);
}

static void on_state(JsonNode *result, const GError *error, gpointer user)
{
        struct rollback *t = user;
        JsonObject *o = error ? NULL : qmp_object(result);
        const char *state = o ? qmp_string(o, "status") : NULL;
        g_autoptr(GError) odd = NULL;

        if (!rollback_came_back(t))
                return;
        if (state) {
                t->status = g_strdup(state);
                rollback_command(t, "query-block", NULL, on_disks);
                return;
        }
        if (!error)
                odd = g_error_new_literal(MOULT_ERROR, MOULT_ERROR_MALFORMED,
                                          "QEMU does not say in which state the VM is");
        rollback_fail(t, error ? error : odd);
}

static void not_off(struct rollback *t)
{
        g_autoptr(GError) why = g_error_new(
                MOULT_ERROR, MOULT_ERROR_REFUSED, "VM \"%s\" runs: shut it down first%s. Nothing was changed",
                t->vm,
                t->is_domain ? " (--restart is not for libvirt's domains)"
                             : ", or say --restart, with which it is stopped, and starts again from the "
                               "restore point");

        rollback_fail(t, why);
}

static void on_status(HypervisorStatus status, const GError *error, gpointer user)
{
        struct rollback *t = user;

        if (!rollback_came_back(t))
                return;
        if (error)
                rollback_fail(t, error);
        else if (status == HYPERVISOR_GONE)
                t->asked(t);
        else if (!t->restart || t->is_domain) /* which is all that counts then */
                not_off(t);
        else
                rollback_command(t, "query-status", NULL, on_state);
}

void rollback_ask(struct rollback *t, void (*then)(struct rollback *t))
{
        Hypervisor *h = qemu_of(t);

        g_clear_pointer(&t->status, g_free);
        g_clear_pointer(&t->found, g_ptr_array_unref);
        t->asked = then;
        t->asking = TRUE;
        if (h)
                hypervisor_query_status(h, on_status, t);
        else /* the locks on its disks tell */
                on_status(HYPERVISOR_GONE, NULL, t);
}

/* ---- one command after the other ---- */

void rollback_command_free(gpointer command)
{
        struct rollback_command *c = command;

        if (c->arguments)
                json_object_unref(c->arguments);
        g_free(c);
}

void rollback_queue(struct rollback *t, const char *name, JsonObject *arguments, gboolean may_fail)
{
        struct rollback_command *c = g_new0(struct rollback_command, 1);

        c->name = name;
        c->arguments = arguments;
        c->may_fail = may_fail;
        g_queue_push_tail(&t->commands, c);
}

static void on_sent(JsonNode *result, const GError *error, gpointer user)
{
        struct rollback *t = user;
        struct rollback_command *c = g_queue_pop_head(&t->commands);
        gboolean may_fail = c->may_fail;

        rollback_command_free(c);
        if (!rollback_came_back(t))
                return;
        if (!error || may_fail) {
                rollback_send_all(t);
                return;
        }
        g_queue_clear_full(&t->commands, rollback_command_free);
        rollback_place_failed(t, error);
}

void rollback_send_all(struct rollback *t)
{
        struct rollback_command *c = g_queue_peek_head(&t->commands);

        if (c)
                rollback_command(t, c->name, g_steal_pointer(&c->arguments), on_sent);
        else
                rollback_next(t);
}
