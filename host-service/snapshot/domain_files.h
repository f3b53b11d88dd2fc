/* host-service/snapshot/domain_files.h - what libvirt says of the files of a domain's disks, and what it is
 * told: pure.
 *
 * @told is the answer to VIRT_DISKS_ASK (host-service/env.h); NULL is fine: nothing is known. Disks are known
 * by their targets ("vda"). */
#pragma once

#include <json-glib/json-glib.h>

/* The file of the disk @target: as the domain runs (@where "live"), or is started ("defined"). NULL: none.
 * Borrowed. */
const char *domain_file(JsonNode *told, const char *where, const char *target);
/* The domain runs, or libvirt keeps a definition of it. */
gboolean domain_is(JsonNode *told, const char *where);
/* Its next start goes on from a managed save, which names files, too. */
gboolean domain_is_saved(JsonNode *told);
/* To which file the disk is being copied; NULL: to none. Borrowed. */
const char *domain_copy(JsonNode *told, const char *target, gboolean *ret_ready);
/* Of @disks (of struct vm_disk), those that libvirt knows are called by their targets: QEMU's own name of the
 * device is long, and libvirt is asked by the target. */
void domain_call_by_targets(JsonNode *told, GPtrArray *disks);
/* @file is the disk's whose well-known path is @path: that, or one of its layers. */
gboolean domain_file_is_of(const char *path, const char *file);
/* Adds to the arguments of VIRT_DISKS_DEFINE that the disk is started from @to, which it may be already, if
 * it is started from that or one of @from (NULL-terminated) now. All is copied. */
void domain_define(JsonObject *changes, const char *target, const char *to, const char *format,
                   const char *const *from);
