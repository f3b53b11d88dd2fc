/* shm/pack_scan.h - where a file has data and where it has holes. */
#pragma once

#include <glib.h>
#include <stdint.h>

#include "proto/manifest.pb-c.h"

struct pack_run {
        uint64_t offset; /* in the file; multiple of 4096 */
        uint64_t start;  /* of its bytes among all data bytes */
        uint64_t length;
};

typedef struct pack_scan {
        GArray *runs;       /* of struct pack_run */
        uint64_t data_size; /* sum of their lengths */
        gboolean is_dense;  /* one run, the whole file */
} pack_scan;

/* Asks the file system (SEEK_DATA, SEEK_HOLE); one that cannot tell has no holes. */
gboolean pack_scan_fd(pack_scan *ret, int fd, uint64_t size, GError **error);
void pack_scan_clear(pack_scan *s);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(pack_scan, pack_scan_clear)

/* Byte number @at of the data (< data_size): its offset in the file, and how many data bytes follow there. */
uint64_t pack_scan_locate(const pack_scan *s, uint64_t at, uint64_t *ret_offset);
/* Sets the extents of @e, which has none: nothing for a dense file. */
void pack_scan_fill_extents(const pack_scan *s, Moult__Entry *e);
