/* host-service/layers/snapshot_manifest.h - a restore point as the store has it: snapshots/VM/ID.json.
 *
 * Put last, when all that it names is there: a restore point that is in the store can be rebuilt. It names
 * maps by their digests, so whoever believes the manifest need believe nothing else in the store. JSON:
 *   {"format": 1, "vm", "id", "name", "taken": TIME, "grade": "application" | "filesystem" | "crash",
 *    "why" (if there is one), "frozen_us", "hooks",
 *    "disks": [{"number", "device", "path", "size_bytes", "layers": [{"id", "map": SHA-256}]}]}
 * Layers are the oldest first. Members that are not known are refused, and so are names with which a key
 * would leave its folder. What paths it has are of the host that took the snapshot: they are told, and not
 * followed. */
#pragma once

#include "common/digest.h"
#include "host-service/catalogue/snapshots.h"
#include "host-service/object_store.h"

#define MANIFEST_MAX_BYTES  (4u << 20)
#define MANIFEST_LAYERS_MAX 4096u /* of one disk */

struct manifest_layer {
        char id[65]; /* layer_id_is_valid() */
        uint8_t map_digest[DIGEST_SIZE];
};

struct manifest_disk {
        guint number; /* of the snapshot's disks */
        char *device, *path;
        guint64 size_bytes;
        GArray *layers; /* of struct manifest_layer, the oldest first; at least one */
};

typedef struct {
        char *vm, *id, *name;
        gint64 taken_us;
        SnapshotGrade grade;
        char *why; /* it has no better grade; or NULL */
        gint64 frozen_us;
        guint hooks;
        GPtrArray *disks; /* of struct manifest_disk, at least one; numbers ascend */
} SnapshotManifest;
SnapshotManifest *snapshot_manifest_new(void);
void snapshot_manifest_free(SnapshotManifest *m);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapshotManifest, snapshot_manifest_free)
/* @m gets it; texts are copied. */
struct manifest_disk *snapshot_manifest_add_disk(SnapshotManifest *m, guint number, const char *device,
                                                 const char *path, guint64 size_bytes);
void manifest_disk_add_layer(struct manifest_disk *d, const char *id,
                             const uint8_t map_digest[static DIGEST_SIZE]);

/* Whether a disk of it needs the layer. */
gboolean snapshot_manifest_names(const SnapshotManifest *m, const char *layer);

/* Whether @m is of the disks of @now, each by the same newest layer, on layers that @now names too, in the
 * same order. Others of @now may have come to the store after it, when a newer one had their content. */
gboolean snapshot_manifest_is_of(const SnapshotManifest *m, const SnapshotManifest *now);

/* NULL and *ret, or why it is no manifest; owned. */
char *snapshot_manifest_parse(const char *text, gsize len, SnapshotManifest **ret);
/* REFUSED: what the parser would refuse. */
GBytes *snapshot_manifest_encode(const SnapshotManifest *m, GError **error);

/* "snapshots/VM/ID.json"; owned. */
char *snapshot_key(const char *vm, const char *id);
/* Whether it has this form; both results are owned. */
gboolean snapshot_key_parse(const char *key, char **ret_vm, char **ret_id);

/* Steps for worker threads; each may be tried again (store/transfer.h).
 *
 * Puts the manifest, when all its layers are there; layers that are old are made young before, and looked for
 * once more after it, because a collection of garbage may know of no other manifest that names them.
 * NOT_FOUND: a layer is not there, and has to be uploaded (again). CORRUPT: it does not come back as it was.
 */
gboolean snapshot_manifest_put(ObjectStore *o, const SnapshotManifest *m, GCancellable *cancellable,
                               GError **error);
/* CORRUPT: it is none, or of something else. */
SnapshotManifest *snapshot_manifest_get(ObjectStore *o, const char *vm, const char *id,
                                        GCancellable *cancellable, GError **error);
