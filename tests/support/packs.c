/* tests/support/packs.c - small packs for tests: entries in one line, a key that is always the same. */
#include "tests/support/packs.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "proto/message.h"

/* A test key, made by `openssl genpkey -algorithm ed25519`. It signs nothing but tests. */
static const char key_pem[] = "-----BEGIN PRIVATE KEY-----\n"
                              "MC4CAQAwBQYDK2VwBCIEIKOMgfwS9BPqoEEMAQQhR+rq7FO1Yvynuw6eM7fGV42S\n"
                              "-----END PRIVATE KEY-----\n";
static const char pub_pem[] = "-----BEGIN PUBLIC KEY-----\n"
                              "MCowBQYDK2VwAyEAkAGj3uhwhoKYTYZWvWbI1oKflzOm+W7eJiZ4WdXr/zA=\n"
                              "-----END PUBLIC KEY-----\n";

static void die_on(GError *error)
{
        if (error != NULL)
                g_error("%s", error->message);
}

SigningKey *packs_key(TempDir *t)
{
        g_autoptr(GError) error = NULL;
        g_autofree char *path = tempdir_path(t, "test.key");
        tempdir_put(t, "test.key", key_pem, strlen(key_pem));
        SigningKey *k = signing_key_load(path, &error);
        die_on(error);
        return k;
}

TrustStore *packs_trust(TempDir *t)
{
        g_autoptr(GError) error = NULL;
        g_autofree char *dir = tempdir_path(t, "trust");
        g_mkdir_with_parents(dir, 0700);
        tempdir_put(t, "trust/test.pub", pub_pem, strlen(pub_pem));
        TrustStore *trust = trust_store_load(dir, &error);
        die_on(error);
        return trust;
}

Moult__Entry packs_entry(Moult__EntryType type, const char *path)
{
        Moult__Entry e = MOULT__ENTRY__INIT;
        e.type = type;
        e.path = message_bytes(path);
        return e;
}

void packs_add(PackWriter *w, const Moult__Entry *e)
{
        g_autoptr(GError) error = NULL;
        pack_writer_add_entry(w, e, -1, NULL, &error);
        die_on(error);
}

void packs_add_file(PackWriter *w, const char *path, const void *data, size_t len)
{
        g_autoptr(GError) error = NULL;
        Moult__Entry e = packs_entry(MOULT__ENTRY_TYPE__ENTRY_FILE, path);
        scoped_fd int fd = memfd_create("content", MFD_CLOEXEC);
        e.mode = 0644;
        e.mtime_s = 1700000000;
        if (fd < 0 || !fd_write_all(fd, data, len, path, &error) ||
            !pack_writer_add_entry(w, &e, fd, NULL, &error))
                die_on(error);
}

char *packs_small(TempDir *t, uint8_t *ret_digest)
{
        g_autoptr(GError) error = NULL;
        g_autofree char *path = tempdir_path(t, "small.moult");
        const struct pack_writer_options options = {
                .name = "small",
                .version = "1.0",
                .description = "All types",
                .zstd_level = 3,
                .created_unix_s = 1700000000,
                .security_floor = 7,
        };
        g_autoptr(PackWriter) w = pack_writer_new(path, &options, &error);
        die_on(error);
        g_autofree char *text = g_strnfill(6000, 'a');
        packs_add_file(w, "etc/raw", "incompressible", 14);
        packs_add_file(w, "etc/same", "incompressible", 14);
        packs_add_file(w, "etc/text", text, 6000);
        packs_add_file(w, "etc/empty", "", 0);
        Moult__Entry e = packs_entry(MOULT__ENTRY_TYPE__ENTRY_DIRECTORY, "etc");
        e.mode = 0755;
        packs_add(w, &e);
        e = packs_entry(MOULT__ENTRY_TYPE__ENTRY_SYMLINK, "etc/link");
        e.link_target = message_bytes("../usr/lib");
        packs_add(w, &e);
        e = packs_entry(MOULT__ENTRY_TYPE__ENTRY_HARDLINK, "etc/other-name");
        e.link_target = message_bytes("etc/text");
        packs_add(w, &e);
        e = packs_entry(MOULT__ENTRY_TYPE__ENTRY_CHAR_DEVICE, "dev-null");
        e.mode = 0666;
        e.dev_major = 1;
        e.dev_minor = 3;
        packs_add(w, &e);
        e = packs_entry(MOULT__ENTRY_TYPE__ENTRY_FIFO, "pipe");
        e.mode = 0600;
        packs_add(w, &e);
        uint8_t old_digest[DIGEST_SIZE] = {1, 2, 3};
        ProtobufCBinaryData old = message_blob(old_digest, sizeof old_digest);
        e = packs_entry(MOULT__ENTRY_TYPE__ENTRY_DELETE, "usr/old");
        e.n_old_digests = 1;
        e.old_digests = &old;
        packs_add(w, &e);
        Moult__Xattr xattr = MOULT__XATTR__INIT, *xattrs[] = {&xattr};
        xattr.name = message_bytes("user.moult");
        xattr.value = message_bytes("value");
        e = packs_entry(MOULT__ENTRY_TYPE__ENTRY_DIRECTORY, "usr/share");
        e.mode = 01777;
        e.n_xattrs = 1;
        e.xattrs = xattrs;
        packs_add(w, &e);

        g_autoptr(GBytes) script = g_bytes_new_static("#!/bin/sh\n", 10);
        pack_writer_add_hook(w, MOULT__HOOK_STAGE__HOOK_HEALTH, "alive", script, 1000, &error);
        die_on(error);
        pack_writer_add_requirement(w, "ID", "debian", &error);
        die_on(error);
        pack_writer_add_restart_unit(w, "cron.service", &error);
        die_on(error);
        g_autoptr(SigningKey) key = packs_key(t);
        pack_writer_finish(w, &key, 1, ret_digest, &error);
        die_on(error);
        return g_steal_pointer(&path);
}

PackReader *packs_open(const char *path, const TrustStore *trust, GError **error)
{
        scoped_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
        g_autoptr(PackSource) source = pack_source_file_new(g_steal_fd(&fd), error);
        return source != NULL ? pack_reader_open(source, trust, NULL, NULL, error) : NULL;
}

/* --- a source over memory --- */

typedef struct {
        PackSource base;
        uint8_t *data;
} MemorySource;

static gboolean memory_read(PackSource *self, uint64_t offset, void *buf, size_t len,
                            GCancellable *cancellable, GError **error)
{
        memcpy(buf, ((MemorySource *)self)->data + offset, len);
        return TRUE;
}

static void memory_free(PackSource *self)
{
        g_free(((MemorySource *)self)->data);
        g_free(self);
}

static const struct pack_source_ops memory_ops = {.name = "memory", .read = memory_read, .free = memory_free};

PackSource *packs_memory_source(const void *data, size_t len)
{
        MemorySource *m = g_new0(MemorySource, 1);
        pack_source_init(&m->base, &memory_ops, len);
        m->data = g_memdup2(data, len);
        return &m->base;
}

/* --- reading --- */

typedef struct {
        uint64_t offset, length;
} Run;

GBytes *packs_content(PackReader *r, const Moult__Entry *e, GError **error)
{
        g_autofree uint8_t *content = g_try_malloc0(e->size + 1);
        g_autoptr(BlobBuffer) scratch = blob_buffer_new();
        if (content == NULL) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_NO_SPACE, "%" G_GUINT64_FORMAT " bytes", e->size);
                return NULL;
        }
        if (e->blob == 0)
                return g_bytes_new_take(g_steal_pointer(&content), e->size);
        const Moult__Blob *b = pack_reader_manifest(r)->blobs[e->blob - 1];
        g_autofree uint8_t *chunk = g_malloc(MIN(b->size, CHUNK_SIZE));
        uint64_t extent = 0, done = 0; /* of that extent */
        for (uint64_t at = 0; at < b->size;) {
                size_t len, used = 0;
                if (!pack_reader_read_chunk(r, e->blob - 1, at / CHUNK_SIZE, scratch, chunk, &len, NULL,
                                            error))
                        return NULL;
                at += len;
                while (used < len) {
                        Run run = e->n_extents == 0
                                          ? (Run){0, e->size}
                                          : (Run){e->extents[extent]->offset, e->extents[extent]->length};
                        size_t n = (size_t)MIN(len - used, run.length - done);
                        memcpy(content + run.offset + done, chunk + used, n);
                        used += n;
                        done += n;
                        if (done == run.length) {
                                extent++;
                                done = 0;
                        }
                }
        }
        return g_bytes_new_take(g_steal_pointer(&content), e->size);
}

gboolean packs_verify(PackReader *r, GError **error)
{
        const Manifest *m = pack_reader_manifest(r);
        g_autoptr(Hasher) h = hasher_new();
        for (size_t i = 0; i < m->n_entries; i++) {
                const Moult__Entry *e = m->entries[i];
                uint8_t digest[DIGEST_SIZE];
                if (e->type != MOULT__ENTRY_TYPE__ENTRY_FILE)
                        continue;
                g_autoptr(GBytes) content = packs_content(r, e, error);
                if (content == NULL)
                        return FALSE;
                verity_digest_buffer(h, g_bytes_get_data(content, NULL), g_bytes_get_size(content), digest);
                if (memcmp(digest, e->digest.data, DIGEST_SIZE) != 0) {
                        g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT, "entry %zu has other content",
                                    i);
                        return FALSE;
                }
        }
        return TRUE;
}
