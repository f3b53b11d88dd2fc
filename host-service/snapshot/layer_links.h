/* host-service/snapshot/layer_links.h - what a snapshot does to the files of one disk, by whoever may.
 *
 * This is all that changes a disk's directory: moultd does it itself, or moult-disks(8) for it, which it asks
 * through a socket (layer_files.h decides). Plain names in a directory that is held open; everything that
 * counts is synced before it returns; doing a thing twice is doing it once. All of it blocks. */
#pragma once

#include <glib.h>

#include "host-service/image/image_lock.h"
#include "host-service/snapshot/layer_copy.h"

/* An empty image, whatever the size of the disk: its table of 8 bytes for each 512 MiB, and little else. */
#define LAYER_IMAGE_MAX (16 << 20)

typedef struct layer_links {
        int dir_fd;       /* open for reading; -1: not open here */
        char *dir;        /* its path, absolute */
        char *well_known; /* names in it */
        char *top;        /* the layer's own name, which it may not have yet */
        char *next;       /* the new top */
        char *below;      /* absolute: what the image of LAYER_MAKE_NEXT stands on; NULL: nothing */
        guint64 size;     /* bytes, of the disk */
        layer_wanted_func is_wanted; /* of LAYER_COPY_TOP; or NULL */
        gpointer user;               /* of that */
} LayerLinks;

/* To whom the well-known path belongs. */
typedef enum {
        WELL_KNOWN_TOP,   /* to the present top, under its own name or, if that is not there yet, alone */
        WELL_KNOWN_NEXT,  /* to the new one */
        WELL_KNOWN_OTHER, /* to neither: somebody else has changed it */
} WellKnown;

struct layer_look {
        WellKnown well_known;
        gboolean has_top, has_next;         /* the names are there */
        enum image_lock disk_use, next_use; /* what QEMUs do with the files; IMAGE_FREE: there is none */
        /* When the disk's file was last changed, in any way; by the clock of the file system, which goes in
         * steps of some milliseconds. */
        gint64 changed_ns;
};

enum layer_operation {
        LAYER_LOOK,
        LAYER_NAME_TOP,    /* REFUSED: the file system has no hard links */
        LAYER_MAKE_NEXT,   /* of an image; one that is left from before is made anew */
        LAYER_PLACE_NEXT,  /* the well-known path becomes the new top's */
        LAYER_PLACE_TOP,   /* or the present top's again */
        LAYER_REMOVE_NEXT, /* and a link that was left half-way. REFUSED while the well-known path is its */
        LAYER_UNNAME_TOP,  /* REFUSED if the well-known path is another file's */
        /* The name of the new top becomes that of a copy of the present one, which stands on `below` and is
         * of `size`, or REFUSED; one that is left from before is made anew. BUSY: a QEMU has it open. */
        LAYER_COPY_TOP,
};
#define LAYER_OPERATIONS (LAYER_COPY_TOP + 1)

/* @image: for LAYER_MAKE_NEXT, else -1: a regular file that holds an empty qcow2 image over `below`;
 * what it says is judged. @ret: of LAYER_LOOK, else may be NULL. */
gboolean layer_links_do(const LayerLinks *f, enum layer_operation operation, int image,
                        struct layer_look *ret, GError **error);
