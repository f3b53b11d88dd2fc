/* host-service/layers/layer_disk.h - disks in image files (host-service/disk) as layers are read and written
 * (layers/layer_io.h). */
#pragma once

#include "host-service/disk/disk.h"
#include "host-service/layers/layer_io.h"

struct layer_disk_reader {
        struct layer_reader reader; /* for layer_upload_start() */
        Disk *disk;                 /* the caller's; nobody else uses it meanwhile */
        guint depth;
        GArray *map; /* of struct disk_range; asked for when it is needed first */
};
/* @depth 1: what the newest image of @d has, which is a layer; more: of so many as one; DISK_ALL: all of it,
 * which is what a parent is. */
void layer_disk_reader_init(struct layer_disk_reader *r, Disk *d, guint depth);
void layer_disk_reader_clear(struct layer_disk_reader *r);

struct layer_disk_writer {
        struct layer_writer writer; /* for layer_restore_start() */
        Disk *disk; /* writable; the caller's, who closes it at the end: what is written is synced then */
};
void layer_disk_writer_init(struct layer_disk_writer *w, Disk *d);
