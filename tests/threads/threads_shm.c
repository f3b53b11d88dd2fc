/* tests/threads/threads_shm.c - what threads share when a pack is written and read: for ThreadSanitizer.
 *
 * A plain program: Criterion cannot run under ThreadSanitizer (its arena and the sanitizer's want the same
 * addresses). It checks results too, and so runs in every build. */
#include <fcntl.h>
#include <unistd.h>

#include "common/fd.h"
#include "shm/region.h"
#include "shm/verified_file.h"
#include "tests/support/packs.h"

#define FILES   24u
#define READERS 4u

/* Sizes from nothing to several chunks; odd files can be compressed, even ones cannot. */
static size_t make_content(unsigned i, uint8_t *buf)
{
        g_autoptr(GRand) rand = g_rand_new_with_seed(i);
        size_t len = i * 150001u;
        for (size_t j = 0; j < len; j++)
                buf[j] = i % 2 != 0 ? (uint8_t)('a' + j / 64 % 16) : (uint8_t)g_rand_int(rand);
        return len;
}

static char *write_pack(TempDir *t)
{
        g_autoptr(GError) error = NULL;
        const struct pack_writer_options options = {.name = "threads", .version = "1", .zstd_level = 1};
        char *path = tempdir_path(t, "p");
        g_autofree uint8_t *buf = g_malloc(FILES * 150001u);
        g_autoptr(PackWriter) w = pack_writer_new(path, &options, &error);
        for (unsigned i = 0; i < FILES; i++) {
                g_autofree char *name = g_strdup_printf("file-%02u", i);
                packs_add_file(w, name, buf, make_content(i, buf));
        }
        g_autoptr(SigningKey) key = packs_key(t);
        if (!pack_writer_finish(w, &key, 1, NULL, &error))
                g_error("%s", error->message);
        return path;
}

static PackSource *map_pack(const char *path)
{
        g_autoptr(GError) error = NULL;
        scoped_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
        off_t size = lseek(fd, 0, SEEK_END);
        Region *r = region_map(g_steal_fd(&fd), (uint64_t)size, FALSE, &error);
        if (r == NULL)
                g_error("%s", error->message);
        return pack_source_region_new(r, 1, "region");
}

/* The first rung is cut off in the middle of everything; the second is whole. */
struct rungs {
        const char *cut, *whole;
        unsigned opened;
};

static PackSource *next_rung(gpointer user, gboolean damaged, GError **error)
{
        struct rungs *r = user;
        return map_pack(r->opened++ == 0 ? r->cut : r->whole);
}

static gpointer verify(gpointer user)
{
        g_autoptr(GError) error = NULL;
        if (!packs_verify(user, &error))
                g_error("%s", error->message);
        return NULL;
}

/* One file of several chunks, put together by all threads at once. */
struct shared_file {
        PackReader *reader;
        const Moult__Entry *entry;
        VerityTree *tree;
        gint next; /* atomic */
};

static gpointer stage(gpointer user)
{
        struct shared_file *f = user;
        g_autoptr(GError) error = NULL;
        g_autoptr(Hasher) h = hasher_new();
        g_autoptr(BlobBuffer) scratch = blob_buffer_new();
        g_autofree uint8_t *buf = g_malloc(CHUNK_SIZE);
        for (guint64 chunk; (chunk = (guint64)g_atomic_int_add(&f->next, 1)) * CHUNK_SIZE < f->entry->size;) {
                size_t len;
                if (!pack_reader_read_chunk(f->reader, f->entry->blob - 1, chunk, scratch, buf, &len, NULL,
                                            &error))
                        g_error("%s", error->message);
                verity_tree_add_chunk(f->tree, h, chunk, buf, len);
        }
        return NULL;
}

/* All files in pieces, each verified by itself, through what the readers of a pack share. */
static gpointer read_by_block(gpointer user)
{
        PackReader *r = user;
        g_autofree uint8_t *content = g_malloc(FILES * 150001u), *buf = g_malloc(100000);
        for (unsigned i = 0; i < FILES; i++) {
                g_autoptr(GError) error = NULL;
                size_t len = make_content(i, content), got;
                g_autoptr(VerifiedFile) f = verified_file_open(r, i, &error);
                for (size_t at = 0; f != NULL && at < len; at += 90001) {
                        if (!verified_file_read(f, at, buf, 100000, &got, NULL, &error))
                                break;
                        g_assert_cmpmem(buf, got, content + at, MIN(len - at, 100000));
                }
                if (error != NULL)
                        g_error("%s", error->message);
        }
        return NULL;
}

static void run(GThreadFunc function, gpointer user)
{
        GThread *threads[READERS];
        for (unsigned i = 0; i < READERS; i++)
                threads[i] = g_thread_new("reader", function, user);
        for (unsigned i = 0; i < READERS; i++)
                g_thread_join(threads[i]);
}

int main(void)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        g_autofree char *path = write_pack(t), *cut = tempdir_path(t, "cut"), *bytes = NULL;
        gsize len;
        if (!g_file_get_contents(path, &bytes, &len, &error) ||
            !g_file_set_contents(cut, bytes, (gssize)len, &error))
                g_error("%s", error->message);
        struct rungs rungs = {.cut = cut, .whole = path};
        g_autoptr(PackSource) ladder = pack_source_ladder_new(len, next_rung, &rungs);
        g_autoptr(TrustStore) trust = packs_trust(t);
        g_autoptr(PackReader) r = pack_reader_open(ladder, trust, NULL, NULL, &error);
        if (r == NULL)
                g_error("%s", error->message);
        if (truncate(cut, (off_t)len / 2 / 4096 * 4096) < 0)
                g_error("cannot cut %s", cut);
        run(verify, r);
        g_assert_cmpuint(pack_source_ladder_changes(ladder), ==, 1);

        run(read_by_block, r);

        const Manifest *m = pack_reader_manifest(r);
        struct shared_file f = {.reader = r, .entry = m->entries[m->n_entries - 1]};
        f.tree = verity_tree_new(f.entry->size);
        run(stage, &f);
        g_autoptr(Hasher) h = hasher_new();
        uint8_t digest[DIGEST_SIZE];
        verity_tree_digest(f.tree, h, digest);
        verity_tree_free(f.tree);
        g_assert_cmpmem(digest, DIGEST_SIZE, f.entry->digest.data, f.entry->digest.len);
        return 0;
}
