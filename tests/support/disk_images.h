/* tests/support/disk_images.h - disk images made and looked into by QEMU's own tools. */
#pragma once

#include <glib.h>

#include "host-service/disk/disk.h"
#include "tests/support/tempdir.h"

/* Runs it to its end, silently. Aborts the test on failure. */
void tool_run(const char *const *argv);
/* A new qcow2 image; @more: further options of "qemu-img create -o" ("cluster_size=2M"), or NULL. The path is
 * the caller's. */
char *image_make(const TempDir *t, const char *name, const char *size, const char *more);
/* qemu-io's commands ("write -P 1 0 64k"), on that image alone: its header's backing file counts. */
void image_io(const char *path, const char *format, const char *const *commands);
/* disk_open(), or the test ends. @n 1 or 2: @below may be NULL; all qcow2. */
Disk *disk_must_open(const char *path, const char *below, gboolean writable);
/* disk_map() as text: "data 0+64k, absent 64k+..." in KiB: "D0+64 A64+960". The caller frees. */
char *map_text(Disk *d, guint depth);
