/* shm/pack_writer.c - making a pack: blobs as they are added, then list, signature, header; sealed by rename.

 * The blobs are pack_content.c's matter, the signature pack_signature.c's. */
#include "shm/pack_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "common/error.h"
#include "common/fault.h"
#include "common/fd.h"
#include "common/fs_beneath.h"
#include "proto/limits.h"
#include "proto/message.h"
#include "shm/manifest_rules.h"
#include "shm/pack_content.h"
#include "shm/pack_signature.h"

struct PackWriter {
        char *path;      /* final */
        char *temporary; /* NULL once renamed */
        int fd;
        gboolean broken;                    /* an add failed half-way */
        struct pack_writer_options options; /* strings owned */
        PackContent *content;
        gboolean settled;    /* all entries are there, in order, and all blobs */
        DeltaWriter *deltas; /* NULL: there are none */
        GPtrArray *entries;  /* of Moult__Entry */
        GPtrArray *requires, *hooks;
        GArray *units; /* of ProtobufCBinaryData */
};

static void entry_free(gpointer e)
{
        moult__entry__free_unpacked(e, NULL);
}

static void requirement_free(gpointer r)
{
        moult__requirement__free_unpacked(r, NULL);
}

static void hook_free(gpointer h)
{
        moult__hook__free_unpacked(h, NULL);
}

static void unit_clear(gpointer u)
{
        g_free(((ProtobufCBinaryData *)u)->data);
}

/* protobuf-c frees with free(), which is what g_free() is. */
static ProtobufCBinaryData bytes_dup(const void *data, size_t len)
{
        return (ProtobufCBinaryData){.len = len, .data = g_memdup2(data, len)};
}

PackWriter *pack_writer_new(const char *path, const struct pack_writer_options *options, GError **error)
{
        g_autoptr(PackWriter) w = g_new0(PackWriter, 1);
        g_autofree char *dir = g_path_get_dirname(path);

        w->fd = -1;
        w->path = g_strdup(path);
        w->options = *options;
        w->options.name = g_strdup(options->name);
        w->options.version = g_strdup(options->version);
        w->options.description = g_strdup(options->description);
        w->entries = g_ptr_array_new_with_free_func(entry_free);
        w->requires = g_ptr_array_new_with_free_func(requirement_free);
        w->hooks = g_ptr_array_new_with_free_func(hook_free);
        w->units = g_array_new(FALSE, FALSE, sizeof(ProtobufCBinaryData));
        g_array_set_clear_func(w->units, unit_clear);

        g_autofree char *temporary = g_build_filename(dir, ".moult-pack-XXXXXX", NULL);
        w->fd = g_mkstemp_full(temporary, O_RDWR | O_CLOEXEC, 0600);
        if (w->fd < 0) {
                moult_error_errno(error, errno, "creating a pack in %s", dir);
                return NULL;
        }
        w->temporary = g_steal_pointer(&temporary);
        w->content = pack_content_new(w->fd, path, options->zstd_level, !options->no_trees);
        return g_steal_pointer(&w);
}

void pack_writer_free(PackWriter *w)
{
        if (w == NULL)
                return;
        delta_writer_free(w->deltas);
        pack_content_free(w->content); /* first: it writes to the descriptor, into the entries */
        if (w->fd >= 0)
                close(w->fd);
        if (w->temporary != NULL)
                unlink(w->temporary);
        g_ptr_array_unref(w->entries);
        g_ptr_array_unref(w->requires);
        g_ptr_array_unref(w->hooks);
        g_array_unref(w->units);
        g_free((char *)w->options.name);
        g_free((char *)w->options.version);
        g_free((char *)w->options.description);
        g_free(w->temporary);
        g_free(w->path);
        g_free(w);
}

/* --- requirements, hooks, units --- */

static gboolean refused(GError **error, const char *what, const char *name, const char *why)
{
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED, "%s %s: %s", what, name, why);
        return FALSE;
}

gboolean pack_writer_add_requirement(PackWriter *w, const char *key, const char *value, GError **error)
{
        Moult__Requirement *r = g_new(Moult__Requirement, 1);
        moult__requirement__init(r);
        r->key = bytes_dup(key, strlen(key));
        r->value = bytes_dup(value, strlen(value));
        g_ptr_array_add(w->requires, r);
        const char *why = requirement_refusal(r);
        return why == NULL ? TRUE : refused(error, "requirement", key, why);
}

gboolean pack_writer_add_hook(PackWriter *w, Moult__HookStage stage, const char *name, GBytes *script,
                              uint32_t timeout_ms, GError **error)
{
        Moult__Hook *h = g_new(Moult__Hook, 1);
        moult__hook__init(h);
        h->stage = stage;
        h->name = bytes_dup(name, strlen(name));
        h->script = bytes_dup(g_bytes_get_data(script, NULL), g_bytes_get_size(script));
        h->timeout_ms = timeout_ms;
        g_ptr_array_add(w->hooks, h);
        const char *why = hook_refusal(h);
        return why == NULL ? TRUE : refused(error, "hook", name, why);
}

gboolean pack_writer_add_restart_unit(PackWriter *w, const char *unit, GError **error)
{
        ProtobufCBinaryData u = bytes_dup(unit, strlen(unit));
        g_array_append_val(w->units, u);
        const char *why = restart_unit_refusal(u);
        return why == NULL ? TRUE : refused(error, "unit to restart", unit, why);
}

void pack_writer_set_observer(PackWriter *w, pack_writer_observer observer, gpointer user)
{
        pack_content_set_observer(w->content, observer, user);
}

/* --- entries --- */

static int xattr_compare(const void *a, const void *b)
{
        const Moult__Xattr *x = *(Moult__Xattr *const *)a, *y = *(Moult__Xattr *const *)b;
        int order = memcmp(x->name.data, y->name.data, MIN(x->name.len, y->name.len));
        return order != 0 ? order : (x->name.len > y->name.len) - (x->name.len < y->name.len);
}

/* A deep copy, with everything that its type does not have set to nothing. */
static Moult__Entry *entry_copy(const Moult__Entry *from)
{
        Moult__Entry e = *from;
        g_autofree uint8_t *packed = NULL;

        e.size = 0;
        e.blob = 0;
        e.digest = (ProtobufCBinaryData){0};
        e.n_extents = 0;
        if (e.type != MOULT__ENTRY_TYPE__ENTRY_SYMLINK && e.type != MOULT__ENTRY_TYPE__ENTRY_HARDLINK)
                e.link_target = (ProtobufCBinaryData){0};
        if (e.type != MOULT__ENTRY_TYPE__ENTRY_CHAR_DEVICE && e.type != MOULT__ENTRY_TYPE__ENTRY_BLOCK_DEVICE)
                e.dev_major = e.dev_minor = 0;
        switch (e.type) {
        case MOULT__ENTRY_TYPE__ENTRY_HARDLINK:
        case MOULT__ENTRY_TYPE__ENTRY_DELETE:
                e.uid = e.gid = e.mtime_ns = 0;
                e.mtime_s = 0;
                e.n_xattrs = 0;
                e.mode = 0;
                break;
        case MOULT__ENTRY_TYPE__ENTRY_SYMLINK:
                e.mode = 0;
                break;
        default:
                break;
        }
        packed = g_malloc(moult__entry__get_packed_size(&e) + 1);
        size_t len = moult__entry__pack(&e, packed);
        Moult__Entry *copy = moult__entry__unpack(NULL, len, packed);
        if (copy == NULL)
                g_error("no memory for an entry of a pack");
        if (copy->n_xattrs > 1)
                qsort(copy->xattrs, copy->n_xattrs, sizeof *copy->xattrs, xattr_compare);
        return copy;
}

gboolean pack_writer_add_entry(PackWriter *w, const Moult__Entry *e, int data_fd, GCancellable *cancellable,
                               GError **error)
{
        Moult__Entry *copy = entry_copy(e);
        g_autofree char *path = message_string(copy->path);
        g_ptr_array_add(w->entries, copy);

        gboolean is_file = copy->type == MOULT__ENTRY_TYPE__ENTRY_FILE;
        const char *why = is_file ? fs_path_refusal(copy->path.data, copy->path.len) : entry_refusal(copy);
        if (why != NULL) {
                w->broken = TRUE;
                return refused(error, "entry", path, why);
        }
        if (is_file && !pack_content_add(w->content, copy, data_fd, cancellable, error)) {
                w->broken = TRUE;
                g_prefix_error(error, "packing %s: ", path);
                return FALSE;
        }
        return TRUE;
}

/* --- sealing --- */

static gint entry_compare(gconstpointer a, gconstpointer b)
{
        const Moult__Entry *x = *(Moult__Entry *const *)a, *y = *(Moult__Entry *const *)b;
        int order = memcmp(x->path.data, y->path.data, MIN(x->path.len, y->path.len));
        return order != 0 ? order : (x->path.len > y->path.len) - (x->path.len < y->path.len);
}

static gboolean settle(PackWriter *w, GError **error)
{
        if (w->settled)
                return TRUE;
        if (!pack_content_finish(w->content, error))
                return FALSE;
        g_ptr_array_sort(w->entries, entry_compare);
        w->settled = TRUE;
        return TRUE;
}

DeltaWriter *pack_writer_begin_deltas(PackWriter *w, GError **error)
{
        if (!settle(w, error))
                return NULL;
        if (w->deltas == NULL)
                w->deltas = delta_writer_new(w->fd, w->path, pack_content_end(w->content));
        return w->deltas;
}

const Moult__Entry *pack_writer_find(const PackWriter *w, const char *path, uint32_t *ret_index)
{
        Moult__Entry key = MOULT__ENTRY__INIT;
        gpointer at = &key;
        guint low = 0, high = w->entries->len;

        g_assert(w->settled);
        key.path = message_bytes(path);
        while (low < high) {
                guint middle = low + (high - low) / 2;
                int order = entry_compare(&at, &w->entries->pdata[middle]);
                if (order == 0) {
                        *ret_index = middle;
                        return w->entries->pdata[middle];
                }
                if (order < 0)
                        high = middle;
                else
                        low = middle + 1;
        }
        return NULL;
}

const Moult__Blob *pack_writer_blob(const PackWriter *w, uint32_t blob)
{
        return g_ptr_array_index(pack_content_blobs(w->content), blob);
}

static gboolean read_frame(const PackWriter *w, uint64_t offset, size_t stored, void *dst, size_t len,
                           GError **error)
{
        g_autofree uint8_t *buf = g_malloc(stored);
        if (!fd_pread_all(w->fd, buf, stored, (off_t)offset, w->path, error))
                return FALSE;
        if (ZSTD_decompress(dst, len, buf, stored) == len)
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT,
                    "reading %s again: it is not what was written; is its disk sound?", w->path);
        return FALSE;
}

gboolean pack_writer_read_blob(const PackWriter *w, uint32_t blob, uint64_t offset, void *dst, size_t len,
                               GError **error)
{
        const Moult__Blob *b = pack_writer_blob(w, blob);
        uint64_t at = b->offset;
        uint8_t *to = dst;

        g_assert(w->settled && offset % CHUNK_SIZE == 0 && len <= b->size - offset);
        if (b->storage == MOULT__BLOB_STORAGE__BLOB_RAW)
                return fd_pread_all(w->fd, dst, len, (off_t)(at + offset), w->path, error);
        for (size_t i = 0; len > 0; i++) {
                uint64_t start = i * (uint64_t)CHUNK_SIZE;
                size_t n = (size_t)MIN(MIN(b->size - start, (uint64_t)CHUNK_SIZE), len);
                if (start >= offset) {
                        if (!read_frame(w, at, b->chunk_sizes[i], to, n, error))
                                return FALSE;
                        to += n;
                        len -= n;
                }
                at += b->chunk_sizes[i];
        }
        return TRUE;
}

static GBytes *make_manifest(PackWriter *w, GError **error)
{
        Moult__Manifest m = MOULT__MANIFEST__INIT;
        m.format = PACK_FORMAT;
        m.name = message_bytes(w->options.name != NULL ? w->options.name : "");
        m.version = message_bytes(w->options.version != NULL ? w->options.version : "");
        m.description = message_bytes(w->options.description != NULL ? w->options.description : "");
        m.created_unix_s = w->options.created_unix_s;
        m.security_floor = w->options.security_floor;
        m.n_requires = w->requires->len;
        m.requires = (Moult__Requirement **)w->requires->pdata;
        m.n_hooks = w->hooks->len;
        m.hooks = (Moult__Hook **)w->hooks->pdata;
        m.n_restart_units = w->units->len;
        m.restart_units = (ProtobufCBinaryData *)(void *)w->units->data;
        const GPtrArray *blobs = pack_content_blobs(w->content);
        m.n_blobs = blobs->len;
        m.blobs = (Moult__Blob **)blobs->pdata;
        m.n_entries = w->entries->len;
        m.entries = (Moult__Entry **)w->entries->pdata;

        size_t len = moult__manifest__get_packed_size(&m);
        if (len > LIMIT_MANIFEST_BYTES) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "the file list takes %zu bytes, more than %u; split the release", len,
                            LIMIT_MANIFEST_BYTES);
                return NULL;
        }
        g_autofree uint8_t *buf = g_malloc(len);
        moult__manifest__pack(&m, buf);
        return g_bytes_new_take(g_steal_pointer(&buf), len);
}

static gboolean write_bytes(PackWriter *w, GBytes *bytes, uint64_t offset, GError **error)
{
        return fd_pwrite_all(w->fd, g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes), (off_t)offset,
                             w->path, error);
}

static gboolean publish(PackWriter *w, GError **error)
{
        g_autofree char *dir = g_path_get_dirname(w->path);
        int fake = fault_point("pack-writer.sync");
        if (fake != 0)
                return moult_error_errno(error, fake, "syncing %s", w->path);
        if (fchmod(w->fd, 0444) < 0 || fsync(w->fd) < 0)
                return moult_error_errno(error, errno, "syncing %s", w->path);
        if (rename(w->temporary, w->path) < 0)
                return moult_error_errno(error, errno, "renaming the pack to %s", w->path);
        g_clear_pointer(&w->temporary, g_free);
        scoped_fd int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dirfd < 0 || fsync(dirfd) < 0)
                return moult_error_errno(error, errno, "syncing %s", dir);
        return TRUE;
}

gboolean pack_writer_finish(PackWriter *w, SigningKey *const *keys, unsigned n_keys,
                            uint8_t *ret_manifest_digest, GError **error)
{
        if (w->broken || w->temporary == NULL) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_WRONG_STATE,
                            "sealing the pack: an entry could not be added, or it is sealed already");
                return FALSE;
        }
        if (!settle(w, error))
                return FALSE;
        uint64_t end = pack_content_end(w->content);
        if (w->deltas != NULL && !delta_writer_finish(w->deltas, &end, error))
                return FALSE;
        g_autoptr(GBytes) manifest = make_manifest(w, error);
        if (manifest == NULL)
                return FALSE;
        struct pack_header h = {.blobs_offset = PACK_HEADER_SIZE, .blobs_size = end - PACK_HEADER_SIZE};
        gsize len;
        const void *data = g_bytes_get_data(manifest, &len);
        g_autoptr(Hasher) hasher = hasher_new();
        hasher_sha256(hasher, data, len, h.manifest_digest);
        h.manifest_offset = end;
        h.manifest_size = len;
        g_autoptr(GBytes) signature = pack_signature_make(&h, keys, n_keys, error);
        if (signature == NULL)
                return FALSE;
        h.signature_offset = h.manifest_offset + len;
        h.signature_size = g_bytes_get_size(signature);
        h.pack_size = h.signature_offset + h.signature_size;

        uint8_t header[PACK_HEADER_SIZE];
        pack_header_format(&h, header);
        struct pack_header again;
        const char *why = pack_header_parse(header, h.pack_size, &again);
        if (why != NULL)
                return refused(error, "sealing", "the pack", why);
        g_autoptr(Manifest) judged = manifest_parse(data, len, &h, error);
        if (judged == NULL) {
                g_prefix_error(error, "sealing the pack: ");
                return FALSE;
        }
        if (!write_bytes(w, manifest, h.manifest_offset, error) ||
            !write_bytes(w, signature, h.signature_offset, error) ||
            !fd_pwrite_all(w->fd, header, sizeof header, 0, w->path, error) || !publish(w, error))
                return FALSE;
        if (ret_manifest_digest != NULL)
                memcpy(ret_manifest_digest, h.manifest_digest, DIGEST_SIZE);
        return TRUE;
}
