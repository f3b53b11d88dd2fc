/* fuse-overlay/targetfs/shelf.c - least recently used goes first. */
#include "fuse-overlay/targetfs/shelf.h"

struct Shelf {
        GMutex lock;   /* of all below, and of every item's fields but `refs` */
        GQueue recent; /* of what is not pinned; head: used last */
        guint max;
        void (*free_item)(struct shelf_item *);
};

Shelf *shelf_new(guint max, void (*free_item)(struct shelf_item *))
{
        Shelf *s = g_new0(Shelf, 1);
        g_mutex_init(&s->lock);
        g_queue_init(&s->recent);
        s->max = max;
        s->free_item = free_item;
        return s;
}

/* Whoever has slots has dropped them. */
void shelf_free(Shelf *s)
{
        if (s == NULL)
                return;
        g_assert(s->recent.length == 0);
        g_mutex_clear(&s->lock);
        g_free(s);
}

void shelf_unref(Shelf *s, struct shelf_item *item)
{
        if (item != NULL && g_atomic_int_dec_and_test(&item->refs))
                s->free_item(item);
}

/* Under the lock. The shelf's reference becomes the caller's. */
static struct shelf_item *take_off(Shelf *s, struct shelf_item **slot)
{
        struct shelf_item *item = *slot;
        if (item == NULL)
                return NULL;
        if (!item->pinned)
                g_queue_unlink(&s->recent, &item->link);
        item->slot = NULL;
        *slot = NULL;
        return item;
}

/* Under the lock: what is too much is appended to @out. */
static void make_room(Shelf *s, guint max, GPtrArray *out)
{
        while (s->recent.length > max) {
                struct shelf_item *oldest = g_queue_peek_tail_link(&s->recent)->data;
                g_ptr_array_add(out, take_off(s, oldest->slot));
        }
}

static void unref_all(Shelf *s, GPtrArray *items)
{
        for (guint i = 0; i < items->len; i++)
                shelf_unref(s, items->pdata[i]);
        g_ptr_array_unref(items);
}

struct shelf_item *shelf_get(Shelf *s, struct shelf_item **slot)
{
        g_mutex_lock(&s->lock);
        struct shelf_item *item = *slot;
        if (item != NULL) {
                g_atomic_int_inc(&item->refs);
                if (!item->pinned && s->recent.head != &item->link) {
                        g_queue_unlink(&s->recent, &item->link);
                        g_queue_push_head_link(&s->recent, &item->link);
                }
        }
        g_mutex_unlock(&s->lock);
        return item;
}

static struct shelf_item *put(Shelf *s, struct shelf_item **slot, struct shelf_item *item, gboolean pinned,
                              gboolean replaces)
{
        GPtrArray *out = g_ptr_array_new();
        g_mutex_lock(&s->lock);
        if (*slot != NULL)
                g_ptr_array_add(out, replaces ? take_off(s, slot) : item);
        if (*slot == NULL) {
                item->slot = slot;
                item->pinned = pinned;
                item->link = (GList){.data = item};
                *slot = item;
                if (!pinned)
                        g_queue_push_head_link(&s->recent, &item->link);
                make_room(s, s->max, out);
        }
        struct shelf_item *kept = *slot;
        g_atomic_int_inc(&kept->refs);
        g_mutex_unlock(&s->lock);
        unref_all(s, out);
        return kept;
}

struct shelf_item *shelf_put(Shelf *s, struct shelf_item **slot, struct shelf_item *item, gboolean pinned)
{
        return put(s, slot, item, pinned, /* replaces= */ FALSE);
}

struct shelf_item *shelf_replace(Shelf *s, struct shelf_item **slot, struct shelf_item *item, gboolean pinned)
{
        return put(s, slot, item, pinned, /* replaces= */ TRUE);
}

void shelf_drop(Shelf *s, struct shelf_item **slot)
{
        g_mutex_lock(&s->lock);
        struct shelf_item *item = take_off(s, slot);
        g_mutex_unlock(&s->lock);
        shelf_unref(s, item);
}

void shelf_trim(Shelf *s)
{
        GPtrArray *out = g_ptr_array_new();
        g_mutex_lock(&s->lock);
        make_room(s, s->recent.length / 2, out);
        g_mutex_unlock(&s->lock);
        unref_all(s, out);
}
