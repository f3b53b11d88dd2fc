/* host-service/image/image_apply.h - a release put into an image while no machine runs from it.
 *
 * The engine is the one that runs in guests: our static agent, beside the image, with the image's tree as its
 * root. So plan, policies, conffiles, history and way back are those of a VM that was upgraded. Hooks of the
 * stages check, pre and post run in the image's system (chroot); health hooks and restarts do not: nothing
 * runs there. All or nothing: image_copy.h. */
#pragma once

#include <gio/gio.h>

#include "host-service/image/image_file.h"

struct image_apply_options {
        const struct image_name *image;
        const char *output; /* a new image; NULL: in the place of @image */
        gboolean replace;   /* a file at @output may be replaced */
        const char *pack;
        const char *trust_dir;
        gboolean allow_drift;
        gboolean dry_run; /* nothing is written but the plan, to the report */
        /* What is under way, for people. May be NULL. */
        void (*progress)(const char *what, gpointer user);
        gpointer user;
};

struct image_apply_report {
        char *system; /* what is in the image, for people; may be "" */
        char *plan;   /* dry run: a line for each entry that is not equal */
        guint changed, equal;
};
void image_apply_report_clear(struct image_apply_report *r);

/* Blocks. On success @ret is filled; the caller clears it. On failure the image, and what was at @output, are
 * as they were. Errors: those of image_open(), image_mount() and image_copy_new(); REFUSED with what the
 * engine says of the release; CORRUPT: the image is not what it should be afterwards. */
gboolean image_apply(const struct image_apply_options *o, GCancellable *cancellable,
                     struct image_apply_report *ret, GError **error);
