/* host-service/image/image.h - the inside of a disk image: open it, find its system, read and write its
 * files, run programs beside it or in it. Decision 0021.
 *
 * Theory of operation: the image is a disk of a small virtual machine that lives as long as it is open
 * (libguestfs's appliance): its file systems are mounted by that machine's kernel, never by this one's. An
 * image that is only looked at is given to it as a layer in a temporary folder over the image, so that not
 * one byte of the image can change. QEMU is told the format of each file; headers are not believed
 * (image_file.h).
 *
 * Paths are absolute paths of the image's own system ("/etc/fstab"). Symbolic links on the way are followed
 * inside the virtual machine.
 *
 *     g_auto(...) struct image_name name;  image_name_parse("golden.qcow2", &name, &error)
 *     g_autoptr(Image) i = image_open(&name, &(struct image_options){.writable = TRUE}, &error);
 *     image_mount(i, &error) && image_write(i, "/etc/motd", "hello\n", 6, 0644, &error) &&
 *             image_finish(i, &error)
 *
 * Everything blocks, the opening for seconds (without KVM for half a minute). One thread at a time per image;
 * two images may be open in two threads. Errors: those of image_file_check(), UNSUPPORTED (libguestfs is
 * missing), CORRUPT (a file system that cannot be mounted), REFUSED (no system that we know), IO. */
#pragma once

#include <gio/gio.h>

#include "host-service/image/image_file.h"

typedef struct Image Image;

struct image_options {
        const struct image_name *backing; /* the one file that the image's header may name; or NULL */
        gboolean writable;                /* changes go to the file as they are made: give a copy */
        gboolean try_out;                 /* else: the system may be changed, and nothing of that stays */
        /* Our static agent runs beside the image (IMAGE_AGENT for image_run()), instead of the image's
         * programs in it: the image's system is at IMAGE_BESIDE then, and there is room for @beside_bytes of
         * files in "/". The program is MOULT_AGENT_STATIC, else where the package puts it (NOT_FOUND: it is
         * not there). */
        gboolean beside;
        guint64 beside_bytes;
        const char *shown; /* what errors call the image; NULL: its path */
};

/* Judges the file, starts the virtual machine with it. */
Image *image_open(const struct image_name *name, const struct image_options *options, GError **error);
/* Writes out what was written, and stops the virtual machine: only then is it all in the file. */
gboolean image_finish(Image *i, GError **error);
/* Stops it at once, if image_finish() was not called. Removes temporary files. */
void image_free(Image *i);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Image, image_free)

const char *image_path(const Image *i); /* the file, for texts */

struct image_system {
        char *type;    /* "linux" */
        char *distro;  /* "debian", "fedora", "unknown", ... */
        char *product; /* "Debian GNU/Linux 12 (bookworm)"; may be "" */
};
/* Finds the one Linux system in the image, and mounts its file systems where they belong (read-only, if the
 * image is not writable). REFUSED: there is none, or more than one, or it is another or an encrypted one. */
gboolean image_mount(Image *i, GError **error);
/* Known after image_mount(). Owned by @i. */
const struct image_system *image_system(const Image *i);
/* Mounts all of it again, read-only, so that what is read comes from the disk. */
gboolean image_mount_again(Image *i, GError **error);

gboolean image_is_file(Image *i, const char *path);
gboolean image_is_directory(Image *i, const char *path);
gboolean image_exists(Image *i, const char *path);
/* At most @max bytes of a regular file; a larger one is REFUSED. */
GBytes *image_read(Image *i, const char *path, gsize max, GError **error);
/* Up to @len bytes (at most IMAGE_PIECE) from @offset. */
GBytes *image_read_piece(Image *i, const char *path, guint64 offset, gsize len, GError **error);
#define IMAGE_PIECE (2u << 20)
/* Names in a directory, sorted; without "." and "..". */
GStrv image_list(Image *i, const char *path, GError **error);
char *image_read_link(Image *i, const char *path, GError **error);

/* Owner and group of what these make are root. The file appears under its name when it is whole. */
gboolean image_write(Image *i, const char *path, const void *data, gsize len, guint mode, GError **error);
gboolean image_upload(Image *i, const char *local, const char *path, guint mode, GError **error);
/* With all that are missing above it. */
gboolean image_make_directory(Image *i, const char *path, guint mode, GError **error);
/* Replaces what is there, unless that is a directory. */
gboolean image_symlink(Image *i, const char *target, const char *path, GError **error);
gboolean image_chown(Image *i, const char *path, guint uid, guint gid, GError **error);
/* A file, link, or directory with all below it; it may be missing. */
gboolean image_remove(Image *i, const char *path, GError **error);

/* Runs a program in the virtual machine, and waits for it: in the image's system, or with .beside from where
 * it was put. What it wrote to stdout, or NULL with @error (its stderr; code REFUSED). */
char *image_run(Image *i, const char *const *argv, GError **error);

/* With .beside: a file of this machine into "/" of the virtual machine; a small file of its "/"; where the
 * image's system is mounted there. */
gboolean image_put_beside(Image *i, const char *local, const char *path, guint mode, GError **error);
gboolean image_make_beside(Image *i, const char *path, GError **error); /* a directory */
gboolean image_write_beside(Image *i, const char *path, const void *data, gsize len, GError **error);
GBytes *image_read_beside(Image *i, const char *path, gsize max, GError **error);
#define IMAGE_BESIDE "/image"
#define IMAGE_AGENT  "/moult-agent"
