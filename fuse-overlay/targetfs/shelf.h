/* fuse-overlay/targetfs/shelf.h - a bounded number of things that are kept at hand because they are likely to
 * be used again: open files, lists of directories.
 *
 * Each is counted, and named by the slot that points to it. The shelf holds one reference; what was least
 * recently used makes room, and goes away when its last user is done. */
#pragma once

#include <glib.h>

typedef struct Shelf Shelf;

/* Embedded as first member. */
struct shelf_item {
        gint refs; /* atomic */
        /* Under the shelf's lock. */
        struct shelf_item **slot; /* NULL: not on the shelf any more */
        gboolean pinned;          /* does not make room for others */
        GList link;
};

Shelf *shelf_new(guint max, void (*free_item)(struct shelf_item *));
void shelf_free(Shelf *s);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Shelf, shelf_free)

/* A new reference, or NULL. Any thread. */
struct shelf_item *shelf_get(Shelf *s, struct shelf_item **slot);
/* Takes over @item (one reference) and returns a reference to what is in the slot then: another thread's, if
 * it was first. */
struct shelf_item *shelf_put(Shelf *s, struct shelf_item **slot, struct shelf_item *item, gboolean pinned);
/* @item takes the place of what is in the slot, which its users keep for as long as they need it. */
struct shelf_item *shelf_replace(Shelf *s, struct shelf_item **slot, struct shelf_item *item,
                                 gboolean pinned);
/* The slot goes away. */
void shelf_drop(Shelf *s, struct shelf_item **slot);
/* Gives up half of what is not pinned. */
void shelf_trim(Shelf *s);
void shelf_unref(Shelf *s, struct shelf_item *item);
