/* fuse-overlay/targetfs/source_pack.h - instant mode: files whose objects are not in the store yet, out of
 * the release's pack.
 *
 * Theory of operation: the list of the pack was kept and verified by the agent when the release was offered.
 * Bytes come from the shared memory that the host plugged, or, once that is gone, from the agent, which has
 * other ways to the host. Every block is verified against the list before it is given out, so a reader gets
 * what was signed, or an error. Files are found in the list by digest and size: their content is all that is
 * wanted from it; what else is to be seen is the target's. */
#pragma once

#include <gio/gio.h>

#include "proto/manifest.pb-c.h"
#include "shm/verified_file.h"

typedef struct SourcePack SourcePack;

struct source_pack_config {
        int record_fd;                 /* directory: header, manifest, signature */
        const char *sysfs_pci;         /* NULL: do not look for a window */
        const char *sysfs_block, *dev; /* NULL: do not look for persistent memory */
        const char *socket;            /* NULL: none */
};

/* Reads and checks the list; the bytes' source is looked for when one is wanted. */
SourcePack *source_pack_new(const struct source_pack_config *config, GError **error);
void source_pack_free(SourcePack *p);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SourcePack, source_pack_free)

/* What was read of the pack so far, for people and tests: "ivshmem=BYTES pmem=BYTES agent=BYTES". The caller
 * frees. Any thread. */
char *source_pack_counts(SourcePack *p);

/* The content of the target's file @entry; NULL with NOT_FOUND: the pack does not have it. Any thread. */
VerifiedFile *source_pack_open(SourcePack *p, const Moult__Entry *entry, GError **error);
