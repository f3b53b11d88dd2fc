/* tests/support/fake_virt.c - a libvirt that hands commands on to a FakeQmp. */
#include "tests/support/fake_virt.h"

#include <string.h>

#include "common/error.h"
#include "host-service/hypervisor/qmp.h"

struct FakeVirt {
        struct host_env *env;
        char *path;
        GPtrArray *domains;
        guint lose;
};

struct VirtDomain {
        FakeVirt *virt;
        Monitor *qmp;
        virt_event_func event;
        gpointer user;
        GPtrArray *commands; /* of Command: under way */
};

typedef struct {
        VirtDomain *domain;
        virt_reply_func done;
        gpointer user;
} Command;

static FakeVirt *the_virt; /* an env's `self` is the real one's */

void fake_virt_tell(FakeVirt *v, VirtEvent event, const char *detail, const char *data)
{
        for (guint i = 0; i < v->domains->len; i++) {
                VirtDomain *d = v->domains->pdata[i];

                d->event(event, detail, data, d->user);
        }
}

static void on_qmp_event(const char *name, JsonObject *data, gpointer user)
{
        VirtDomain *d = user;
        g_autoptr(JsonNode) node = NULL;
        g_autofree char *text = NULL;

        if (data) {
                node = json_node_init_object(json_node_alloc(), data);
                text = json_to_string(node, FALSE);
        }
        d->event(VIRT_MONITOR, name, text, d->user);
}

static void on_qmp_lost(const GError *why, gpointer user)
{
        VirtDomain *d = user;

        d->event(VIRT_LOST, why->message, NULL, d->user);
}

static const struct monitor_events qmp_events = {on_qmp_event, on_qmp_lost};

static VirtDomain *domain_new(gpointer self, const char *uri, const char *domain, virt_event_func event,
                              gpointer user)
{
        VirtDomain *d = g_new0(VirtDomain, 1);

        d->virt = the_virt;
        d->qmp = qmp_client_new(the_virt->env, the_virt->path, &qmp_events, d);
        d->event = event;
        d->user = user;
        d->commands = g_ptr_array_new_with_free_func(g_free);
        g_ptr_array_add(the_virt->domains, d);
        return d;
}

static void domain_free(VirtDomain *d)
{
        g_ptr_array_remove(d->virt->domains, d);
        monitor_free(d->qmp);
        g_ptr_array_unref(d->commands);
        g_free(d);
}

/* QEMU's refusals come as answers; only what is libvirt's own is an error. */
static char *refusal_text(const GError *error)
{
        const char *class = error->code == MOULT_ERROR_UNSUPPORTED ? "CommandNotFound"
                            : error->code == MOULT_ERROR_NOT_FOUND ? "DeviceNotFound"
                                                                   : "GenericError";
        g_autofree char *desc = g_strescape(error->message, NULL);

        return g_strdup_printf("{\"id\":\"libvirt-1\",\"error\":{\"class\":\"%s\",\"desc\":\"%s\"}}", class,
                               desc);
}

static Command *take(Command *c)
{
        guint at = 0;

        g_ptr_array_find(c->domain->commands, c, &at);
        return g_ptr_array_steal_index_fast(c->domain->commands, at);
}

static void on_reply(JsonNode *result, const GError *error, gpointer user)
{
        Command *c = take(user);
        FakeVirt *v = c->domain->virt;
        g_autofree char *value = result ? json_to_string(result, FALSE) : NULL, *text = NULL;
        g_autoptr(GError) own = NULL;

        if (v->lose > 0) {
                v->lose--;
                own = g_error_new(MOULT_ERROR, MOULT_ERROR_IO, "the connection broke");
        } else if (error && monitor_error_is_gone(error)) {
                own = g_error_new(MOULT_ERROR, MOULT_ERROR_NOT_FOUND, "domain is not running");
        } else if (error && (error->code == MOULT_ERROR_REFUSED || error->code == MOULT_ERROR_UNSUPPORTED ||
                             error->code == MOULT_ERROR_NOT_FOUND)) {
                text = refusal_text(error);
        } else if (error) {
                own = g_error_copy(error);
        } else {
                text = g_strdup_printf("{\"return\":%s,\"id\":\"libvirt-1\"}", value);
        }
        c->done(text, own, c->user);
        g_free(c);
}

static void monitor(VirtDomain *d, const char *command, guint timeout_ms, virt_reply_func done, gpointer user)
{
        g_autoptr(JsonParser) parser = json_parser_new();
        JsonObject *o, *arguments = NULL;
        Command *c = g_new0(Command, 1);

        json_parser_load_from_data(parser, command, -1, NULL);
        o = json_node_get_object(json_parser_get_root(parser));
        g_assert_false(json_object_has_member(o, "id")); /* libvirt adds its own, and refuses two */
        if (json_object_has_member(o, "arguments"))
                arguments = json_object_ref(json_object_get_object_member(o, "arguments"));
        c->domain = d;
        g_ptr_array_add(d->commands, c);
        c->done = done;
        c->user = user;
        monitor_execute(d->qmp, json_object_get_string_member(o, "execute"), arguments, timeout_ms, on_reply,
                        c);
}

static void open_channel(VirtDomain *d, const char *channel, GCancellable *cancellable,
                         host_connected_func done, gpointer user)
{
        g_assert_not_reached(); /* the backend opens none */
}

static const struct host_virt_ops fake_virt_ops = {
        .domain_new = domain_new,
        .domain_free = domain_free,
        .monitor = monitor,
        .open_channel = open_channel,
};

FakeVirt *fake_virt_new(struct host_env *env, const char *qmp_path)
{
        FakeVirt *v = g_new0(FakeVirt, 1);

        v->env = env;
        v->path = g_strdup(qmp_path);
        v->domains = g_ptr_array_new();
        env->virt = &fake_virt_ops;
        the_virt = v;
        return v;
}

void fake_virt_free(FakeVirt *v)
{
        if (!v)
                return;
        g_ptr_array_unref(v->domains);
        g_free(v->path);
        g_free(v);
}

void fake_virt_lose(FakeVirt *v, guint count)
{
        v->lose = count;
}
