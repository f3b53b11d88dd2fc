/* tests/support/layer_tool.c - layers of raw files, and snapshots of them, for the integration tests; no test
 * by itself. A block that is all zeros is a hole of the file, and so absent; in a file MAP beside it "a"
 * stands for an absent block of 4096 bytes, "z" for zeros, "d" for data.
 *
 *     layer_tool STORE upload ID FILE [PARENT-FILE]     prints what upload and map came to, as JSON
 *     layer_tool STORE restore FILE ID...               newest first; FILE has the disk's size already
 *     layer_tool STORE snapshot VM ID NAME SIZE LAYER=DIGEST...    of one disk, layers the oldest first
 *
 * STORE: a directory, or s3://BUCKET/PREFIX,ENDPOINT,CREDENTIALS. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/libcrypto.h"
#include "host-service/env.h"
#include "host-service/layers/layer_task.h"
#include "host-service/layers/snapshot_manifest.h"
#include "host-service/store/chunk_cut.h"

struct file_disk {
        struct layer_reader reader;
        struct layer_writer writer;
        int fd;
        char *map; /* a letter for each block, or NULL: all is data */
};

struct tool {
        struct host_env *env;
        ObjectStore *objects;
        GMainLoop *loop;
        gboolean failed;
        char *text;
};

static void fail(const char *what, const GError *error)
{
        fprintf(stderr, "layer_tool: %s: %s\n", what, error ? error->message : strerror(errno));
        exit(1);
}

static LayerRangeKind kind_at(const struct file_disk *d, uint64_t block)
{
        switch (d->map ? d->map[block] : 'd') {
        case 'a':
                return LAYER_RANGE_ABSENT;
        case 'z':
                return LAYER_RANGE_ZERO;
        default:
                return LAYER_RANGE_DATA;
        }
}

static gboolean file_map(struct layer_reader *r, uint64_t offset, uint64_t len, GArray *ranges,
                         GCancellable *cancellable, GError **error)
{
        const struct file_disk *d = (const struct file_disk *)r;

        for (uint64_t at = offset; at < offset + len;) {
                uint64_t end = MIN((at / CHUNK_CUT_BLOCK + 1) * CHUNK_CUT_BLOCK, r->size_bytes);
                struct layer_range range = {at, end - at, kind_at(d, at / CHUNK_CUT_BLOCK)};

                g_array_append_val(ranges, range);
                at = end;
        }
        return TRUE;
}

static gboolean file_read(struct layer_reader *r, uint64_t offset, void *buf, size_t len,
                          GCancellable *cancellable, GError **error)
{
        return fd_pread_all(((struct file_disk *)r)->fd, buf, len, (off_t)offset, "the layer", error);
}

static struct file_disk *of_writer(struct layer_writer *w)
{
        return (struct file_disk *)((char *)w - G_STRUCT_OFFSET(struct file_disk, writer));
}

static gboolean file_write(struct layer_writer *w, uint64_t offset, const void *data, size_t len,
                           GCancellable *cancellable, GError **error)
{
        return fd_pwrite_all(of_writer(w)->fd, data, len, (off_t)offset, "the disk", error);
}

static gboolean file_zero(struct layer_writer *w, uint64_t offset, uint64_t len, GCancellable *cancellable,
                          GError **error)
{
        g_autofree char *zeros = g_malloc0(len);

        return file_write(w, offset, zeros, len, cancellable, error);
}

static const struct layer_reader_ops reader_ops = {file_map, file_read};
static const struct layer_writer_ops writer_ops = {file_write, file_zero};

static void open_disk(struct file_disk *d, const char *path, int flags)
{
        g_autofree char *map = g_strconcat(path, ".map", NULL);
        struct stat st;

        *d = (struct file_disk){.fd = open(path, flags | O_CLOEXEC)};
        if (d->fd < 0 || fstat(d->fd, &st) < 0)
                fail(path, NULL);
        g_file_get_contents(map, &d->map, NULL, NULL);
        d->reader = (struct layer_reader){&reader_ops, (uint64_t)st.st_size};
        d->writer = (struct layer_writer){&writer_ops, (uint64_t)st.st_size};
}

static void close_disk(struct file_disk *d)
{
        scoped_fd_close(&d->fd);
        g_free(d->map);
}

static void over(struct tool *t, const GError *error)
{
        t->failed = error != NULL;
        if (error)
                fprintf(stderr, "layer_tool: %s: %s\n", moult_error_name(moult_error_code(error)),
                        error->message);
        g_main_loop_quit(t->loop);
}

static void on_uploaded(const struct layer_upload_result *r, const GError *error, gpointer user)
{
        char hex[2 * DIGEST_SIZE + 1];

        if (r) {
                digest_to_hex(r->map_digest, hex);
                printf("{\"map\": \"%s\", \"data_bytes\": %" G_GUINT64_FORMAT
                       ", \"chunks\": %u, \"sent_chunks\": %" G_GUINT64_FORMAT
                       ", \"sent_bytes\": %" G_GUINT64_FORMAT ", \"already_there\": %s}\n",
                       hex, r->data_bytes, r->chunks, r->sent_chunks, r->sent_bytes,
                       r->already_there ? "true" : "false");
        }
        over(user, error);
}

static void upload(struct tool *t, int argc, char **argv)
{
        struct file_disk d, parent = {.fd = -1};

        open_disk(&d, argv[1], O_RDONLY);
        if (argc > 2)
                open_disk(&parent, argv[2], O_RDONLY);
        layer_upload_start(t->env, t->objects, argv[0], &d.reader, argc > 2 ? &parent.reader : NULL, NULL,
                           on_uploaded, t);
        g_main_loop_run(t->loop);
        close_disk(&d);
        close_disk(&parent);
}

static void on_restored(const struct layer_restore_result *r, const GError *error, gpointer user)
{
        over(user, error);
}

static void restore(struct tool *t, int argc, char **argv)
{
        struct file_disk d;
        g_autofree struct layer_ref *refs = g_new0(struct layer_ref, (gsize)argc);

        open_disk(&d, argv[0], O_RDWR);
        for (int i = 1; i < argc; i++)
                refs[i - 1].id = argv[i];
        layer_restore_start(t->env, t->objects, refs, (guint)argc - 1, &d.writer, NULL, on_restored, t);
        g_main_loop_run(t->loop);
        close_disk(&d);
}

static void snapshot(struct tool *t, int argc, char **argv)
{
        g_autoptr(SnapshotManifest) m = snapshot_manifest_new();
        g_autoptr(GError) error = NULL;
        struct manifest_disk *d;

        m->vm = g_strdup(argv[0]);
        m->id = g_strdup(argv[1]);
        m->name = g_strdup(argv[2]);
        m->taken_us = G_GINT64_CONSTANT(1700000000) * G_USEC_PER_SEC;
        d = snapshot_manifest_add_disk(m, 0, "virtio0", "/vms/disk.qcow2",
                                       g_ascii_strtoull(argv[3], NULL, 10));
        for (int i = 4; i < argc; i++) {
                g_auto(GStrv) words = g_strsplit(argv[i], "=", 2);
                uint8_t digest[DIGEST_SIZE];

                if (!words[1] || !digest_from_hex(words[1], digest))
                        fail(argv[i], NULL);
                manifest_disk_add_layer(d, words[0], digest);
        }
        if (!snapshot_manifest_put(t->objects, m, NULL, &error))
                over(t, error);
}

static ObjectStore *open_store(const char *text)
{
        g_auto(GStrv) words = g_strsplit(text, ",", 3);
        g_auto(GStrv) where = NULL;
        g_autoptr(GError) error = NULL;
        ObjectStore *o;

        if (!g_str_has_prefix(text, "s3://"))
                return object_store_dir_new(text);
        where = g_strsplit(words[0] + strlen("s3://"), "/", 2);
        const struct s3_config config = {words[1], where[0], where[1], (char *)"us-east-1",
                                         words[2], NULL,     30};
        o = object_store_s3_new(&config, &error);
        if (!o)
                fail(text, error);
        return o;
}

static const struct {
        const char *name;
        int least;
        void (*run)(struct tool *t, int argc, char **argv);
} verbs[] = {{"upload", 2, upload}, {"restore", 2, restore}, {"snapshot", 5, snapshot}};

int main(int argc, char **argv)
{
        struct tool t = {0};
        g_autoptr(GError) error = NULL;

        libcrypto_start();
        g_autofree char *state = g_dir_make_tmp("layer-tool-XXXXXX", NULL);

        if (argc < 3)
                return 2;
        t.env = host_env_real_new(state, &error);
        if (!t.env)
                fail(state, error);
        t.objects = open_store(argv[1]);
        t.loop = g_main_loop_new(t.env->context, FALSE);
        for (gsize i = 0; i < G_N_ELEMENTS(verbs); i++)
                if (g_str_equal(verbs[i].name, argv[2]) && argc - 3 >= verbs[i].least)
                        verbs[i].run(&t, argc - 3, argv + 3);
        g_main_loop_unref(t.loop);
        object_store_free(t.objects);
        host_env_real_free(t.env);
        return t.failed ? 1 : 0;
}
