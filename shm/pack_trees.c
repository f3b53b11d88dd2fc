/* shm/pack_trees.c - the Merkle trees of a pack that is being made: set aside, then put behind the blobs. */
#include "shm/pack_trees.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fault.h"
#include "common/fd.h"

struct kept {
        Moult__Blob *blob;
        uint64_t at; /* in the file that is set aside */
};

struct PackTrees {
        char *path; /* of the pack */
        int fd;     /* -1 until there is something to write */
        uint64_t size;
        GArray *kept; /* of struct kept */
};

PackTrees *pack_trees_new(const char *pack_path)
{
        PackTrees *t = g_new0(PackTrees, 1);
        t->path = g_strdup(pack_path);
        t->fd = -1;
        t->kept = g_array_new(FALSE, FALSE, sizeof(struct kept));
        return t;
}

void pack_trees_free(PackTrees *t)
{
        if (t == NULL)
                return;
        if (t->fd >= 0)
                close(t->fd);
        g_array_unref(t->kept);
        g_free(t->path);
        g_free(t);
}

static gboolean make_file(PackTrees *t, GError **error)
{
        g_autofree char *dir = g_path_get_dirname(t->path);
        g_autofree char *name = g_build_filename(dir, ".moult-pack-XXXXXX", NULL);

        t->fd = g_mkstemp_full(name, O_RDWR | O_CLOEXEC, 0600);
        if (t->fd < 0)
                return moult_error_errno(error, errno, "creating a temporary file in %s", dir);
        if (unlink(name) < 0)
                return moult_error_errno(error, errno, "removing %s", name);
        return TRUE;
}

static gboolean write_blocks(PackTrees *t, uint64_t index, const uint8_t *blocks, size_t n, GError **error)
{
        int fake = fault_point("pack-writer.tree");
        if (fake != 0)
                return moult_error_errno(error, fake, "writing the hash trees of %s", t->path);
        if (t->fd < 0 && !make_file(t, error))
                return FALSE;
        return fd_pwrite_all(t->fd, blocks, n * VERITY_BLOCK_SIZE,
                             (off_t)(t->size + index * VERITY_BLOCK_SIZE), "the hash trees of the pack",
                             error);
}

gboolean pack_trees_add_leaves(PackTrees *t, const struct verity_layout *layout, uint64_t chunk,
                               const uint8_t *blocks, size_t n_blocks, GError **error)
{
        return n_blocks == 0 ||
               write_blocks(t, layout->start[1] + chunk * VERITY_LEAVES_PER_CHUNK, blocks, n_blocks, error);
}

struct upper {
        PackTrees *trees;
        GError *error; /* the first */
};

static void write_upper(uint64_t index, const uint8_t block[static VERITY_BLOCK_SIZE], gpointer user)
{
        struct upper *u = user;
        if (u->error == NULL)
                write_blocks(u->trees, index, block, 1, &u->error);
}

gboolean pack_trees_finish(PackTrees *t, const struct verity_layout *layout, VerityTree *tree, Hasher *h,
                           uint8_t ret[static DIGEST_SIZE], GError **error)
{
        struct upper u = {.trees = t};
        verity_tree_finish(tree, h, layout->n_levels > 1 ? write_upper : NULL, &u, ret);
        if (u.error == NULL)
                return TRUE;
        g_propagate_error(error, u.error);
        return FALSE;
}

void pack_trees_keep(PackTrees *t, const struct verity_layout *layout, Moult__Blob *b)
{
        const struct kept k = {.blob = b, .at = t->size};
        g_array_append_val(t->kept, k);
        t->size += layout->n_blocks * VERITY_BLOCK_SIZE;
}

uint64_t pack_trees_size(const PackTrees *t)
{
        return t->size;
}

gboolean pack_trees_append(PackTrees *t, int pack_fd, uint64_t end, GError **error)
{
        g_autofree uint8_t *buf = g_malloc(CHUNK_SIZE);

        for (uint64_t at = 0; at < t->size;) {
                size_t n = (size_t)MIN(t->size - at, CHUNK_SIZE);
                int fake = fault_point("pack-writer.tree-append");
                if (fake != 0)
                        return moult_error_errno(error, fake, "writing %s", t->path);
                if (!fd_pread_all(t->fd, buf, n, (off_t)at, "the hash trees of the pack", error) ||
                    !fd_pwrite_all(pack_fd, buf, n, (off_t)(end + at), t->path, error))
                        return FALSE;
                at += n;
        }
        for (guint i = 0; i < t->kept->len; i++) {
                const struct kept *k = &g_array_index(t->kept, struct kept, i);
                k->blob->tree_offset = end + k->at;
        }
        return TRUE;
}
