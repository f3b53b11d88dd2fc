/* shm/manifest.c - the content gate for the upgrade file list: pure checks, then nobody checks again.
 *
 * Theory of operation: unpack under a memory budget; each item by itself (shm/manifest_rules.c); then the
 * rules between items, in an order in which each may rely on the ones before: entries sorted and unique, so
 * that manifest_find() works; parents; hard links; blobs in order; files against their blobs; trees. */
#include "shm/manifest.h"

#include <string.h>

#include "common/error.h"
#include "common/verity_layout.h"
#include "proto/limits.h"
#include "proto/message.h"
#include "shm/manifest_rules.h"
#include "shm/pack_wire.h"

/* protobuf-c makes up to about 50 bytes out of one on the wire (an entry of a short path is 360 bytes in
 * memory). */
#define MEMORY_PER_BYTE 64u
#define MEMORY_BASE     (1024u * 1024u)

static int path_compare(const void *a, size_t a_len, const void *b, size_t b_len)
{
        size_t common = MIN(a_len, b_len);
        int order = common > 0 ? memcmp(a, b, common) : 0;
        if (order != 0)
                return order;
        return a_len < b_len ? -1 : a_len > b_len;
}

gssize manifest_find(const Manifest *m, const void *path, size_t len)
{
        size_t low = 0, high = m->n_entries;
        while (low < high) {
                size_t middle = low + (high - low) / 2;
                const ProtobufCBinaryData *p = &m->entries[middle]->path;
                int order = path_compare(p->data, p->len, path, len);
                if (order == 0)
                        return (gssize)middle;
                if (order < 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        return -1;
}

gboolean manifest_has_tree(const Manifest *m, const Moult__Entry *e)
{
        return e->blob != 0 && m->blobs[e->blob - 1]->tree_offset != 0;
}

gboolean manifest_is_verifiable_by_block(const Manifest *m, const Moult__Entry *e)
{
        return e->blob == 0 || e->size <= VERITY_BLOCK_SIZE || manifest_has_tree(m, e);
}

char *manifest_entry_path(const Moult__Entry *e)
{
        return g_strndup((const char *)e->path.data, e->path.len);
}

/* Length of the path's directory part, 0 if it has none. */
static size_t parent_len(const uint8_t *path, size_t len)
{
        const uint8_t *slash = len > 0 ? memrchr(path, '/', len) : NULL;
        return slash != NULL ? (size_t)(slash - path) : 0;
}

/* The nearest ancestor that is listed must be a directory; the ones above it are judged when it is its turn.
 */
static const char *parent_refusal(const Manifest *m, const Moult__Entry *e)
{
        for (size_t len = parent_len(e->path.data, e->path.len); len > 0;
             len = parent_len(e->path.data, len)) {
                gssize i = manifest_find(m, e->path.data, len);
                if (i < 0)
                        continue;
                switch (m->entries[i]->type) {
                case MOULT__ENTRY_TYPE__ENTRY_DIRECTORY:
                        return NULL;
                case MOULT__ENTRY_TYPE__ENTRY_DELETE:
                        /* A directory may go together with what is in it. */
                        return e->type == MOULT__ENTRY_TYPE__ENTRY_DELETE
                                       ? NULL
                                       : "it lies below an entry that is deleted";
                default:
                        /* A directory that becomes something else goes with what is in it. */
                        return e->type == MOULT__ENTRY_TYPE__ENTRY_DELETE
                                       ? NULL
                                       : "it lies below an entry that is not a directory";
                }
        }
        return NULL;
}

static const char *hardlink_refusal(const Manifest *m, const Moult__Entry *e)
{
        if (e->type != MOULT__ENTRY_TYPE__ENTRY_HARDLINK)
                return NULL;
        gssize i = manifest_find(m, e->link_target.data, e->link_target.len);
        if (i < 0)
                return "hard link to a path that is not listed";
        return m->entries[i]->type == MOULT__ENTRY_TYPE__ENTRY_FILE ? NULL
                                                                    : "hard link to what is not a file entry";
}

/* A file's data is the concatenation of its extents, or the whole file. */
static const char *file_blob_refusal(const Manifest *m, const Moult__Entry *e)
{
        if (e->blob == 0)
                return NULL;
        if (e->blob > m->n_blobs)
                return "its blob is not listed";
        uint64_t data = e->n_extents == 0 ? e->size : 0;
        for (size_t i = 0; i < e->n_extents; i++)
                data += e->extents[i]->length; /* inside of the file, not overlapping: at most its size */
        return data == m->blobs[e->blob - 1]->size ? NULL : "its data and its blob differ in size";
}

static gboolean refuse(GError **error, const char *what, ProtobufCBinaryData name, const char *why)
{
        g_autofree char *text = message_string(name);
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED, "file list: %s %s: %s", what, text, why);
        return FALSE;
}

static gboolean refuse_blob(GError **error, size_t i, const char *why)
{
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED, "file list: blob %zu: %s", i + 1, why);
        return FALSE;
}

static gboolean same_bytes(ProtobufCBinaryData a, ProtobufCBinaryData b)
{
        return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static gboolean check_release(const Manifest *m, GError **error)
{
        const char *why = release_refusal(m);
        if (why != NULL) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED, "file list: %s", why);
                return FALSE;
        }
        for (size_t i = 0; i < m->n_requires; i++) {
                why = requirement_refusal(m->requires[i]);
                for (size_t j = 0; why == NULL && j < i; j++)
                        if (same_bytes(m->requires[j] -> key, m -> requires[i] -> key))
                                why = "it is listed twice";
                if (why != NULL)
                        return refuse(error, "requirement", m->requires[i] -> key, why);
        }
        for (size_t i = 0; i < m->n_hooks; i++) {
                why = hook_refusal(m->hooks[i]);
                for (size_t j = 0; why == NULL && j < i; j++)
                        if (m->hooks[j]->stage == m->hooks[i]->stage &&
                            same_bytes(m->hooks[j]->name, m->hooks[i]->name))
                                why = "it is listed twice";
                if (why != NULL)
                        return refuse(error, "hook", m->hooks[i]->name, why);
        }
        for (size_t i = 0; i < m->n_restart_units; i++) {
                why = restart_unit_refusal(m->restart_units[i]);
                for (size_t j = 0; why == NULL && j < i; j++)
                        if (same_bytes(m->restart_units[j], m->restart_units[i]))
                                why = "it is listed twice";
                if (why != NULL)
                        return refuse(error, "unit to restart", m->restart_units[i], why);
        }
        return TRUE;
}

static gboolean check_blobs(const Manifest *m, const struct pack_header *header, GError **error)
{
        uint64_t end = 0;
        for (size_t i = 0; i < m->n_blobs; i++) {
                const Moult__Blob *b = m->blobs[i];
                const char *why = blob_refusal(b, header);
                if (why == NULL && b->offset < end)
                        why = "blobs overlap or are not in order";
                if (why != NULL)
                        return refuse_blob(error, i, why);
                end = b->offset + b->stored_size;
        }
        return TRUE;
}

static gboolean check_entries(const Manifest *m, GError **error)
{
        for (size_t i = 0; i < m->n_entries; i++) {
                const Moult__Entry *e = m->entries[i];
                const char *why = entry_refusal(e);
                if (why == NULL && i > 0) {
                        const ProtobufCBinaryData *before = &m->entries[i - 1]->path;
                        int order = path_compare(before->data, before->len, e->path.data, e->path.len);
                        if (order >= 0)
                                why = order == 0 ? "it is listed twice" : "entries are not in order";
                }
                if (why != NULL)
                        return refuse(error, "entry", e->path, why);
        }
        return TRUE;
}

/* Neighbours mostly share their directory: the answer for it is kept. */
static gboolean check_parents(const Manifest *m, GError **error)
{
        const Moult__Entry *judged = NULL; /* last entry whose parent was looked up, and found good */
        for (size_t i = 0; i < m->n_entries; i++) {
                const Moult__Entry *e = m->entries[i];
                size_t len = parent_len(e->path.data, e->path.len);
                if (judged != NULL && judged->type == e->type &&
                    parent_len(judged->path.data, judged->path.len) == len &&
                    (len == 0 || memcmp(judged->path.data, e->path.data, len) == 0))
                        continue;
                const char *why = parent_refusal(m, e);
                if (why != NULL)
                        return refuse(error, "entry", e->path, why);
                judged = e;
        }
        return TRUE;
}

/* The tree of a blob is that of the files whose data it is: they must be of one content. @first: the first
 * file of each blob, so far. */
static const char *shared_tree_refusal(const Manifest *m, const Moult__Entry *e, const Moult__Entry *first)
{
        if (e->blob == 0 || m->blobs[e->blob - 1]->tree_offset == 0 || first == NULL)
                return NULL;
        return e->size == first->size && same_bytes(e->digest, first->digest)
                       ? NULL
                       : "its blob has a tree, and a file of other content shares it";
}

/* Trees lie behind all blobs, in the order of theirs. */
static gboolean check_trees(const Manifest *m, const Moult__Entry *const *file_of,
                            const struct pack_header *header, GError **error)
{
        const Moult__Blob *last = m->n_blobs > 0 ? m->blobs[m->n_blobs - 1] : NULL;
        uint64_t end = last != NULL ? last->offset + last->stored_size : 0;

        for (size_t i = 0; i < m->n_blobs; i++) {
                const Moult__Blob *b = m->blobs[i];
                if (b->tree_offset == 0)
                        continue;
                uint64_t size = file_of[i + 1]->size;
                const char *why = tree_refusal(b, size, end, header);
                if (why != NULL)
                        return refuse_blob(error, i, why);
                end = b->tree_offset + verity_layout_stored_size(size);
        }
        return TRUE;
}

static gboolean check_links_and_blobs(const Manifest *m, const struct pack_header *header, GError **error)
{
        g_autofree const Moult__Entry **file_of = g_new0(const Moult__Entry *, m->n_blobs + 1);
        for (size_t i = 0; i < m->n_entries; i++) {
                const Moult__Entry *e = m->entries[i];
                const char *why = hardlink_refusal(m, e);
                if (why == NULL)
                        why = file_blob_refusal(m, e);
                if (why == NULL)
                        why = shared_tree_refusal(m, e, file_of[e->blob]);
                if (why != NULL)
                        return refuse(error, "entry", e->path, why);
                file_of[e->blob] = e;
        }
        for (size_t i = 0; i < m->n_blobs; i++)
                if (file_of[i + 1] == NULL)
                        return refuse_blob(error, i, "no entry uses it");
        return check_trees(m, file_of, header, error);
}

Manifest *manifest_parse(const void *data, size_t len, const struct pack_header *header, GError **error)
{
        if (len > LIMIT_MANIFEST_BYTES) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                            "file list: it is larger than %u bytes", LIMIT_MANIFEST_BYTES);
                return NULL;
        }
        const char *why = pack_wire_refusal(&moult__manifest__descriptor, data, len);
        if (why != NULL) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED, "file list: %s", why);
                return NULL;
        }
        gsize budget_bytes = MIN((gsize)LIMIT_MANIFEST_MEMORY, len * (gsize)MEMORY_PER_BYTE + MEMORY_BASE);
        MessageBudget budget;
        message_budget_init(&budget, budget_bytes);
        g_autoptr(Manifest) m = moult__manifest__unpack(&budget.base, len, data);
        if (m == NULL) {
                g_set_error(
                        error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                        "file list: unpacked it takes more than %zu MiB of memory; who builds the release "
                        "has to split it",
                        budget_bytes >> 20);
                return NULL;
        }
        if (!check_release(m, error) || !check_blobs(m, header, error) || !check_entries(m, error) ||
            !check_parents(m, error) || !check_links_and_blobs(m, header, error))
                return NULL;
        return g_steal_pointer(&m);
}

void manifest_free(Manifest *m)
{
        if (m != NULL)
                moult__manifest__free_unpacked(m, message_free_allocator());
}
