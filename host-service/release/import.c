/* host-service/release/import.c - copy, judge the copy, seal. */
#include "host-service/release/import.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fault.h"
#include "common/fd.h"
#include "host-service/release/pack_verify.h"
#include "host-service/release/releases.h"

#define COPY_STEP     (8u << 20)
#define PACK_SIZE_MAX (UINT64_C(1) << 44)

void release_import_free(struct release_import *i)
{
        if (!i)
                return;
        g_free(i->path);
        g_free(i->operation);
        g_free(i->trust_dir);
        g_free(i->expect_name);
        g_free(i->expect_version);
        if (i->in_place)
                scoped_fd_close(&i->fd);
        release_record_free(i->release);
        g_strfreev(i->paths);
        g_free(i);
}

char *release_import_temp_name(const char *operation)
{
        return g_strconcat("importing-", operation, ".tmp", NULL);
}

guint64 release_padded_size(guint64 pack_size)
{
        guint64 size = RELEASE_PADDED_MIN;

        if (pack_size > PACK_SIZE_MAX)
                return 0;
        while (size < pack_size)
                size <<= 1;
        return size;
}

/* Opens what the client named, and reads how long the pack in it says to be. */
static int open_source(const char *path, guint64 *ret_pack_size, GError **error)
{
        /* Not blocking: the path may name a FIFO that nobody writes to. */
        scoped_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        uint8_t buf[PACK_HEADER_SIZE];
        struct pack_header header;
        const char *why;
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0) {
                moult_error_errno(error, errno, "opening %s on the host", path);
                return -1;
        }
        if (!S_ISREG(st.st_mode)) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED, "%s is not a regular file", path);
                return -1;
        }
        if (st.st_size < PACK_HEADER_SIZE) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                            "%s is not a release pack: it is too short", path);
                return -1;
        }
        if (!fd_pread_all(fd, buf, sizeof buf, 0, path, error))
                return -1;
        why = pack_header_parse(buf, (guint64)st.st_size, &header);
        if (why) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED, "%s is not a release pack: %s", path,
                            why);
                return -1;
        }
        if (release_padded_size(header.pack_size) == 0) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED, "%s is larger than 16 TiB", path);
                return -1;
        }
        *ret_pack_size = header.pack_size;
        return g_steal_fd(&fd);
}

static gboolean copy(struct release_import *i, int from, int to, guint64 size, GCancellable *cancellable,
                     GError **error)
{
        if (ioctl(to, FICLONE, from) == 0) {
                /* Shares the blocks; what lies behind the pack's end is cut off. */
                if (ftruncate(to, (off_t)size) < 0)
                        return moult_error_errno(error, errno, "cutting the copy of %s", i->path);
                __atomic_store_n(&i->done, (gint64)size, __ATOMIC_RELAXED);
                return TRUE;
        }
        for (guint64 at = 0; at < size;) {
                gsize len = (gsize)MIN(COPY_STEP, size - at);

                if (g_cancellable_set_error_if_cancelled(cancellable, error) ||
                    !fd_copy_piece(from, to, (off_t)at, len, i->path, "the copy in the pack store", error))
                        return FALSE;
                at += len;
                __atomic_store_n(&i->done, (gint64)at, __ATOMIC_RELAXED);
                fault_point("import-copied");
        }
        return TRUE;
}

struct progress {
        struct release_import *import;
        gint64 base;
};

static void on_verified(uint64_t done, uint64_t total, gpointer user)
{
        struct progress *p = user;

        __atomic_store_n(&p->import->total, p->base + (gint64)total, __ATOMIC_RELAXED);
        __atomic_store_n(&p->import->done, p->base + (gint64)done, __ATOMIC_RELAXED);
}

static char *text_of(ProtobufCBinaryData b)
{
        return g_strndup((const char *)b.data, b.len);
}

static void fill_record(struct release_import *i, PackReader *reader)
{
        const Manifest *m = pack_reader_manifest(reader);
        const struct pack_header *h = pack_reader_header(reader);
        g_autofree char *description = text_of(m->description);
        g_autoptr(GPtrArray) paths = g_ptr_array_new_with_free_func(g_free);
        ReleaseRecord *r = g_new0(ReleaseRecord, 1);

        r->name = text_of(m->name);
        r->version = text_of(m->version);
        r->description = m->description.len ? g_utf8_make_valid(description, -1) : NULL;
        memcpy(r->digest, h->manifest_digest, sizeof r->digest);
        memcpy(r->key_id, pack_reader_key_id(reader), sizeof r->key_id);
        /* The name is used once and never again: whoever still maps it maps this very content. */
        r->file = g_strconcat(r->name, "-", r->version, "-", i->operation, ".moult", NULL);
        r->size = h->pack_size;
        r->padded_size = release_padded_size(h->pack_size);
        r->security_floor = MIN(m->security_floor, (guint64)G_MAXINT64);
        r->entries = m->n_entries;
        r->created_us = (gint64)MIN(m->created_unix_s, UINT64_C(253402300799)) * G_USEC_PER_SEC;
        for (size_t n = 0; n < m->n_entries; n++)
                if (m->entries[n]->type != MOULT__ENTRY_TYPE__ENTRY_DIRECTORY)
                        g_ptr_array_add(paths, manifest_entry_path(m->entries[n]));
        g_ptr_array_add(paths, NULL);
        i->release = r;
        i->paths = (GStrv)g_ptr_array_free(g_steal_pointer(&paths), FALSE);
}

/* Header, signature, list, every content: of the copy, which nobody else can write. */
static gboolean judge(struct release_import *i, int fd, GCancellable *cancellable, GError **error)
{
        g_autoptr(TrustStore) trust = trust_store_load(i->trust_dir, error);
        g_autoptr(PackSource) source = NULL;
        g_autoptr(PackReader) reader = NULL;
        struct pack_verify_report report;
        struct progress p = {.import = i, .base = i->done};
        int again;

        if (!trust) {
                g_prefix_error(error, "the keys in the trust directory: ");
                return FALSE;
        }
        if (trust_store_count(trust) == 0) {
                g_set_error(
                        error, MOULT_ERROR, MOULT_ERROR_UNTRUSTED,
                        "no key is trusted on this host: copy the signer's public key into %s as NAME.pub",
                        i->trust_dir);
                return FALSE;
        }
        again = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        if (again < 0)
                return moult_error_errno(error, errno, "opening the copy again");
        source = pack_source_file_new(again, error);
        if (source)
                reader = pack_reader_open(source, trust, NULL, cancellable, error);
        if (!reader || !pack_verify(reader, 0, on_verified, &p, cancellable, &report, error))
                return FALSE;
        fill_record(i, reader);
        return TRUE;
}

/* A shared store may say what it likes: only the signed list says what a pack is. */
static gboolean is_expected(const struct release_import *i, guint64 size, GError **error)
{
        const ReleaseRecord *r = i->release;

        if (!i->in_place || (g_str_equal(r->name, i->expect_name) &&
                             g_str_equal(r->version, i->expect_version) && r->size == size))
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                    "what the shared store has under this name is release %s %s: nothing was taken in",
                    r->name, r->version);
        return FALSE;
}

static gboolean take_in(struct release_import *i, int from, int to, guint64 size, GCancellable *cancellable,
                        GError **error)
{
        g_autofree char *temp = release_import_temp_name(i->operation);
        int fault;

        if (!i->in_place && !copy(i, from, to, size, cancellable, error))
                return FALSE;
        fault_point("import-copy-done");
        if (!judge(i, to, cancellable, error) || !is_expected(i, size, error))
                return FALSE;
        fault = fault_point("import-judged");
        /* Sparse: the padding takes no room. */
        if (fault || ftruncate(to, (off_t)i->release->padded_size) < 0)
                return moult_error_errno(error, fault ? fault : errno, "padding the copy of %s", i->path);
        return i->env->store->seal(i->env->self, temp, to, i->release->file, error);
}

static gboolean run_in_place(struct release_import *i, GCancellable *cancellable, GError **error)
{
        struct stat st;

        if (fstat(i->fd, &st) < 0)
                return moult_error_errno(error, errno, "looking at %s", i->path);
        i->done = i->total = st.st_size;
        return take_in(i, -1, i->fd, (guint64)st.st_size, cancellable, error);
}

gboolean release_import_run(struct release_import *i, GCancellable *cancellable, GError **error)
{
        g_autofree char *temp = release_import_temp_name(i->operation);
        guint64 size = 0;
        scoped_fd int from = -1, to = -1;

        if (i->in_place) {
                if (run_in_place(i, cancellable, error))
                        return TRUE;
                i->env->store->remove(i->env->self, temp, NULL);
                return FALSE;
        }
        from = open_source(i->path, &size, error);
        if (from < 0)
                return FALSE;
        __atomic_store_n(&i->total, (gint64)size, __ATOMIC_RELAXED);
        /* An earlier start of the same operation may have been killed half-way. */
        if (!i->env->store->remove(i->env->self, temp, error))
                return FALSE;
        to = i->env->store->create(i->env->self, temp, error);
        if (to < 0)
                return FALSE;
        if (take_in(i, from, to, size, cancellable, error))
                return TRUE;
        g_prefix_error(error, "importing %s: ", i->path);
        i->env->store->remove(i->env->self, temp, NULL);
        return FALSE;
}
