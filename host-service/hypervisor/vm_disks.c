/* host-service/hypervisor/vm_disks.c - drives, their images, and what is below. */
#include "host-service/hypervisor/vm_disks.h"

#include <string.h>

#include "host-service/hypervisor/qmp_message.h"

#define JSON_NAME    "json:"
#define NAME_MAX_LEN (64u * 1024u) /* of a "json:" name; it repeats the whole chain */

void vm_disk_free(struct vm_disk *d)
{
        if (!d)
                return;
        g_free(d->device);
        g_free(d->node);
        g_free(d->format);
        g_free(d->file);
        g_clear_pointer(&d->below, g_ptr_array_unref);
        g_free(d);
}

static gboolean flag(JsonObject *o, const char *name)
{
        JsonNode *n = qmp_member(o, name);

        return n && JSON_NODE_HOLDS_VALUE(n) && json_node_get_value_type(n) == G_TYPE_BOOLEAN &&
               json_node_get_boolean(n);
}

/* json-glib recurses: brackets are counted first, those in texts too, which is on the safe side. */
static gboolean is_deep(const char *text)
{
        guint n = 0;

        for (; *text; text++)
                n += *text == '{' || *text == '[';
        return n > QMP_DEPTH_MAX;
}

/* All members of @o are among @known. */
static gboolean has_only(JsonObject *o, const char *const *known)
{
        JsonObjectIter i;
        const char *member;

        json_object_iter_init(&i, o);
        while (json_object_iter_next(&i, &member, NULL))
                if (!g_strv_contains(known, member))
                        return FALSE;
        return TRUE;
}

/* An image that is the whole of its file, and nothing more: no offset into it, no other option that changes
 * what is read. */
static gboolean is_plain(JsonObject *image, JsonObject *file)
{
        static const char *const of_image[] = {"driver", "file", "backing", "node-name", NULL};
        static const char *const of_file[] = {"driver",  "filename",  "node-name", "auto-read-only",
                                              "discard", "read-only", NULL};

        return (image == file || has_only(image, of_image)) && has_only(file, of_file);
}

char *vm_disk_file_of(const char *name)
{
        g_autoptr(JsonNode) node = NULL;
        JsonObject *image, *o;
        const char *path;

        if (!name || strlen(name) > NAME_MAX_LEN)
                return NULL;
        if (*name == '/')
                return g_strdup(name);
        if (!g_str_has_prefix(name, JSON_NAME) || is_deep(name))
                return NULL;
        node = json_from_string(name + strlen(JSON_NAME), NULL);
        o = image = qmp_object(node);
        if (o && qmp_object(qmp_member(o, "file")))
                o = qmp_object(qmp_member(o, "file"));
        if (!o || !is_plain(image, o) || g_strcmp0(qmp_string(o, "driver"), "file") != 0)
                return NULL;
        path = qmp_string(o, "filename");
        return path && *path == '/' ? g_strdup(path) : NULL;
}

static void image_free(gpointer data)
{
        struct vm_image *i = data;

        g_free(i->file);
        g_free(i->format);
        g_free(i);
}

static GPtrArray *read_chain(JsonObject *image)
{
        GPtrArray *chain = g_ptr_array_new_with_free_func(image_free);

        while (chain->len < VM_CHAIN_MAX && (image = qmp_object(qmp_member(image, "backing-image")))) {
                struct vm_image *i = g_new0(struct vm_image, 1);

                i->file = vm_disk_file_of(qmp_string(image, "filename"));
                i->format = g_strdup(qmp_string(image, "format"));
                g_ptr_array_add(chain, i);
        }
        return chain;
}

static struct vm_disk *read_disk(JsonObject *drive)
{
        JsonObject *inserted = qmp_object(qmp_member(drive, "inserted"));
        JsonObject *image = inserted ? qmp_object(qmp_member(inserted, "image")) : NULL;
        const char *node = inserted ? qmp_string(inserted, "node-name") : NULL;
        const char *device = qmp_string(drive, "device"), *qdev = qmp_string(drive, "qdev");
        gint64 size;
        struct vm_disk *d;

        if (!node || !image || !qmp_int(image, "virtual-size", &size) || size < 0)
                return NULL;
        d = g_new0(struct vm_disk, 1);
        d->device = g_strdup(device && *device ? device : qdev && *qdev ? qdev : node);
        d->node = g_strdup(node);
        d->format = g_strdup(qmp_string(inserted, "drv"));
        d->file = vm_disk_file_of(qmp_string(image, "filename"));
        d->size_bytes = (guint64)size;
        d->writable = !flag(inserted, "ro");
        d->removable = flag(drive, "removable");
        d->below = read_chain(image);
        return d;
}

GPtrArray *vm_disks_of(JsonNode *result)
{
        JsonArray *drives = qmp_array(result);
        GPtrArray *disks;

        if (!drives)
                return NULL;
        disks = g_ptr_array_new_with_free_func((GDestroyNotify)vm_disk_free);
        for (guint i = 0; i < json_array_get_length(drives) && disks->len < VM_DISKS_MAX; i++) {
                JsonObject *drive = qmp_object(json_array_get_element(drives, i));
                struct vm_disk *d = drive ? read_disk(drive) : NULL;

                if (d)
                        g_ptr_array_add(disks, d);
        }
        return disks;
}

char *vm_disk_node_of(JsonNode *result, const char *file, const char *format)
{
        JsonArray *nodes = qmp_array(result);

        for (guint i = 0; nodes && i < json_array_get_length(nodes); i++) {
                JsonObject *n = qmp_object(json_array_get_element(nodes, i));
                const char *drv = n ? qmp_string(n, "drv") : NULL,
                           *name = n ? qmp_string(n, "node-name") : NULL;
                g_autofree char *of = n ? vm_disk_file_of(qmp_string(n, "file")) : NULL;

                if (drv && name && g_strcmp0(of, file) == 0 &&
                    (format ? g_str_equal(drv, format) : !g_str_equal(drv, "file")))
                        return g_strdup(name);
        }
        return NULL;
}
