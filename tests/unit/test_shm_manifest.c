/* tests/unit/test_shm_manifest.c - every rule of docs/pack-format.md, broken one at a time in a list that is
 * good. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "common/error.h"
#include "proto/limits.h"
#include "proto/message.h"
#include "shm/manifest.h"
#include "tests/support/packs.h"

TestSuite(manifest, .timeout = 60);

/* A good list, unpacked by protobuf's own allocator: fields may be changed in place. */
struct subject {
        Moult__Manifest *m;
        struct pack_header header;
};

static void load(TempDir *t, struct subject *s)
{
        g_autoptr(GError) error = NULL;
        g_autofree char *path = packs_small(t, NULL);
        g_autoptr(PackReader) r = packs_open(path, NULL, &error);
        cr_assert(ne(ptr, r, NULL));
        gsize len;
        const void *data = g_bytes_get_data(pack_reader_manifest_bytes(r), &len);
        s->m = moult__manifest__unpack(NULL, len, data);
        s->header = *pack_reader_header(r);
}

static Moult__Entry *get(struct subject *s, const char *path)
{
        gssize i = manifest_find(s->m, path, strlen(path));
        g_assert(i >= 0);
        return s->m->entries[i];
}

static void set(ProtobufCBinaryData *b, const char *data, size_t len)
{
        g_free(b->data);
        b->data = g_memdup2(data, len);
        b->len = len;
}

#define SET(field, text) set(&(field), (text), sizeof(text) - 1)

static Moult__Blob *raw_blob(struct subject *s)
{
        return s->m->blobs[get(s, "etc/raw")->blob - 1];
}

static Moult__Blob *zstd_blob(struct subject *s)
{
        return s->m->blobs[get(s, "etc/text")->blob - 1];
}

static void set_extents(Moult__Entry *e, const uint64_t (*runs)[2], size_t n)
{
        e->extents = g_new(Moult__Extent *, n);
        e->n_extents = n;
        for (size_t i = 0; i < n; i++) {
                e->extents[i] = g_new(Moult__Extent, 1);
                moult__extent__init(e->extents[i]);
                e->extents[i]->offset = runs[i][0];
                e->extents[i]->length = runs[i][1];
        }
}

#define EXTENTS(e, ...)                                                                                      \
        do {                                                                                                 \
                const uint64_t runs[][2] = {__VA_ARGS__};                                                    \
                set_extents(e, runs, G_N_ELEMENTS(runs));                                                    \
        } while (0)

/* Adds an unknown field by hand: number 99, varint 1. */
static void unknown(ProtobufCMessage *base)
{
        static uint8_t one[] = {1};
        base->n_unknown_fields = 1;
        base->unknown_fields = g_new0(ProtobufCMessageUnknownField, 1);
        base->unknown_fields[0].tag = 99;
        base->unknown_fields[0].wire_type = PROTOBUF_C_WIRE_TYPE_VARINT;
        base->unknown_fields[0].len = 1;
        base->unknown_fields[0].data = g_memdup2(one, 1);
}

/* BREAK(name, expected part of the error, statements on `s`). */
#define RULES                                                                                                \
        BREAK(dotdot, "'..' component", SET(get(s, "usr/old")->path, "usr/.."))                              \
        BREAK(dotdot_inside, "'..' component", SET(get(s, "usr/old")->path, "usr/../old"))                   \
        BREAK(dot, "'.' component", SET(get(s, "usr/old")->path, "usr/./d"))                                 \
        BREAK(absolute, "absolute", SET(get(s, "dev-null")->path, "/dev-null"))                              \
        BREAK(empty_path, "path is empty", SET(get(s, "dev-null")->path, ""))                                \
        BREAK(empty_part, "empty component", SET(get(s, "usr/old")->path, "usr//o"))                         \
        BREAK(trailing_slash, "ends in '/'", SET(get(s, "usr/old")->path, "usr/old/"))                       \
        BREAK(nul_in_path, "NUL", SET(get(s, "usr/old")->path, "usr/ol\0d"))                                 \
        BREAK(staging_name, ".moult", SET(get(s, "usr/old")->path, "usr/.moult"))                            \
        BREAK(duplicate, "listed twice", SET(get(s, "etc/raw")->path, "etc/same"))                           \
        BREAK(unsorted, "not in order", SET(get(s, "etc/raw")->path, "zzz"))                                 \
        BREAK(below_symlink, "not a directory", get(s, "etc")->type = MOULT__ENTRY_TYPE__ENTRY_SYMLINK;      \
              get(s, "etc")->mode = 0; SET(get(s, "etc")->link_target, "/"))                                 \
        BREAK(below_fifo, "not a directory", get(s, "etc")->type = MOULT__ENTRY_TYPE__ENTRY_FIFO)            \
        BREAK(below_delete, "that is deleted", get(s, "etc")->type = MOULT__ENTRY_TYPE__ENTRY_DELETE;        \
              get(s, "etc")->mode = 0)                                                                       \
        BREAK(far_below_fifo, "not a directory",                                                             \
              get(s, "usr/old")->type = MOULT__ENTRY_TYPE__ENTRY_DIRECTORY;                                  \
              SET(get(s, "usr/old")->path, "pipe/a/b"))                                                      \
        BREAK(hardlink_to_nothing, "not listed", SET(get(s, "etc/other-name")->link_target, "etc/nothing"))  \
        BREAK(hardlink_to_directory, "not a file", SET(get(s, "etc/other-name")->link_target, "usr/share"))  \
        BREAK(hardlink_to_itself, "not a file",                                                              \
              SET(get(s, "etc/other-name")->link_target, "etc/other-name"))                                  \
        BREAK(hardlink_dotdot, "clean relative", SET(get(s, "etc/other-name")->link_target, "../etc/text"))  \
        BREAK(hardlink_with_mode, "mode is set", get(s, "etc/other-name")->mode = 0644)                      \
        BREAK(symlink_without_target, "1 to 4095", SET(get(s, "etc/link")->link_target, ""))                 \
        BREAK(symlink_nul, "NUL", SET(get(s, "etc/link")->link_target, "a\0b"))                              \
        BREAK(symlink_with_mode, "mode is set", get(s, "etc/link")->mode = 0777)                             \
        BREAK(symlink_with_content, "content is set", get(s, "etc/link")->blob = 1)                          \
        BREAK(file_with_target, "target is set", SET(get(s, "etc/raw")->link_target, "x"))                   \
        BREAK(file_with_device, "device number is set", get(s, "etc/raw")->dev_major = 1)                    \
        BREAK(delete_with_owner, "owner or time", get(s, "usr/old")->uid = 1)                                \
        BREAK(mode_bits, "07777", get(s, "etc/raw")->mode = 010644)                                          \
        BREAK(mode_type_bits, "07777", get(s, "etc/raw")->mode = 0100644)                                    \
        BREAK(no_uid, "4294967295", get(s, "etc/raw")->uid = UINT32_MAX)                                     \
        BREAK(no_gid, "4294967295", get(s, "etc/raw")->gid = UINT32_MAX)                                     \
        BREAK(nanoseconds, "nanoseconds", get(s, "etc/raw")->mtime_ns = 1000000000)                          \
        BREAK(far_future, "time is out of range", get(s, "etc/raw")->mtime_s = INT64_MAX)                    \
        BREAK(far_past, "time is out of range", get(s, "etc/raw")->mtime_s = INT64_MIN)                      \
        BREAK(device_major, "device number is out", get(s, "dev-null")->dev_major = 0x1000)                  \
        BREAK(device_minor, "device number is out", get(s, "dev-null")->dev_minor = 0x100000)                \
        BREAK(type, "unknown type", get(s, "pipe")->type = (Moult__EntryType)8)                              \
        BREAK(type_negative, "does not fit", get(s, "pipe")->type = (Moult__EntryType)-1)                    \
        BREAK(delivery, "unknown delivery", get(s, "pipe")->delivery = (Moult__Delivery)3)                   \
        BREAK(xattr_no_namespace, "no namespace", SET(get(s, "usr/share")->xattrs[0]->name, "moult"))        \
        BREAK(xattr_only_namespace, "no namespace", SET(get(s, "usr/share")->xattrs[0]->name, "user."))      \
        BREAK(xattr_unknown_namespace, "no namespace", SET(get(s, "usr/share")->xattrs[0]->name, "other.x")) \
        BREAK(xattr_nul, "NUL", SET(get(s, "usr/share")->xattrs[0]->name, "user.a\0b"))                      \
        BREAK(xattr_twice, "listed twice", duplicate_xattr(get(s, "usr/share")))                             \
        BREAK(xattr_long_name, "255", long_bytes(&get(s, "usr/share")->xattrs[0]->name, "user.", 256))       \
        BREAK(xattr_long_value, "65536", long_bytes(&get(s, "usr/share")->xattrs[0]->value, "v", 65537))     \
        BREAK(no_digest, "digest", SET(get(s, "etc/raw")->digest, ""))                                       \
        BREAK(short_digest, "digest", SET(get(s, "etc/raw")->digest, "0123456789012345678901234567890"))     \
        BREAK(old_digest, "old digest", SET(get(s, "usr/old")->old_digests[0], "short"))                     \
        BREAK(huge_file, "16 TiB", get(s, "etc/raw")->size = LIMIT_FILE_SIZE + 1)                            \
        BREAK(empty_with_blob, "empty file has a blob", get(s, "etc/empty")->blob = 1)                       \
        BREAK(unlisted_blob, "blob is not listed", get(s, "etc/raw")->blob = 3)                              \
        BREAK(unlisted_blob_max, "blob is not listed", get(s, "etc/raw")->blob = UINT32_MAX)                 \
        BREAK(size_and_blob, "differ in size", get(s, "etc/raw")->size = 15)                                 \
        BREAK(unused_blob, "no entry uses it", get(s, "etc/text")->blob = 0)                                 \
        BREAK(extents_without_blob, "no blob", EXTENTS(get(s, "etc/empty"), {0, 4096}))                      \
        BREAK(extent_unaligned, "offset is not", EXTENTS(get(s, "etc/text"), {1, 4096}))                     \
        BREAK(extent_length, "length is not", EXTENTS(get(s, "etc/text"), {0, 100}))                         \
        BREAK(extent_empty, "extent is empty", EXTENTS(get(s, "etc/text"), {0, 0}))                          \
        BREAK(extent_beyond, "leaves the file", EXTENTS(get(s, "etc/text"), {0, 8192}))                      \
        BREAK(extent_wraps, "leaves the file", EXTENTS(get(s, "etc/text"), {4096, UINT64_MAX - 4095}))       \
        BREAK(extents_overlap, "overlap", EXTENTS(get(s, "etc/text"), {0, 4096}, {0, 4096}))                 \
        BREAK(extents_unsorted, "overlap", EXTENTS(get(s, "etc/text"), {4096, 1904}, {0, 4096}))             \
        BREAK(extents_sum, "differ in size", EXTENTS(get(s, "etc/text"), {0, 4096}))                         \
        BREAK(blob_unaligned, "multiple of 4096", raw_blob(s)->offset += 1)                                  \
        BREAK(blob_in_header, "leaves the blob area", raw_blob(s)->offset = 0)                               \
        BREAK(blob_beyond, "leaves the blob area", raw_blob(s)->offset = 1 << 20)                            \
        BREAK(blob_far_beyond, "leaves the blob area", raw_blob(s)->offset = UINT64_MAX - 4095)              \
        BREAK(blob_too_long, "leaves the blob area", raw_blob(s)->stored_size = raw_blob(s)->size = 1 << 20) \
        BREAK(blob_wraps, "leaves the blob area", raw_blob(s)->stored_size = UINT64_MAX)                     \
        BREAK(blobs_overlap, "overlap", zstd_blob(s)->offset = raw_blob(s)->offset)                          \
        BREAK(blob_empty, "it is empty", raw_blob(s)->size = raw_blob(s)->stored_size = 0)                   \
        BREAK(blob_huge, "larger than any file", zstd_blob(s)->size = LIMIT_FILE_SIZE + 1)                   \
        BREAK(blob_storage, "unknown storage", raw_blob(s)->storage = (Moult__BlobStorage)2)                 \
        BREAK(raw_sizes, "differ", raw_blob(s)->size += 1)                                                   \
        BREAK(raw_with_table, "chunk table", raw_blob(s)->n_chunk_sizes = 1;                                 \
              raw_blob(s)->chunk_sizes = g_memdup2(&(uint32_t){14}, 4))                                      \
        BREAK(table_short, "does not fit", zstd_blob(s)->n_chunk_sizes = 0)                                  \
        BREAK(table_sum, "add up", zstd_blob(s)->chunk_sizes[0] += 1)                                        \
        BREAK(table_zero, "stored size is out of range", zstd_blob(s)->chunk_sizes[0] = 0)                   \
        BREAK(table_large, "stored size is out of range", zstd_blob(s)->chunk_sizes[0] = 1 << 21)            \
        BREAK(tree_unaligned, "tree's offset is not a multiple", zstd_blob(s)->tree_offset += 1)             \
        BREAK(tree_over_blob, "overlaps", zstd_blob(s)->tree_offset = zstd_blob(s)->offset)                  \
        BREAK(tree_beyond, "leaves the blob area", zstd_blob(s)->tree_offset += 4096)                        \
        BREAK(tree_far_beyond, "leaves the blob area", zstd_blob(s)->tree_offset = UINT64_MAX - 4095)        \
        BREAK(tree_of_one_block, "files are of one block", raw_blob(s)->tree_offset = 1 << 20)               \
        BREAK(tree_shared, "other content shares it", raw_blob(s)->tree_offset = zstd_blob(s)->tree_offset;  \
              get(s, "etc/same")->digest.data[0] ^= 1)                                                       \
        BREAK(release_name, "release name", SET(s->m->name, "../x"))                                         \
        BREAK(release_name_upper, "release name", SET(s->m->name, "Small"))                                  \
        BREAK(release_name_nul, "release name", SET(s->m->name, "a\0b"))                                     \
        BREAK(release_name_long, "release name", long_bytes(&s->m->name, "n", 65))                           \
        BREAK(release_version, "version", SET(s->m->version, "-1"))                                          \
        BREAK(release_version_slash, "version", SET(s->m->version, "1/2"))                                   \
        BREAK(description_utf8, "UTF-8", SET(s->m->description, "\xff"))                                     \
        BREAK(description_escape, "control", SET(s->m->description, "\x1b[2J"))                              \
        BREAK(description_long, "4096", long_bytes(&s->m->description, "d", 4097))                           \
        BREAK(format, "format", s->m->format = 2)                                                            \
        BREAK(requirement_key, "key is not", SET(s->m->requires[0] -> key, "id"))                            \
        BREAK(description_c1, "control",                                                                     \
              SET(s->m->description, "a\xc2\x9b"                                                             \
                                     "2J"))                                                                  \
        BREAK(description_not_utf8, "UTF-8",                                                                 \
              SET(s->m->description, "a\x9b"                                                                 \
                                     "2J"))                                                                  \
        BREAK(requirement_value_c1, "control", SET(s->m->requires[0] -> value, "\xc2\x80"))                  \
        BREAK(requirement_value, "control", SET(s->m->requires[0] -> value, "a\nb"))                         \
        BREAK(hook_name, "name is not", SET(s->m->hooks[0]->name, "../x"))                                   \
        BREAK(hook_name_dash, "name is not", SET(s->m->hooks[0]->name, "-x"))                                \
        BREAK(hook_script, "#!", SET(s->m->hooks[0]->script, "echo"))                                        \
        BREAK(hook_script_long, "65536", long_bytes(&s->m->hooks[0]->script, "#!", 65537))                   \
        BREAK(hook_no_time, "time limit", s->m->hooks[0]->timeout_ms = 0)                                    \
        BREAK(hook_much_time, "time limit", s->m->hooks[0]->timeout_ms = 3600001)                            \
        BREAK(hook_stage, "unknown stage", s->m->hooks[0]->stage = (Moult__HookStage)4)                      \
        BREAK(unit_option, "unit name", SET(s->m->restart_units[0], "--root=/"))                             \
        BREAK(unit_path, "unit name", SET(s->m->restart_units[0], "a/b.service"))                            \
        BREAK(unit_empty, "unit name", SET(s->m->restart_units[0], ""))                                      \
        BREAK(unit_nul, "unit name", SET(s->m->restart_units[0], "a\0b"))                                    \
        BREAK(unknown_in_release, "does not know", unknown(&s->m->base))                                     \
        BREAK(unknown_in_entry, "does not know", unknown(&get(s, "pipe")->base))                             \
        BREAK(unknown_in_blob, "does not know", unknown(&raw_blob(s)->base))                                 \
        BREAK(unknown_in_hook, "does not know", unknown(&s->m->hooks[0]->base))                              \
        BREAK(unknown_in_xattr, "does not know", unknown(&get(s, "usr/share")->xattrs[0]->base))

static void duplicate_xattr(Moult__Entry *e)
{
        Moult__Xattr *x = g_new(Moult__Xattr, 1);
        moult__xattr__init(x);
        x->name = (ProtobufCBinaryData){10, g_memdup2("user.moult", 10)};
        e->xattrs = g_renew(Moult__Xattr *, e->xattrs, 2);
        e->xattrs[1] = x;
        e->n_xattrs = 2;
}

/* @prefix, then 'x' up to @len. */
static void long_bytes(ProtobufCBinaryData *b, const char *prefix, size_t len)
{
        g_autofree char *s = g_strnfill(len, 'x');
        memcpy(s, prefix, strlen(prefix));
        set(b, s, len);
}

#define BREAK(name, text, ...)                                                                               \
        static void break_##name(struct subject *s)                                                          \
        {                                                                                                    \
                __VA_ARGS__;                                                                                 \
        }
RULES
#undef BREAK

static const struct rule {
        const char *name, *text;
        void (*apply)(struct subject *);
} rules[] = {
#define BREAK(name, text, ...) {#name, text, break_##name},
        RULES
#undef BREAK
};

static Manifest *parse(struct subject *s, GError **error)
{
        size_t len = moult__manifest__get_packed_size(s->m);
        g_autofree uint8_t *buf = g_malloc(len + 1);
        moult__manifest__pack(s->m, buf);
        return manifest_parse(buf, len, &s->header, error);
}

Test(manifest, the_unchanged_list_passes)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        struct subject s;
        load(t, &s);
        g_autoptr(Manifest) m = parse(&s, &error);
        cr_expect(ne(ptr, m, NULL), "%s", error != NULL ? error->message : "");
        moult__manifest__free_unpacked(s.m, NULL);
}

Test(manifest, every_broken_rule_is_refused_for_its_own_reason)
{
        g_autoptr(TempDir) t = tempdir_new();
        for (size_t i = 0; i < G_N_ELEMENTS(rules); i++) {
                g_autoptr(GError) error = NULL;
                struct subject s;
                load(t, &s);
                rules[i].apply(&s);
                g_autoptr(Manifest) m = parse(&s, &error);
                cr_expect(eq(ptr, m, NULL), "%s was accepted", rules[i].name);
                moult__manifest__free_unpacked(s.m, NULL);
                if (error == NULL)
                        continue;
                gboolean found = strstr(error->message, rules[i].text) != NULL;
                cr_expect(found, "%s: refused, but with: %s", rules[i].name, error->message);
                cr_expect(eq(int, moult_error_code(error), MOULT_ERROR_MALFORMED));
        }
}

Test(manifest, a_directory_may_be_deleted_together_with_what_is_in_it)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        struct subject s;
        load(t, &s);
        Moult__Entry *share = get(&s, "usr/share");
        moult__xattr__free_unpacked(share->xattrs[0], NULL);
        share->n_xattrs = 0;
        share->type = MOULT__ENTRY_TYPE__ENTRY_DELETE;
        share->mode = 0;
        SET(share->path, "usr/old/below");
        g_autoptr(Manifest) m = parse(&s, &error);
        cr_expect(ne(ptr, m, NULL), "%s", error != NULL ? error->message : "");
        moult__manifest__free_unpacked(s.m, NULL);
}

Test(manifest, empty_sub_messages_meet_the_memory_budget)
{
        /* Field 11 (entries), length 0: two bytes on the wire, some 300 in memory. */
        g_autoptr(GError) error = NULL;
        const size_t n = 4u * 1024u * 1024u;
        g_autofree uint8_t *buf = g_malloc(2 * n);
        const struct pack_header header = {.blobs_offset = 4096};
        for (size_t i = 0; i < n; i++) {
                buf[2 * i] = 11 << 3 | 2;
                buf[2 * i + 1] = 0;
        }
        g_autoptr(Manifest) m = manifest_parse(buf, 2 * n, &header, &error);
        cr_expect(eq(ptr, m, NULL));
        cr_expect(eq(int, moult_error_code(error), MOULT_ERROR_MALFORMED));
}

Test(manifest, many_short_deletes_fit_into_the_memory_budget)
{
        g_autoptr(GError) error = NULL;
        const struct pack_header header = {.blobs_offset = 4096};
        Moult__Manifest m = MOULT__MANIFEST__INIT;
        const size_t n = 200000;
        g_autofree Moult__Entry *entries = g_new(Moult__Entry, n);
        g_autofree Moult__Entry **pointers = g_new(Moult__Entry *, n);
        g_autofree char *paths = g_malloc(n * 8);
        for (size_t i = 0; i < n; i++) {
                g_snprintf(paths + 8 * i, 8, "%07zu", i);
                moult__entry__init(&entries[i]);
                entries[i].type = MOULT__ENTRY_TYPE__ENTRY_DELETE;
                entries[i].path = message_bytes(paths + 8 * i);
                pointers[i] = &entries[i];
        }
        m.format = 1;
        m.name = message_bytes("n");
        m.version = message_bytes("1");
        m.n_entries = n;
        m.entries = pointers;
        size_t len = moult__manifest__get_packed_size(&m);
        g_autofree uint8_t *buf = g_malloc(len);
        moult__manifest__pack(&m, buf);
        g_autoptr(Manifest) parsed = manifest_parse(buf, len, &header, &error);
        cr_assert(ne(ptr, parsed, NULL), "%s", error != NULL ? error->message : "");
        cr_expect(eq(int, (int)manifest_find(parsed, "0123456", 7), 123456));
        cr_expect(eq(int, (int)manifest_find(parsed, "012345", 6), -1));
        cr_expect(eq(int, (int)manifest_find(parsed, "9999999", 7), -1));
}
