/* host-service/hypervisor/vm_disks.h - the disks of a VM as its QEMU has them open now: pure, from QMP's
 * answer. */
#pragma once

#include <glib.h>
#include <json-glib/json-glib.h>

#define VM_DISKS_MAX 64u
#define VM_CHAIN_MAX 64u

/* One image of a chain. */
struct vm_image {
        char *file; /* as above */
        char *format;
};

/* One drive that has an image in it. Everything is QEMU's word. */
struct vm_disk {
        char *device;       /* by which an operator names it: the drive's or device's id; never NULL */
        char *node;         /* of the image, on top */
        char *format;       /* "qcow2", "raw", ... */
        char *file;         /* its file, as QEMU remembers it; NULL: it is none */
        GPtrArray *below;   /* of struct vm_image: what it stands on, and so on; VM_CHAIN_MAX at most */
        guint64 size_bytes; /* as the guest sees it */
        gboolean writable, removable;
};
void vm_disk_free(struct vm_disk *d);

/* Of the answer of `query-block`; what is not a drive with an image, or beyond VM_DISKS_MAX, is passed over.
 * Elements are struct vm_disk. NULL: that is no such answer. */
GPtrArray *vm_disks_of(JsonNode *result);

/* The file that QEMU's name of an image means: a path, or the one in a "json:" description. NULL: none, one
 * that is reached in another way, or of which the image is only a part (an offset). Owned by the caller. */
char *vm_disk_file_of(const char *name);

/* Of the answer of `query-named-block-nodes`: the name of a node with this format (NULL: any but the file
 * itself) on this file. Owned by the caller; NULL: there is none. */
char *vm_disk_node_of(JsonNode *result, const char *file, const char *format);
