/* tests/support/layer_lab.c - disks in memory, and a store that fails. */
#include "tests/support/layer_lab.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "common/error.h"
#include "host-service/layers/layer_map.h"

/* A call of a reader or a writer: one at a time. */
static void enter(FakeDisk *d)
{
        cr_assert(eq(int, g_atomic_int_add(&d->busy, 1), 0), "two callers at once");
}

static void leave(FakeDisk *d)
{
        g_atomic_int_add(&d->busy, -1);
}

static FakeDisk *disk_of_reader(struct layer_reader *r)
{
        return (FakeDisk *)((char *)r - G_STRUCT_OFFSET(FakeDisk, reader));
}

static FakeDisk *disk_of_writer(struct layer_writer *w)
{
        return (FakeDisk *)((char *)w - G_STRUCT_OFFSET(FakeDisk, writer));
}

/* Pieces that end where they like: a reader may tell less than it is asked for, and more. */
static gboolean disk_map(struct layer_reader *r, uint64_t offset, uint64_t len, GArray *ranges,
                         GCancellable *cancellable, GError **error)
{
        FakeDisk *d = disk_of_reader(r);
        uint64_t sectors = r->size_bytes / LAYER_SECTOR, at = offset / LAYER_SECTOR;

        enter(d);
        for (guint n = 0; n < 3 && at < sectors; n++) {
                struct layer_range range = {.offset = at * LAYER_SECTOR, .kind = d->kinds[at]};

                while (at < sectors && d->kinds[at] == range.kind && range.len < 777 * LAYER_SECTOR) {
                        range.len += LAYER_SECTOR;
                        at++;
                }
                g_array_append_val(ranges, range);
        }
        leave(d);
        return TRUE;
}

static gboolean disk_read(struct layer_reader *r, uint64_t offset, void *buf, size_t len,
                          GCancellable *cancellable, GError **error)
{
        FakeDisk *d = disk_of_reader(r);

        enter(d);
        cr_assert(offset <= r->size_bytes && len <= r->size_bytes - offset);
        for (uint64_t s = offset / LAYER_SECTOR; s < (offset + len) / LAYER_SECTOR; s++)
                cr_assert(eq(int, d->kinds[s], LAYER_RANGE_DATA), "sector %u is read", (guint)s);
        memcpy(buf, d->bytes + offset, len);
        d->bytes_read += len;
        d->reads++;
        leave(d);
        return TRUE;
}

static const struct layer_reader_ops reader_ops = {disk_map, disk_read};

static void set(FakeDisk *d, uint64_t offset, const void *data, uint64_t len, LayerRangeKind kind)
{
        cr_assert(len > 0 && offset <= d->reader.size_bytes && len <= d->reader.size_bytes - offset);
        cr_assert(offset % LAYER_SECTOR == 0 && len % LAYER_SECTOR == 0);
        for (uint64_t s = offset / LAYER_SECTOR; s < (offset + len) / LAYER_SECTOR; s++)
                d->kinds[s] = kind;
        if (data)
                memcpy(d->bytes + offset, data, len);
        else
                memset(d->bytes + offset, 0, len);
}

static void is_new(const FakeDisk *d, uint64_t offset, uint64_t len)
{
        for (uint64_t s = offset / LAYER_SECTOR; s < (offset + len) / LAYER_SECTOR; s++)
                cr_assert(eq(int, d->kinds[s], LAYER_RANGE_ABSENT), "sector %u is written twice", (guint)s);
}

static gboolean disk_write(struct layer_writer *w, uint64_t offset, const void *data, size_t len,
                           GCancellable *cancellable, GError **error)
{
        FakeDisk *d = disk_of_writer(w);

        enter(d);
        is_new(d, offset, len);
        set(d, offset, data, len, LAYER_RANGE_DATA);
        leave(d);
        return TRUE;
}

static gboolean disk_zero(struct layer_writer *w, uint64_t offset, uint64_t len, GCancellable *cancellable,
                          GError **error)
{
        FakeDisk *d = disk_of_writer(w);

        enter(d);
        is_new(d, offset, len);
        set(d, offset, NULL, len, LAYER_RANGE_ZERO);
        leave(d);
        return TRUE;
}

static const struct layer_writer_ops writer_ops = {disk_write, disk_zero};

FakeDisk *fake_disk_new(uint64_t size_bytes)
{
        FakeDisk *d = g_new0(FakeDisk, 1);

        d->reader = (struct layer_reader){&reader_ops, size_bytes};
        d->writer = (struct layer_writer){&writer_ops, size_bytes};
        d->bytes = g_malloc0(size_bytes);
        d->kinds = g_new0(LayerRangeKind, size_bytes / LAYER_SECTOR);
        return d;
}

void fake_disk_free(FakeDisk *d)
{
        if (!d)
                return;
        g_free(d->bytes);
        g_free(d->kinds);
        g_free(d);
}

void fake_disk_fill(FakeDisk *d, uint64_t offset, uint64_t len, guint32 seed)
{
        g_autofree uint8_t *data = g_malloc0(len);

        for (uint64_t i = 0; seed != 0 && i < len; i++) {
                seed = seed * 1664525u + 1013904223u;
                data[i] = (uint8_t)(seed >> 24);
        }
        set(d, offset, data, len, LAYER_RANGE_DATA);
}

void fake_disk_zero(FakeDisk *d, uint64_t offset, uint64_t len)
{
        set(d, offset, NULL, len, LAYER_RANGE_ZERO);
}

FakeDisk *fake_disk_over(const FakeDisk *d, const FakeDisk *below)
{
        FakeDisk *seen = fake_disk_new(d->reader.size_bytes);

        for (uint64_t s = 0; s < d->reader.size_bytes / LAYER_SECTOR; s++) {
                const FakeDisk *from = d->kinds[s] == LAYER_RANGE_ABSENT ? below : d;

                seen->kinds[s] = LAYER_RANGE_DATA;
                if (from && s < from->reader.size_bytes / LAYER_SECTOR)
                        memcpy(seen->bytes + s * LAYER_SECTOR, from->bytes + s * LAYER_SECTOR, LAYER_SECTOR);
        }
        return seen;
}

gboolean fake_disk_equal(const FakeDisk *a, const FakeDisk *b)
{
        return a->reader.size_bytes == b->reader.size_bytes &&
               memcmp(a->bytes, b->bytes, a->reader.size_bytes) == 0;
}

static ObjectStore *inner(ObjectStore *s)
{
        return ((WaywardStore *)s)->inner;
}

static gboolean is_at(const char *key, const char *prefix)
{
        return prefix && g_str_has_prefix(key, prefix);
}

static GBytes *wayward_get(ObjectStore *s, const char *key, gsize max_bytes, GCancellable *cancellable,
                           GError **error)
{
        WaywardStore *w = (WaywardStore *)s;
        g_autoptr(GBytes) data = w->inner->ops->get(w->inner, key, max_bytes, cancellable, error);
        gsize len;

        if (is_at(key, "chunks/"))
                g_atomic_int_inc(&w->gets);
        if (!data || !is_at(key, w->garble))
                return g_steal_pointer(&data);
        const guint8 *bytes = g_bytes_get_data(data, &len);
        guint8 *copy = g_memdup2(bytes, len);
        copy[len / 2] ^= 0x10;
        return g_bytes_new_take(copy, len);
}

static void lose_one_chunk(WaywardStore *w)
{
        g_autoptr(GPtrArray) chunks = w->inner->ops->list(w->inner, "chunks/", NULL, NULL);

        cr_assert(gt(u32, chunks->len, 0));
        w->inner->ops->remove(w->inner, ((struct object_entry *)chunks->pdata[0])->key, NULL, NULL);
}

static gboolean wayward_put(ObjectStore *s, const char *key, GBytes *data, GCancellable *cancellable,
                            GError **error)
{
        WaywardStore *w = (WaywardStore *)s;

        if (w->on_put)
                w->on_put(w->user);
        if (g_atomic_int_get(&w->fail_puts) > 0 && g_atomic_int_add(&w->fail_puts, -1) > 0) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_TIMEOUT, "the store is down");
                return FALSE;
        }
        if (is_at(key, w->lose_at))
                lose_one_chunk(w);
        if (is_at(key, "chunks/"))
                g_atomic_int_inc(&w->puts);
        return w->inner->ops->put(w->inner, key, data, cancellable, error);
}

static gboolean wayward_has(ObjectStore *s, const char *key, gboolean *ret, gint64 *ret_modified_s,
                            GCancellable *cancellable, GError **error)
{
        return inner(s)->ops->has(inner(s), key, ret, ret_modified_s, cancellable, error);
}

static gboolean wayward_touch(ObjectStore *s, const char *key, gboolean *ret, GCancellable *cancellable,
                              GError **error)
{
        return inner(s)->ops->touch(inner(s), key, ret, cancellable, error);
}

static gboolean wayward_remove(ObjectStore *s, const char *key, GCancellable *cancellable, GError **error)
{
        return inner(s)->ops->remove(inner(s), key, cancellable, error);
}

static gboolean wayward_now(ObjectStore *s, gint64 *ret_s, GCancellable *cancellable, GError **error)
{
        return inner(s)->ops->now(inner(s), ret_s, cancellable, error);
}

static GPtrArray *wayward_list(ObjectStore *s, const char *prefix, GCancellable *cancellable, GError **error)
{
        return inner(s)->ops->list(inner(s), prefix, cancellable, error);
}

static void wayward_free(ObjectStore *s)
{
        wayward_store_free((WaywardStore *)s);
}

static const struct object_store_ops wayward_ops = {wayward_get,    wayward_put, wayward_has,  wayward_touch,
                                                    wayward_remove, wayward_now, wayward_list, wayward_free};

WaywardStore *wayward_store_new(const char *dir)
{
        WaywardStore *w = g_new0(WaywardStore, 1);

        w->inner = object_store_dir_new(dir);
        w->base.ops = &wayward_ops;
        w->base.name = w->inner->name;
        return w;
}

void wayward_store_free(WaywardStore *s)
{
        if (!s)
                return;
        object_store_free(s->inner);
        g_free(s);
}

static gint64 wall_us(gpointer self)
{
        return ((HostWorld *)self)->wall_us;
}

static gint64 monotonic_us(gpointer self)
{
        return ((HostWorld *)self)->monotonic_us;
}

static GSource *timer_new(gpointer self, guint delay_ms)
{
        ((HostWorld *)self)->monotonic_us += (gint64)delay_ms * 1000;
        return g_timeout_source_new(0);
}

static const struct host_clock_ops clock_ops = {wall_us, monotonic_us, timer_new};

LayerLab *layer_lab_new(void)
{
        LayerLab *l = g_new0(LayerLab, 1);

        l->world = host_world_new();
        l->world->env.clock = &clock_ops;
        l->dir = tempdir_path(l->world->dir, "objects");
        l->store = wayward_store_new(l->dir);
        return l;
}

void layer_lab_free(LayerLab *l)
{
        if (!l)
                return;
        wayward_store_free(l->store);
        host_world_free(l->world);
        g_clear_error(&l->error);
        g_free(l->dir);
        g_free(l);
}

static void over(LayerLab *l, const GError *error)
{
        cr_assert(not(l->over), "it ends once");
        l->over = TRUE;
        g_clear_error(&l->error);
        if (error)
                l->error = g_error_copy(error);
}

void layer_lab_wait(LayerLab *l)
{
        while (!l->over)
                g_main_context_iteration(l->world->env.context, TRUE);
}

void layer_lab_uploaded(const struct layer_upload_result *result, const GError *error, gpointer lab)
{
        LayerLab *l = lab;

        cr_assert(ne(int, result == NULL, error == NULL));
        over(l, error);
        if (result)
                l->up = *result;
}

static void on_restored(const struct layer_restore_result *result, const GError *error, gpointer lab)
{
        LayerLab *l = lab;

        cr_assert(ne(int, result == NULL, error == NULL));
        over(l, error);
        if (result)
                l->down = *result;
}

gboolean layer_lab_upload(LayerLab *l, const char *id, FakeDisk *d, FakeDisk *parent,
                          const struct layer_upload_options *options)
{
        l->over = FALSE;
        layer_upload_start(&l->world->env, &l->store->base, id, &d->reader, parent ? &parent->reader : NULL,
                           options, layer_lab_uploaded, l);
        layer_lab_wait(l);
        return !l->error;
}

gboolean layer_lab_restore(LayerLab *l, const struct layer_ref *newest_first, guint n, FakeDisk *to,
                           const struct layer_restore_options *options)
{
        l->over = FALSE;
        layer_restore_start(&l->world->env, &l->store->base, newest_first, n, &to->writer, options,
                            on_restored, l);
        layer_lab_wait(l);
        return !l->error;
}

static gint by_text(gconstpointer a, gconstpointer b)
{
        return strcmp(*(const char *const *)a, *(const char *const *)b);
}

GPtrArray *layer_lab_keys(LayerLab *l, const char *prefix)
{
        g_autoptr(GPtrArray) entries = l->store->inner->ops->list(l->store->inner, prefix, NULL, NULL);
        GPtrArray *keys = g_ptr_array_new_with_free_func(g_free);

        for (guint i = 0; i < entries->len; i++)
                g_ptr_array_add(keys, g_strdup(((struct object_entry *)entries->pdata[i])->key));
        g_ptr_array_sort(keys, by_text);
        return keys;
}
