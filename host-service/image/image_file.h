/* host-service/image/image_file.h - an image as a file of this machine: which format, whether it may be
 * opened, and how QEMU is told to open it.
 *
 * Formats are never guessed from contents: the guest of a raw image can write a qcow2 header into its first
 * block. The name says the format (.qcow2, .raw, .img), or a word before it ("qcow2:FILE", "raw:FILE").
 * Names in an image's own header are never followed: QEMU is told each file of the chain, and where it ends.
 * What a running QEMU has open is found by its locks on the file (image_lock.h). */
#pragma once

#include <gio/gio.h>

enum image_format { IMAGE_RAW, IMAGE_QCOW2 };

/* Disks that are larger, or too small for a file system, are refused. */
#define IMAGE_SIZE_MIN (1ull << 20)
#define IMAGE_SIZE_MAX (64ull << 40)

struct image_name {
        char *path; /* owned; absolute, no symbolic link */
        enum image_format format;
};
void image_name_clear(struct image_name *n);

/* The word has the form of an image's name. Looks at nothing but the word. */
gboolean image_word_is(const char *word);
/* The word's file. Errors: NOT_FOUND, REFUSED (no format is told, no regular file), IO. */
gboolean image_name_parse(const char *word, struct image_name *ret, GError **error);
const char *image_format_name(enum image_format f);

/* May it be opened? @backing: the one file that its header may name, or NULL. @write: to be changed, so
 * nobody else may have it, and it stands alone.
 * Errors: REFUSED (encrypted, data file, backing file, snapshots, size), BUSY (in use), CORRUPT, IO. */
gboolean image_file_check(const struct image_name *n, const struct image_name *backing, gboolean write,
                          GError **error);

/* A new qcow2 file @overlay over @n (and over @backing, if it is not NULL): what is written goes there. */
gboolean image_file_overlay(const struct image_name *n, const struct image_name *backing, const char *overlay,
                            GError **error);
