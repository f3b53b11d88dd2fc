/* host-service/disk/disk.h - a guest's disk that lies in image files: read, written, mapped, copied,
 * compared.
 *
 * Theory of operation: each disk is opened by a qemu-nbd of its own, which is told the whole chain, file by
 * file (decision 0032): what the header of an image says about other files is never followed. A damaged or
 * hostile image can take that process with it, and nothing else. It ends when the disk is closed, and with
 * this process, however that ends.
 *
 *     const struct disk_image chain[] = {{"/vms/a.layer", "qcow2"}, {"/images/golden.qcow2", "qcow2"}};
 *     g_autoptr(Disk) d = disk_open(chain, 2, NULL, cancellable, &error);
 *     g_autoptr(GArray) map = disk_map(d, 1, cancellable, &error);        what the layer itself has
 *     disk_read(d, 0, buffer, sizeof buffer, cancellable, &error) && disk_close(d, &error);
 *
 * Everything blocks: for worker threads. A Disk is used by one thread at a time, which may change. A
 * GCancellable ends a call at once (CANCELLED), and qemu-nbd with it.
 * After any failure of a call a Disk is of no more use: each further call gives the same error, and only
 * disk_free() is left.
 *
 * Errors: NOT_FOUND (no such file), REFUSED (an image that is not opened: encrypted, data in another file,
 * another size than expected...), BUSY (a QEMU has the image), CORRUPT (damaged), NO_SPACE, TIMEOUT (qemu-nbd
 * did not answer for `answer_seconds`), CANCELLED, UNSUPPORTED (there is no qemu-nbd), IO. The text ends with
 * what qemu-nbd said last. */
#pragma once

#include <gio/gio.h>

typedef struct Disk Disk;

struct disk_image {
        const char *path;   /* absolute */
        const char *format; /* "qcow2", "raw": never guessed */
};

struct disk_options {
        gboolean writable;  /* the first image of the chain; the others never are */
        guint64 size;       /* in bytes, what the disk must have; 0: any */
        const char *helper; /* the socket of moult-disks, asked where this process may not; NULL: none */
        /* Others may read it too, over NBD, from the Unix socket of this name, which is there as long as the
         * disk is open. Their number is limited. Not with `writable`, and for disk_free() only. NULL: nobody.
         */
        const char *share_at;
        guint answer_seconds; /* so long may qemu-nbd be silent; 0: DISK_ANSWER_SECONDS */
};

#define DISK_CHAIN_MAX      64u
#define DISK_ANSWER_SECONDS 120u
/* A map with more ranges is REFUSED: it costs 24 bytes for each. */
#define DISK_RANGES_MAX (8u << 20)

/* Opens the disk that @chain is: the newest image first, the oldest last (nothing lies below it, whatever its
 * header says; only the last one may be raw). Copies what it needs of @chain. @options may be NULL: read
 * only, of any size.
 * A writable image that has a backing file by its header must be given with a chain below it (REFUSED): QEMU
 * would fill up the rest of a cluster from what it believes to lie below. */
Disk *disk_open(const struct disk_image *chain, guint n, const struct disk_options *options,
                GCancellable *cancellable, GError **error);
/* Writes out all that was written (as disk_flush() does) and waits for the end of qemu-nbd. Frees @d, also
 * when it fails. */
gboolean disk_close(Disk *d, GError **error);
/* Ends qemu-nbd at once: what was written and not flushed may be lost, and an image may be left with clusters
 * that belong to nobody. May be NULL. */
void disk_free(Disk *d);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Disk, disk_free)

/* Whether its process is alive: for those that others read, as nobody may ask for long. */
gboolean disk_is_alive(Disk *d);
guint64 disk_size(const Disk *d);     /* bytes */
const char *disk_name(const Disk *d); /* the path of the newest image, for texts */
/* The process that has the images open, for logs and tests. */
GPid disk_process(const Disk *d); /* 0: moult-disks has it */

/* A range that leaves the disk is REFUSED. What nothing was ever written to reads as zeros. */
gboolean disk_read(Disk *d, guint64 offset, void *buf, gsize len, GCancellable *cancellable, GError **error);
gboolean disk_write(Disk *d, guint64 offset, const void *buf, gsize len, GCancellable *cancellable,
                    GError **error);
/* The range reads as zeros after it; takes as little room as the format can (a hole, a zero cluster), and
 * hides what lies below. */
gboolean disk_zero(Disk *d, guint64 offset, guint64 len, GCancellable *cancellable, GError **error);
/* What was written before is on the medium. */
gboolean disk_flush(Disk *d, GCancellable *cancellable, GError **error);

enum disk_kind {
        DISK_DATA,
        DISK_ZERO,   /* reads as zeros, and hides what lies below */
        DISK_ABSENT, /* none of the images that were asked about has it */
};
struct disk_range {
        guint64 offset, length; /* bytes */
        enum disk_kind kind;
};

/* What the newest @depth images of the chain have (DISK_ALL: all of them): struct disk_range, in order,
 * without gaps, neighbours of different kinds. */
#define DISK_ALL G_MAXUINT
GArray *disk_map(Disk *d, guint depth, GCancellable *cancellable, GError **error);

struct disk_pace {
        guint64 bytes_per_second; /* 0: as fast as it goes */
        gint64 *done;             /* bytes are added as they are dealt with, atomically; or NULL */
};
/* How far disk_copy() and disk_compare() have come; from any thread. */
gint64 disk_pace_done(const gint64 *done);

/* Puts what @map says of @from to the same places of @to: DATA is copied (blocks of zeros as zeros), ZERO is
 * zeroed, ABSENT is left alone. Does not flush. @pace may be NULL; `done` grows by the bytes of DATA and
 * ZERO. The disks may be of different sizes, if @map fits into both (REFUSED). */
gboolean disk_copy(Disk *from, const GArray *map, Disk *to, const struct disk_pace *pace,
                   GCancellable *cancellable, GError **error);

#define DISK_SAME G_MAXUINT64
/* Compares @a and @b: all of both (the smaller one's end is a difference), or with a @map what it does not
 * call ABSENT. *ret_difference: the first byte that differs, or DISK_SAME. `done` grows by the bytes
 * compared; what both know to be zeros is not read. */
gboolean disk_compare(Disk *a, Disk *b, const GArray *map, guint64 *ret_difference,
                      const struct disk_pace *pace, GCancellable *cancellable, GError **error);

/* Whether the image by itself is whole inside, by `qemu-img check`; what it stands on is not looked at. Only
 * of a file of this process's rights, whose header was judged (disk_open() does). Raw ones always are.
 * CORRUPT: it is not; space that is lost is no damage. */
gboolean disk_image_check(const struct disk_image *image, GCancellable *cancellable, GError **error);
