/* host-service/image/image_private.h - shared by the parts of an Image. */
#pragma once

#include "host-service/image/guestfs_calls.h"
#include "host-service/image/image.h"

struct Image {
        const struct guestfs_calls *c;
        guestfs_h *g;
        char *path;    /* the image */
        char *scratch; /* directory of temporary files, or NULL */
        gboolean writable, beside, mounted;
        char *program;      /* our agent, for beside it */
        const char *prefix; /* where "/" of the image's system is mounted */
        const char *room;   /* device for what is beside it */
        GPtrArray *mounts;  /* struct image_mount *, "/" first */
        struct image_system system;
};

struct image_mount {
        char *point, *device;
};

/* For a call. libguestfs's handlers of errors belong to threads; ours says nothing on stderr: we tell it. */
guestfs_h *image_handle(const Image *i);
/* @path in the virtual machine. The caller frees. */
char *image_inside(const Image *i, const char *path);
/* Sets @error from what libguestfs said last: "WHAT IMAGE: ...". Returns FALSE. */
gboolean image_error(const Image *i, int code, GError **error, const char *format, ...) G_GNUC_PRINTF(4, 5);
/* Fills i->mounts and i->system: which of the file systems are "/" and the others. REFUSED: none, several. */
gboolean image_find_system(Image *i, GError **error);
