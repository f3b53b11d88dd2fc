/* host-service/cli/pack_file.c - a pack on this machine, opened and described. */
#include "host-service/cli/pack_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/verity_layout.h"
#include "host-service/cli/text.h"
#include "shm/pack_deltas.h"

gboolean pack_file_is_named(const char *text)
{
        return strchr(text, '/') != NULL || g_str_has_suffix(text, ".moult");
}

PackReader *pack_file_open(const char *path, const char *trust_dir, GCancellable *cancellable, GError **error)
{
        g_autoptr(TrustStore) trust = NULL;
        scoped_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

        if (fd < 0) {
                moult_error_errno(error, errno, "opening %s", path);
                return NULL;
        }
        if (trust_dir && !(trust = trust_store_load(trust_dir, error)))
                return NULL;
        g_autoptr(PackSource) source = pack_source_file_new(g_steal_fd(&fd), error);
        PackReader *r = source ? pack_reader_open(source, trust, NULL, cancellable, error) : NULL;
        if (!r)
                g_prefix_error(error, "%s: ", path);
        return r;
}

static void set_bytes(JsonObject *o, const char *member, ProtobufCBinaryData b)
{
        g_autofree char *text = text_safe(b.data, b.len);

        json_object_set_string_member(o, member, text);
}

static void set_hex(JsonObject *o, const char *member, const uint8_t *data, size_t len)
{
        g_autoptr(GString) s = g_string_sized_new(2 * len + 1);

        for (size_t i = 0; i < len; i++)
                g_string_append_printf(s, "%02x", data[i]);
        json_object_set_string_member(o, member, s->str);
}

static const char *const type_names[] = {
        [MOULT__ENTRY_TYPE__ENTRY_FILE] = "file",
        [MOULT__ENTRY_TYPE__ENTRY_DIRECTORY] = "directory",
        [MOULT__ENTRY_TYPE__ENTRY_SYMLINK] = "symlink",
        [MOULT__ENTRY_TYPE__ENTRY_HARDLINK] = "hardlink",
        [MOULT__ENTRY_TYPE__ENTRY_CHAR_DEVICE] = "char-device",
        [MOULT__ENTRY_TYPE__ENTRY_BLOCK_DEVICE] = "block-device",
        [MOULT__ENTRY_TYPE__ENTRY_FIFO] = "fifo",
        [MOULT__ENTRY_TYPE__ENTRY_DELETE] = "delete",
};
static const char *const delivery_names[] = {"auto", "overwrite", "overlay"};
static const char *const stage_names[] = {"check", "pre", "post", "health"};

/* The reader's gate has checked the ranges of all enums. */
static void describe_content(JsonObject *o, const Moult__Entry *e, const Manifest *m)
{
        const Moult__Blob *b = e->blob > 0 ? m->blobs[e->blob - 1] : NULL;
        uint64_t data = 0;

        json_object_set_int_member(o, "size", (gint64)e->size);
        set_hex(o, "digest", e->digest.data, e->digest.len);
        for (size_t i = 0; i < e->n_extents; i++)
                data += e->extents[i]->length;
        if (e->n_extents > 0 || (e->size > 0 && !b)) {
                json_object_set_boolean_member(o, "sparse", TRUE);
                json_object_set_int_member(o, "data_bytes", (gint64)data);
        }
        if (b) {
                json_object_set_int_member(o, "blob", e->blob);
                json_object_set_int_member(o, "stored_bytes", (gint64)b->stored_size);
                json_object_set_string_member(o, "storage",
                                              b->storage == MOULT__BLOB_STORAGE__BLOB_ZSTD ? "zstd" : "raw");
                if (manifest_has_tree(m, e))
                        json_object_set_int_member(o, "tree_bytes",
                                                   (gint64)verity_layout_stored_size(e->size));
        }
}

static void describe_precondition(JsonObject *o, const Moult__Entry *e)
{
        if (e->n_old_digests > 0) {
                JsonArray *old = json_array_new();

                for (size_t i = 0; i < e->n_old_digests; i++) {
                        char hex[2 * DIGEST_SIZE + 1];

                        digest_to_hex(e->old_digests[i].data, hex);
                        json_array_add_string_element(old, hex);
                }
                json_object_set_array_member(o, "old_digests", old);
        }
        if (e->conffile)
                json_object_set_boolean_member(o, "conffile", TRUE);
        if (e->old_must_exist)
                json_object_set_boolean_member(o, "old_must_exist", TRUE);
}

static JsonObject *describe_entry(const Moult__Entry *e, const Manifest *m)
{
        JsonObject *o = json_object_new();
        bool is_bare =
                e->type == MOULT__ENTRY_TYPE__ENTRY_DELETE || e->type == MOULT__ENTRY_TYPE__ENTRY_HARDLINK;

        set_bytes(o, "path", e->path);
        json_object_set_string_member(o, "type", type_names[e->type]);
        if (!is_bare) {
                json_object_set_int_member(o, "mode", e->mode);
                json_object_set_int_member(o, "uid", e->uid);
                json_object_set_int_member(o, "gid", e->gid);
                json_object_set_int_member(o, "mtime", e->mtime_s);
                json_object_set_int_member(o, "mtime_ns", e->mtime_ns);
        }
        if (e->type == MOULT__ENTRY_TYPE__ENTRY_FILE)
                describe_content(o, e, m);
        if (e->link_target.len > 0)
                set_bytes(o, "link_target", e->link_target);
        if (e->type == MOULT__ENTRY_TYPE__ENTRY_CHAR_DEVICE ||
            e->type == MOULT__ENTRY_TYPE__ENTRY_BLOCK_DEVICE) {
                json_object_set_int_member(o, "major", e->dev_major);
                json_object_set_int_member(o, "minor", e->dev_minor);
        }
        if (e->n_xattrs > 0) {
                JsonObject *xattrs = json_object_new();

                for (size_t i = 0; i < e->n_xattrs; i++) {
                        g_autofree char *name = text_safe(e->xattrs[i]->name.data, e->xattrs[i]->name.len);

                        set_hex(xattrs, name, e->xattrs[i]->value.data, e->xattrs[i]->value.len);
                }
                json_object_set_object_member(o, "xattrs", xattrs);
        }
        describe_precondition(o, e);
        json_object_set_string_member(o, "delivery", delivery_names[e->delivery]);
        return o;
}

static JsonArray *describe_signatures(PackReader *r)
{
        GBytes *bytes = pack_reader_signature_bytes(r);
        JsonArray *list = json_array_new();
        gsize len = 0;
        const uint8_t *data = bytes ? g_bytes_get_data(bytes, &len) : NULL;
        /* At most 4 KiB, and no message in it can nest. */
        Moult__SignatureBlock *block = len > 0 ? moult__signature_block__unpack(NULL, len, data) : NULL;

        for (size_t i = 0; block && i < block->n_signatures; i++) {
                JsonObject *o = json_object_new();

                set_hex(o, "key_id", block->signatures[i]->key_id.data, block->signatures[i]->key_id.len);
                json_array_add_object_element(list, o);
        }
        if (block)
                moult__signature_block__free_unpacked(block, NULL);
        return list;
}

static JsonArray *describe_hooks(const Manifest *m)
{
        JsonArray *list = json_array_new();

        for (size_t i = 0; i < m->n_hooks; i++) {
                const Moult__Hook *h = m->hooks[i];
                JsonObject *o = json_object_new();

                json_object_set_string_member(o, "stage", stage_names[h->stage]);
                set_bytes(o, "name", h->name);
                json_object_set_int_member(o, "timeout_ms", h->timeout_ms);
                json_object_set_int_member(o, "bytes", (gint64)h->script.len);
                json_array_add_object_element(list, o);
        }
        return list;
}

static JsonArray *describe_requirements(const Manifest *m)
{
        JsonArray *list = json_array_new();

        for (size_t i = 0; i < m->n_requires; i++) {
                g_autofree char *key = text_safe(m->requires[i] -> key.data, m->requires[i] -> key.len);
                g_autofree char *value = text_safe(m->requires[i] -> value.data, m->requires[i] -> value.len);
                g_autofree char *both = g_strconcat(key, "=", value, NULL);

                json_array_add_string_element(list, both);
        }
        return list;
}

static void describe_counts(JsonObject *o, const Manifest *m)
{
        gint64 counts[G_N_ELEMENTS(type_names)] = {0}, bytes = 0, stored = 0, trees = 0, whole_only = 0;
        g_autofree bool *seen = g_new0(bool, m->n_blobs + 1);
        JsonObject *by_type = json_object_new();

        for (size_t i = 0; i < m->n_entries; i++) {
                const Moult__Entry *e = m->entries[i];

                counts[e->type]++;
                bytes += (gint64)e->size;
                whole_only += !manifest_is_verifiable_by_block(m, e);
                if (manifest_has_tree(m, e) && !seen[e->blob])
                        trees += (gint64)verity_layout_stored_size(e->size);
                seen[e->blob] = true;
        }
        for (size_t i = 0; i < m->n_blobs; i++)
                stored += (gint64)m->blobs[i]->stored_size;
        for (unsigned i = 0; i < G_N_ELEMENTS(type_names); i++)
                json_object_set_int_member(by_type, type_names[i], counts[i]);
        json_object_set_int_member(o, "entries_total", (gint64)m->n_entries);
        json_object_set_object_member(o, "entries_by_type", by_type);
        json_object_set_int_member(o, "content_bytes", bytes);
        json_object_set_int_member(o, "stored_bytes", stored);
        json_object_set_int_member(o, "tree_bytes", trees);
        json_object_set_int_member(o, "files_without_tree", whole_only);
}

/* What deltas there are, or why they cannot be used: they are hints, and the release is good without. */
static void describe_deltas(JsonObject *o, PackReader *r)
{
        g_autoptr(GError) why = NULL;
        g_autoptr(DeltaIndex) x = delta_index_read(r, NULL, &why);
        JsonObject *deltas = json_object_new();
        gint64 bytes = 0, files = 0, output = 0;

        for (size_t i = 0; x && i < x->n_frames; i++) {
                bytes += x->frames[i]->stored_size;
                output += (gint64)delta_frame_output(x->frames[i]);
                for (size_t k = 0; k < x->frames[i]->n_parts; k++)
                        files += x->frames[i]->parts[k]->offset == 0;
        }
        json_object_set_int_member(deltas, "frames", x ? (gint64)x->n_frames : 0);
        json_object_set_int_member(deltas, "files", files);
        json_object_set_int_member(deltas, "sources", x ? (gint64)x->n_sources : 0);
        json_object_set_int_member(deltas, "bytes", bytes);
        json_object_set_int_member(deltas, "content_bytes", output);
        if (why)
                json_object_set_string_member(deltas, "error", why->message);
        json_object_set_object_member(o, "deltas", deltas);
}

JsonNode *pack_file_describe(PackReader *r, gboolean entries)
{
        const Manifest *m = pack_reader_manifest(r);
        const struct pack_header *h = pack_reader_header(r);
        JsonObject *o = json_object_new();
        JsonArray *units = json_array_new();

        set_bytes(o, "name", m->name);
        set_bytes(o, "version", m->version);
        /* The gate let newlines and tabs through, and nothing else that moves the cursor. */
        g_autofree char *description = g_strndup((const char *)m->description.data, m->description.len);
        json_object_set_string_member(o, "description", description ? description : "");
        json_object_set_int_member(o, "created", (gint64)m->created_unix_s);
        json_object_set_int_member(o, "security_floor", (gint64)m->security_floor);
        set_hex(o, "manifest_digest", h->manifest_digest, DIGEST_SIZE);
        json_object_set_int_member(o, "pack_bytes", (gint64)h->pack_size);
        describe_counts(o, m);
        describe_deltas(o, r);
        json_object_set_array_member(o, "requires", describe_requirements(m));
        json_object_set_array_member(o, "hooks", describe_hooks(m));
        for (size_t i = 0; i < m->n_restart_units; i++) {
                g_autofree char *unit = text_safe(m->restart_units[i].data, m->restart_units[i].len);

                json_array_add_string_element(units, unit);
        }
        json_object_set_array_member(o, "restart_units", units);
        json_object_set_array_member(o, "signatures", describe_signatures(r));
        if (entries) {
                JsonArray *list = json_array_new();

                for (size_t i = 0; i < m->n_entries; i++)
                        json_array_add_object_element(list, describe_entry(m->entries[i], m));
                json_object_set_array_member(o, "entries", list);
        }
        JsonNode *node = json_node_init_object(json_node_alloc(), o);
        json_object_unref(o);
        return node;
}
