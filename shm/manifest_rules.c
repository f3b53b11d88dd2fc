/* shm/manifest_rules.c - what one item of an upgrade file list must look like. Pure: NULL or the reason. */
#include "shm/manifest_rules.h"

#include <string.h>
#include <zstd.h>

#include "common/fs_beneath.h"
#include "common/verity_layout.h"
#include "proto/limits.h"

#define MODE_BITS             07777u
#define DEV_MAJOR_MAX         0xfffu /* as the kernel's dev_t */
#define DEV_MINOR_MAX         0xfffffu
#define UID_NONE              0xffffffffu        /* chown() would take it for "leave as it is" */
#define TIME_MAX_S            (INT64_C(1) << 43) /* beyond what any file system stores; keeps sums in range */
#define UNIT_BYTES_MAX        255u
#define REQUIREMENT_VALUE_MAX 256u

static bool is_empty(ProtobufCBinaryData b)
{
        return b.len == 0;
}

/* Not empty, at most @max bytes, first of class @first, the others alphanumeric or of @others. */
static bool is_word(ProtobufCBinaryData b, size_t max, bool (*first)(char), bool (*rest)(char),
                    const char *others)
{
        if (b.len == 0 || b.len > max || !first((char)b.data[0]))
                return false;
        for (size_t i = 1; i < b.len; i++) {
                char c = (char)b.data[i];
                if (!rest(c) && (c == '\0' || strchr(others, c) == NULL))
                        return false;
        }
        return true;
}

static bool is_alnum(char c)
{
        return g_ascii_isalnum(c);
}

static bool is_lower_alnum(char c)
{
        return g_ascii_islower(c) || g_ascii_isdigit(c);
}

static bool is_upper(char c)
{
        return g_ascii_isupper(c);
}

static bool is_unit_start(char c)
{
        return g_ascii_isalnum(c) || c == '_';
}

/* UTF-8 that may be shown on a terminal: none of U+0000 to U+001F but what
 * @allowed has, nor U+007F to U+009F. */
static bool is_text(ProtobufCBinaryData b, const char *allowed)
{
        if (b.len == 0)
                return true;
        const char *p = (const char *)b.data, *end = p + b.len;
        if (!g_utf8_validate_len(p, b.len, NULL)) /* refuses NUL as well */
                return false;
        for (; p < end; p = g_utf8_next_char(p)) {
                gunichar c = g_utf8_get_char(p);
                if ((c < 0x20 && strchr(allowed, (int)c) == NULL) || (c >= 0x7f && c <= 0x9f))
                        return false;
        }
        return true;
}

static const char *description_refusal(ProtobufCBinaryData d)
{
        if (d.len > LIMIT_DESCRIPTION_BYTES)
                return "description is longer than 4096 bytes";
        return is_text(d, "\n\t") ? NULL : "description is not UTF-8, or holds control characters";
}

const char *release_refusal(const Moult__Manifest *m)
{
        if (m->base.n_unknown_fields != 0)
                return "it has fields that format 1 does not know";
        if (m->format != PACK_FORMAT)
                return "its format is not known to this version of moult";
        if (!is_word(m->name, LIMIT_NAME_BYTES, is_lower_alnum, is_lower_alnum, "+.-"))
                return "release name is not [a-z0-9][a-z0-9+.-]* of at most 64 bytes";
        if (!is_word(m->version, LIMIT_NAME_BYTES, is_alnum, is_alnum, "+.:~-"))
                return "version is not [A-Za-z0-9][A-Za-z0-9+.:~-]* of at most 64 bytes";
        if (m->created_unix_s > (uint64_t)TIME_MAX_S)
                return "time of creation is out of range";
        if (m->n_requires > LIMIT_REQUIREMENTS)
                return "more than 64 requirements";
        if (m->n_hooks > LIMIT_HOOKS)
                return "more than 64 hooks";
        if (m->n_restart_units > LIMIT_RESTART_UNITS)
                return "more than 256 units to restart";
        if (m->n_entries > LIMIT_ENTRIES || m->n_blobs > LIMIT_ENTRIES)
                return "too many entries";
        return description_refusal(m->description);
}

const char *requirement_refusal(const Moult__Requirement *r)
{
        if (r->base.n_unknown_fields != 0)
                return "it has fields that format 1 does not know";
        if (!is_word(r->key, LIMIT_NAME_BYTES, is_upper, is_upper, "_0123456789"))
                return "key is not [A-Z][A-Z0-9_]* of at most 64 bytes";
        if (r->value.len > REQUIREMENT_VALUE_MAX)
                return "value is longer than 256 bytes";
        return is_text(r->value, "") ? NULL : "value is not UTF-8, or holds control characters";
}

const char *hook_refusal(const Moult__Hook *h)
{
        if (h->base.n_unknown_fields != 0)
                return "it has fields that format 1 does not know";
        if ((unsigned)h->stage > MOULT__HOOK_STAGE__HOOK_HEALTH)
                return "unknown stage";
        if (!is_word(h->name, LIMIT_NAME_BYTES, is_alnum, is_alnum, "_.-"))
                return "name is not [A-Za-z0-9][A-Za-z0-9_.-]* of at most 64 bytes";
        if (h->script.len > LIMIT_HOOK_SCRIPT)
                return "script is longer than 65536 bytes";
        if (h->script.len < 3 || memcmp(h->script.data, "#!", 2) != 0)
                return "script does not begin with #!";
        if (h->timeout_ms == 0 || h->timeout_ms > LIMIT_HOOK_TIMEOUT_MS)
                return "time limit is not 1 to 3600000 ms";
        return NULL;
}

const char *restart_unit_refusal(ProtobufCBinaryData unit)
{
        /* It becomes an argument of systemctl or service: no option, no path. */
        if (!is_word(unit, UNIT_BYTES_MAX, is_unit_start, is_alnum, ":_.@\\-"))
                return "it is not a unit name: [A-Za-z0-9_][A-Za-z0-9:_.@\\-]* of at most 255 bytes";
        return NULL;
}

static const char *chunk_table_refusal(const Moult__Blob *b)
{
        uint64_t n_chunks = b->size / CHUNK_SIZE + (b->size % CHUNK_SIZE != 0);
        if (b->n_chunk_sizes != n_chunks)
                return "chunk table does not fit the size";
        uint64_t sum = 0;
        for (size_t i = 0; i < b->n_chunk_sizes; i++) {
                if (b->chunk_sizes[i] == 0 || b->chunk_sizes[i] > ZSTD_COMPRESSBOUND(CHUNK_SIZE))
                        return "a chunk's stored size is out of range";
                sum += b->chunk_sizes[i]; /* cannot overflow: 2^32 chunks of 2^21 at most */
        }
        return sum == b->stored_size ? NULL : "chunk table does not add up to the stored size";
}

const char *blob_refusal(const Moult__Blob *b, const struct pack_header *header)
{
        if (b->base.n_unknown_fields != 0)
                return "it has fields that format 1 does not know";
        if (b->offset % PACK_ALIGN != 0)
                return "offset is not a multiple of 4096";
        if (b->offset < header->blobs_offset || b->offset - header->blobs_offset > header->blobs_size ||
            b->stored_size > header->blobs_size - (b->offset - header->blobs_offset))
                return "it leaves the blob area";
        if (b->size == 0 || b->stored_size == 0)
                return "it is empty";
        if (b->size > LIMIT_FILE_SIZE)
                return "it is larger than any file";
        switch (b->storage) {
        case MOULT__BLOB_STORAGE__BLOB_RAW:
                if (b->size != b->stored_size)
                        return "raw, but size and stored size differ";
                return b->n_chunk_sizes == 0 ? NULL : "raw, but it has a chunk table";
        case MOULT__BLOB_STORAGE__BLOB_ZSTD:
                return chunk_table_refusal(b);
        default:
                return "unknown storage";
        }
}

const char *tree_refusal(const Moult__Blob *b, uint64_t file_size, uint64_t end,
                         const struct pack_header *header)
{
        uint64_t size = verity_layout_stored_size(file_size);
        if (size == 0)
                return "it has a tree, but its files are of one block";
        if (b->tree_offset % PACK_ALIGN != 0)
                return "its tree's offset is not a multiple of 4096";
        if (b->tree_offset < end)
                return "its tree overlaps what is before it, or is not in order";
        if (b->tree_offset - header->blobs_offset > header->blobs_size ||
            size > header->blobs_size - (b->tree_offset - header->blobs_offset))
                return "its tree leaves the blob area";
        return NULL;
}

static const char *xattr_refusal(const Moult__Xattr *x)
{
        static const char *const namespaces[] = {"user.", "trusted.", "security.", "system."};
        if (x->base.n_unknown_fields != 0)
                return "an extended attribute has fields that format 1 does not know";
        if (x->name.len > LIMIT_XATTR_NAME)
                return "an extended attribute's name is longer than 255 bytes";
        if (x->name.len > 0 && memchr(x->name.data, '\0', x->name.len) != NULL)
                return "an extended attribute's name holds a NUL byte";
        if (x->value.len > LIMIT_XATTR_VALUE)
                return "an extended attribute's value is longer than 65536 bytes";
        for (size_t i = 0; i < G_N_ELEMENTS(namespaces); i++) {
                size_t len = strlen(namespaces[i]);
                if (x->name.len > len && memcmp(x->name.data, namespaces[i], len) == 0)
                        return NULL;
        }
        return "an extended attribute's name has no namespace (user, trusted, security, system)";
}

static const char *xattrs_refusal(const Moult__Entry *e)
{
        if (e->n_xattrs > LIMIT_XATTRS)
                return "more than 64 extended attributes";
        for (size_t i = 0; i < e->n_xattrs; i++) {
                const char *why = xattr_refusal(e->xattrs[i]);
                if (why != NULL)
                        return why;
                for (size_t j = 0; j < i; j++)
                        if (e->xattrs[j]->name.len == e->xattrs[i]->name.len &&
                            memcmp(e->xattrs[j]->name.data, e->xattrs[i]->name.data,
                                   e->xattrs[i]->name.len) == 0)
                                return "an extended attribute is listed twice";
        }
        return NULL;
}

static const char *extents_refusal(const Moult__Entry *e)
{
        uint64_t end = 0;
        if (e->n_extents > LIMIT_EXTENTS)
                return "too many extents";
        for (size_t i = 0; i < e->n_extents; i++) {
                const Moult__Extent *x = e->extents[i];
                if (x->base.n_unknown_fields != 0)
                        return "an extent has fields that format 1 does not know";
                if (x->offset % VERITY_BLOCK_SIZE != 0)
                        return "an extent's offset is not a multiple of 4096";
                if (x->offset < end)
                        return "extents overlap or are not in order";
                if (x->length == 0)
                        return "an extent is empty";
                if (x->offset > e->size || x->length > e->size - x->offset)
                        return "an extent leaves the file";
                end = x->offset + x->length;
                if (x->length % VERITY_BLOCK_SIZE != 0 && end != e->size)
                        return "an extent's length is not a multiple of 4096";
        }
        return NULL;
}

static const char *file_refusal(const Moult__Entry *e)
{
        if (e->size > LIMIT_FILE_SIZE)
                return "file is larger than 16 TiB";
        if (e->digest.len != DIGEST_SIZE)
                return "file has no digest of 32 bytes";
        if (e->size == 0 && e->blob != 0)
                return "empty file has a blob";
        if (e->blob == 0 && e->n_extents != 0)
                return "file has extents but no blob";
        return extents_refusal(e);
}

/* Which fields have a meaning for a type. What has none must be zero: one list has one meaning. */
enum { HAS_MODE = 1, HAS_OWNER = 2, HAS_XATTRS = 4, HAS_CONTENT = 8, HAS_TARGET = 16, HAS_DEVICE = 32 };
static const unsigned fields_of_type[] = {
        [MOULT__ENTRY_TYPE__ENTRY_FILE] = HAS_MODE | HAS_OWNER | HAS_XATTRS | HAS_CONTENT,
        [MOULT__ENTRY_TYPE__ENTRY_DIRECTORY] = HAS_MODE | HAS_OWNER | HAS_XATTRS,
        [MOULT__ENTRY_TYPE__ENTRY_SYMLINK] = HAS_OWNER | HAS_XATTRS | HAS_TARGET,
        [MOULT__ENTRY_TYPE__ENTRY_HARDLINK] = HAS_TARGET,
        [MOULT__ENTRY_TYPE__ENTRY_CHAR_DEVICE] = HAS_MODE | HAS_OWNER | HAS_XATTRS | HAS_DEVICE,
        [MOULT__ENTRY_TYPE__ENTRY_BLOCK_DEVICE] = HAS_MODE | HAS_OWNER | HAS_XATTRS | HAS_DEVICE,
        [MOULT__ENTRY_TYPE__ENTRY_FIFO] = HAS_MODE | HAS_OWNER | HAS_XATTRS,
        [MOULT__ENTRY_TYPE__ENTRY_DELETE] = 0,
};

static const char *fields_refusal(const Moult__Entry *e)
{
        unsigned has = fields_of_type[e->type];
        if ((has & HAS_MODE) == 0 && e->mode != 0)
                return "mode is set for a type that has none";
        if ((has & HAS_OWNER) == 0 && (e->uid != 0 || e->gid != 0 || e->mtime_s != 0 || e->mtime_ns != 0))
                return "owner or time is set for a type that has none";
        if ((has & HAS_XATTRS) == 0 && e->n_xattrs != 0)
                return "extended attributes are set for a type that has none";
        if ((has & HAS_CONTENT) == 0 &&
            (e->size != 0 || e->digest.len != 0 || e->blob != 0 || e->n_extents != 0))
                return "content is set for a type that has none";
        if ((has & HAS_TARGET) == 0 && !is_empty(e->link_target))
                return "link target is set for a type that has none";
        if ((has & HAS_DEVICE) == 0 && (e->dev_major != 0 || e->dev_minor != 0))
                return "device number is set for a type that has none";
        return NULL;
}

static const char *target_refusal(const Moult__Entry *e)
{
        if (e->type == MOULT__ENTRY_TYPE__ENTRY_HARDLINK)
                return fs_path_refusal(e->link_target.data, e->link_target.len) != NULL
                               ? "hard link's target is not a clean relative path"
                               : NULL;
        if (e->type != MOULT__ENTRY_TYPE__ENTRY_SYMLINK)
                return NULL;
        if (is_empty(e->link_target) || e->link_target.len > LIMIT_PATH_BYTES)
                return "symbolic link's target is not 1 to 4095 bytes";
        if (memchr(e->link_target.data, '\0', e->link_target.len) != NULL)
                return "symbolic link's target holds a NUL byte";
        return NULL;
}

/* `.moult` is where the engine keeps staged and old files, at the root of any mount. */
static bool has_reserved_part(ProtobufCBinaryData path)
{
        static const char reserved[] = ".moult";
        size_t len = sizeof reserved - 1;
        for (size_t start = 0; start < path.len;) {
                const uint8_t *slash = memchr(path.data + start, '/', path.len - start);
                size_t end = slash != NULL ? (size_t)(slash - path.data) : path.len;
                if (end - start == len && memcmp(path.data + start, reserved, len) == 0)
                        return true;
                start = end + 1;
        }
        return false;
}

static const char *metadata_refusal(const Moult__Entry *e)
{
        if ((e->mode & ~MODE_BITS) != 0)
                return "mode has bits beyond 07777";
        if (e->uid == UID_NONE || e->gid == UID_NONE)
                return "owner is the invalid id 4294967295";
        if (e->mtime_ns > 999999999u)
                return "nanoseconds are out of range";
        if (e->mtime_s > TIME_MAX_S || e->mtime_s < -TIME_MAX_S)
                return "time is out of range";
        if (e->dev_major > DEV_MAJOR_MAX || e->dev_minor > DEV_MINOR_MAX)
                return "device number is out of range";
        return xattrs_refusal(e);
}

static const char *precondition_refusal(const Moult__Entry *e)
{
        if (e->conffile && e->type != MOULT__ENTRY_TYPE__ENTRY_FILE)
                return "a conffile that is no file";
        if (e->n_old_digests > LIMIT_OLD_DIGESTS)
                return "more than 16 old digests";
        for (size_t i = 0; i < e->n_old_digests; i++)
                if (e->old_digests[i].len != DIGEST_SIZE)
                        return "an old digest is not 32 bytes";
        return NULL;
}

const char *entry_refusal(const Moult__Entry *e)
{
        const char *why = fs_path_refusal(e->path.data, e->path.len);
        if (why != NULL)
                return why;
        if (e->base.n_unknown_fields != 0)
                return "it has fields that format 1 does not know";
        if (has_reserved_part(e->path))
                return "path has the reserved component '.moult'";
        if ((unsigned)e->type >= G_N_ELEMENTS(fields_of_type))
                return "unknown type";
        if ((unsigned)e->delivery > MOULT__DELIVERY__DELIVERY_OVERLAY)
                return "unknown delivery";
        if ((why = fields_refusal(e)) != NULL || (why = metadata_refusal(e)) != NULL ||
            (why = target_refusal(e)) != NULL || (why = precondition_refusal(e)) != NULL)
                return why;
        return e->type == MOULT__ENTRY_TYPE__ENTRY_FILE ? file_refusal(e) : NULL;
}
