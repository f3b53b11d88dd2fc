/* host-service/hypervisor/window_survey.c - what of ours is plugged into a QEMU, and where is room. */
#include "host-service/hypervisor/window_survey.h"

#include <string.h>

#include "host-service/hypervisor/qmp_message.h"

#define OBJECT_PREFIX "moult-pack-"
#define WINDOW_PREFIX "moult-window-"
#define PORT_TYPE     "child<pcie-root-port>"
#define PMEM_TYPE     "child<virtio-pmem-pci>"
#define PMEM_PORT     "moult-pmem"
#define LIBVIRT_ALIAS "ua-"
#define LIST_MAX      4096u /* elements of one answer that are looked at */

void survey_clear(struct survey *s)
{
        for (guint i = 0; i < SURVEY_SLOTS; i++)
                g_free(s->slots[i].path);
        for (guint i = 0; i < s->n_ports; i++)
                g_free(s->ports[i].id);
        memset(s, 0, sizeof(*s));
}

/* N of "PREFIXN", or -1. */
static int slot_number(const char *name, const char *prefix)
{
        if (!name || !g_str_has_prefix(name, prefix))
                return -1;
        name += strlen(prefix);
        if (name[0] < '0' || (guint)(name[0] - '0') >= SURVEY_SLOTS || name[1] != '\0')
                return -1;
        return name[0] - '0';
}

static JsonObject *element(JsonArray *a, guint i)
{
        return qmp_object(json_array_get_element(a, i));
}

static guint array_length(JsonArray *a)
{
        return a ? MIN(json_array_get_length(a), LIST_MAX) : 0;
}

void survey_add_objects(struct survey *s, JsonNode *result)
{
        JsonArray *list = qmp_array(result);

        for (guint i = 0; i < array_length(list); i++) {
                int n = slot_number(qmp_string(element(list, i), "name"), OBJECT_PREFIX);

                if (n >= 0)
                        s->slots[n].object = TRUE;
        }
}

static gboolean is_for_pmem(const char *port)
{
        if (g_str_has_prefix(port, LIBVIRT_ALIAS))
                port += strlen(LIBVIRT_ALIAS);
        return g_str_has_prefix(port, PMEM_PORT);
}

void survey_add_peripherals(struct survey *s, JsonNode *result)
{
        JsonArray *list = qmp_array(result);

        for (guint i = 0; i < array_length(list); i++) {
                JsonObject *o = element(list, i);
                const char *name = qmp_string(o, "name"), *type = qmp_string(o, "type");
                int n = slot_number(name, WINDOW_PREFIX);

                if (n >= 0) {
                        s->slots[n].window = TRUE;
                        s->slots[n].pmem = g_strcmp0(type, PMEM_TYPE) == 0;
                } else if (name && g_strcmp0(type, PORT_TYPE) == 0 && s->n_ports < SURVEY_PORTS) {
                        s->ports[s->n_ports].for_pmem = is_for_pmem(name);
                        s->ports[s->n_ports++].id = g_strdup(name);
                }
        }
}

static struct survey_port *find_port(struct survey *s, const char *id)
{
        for (guint i = 0; id && i < s->n_ports; i++)
                if (g_str_equal(s->ports[i].id, id))
                        return &s->ports[i];
        return NULL;
}

/* Root ports are on the root bus; what lies behind deeper bridges is not ours to plug into. */
void survey_add_pci(struct survey *s, JsonNode *result)
{
        JsonArray *buses = qmp_array(result);

        for (guint b = 0; b < array_length(buses); b++) {
                JsonArray *devices = qmp_array(qmp_member(element(buses, b), "devices"));

                for (guint i = 0; i < array_length(devices); i++) {
                        JsonObject *device = element(devices, i);
                        JsonObject *bridge = qmp_object(qmp_member(device, "pci_bridge"));
                        JsonObject *range = qmp_object(
                                qmp_member(qmp_object(qmp_member(bridge, "bus")), "prefetchable_range"));
                        struct survey_port *port = find_port(s, qmp_string(device, "qdev_id"));
                        gint64 base, limit;

                        if (!port || !bridge)
                                continue;
                        port->seen = TRUE;
                        port->occupied = array_length(qmp_array(qmp_member(bridge, "devices"))) > 0;
                        if (qmp_int(range, "base", &base) && qmp_int(range, "limit", &limit) && base > 0 &&
                            limit > base)
                                port->window_bytes = (guint64)limit - (guint64)base + 1;
                }
        }
}

gboolean survey_has_windows(const struct survey *s)
{
        for (guint i = 0; i < SURVEY_SLOTS; i++)
                if (s->slots[i].window && !s->slots[i].stays)
                        return TRUE;
        return FALSE;
}

gboolean survey_has_anything(const struct survey *s)
{
        for (guint i = 0; i < SURVEY_SLOTS; i++)
                if ((s->slots[i].window || s->slots[i].object) && !s->slots[i].stays)
                        return TRUE;
        return FALSE;
}

int survey_find_path(const struct survey *s, const char *path, gboolean pmem)
{
        for (guint i = 0; i < SURVEY_SLOTS; i++)
                if (s->slots[i].window && s->slots[i].object && s->slots[i].pmem == pmem &&
                    g_strcmp0(s->slots[i].path, path) == 0)
                        return (int)i;
        return -1;
}

int survey_free_slot(const struct survey *s)
{
        for (guint i = 0; i < SURVEY_SLOTS; i++)
                if (!s->slots[i].window && !s->slots[i].object)
                        return (int)i;
        return -1;
}

static guint64 port_room(const struct survey_port *p)
{
        return MAX(p->window_bytes, p->reserve_bytes);
}

const char *survey_choose_pmem_port(const struct survey *s, gboolean any)
{
        const struct survey_port *best = NULL;

        for (guint i = 0; i < s->n_ports; i++) {
                const struct survey_port *p = &s->ports[i];

                if (!p->seen || p->occupied || (!p->for_pmem && !any))
                        continue;
                /* Of the others the one that an ivshmem window would miss the least. */
                if (!best || (p->for_pmem && !best->for_pmem) ||
                    (!best->for_pmem && port_room(p) < port_room(best)))
                        best = p;
        }
        return best ? best->id : NULL;
}

const char *survey_choose_port(const struct survey *s, guint64 size_bytes)
{
        const struct survey_port *best = NULL;

        for (guint i = 0; i < s->n_ports; i++) {
                const struct survey_port *p = &s->ports[i];
                gboolean fits = port_room(p) >= size_bytes;
                gboolean best_fits = best && port_room(best) >= size_bytes;

                if (!p->seen || p->occupied || p->for_pmem)
                        continue;
                if (!best || (fits && !best_fits) || (fits && best_fits && port_room(p) < port_room(best)) ||
                    (!fits && !best_fits && port_room(p) > port_room(best)))
                        best = p;
        }
        return best ? best->id : NULL;
}
