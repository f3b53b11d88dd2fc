/* host-service/store/seeds.c - which chunk lies where in packs that are here. */
#include "host-service/store/seeds.h"

#include "common/fd.h"
#include "host-service/store/chunk_file.h"
#include "shm/pack_layout.h"

struct place {
        int fd;
        uint64_t offset;
};

struct Seeds {
        const struct host_env *env;
        GArray *fds;
        GHashTable *places; /* id -> struct place; its keys are in refs */
        GPtrArray *refs;
};

Seeds *seeds_new(const struct host_env *env)
{
        Seeds *s = g_new0(Seeds, 1);

        s->env = env;
        s->fds = g_array_new(FALSE, FALSE, sizeof(int));
        s->refs = g_ptr_array_new_with_free_func((GDestroyNotify)g_array_unref);
        s->places = g_hash_table_new_full(g_bytes_hash, g_bytes_equal, (GDestroyNotify)g_bytes_unref, g_free);
        return s;
}

void seeds_free(Seeds *s)
{
        if (!s)
                return;
        for (guint i = 0; i < s->fds->len; i++)
                scoped_fd_close(&g_array_index(s->fds, int, i));
        g_array_unref(s->fds);
        g_hash_table_unref(s->places);
        g_ptr_array_unref(s->refs);
        g_free(s);
}

void seeds_add(Seeds *s, const char *file, GCancellable *cancellable)
{
        int fd = s->env->store->open(s->env->self, file, NULL);
        GArray *refs;
        uint8_t header[PACK_HEADER_SIZE];
        struct pack_header h;
        gint64 progress;

        if (fd < 0)
                return;
        refs = g_array_new(FALSE, FALSE, sizeof(struct chunk_ref));
        g_array_append_val(s->fds, fd);
        g_ptr_array_add(s->refs, refs);
        if (!fd_pread_all(fd, header, sizeof header, 0, file, NULL) ||
            pack_header_parse(header, G_MAXINT64, &h) ||
            !chunk_file_cut(fd, h.pack_size, refs, &progress, cancellable, NULL))
                return;
        for (guint i = 0; i < refs->len; i++) {
                struct place *p = g_new(struct place, 1);

                *p = (struct place){fd, chunk_begin(refs, i)};
                g_hash_table_replace(
                        s->places,
                        g_bytes_new_static(g_array_index(refs, struct chunk_ref, i).id, DIGEST_SIZE), p);
        }
}

GBytes *seeds_read(const Seeds *s, const uint8_t id[static DIGEST_SIZE], gsize len)
{
        g_autoptr(GBytes) key = g_bytes_new_static(id, DIGEST_SIZE);
        const struct place *p = g_hash_table_lookup(s->places, key);

        return p ? chunk_file_read(p->fd, p->offset, len, id, NULL) : NULL;
}
