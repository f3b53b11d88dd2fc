/* host-service/snapshot/block_commands.c - arguments of QEMU's commands. */
#include "host-service/snapshot/block_commands.h"

#include <string.h>

#include "host-service/hypervisor/qmp_message.h"

#define ID_TAIL 16u /* of a ULID: its random part, since a node's name has to be short */

void node_name(char ret[static NODE_NAME_SIZE], const char *id, guint number, NodeRole role)
{
        gsize len = strlen(id);

        g_snprintf(ret, NODE_NAME_SIZE, "moult-%c-%s-%u", role, id + (len > ID_TAIL ? len - ID_TAIL : 0),
                   number);
}

/* What the guest discards takes no space in a layer. Whether it was so before, QEMU does not tell; a new top
 * is sparse in any case. */
static void pass_discards(JsonObject *o)
{
        json_object_set_string_member(o, "discard", "unmap");
}

static JsonObject *image(const char *node, const char *format, const char *file_node, const char *below,
                         gboolean read_only)
{
        JsonObject *o = json_object_new();

        json_object_set_string_member(o, "driver", format);
        json_object_set_string_member(o, "node-name", node);
        json_object_set_string_member(o, "file", file_node);
        json_object_set_boolean_member(o, "read-only", read_only);
        pass_discards(o);
        if (below)
                json_object_set_string_member(o, "backing", below);
        else if (!g_str_equal(format, "raw")) /* which has no such member */
                json_object_set_null_member(o, "backing");
        return o;
}

JsonObject *block_add_file(const char *node, const char *path, gboolean read_only)
{
        JsonObject *o = json_object_new();

        json_object_set_string_member(o, "driver", "file");
        json_object_set_string_member(o, "node-name", node);
        json_object_set_string_member(o, "filename", path);
        json_object_set_boolean_member(o, "read-only", read_only);
        if (!read_only) /* when it gets an overlay, by a name that is true for ever */
                json_object_set_boolean_member(o, "auto-read-only", TRUE);
        pass_discards(o);
        return o;
}

JsonObject *block_add_image(const char *node, const char *format, const char *file_node, const char *below,
                            gboolean read_only)
{
        return image(node, format, file_node, below, read_only);
}

JsonObject *block_reopen(const char *node, const char *file_node, const char *below)
{
        JsonObject *o = json_object_new();
        JsonArray *options = json_array_new();

        json_array_add_object_element(options, image(node, "qcow2", file_node, below, FALSE));
        json_object_set_array_member(o, "options", options);
        return o;
}

JsonObject *block_reopen_with(JsonObject *reopen, JsonObject *more)
{
        JsonArray *options;

        if (!reopen)
                return more;
        options = json_object_get_array_member(more, "options");
        for (guint i = 0; i < json_array_get_length(options); i++)
                json_array_add_element(json_object_get_array_member(reopen, "options"),
                                       json_array_dup_element(options, i));
        json_object_unref(more);
        return reopen;
}

JsonObject *block_commit(const char *job, const char *top, const char *base)
{
        JsonObject *o = json_object_new();

        json_object_set_string_member(o, "job-id", job);
        json_object_set_string_member(o, "device", top);
        json_object_set_string_member(o, "base-node", base);
        return o;
}

JsonObject *block_job_complete(const char *job)
{
        JsonObject *o = json_object_new();

        json_object_set_string_member(o, "device", job);
        return o;
}

JsonObject *block_nodes_flat(void)
{
        JsonObject *o = json_object_new();

        json_object_set_boolean_member(o, "flat", TRUE);
        return o;
}

static void keep_flag(JsonObject *to, JsonObject *from, const char *name)
{
        JsonNode *n = qmp_member(from, name);

        if (n && JSON_NODE_HOLDS_VALUE(n) && json_node_get_value_type(n) == G_TYPE_BOOLEAN)
                json_object_set_boolean_member(to, name, json_node_get_boolean(n));
}

JsonObject *block_keep_options(JsonObject *options, JsonObject *node)
{
        JsonObject *first =
                json_array_get_object_element(json_object_get_array_member(options, "options"), 0);
        JsonObject *from = qmp_object(qmp_member(node, "cache")), *cache = json_object_new();
        const char *zeros = qmp_string(node, "detect_zeroes");

        if (from) {
                keep_flag(cache, from, "direct");
                keep_flag(cache, from, "no-flush");
        }
        json_object_set_object_member(first, "cache", cache);
        if (zeros)
                json_object_set_string_member(first, "detect-zeroes", zeros);
        return options;
}

/* It ends up between quotes in a line of words. */
static gboolean is_plain(const char *name)
{
        for (const char *c = name; *c; c++)
                if (!g_ascii_isalnum(*c) && !strchr("-_.", *c))
                        return FALSE;
        return *name != '\0' && *name != '-';
}

JsonObject *block_reopen_drive(const char *device, const char *below)
{
        g_autofree char *line = NULL;
        JsonObject *o;

        if (!is_plain(device) || !is_plain(below))
                return NULL;
        o = json_object_new();
        line = g_strdup_printf("qemu-io %s \"reopen -o backing=%s\"", device, below);
        json_object_set_string_member(o, "command-line", line);
        return o;
}

JsonObject *block_change_backing(const char *node, const char *file)
{
        JsonObject *o = json_object_new();

        json_object_set_string_member(o, "device", node);
        json_object_set_string_member(o, "image-node-name", node);
        json_object_set_string_member(o, "backing-file", file);
        return o;
}

JsonObject *block_del(const char *node)
{
        JsonObject *o = json_object_new();

        json_object_set_string_member(o, "node-name", node);
        return o;
}

JsonObject *block_switch(const char *const *tops, const char *const *overlays, guint n)
{
        JsonObject *o = json_object_new();
        JsonArray *actions = json_array_new();

        for (guint i = 0; i < n; i++) {
                JsonObject *action = json_object_new(), *data = json_object_new();

                json_object_set_string_member(data, "node", tops[i]);
                json_object_set_string_member(data, "overlay", overlays[i]);
                json_object_set_string_member(action, "type", "blockdev-snapshot");
                json_object_set_object_member(action, "data", data);
                json_array_add_object_element(actions, action);
        }
        json_object_set_array_member(o, "actions", actions);
        return o;
}
