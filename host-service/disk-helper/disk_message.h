/* host-service/disk-helper/disk_message.h - what moultd asks moult-disks, and what that answers.
 *
 * One packet each way (SOCK_SEQPACKET keeps their bounds), a GVariant in it, and a descriptor where the
 * operation has one (an image to copy; for a qemu-nbd the socket that it accepts on). Whoever reads one
 * believes nothing of it: its form, each number and each name are judged here; whether a directory is allowed
 * is the reader's. Both programs are of one version: another one is refused, and said. */
#pragma once

#include <glib.h>

#include "host-service/disk/disk.h"
#include "host-service/snapshot/layer_links.h"

#define DISK_PROTOCOL   1u
#define DISK_PACKET_MAX 32768u /* a path of 4096 bytes, four names, a text */

enum disk_request_kind {
        DISK_REQUEST_FILES,  /* disk_request_write() */
        DISK_REQUEST_IMAGES, /* disk_images_write(): the connection is that process's from then on */
};
/* Of what kind a packet says that it is; whoever reads it judges that. */
enum disk_request_kind disk_request_kind(GBytes *packet);

/* @links: its dir_fd is not sent. Newly allocated. */
GBytes *disk_request_write(const LayerLinks *links, enum layer_operation operation);
/* @ret has no descriptor; free it with disk_request_clear(). MALFORMED; UNSUPPORTED: another version's;
 * REFUSED: names that are not those of a disk and two layers of it, or a directory that is not absolute. */
gboolean disk_request_read(GBytes *packet, LayerLinks *ret, enum layer_operation *ret_operation,
                           GError **error);
void disk_request_clear(LayerLinks *links);

/* @failed: NULL: it was done. @look: of LAYER_LOOK, or NULL. */
GBytes *disk_answer_write(const struct layer_look *look, const GError *failed);
/* FALSE with the other side's @error, or MALFORMED. @ret may be NULL. */
gboolean disk_answer_read(GBytes *packet, struct layer_look *ret, GError **error);

/* A chain of images that a qemu-nbd is wanted for. */
struct disk_images {
        struct disk_image chain[DISK_CHAIN_MAX];
        guint n;
        gboolean writable; /* the first one */
        gboolean shared;   /* by clients who come and go; not with writable */
        guint64 size;      /* 0: any */
};
/* NULL: REFUSED: too many, or too long names. Newly allocated. */
GBytes *disk_images_write(const struct disk_image *chain, guint n, const struct disk_options *options,
                          GError **error);
/* Free @ret with disk_images_clear(). Errors as those of disk_request_read(); REFUSED as well: a file that is
 * to be written and has no layer's name. */
gboolean disk_images_read(GBytes *packet, struct disk_images *ret, GError **error);
void disk_images_clear(struct disk_images *images);

/* The end of that process: a number of waitpid(), and what it said last. */
GBytes *disk_end_write(int status, const char *words);
/* @ret_words: the caller's. MALFORMED. */
gboolean disk_end_read(GBytes *packet, int *ret_status, char **ret_words, GError **error);
