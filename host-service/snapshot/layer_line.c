/* host-service/snapshot/layer_line.c - the files of a layer and of what it stands on. */
#include "host-service/snapshot/layer_line.h"

#include <json-glib/json-glib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/error.h"

FileChain *file_chain_new(void)
{
        FileChain *c = g_new0(FileChain, 1);

        c->images = g_array_new(FALSE, FALSE, sizeof(struct disk_image));
        c->texts = g_ptr_array_new_with_free_func(g_free);
        return c;
}

void file_chain_free(FileChain *c)
{
        if (!c)
                return;
        g_array_unref(c->images);
        g_ptr_array_unref(c->texts);
        g_free(c);
}

void file_chain_add(FileChain *c, const char *path, const char *format)
{
        struct disk_image image = {g_strdup(path), g_strdup(format)};

        g_ptr_array_add(c->texts, (gpointer)image.path);
        g_ptr_array_add(c->texts, (gpointer)image.format);
        g_array_append_val(c->images, image);
}

char *file_chain_identity(const FileChain *c)
{
        g_autoptr(GString) all = g_string_new(NULL);

        for (guint i = 0; i < c->images->len; i++) {
                struct stat st;

                g_string_append(all, i ? " " : "");
                if (stat(g_array_index(c->images, struct disk_image, i).path, &st) == 0)
                        g_string_append_printf(
                                all, "%" G_GUINT64_FORMAT ":%" G_GINT64_FORMAT ":%" G_GINT64_FORMAT ".%09ld",
                                (guint64)st.st_ino, (gint64)st.st_size, (gint64)st.st_mtim.tv_sec,
                                st.st_mtim.tv_nsec);
                else
                        g_string_append_c(all, '?');
        }
        return g_string_free(g_steal_pointer(&all), FALSE);
}

Disk *file_chain_open(const FileChain *c, const struct disk_options *options, GCancellable *cancellable,
                      GError **error)
{
        return disk_open((const struct disk_image *)(gconstpointer)c->images->data, c->images->len, options,
                         cancellable, error);
}

static gboolean no_plain_file(const LayerRecord *base, GError **error)
{
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                    "the disk stands on an image that is no plain file of this host (%s): it cannot be read "
                    "without the VM",
                    base->file ? base->file : "QEMU reaches it in another way");
        return FALSE;
}

gboolean layer_line_add_base(FileChain *c, const LayerRecord *base, GError **error)
{
        g_autoptr(JsonNode) node = base->below ? json_from_string(base->below, NULL) : NULL;
        JsonArray *below = node && JSON_NODE_HOLDS_ARRAY(node) ? json_node_get_array(node) : NULL;

        if (!base->file)
                return no_plain_file(base, error);
        file_chain_add(c, base->file, base->format);
        for (guint i = 0; below && i < json_array_get_length(below); i++) {
                JsonObject *o = json_array_get_object_element(below, i);
                const char *file = json_object_get_string_member_with_default(o, "file", NULL);
                const char *format = json_object_get_string_member_with_default(o, "format", NULL);

                if (!file || !format)
                        return no_plain_file(base, error);
                file_chain_add(c, file, format);
        }
        return TRUE;
}

static guint find(const GPtrArray *line, const char *id, guint from)
{
        for (guint i = from; i < line->len; i++)
                if (g_str_equal(((const LayerRecord *)line->pdata[i])->id, id))
                        return i;
        return line->len;
}

FileChain *layer_line_files(const GPtrArray *line, guint from, guint until, GError **error)
{
        g_autoptr(FileChain) c = file_chain_new();

        for (guint i = from; i < until && i < line->len;) {
                const LayerRecord *r = line->pdata[i];

                if (layer_record_is_base(r))
                        return layer_line_add_base(c, r, error) ? g_steal_pointer(&c) : NULL;
                if (!r->file) {
                        g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND,
                                    "the file of layer %s is not on this host any more", r->id);
                        return NULL;
                }
                file_chain_add(c, r->file, r->format);
                if (!r->file_on)
                        break;
                i = find(line, r->file_on, i + 1);
                if (i < line->len)
                        continue;
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                            "the file of layer %s stands on one of layer %s, which is not below it", r->id,
                            r->file_on);
                return NULL;
        }
        return g_steal_pointer(&c);
}

guint layer_line_uploaded(const GPtrArray *line, guint from)
{
        for (guint i = from; i < line->len; i++)
                if (((const LayerRecord *)line->pdata[i])->uploaded_us != 0)
                        return i;
        return line->len;
}

void layer_line_add_ids(const GPtrArray *line, GPtrArray *ids)
{
        for (guint i = 0; i < line->len; i++)
                g_ptr_array_add(ids, g_strdup(((const LayerRecord *)line->pdata[i])->id));
}

gboolean layer_line_base_is_same(const GPtrArray *line, GError **error)
{
        const LayerRecord *base = line->pdata[line->len - 1];
        g_autoptr(FileChain) files = file_chain_new();
        g_autofree char *now = NULL;

        if (!layer_record_is_base(base))
                return TRUE;
        if (!layer_line_add_base(files, base, error))
                return FALSE;
        now = file_chain_identity(files);
        if (g_strcmp0(now, base->identity) == 0 && !strchr(now, '?'))
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                    strchr(now, '?')
                            ? "%s, or what it stands on, cannot be looked at"
                            : "%s was changed since the snapshot was taken; what stands on it cannot be "
                              "trusted",
                    base->file);
        return FALSE;
}
