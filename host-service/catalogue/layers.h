/* host-service/catalogue/layers.h - what restore points are made of: layers, the bases they stand on, and the
 * files that are made of them. docs/snapshots.md, *Layers and restore points*.
 *
 * A layer is a difference, and never changes; where its content is to be had does: in a file here, in the
 * store. Its row is made with that of the snapshot that seals it, and goes with it if that fails. */
#pragma once

#include "common/digest.h"
#include "host-service/catalogue/catalogue.h"

#define LAYER_LINE_MAX 100000u /* layers below each other: no line is longer, or it is a ring */

typedef struct {
        char *id;     /* ULID-DISK, as in the name of its first file; a base: base-ULID */
        char *vm;     /* NULL: a base, which belongs to nobody */
        guint disk;   /* of the VM's snapshots, from 0 */
        char *parent; /* id of what it stands on; NULL: nothing */
        /* The file in which this layer is the newest, absolute; NULL: there is none here (any more). It
         * stands on the file of the layer @file_on (NULL: on nothing), which may be an older one than the
         * parent. */
        char *file, *file_on;
        char *format; /* of the file */
        guint64 size_bytes;
        gint64 sealed_us;               /* since when nobody writes to it; 0: its snapshot is being made */
        gint64 uploaded_us;             /* since when the store has it; 0: it does not, as far as is known */
        guint8 map_digest[DIGEST_SIZE]; /* of its map in the store, if it is uploaded */
        guint64 stored_bytes;           /* that its upload brought into the store */
        char *folded_into;              /* its upload failed for good, and that of this layer has it */
        char *below;    /* a base: the files below its own, JSON [{"file", "format"}]; else NULL */
        char *identity; /* a base: of its files when it was first seen; else NULL */
} LayerRecord;
void layer_record_free(LayerRecord *r);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LayerRecord, layer_record_free)

static inline gboolean layer_record_is_base(const LayerRecord *r)
{
        return r->vm == NULL;
}

gboolean catalogue_layer_add(Catalogue *c, const LayerRecord *r, GError **error);
/* NOT_FOUND. */
LayerRecord *catalogue_layer_get(Catalogue *c, const char *id, GError **error);
/* The layer that is the newest in this file. NULL without @error: there is none. */
LayerRecord *catalogue_layer_of_file(Catalogue *c, const char *file, GError **error);
/* The base that these files are. NULL without @error: it was never seen. */
LayerRecord *catalogue_layer_base(Catalogue *c, const char *file, const char *below, const char *identity,
                                  GError **error);
/* Of the VM, oldest first; bases are not among them. */
GPtrArray *catalogue_layer_list(Catalogue *c, const char *vm, GError **error);
/* The layer, its parent, and so on; the base is the last. MALFORMED: one is missing, or it never ends. */
GPtrArray *catalogue_layer_line(Catalogue *c, const char *id, GError **error);

/* From now on nobody writes to it. */
gboolean catalogue_layer_seal(Catalogue *c, const char *id, gint64 when_us, GError **error);
/* Of one that is sealed: nobody needs it any more, and it has no file. Of others: WRONG_STATE. */
gboolean catalogue_layer_forget(Catalogue *c, const char *id, GError **error);
/* Names of VMs that have layers: texts. */
GPtrArray *catalogue_layer_vms(Catalogue *c, GError **error);
/* Of one that is not sealed: its snapshot has failed. Of others: WRONG_STATE. */
gboolean catalogue_layer_drop(Catalogue *c, const char *id, GError **error);
/* @file (NULL: none) has it, standing on the file of @file_on. */
gboolean catalogue_layer_set_file(Catalogue *c, const char *id, const char *file, const char *file_on,
                                  const char *format, GError **error);
/* Also of one that is folded: it is in the store by itself then. */
gboolean catalogue_layer_set_uploaded(Catalogue *c, const char *id, gint64 when_us,
                                      const guint8 map_digest[static DIGEST_SIZE], guint64 stored_bytes,
                                      GError **error);
/* The store does not have it any more: it is not uploaded. */
gboolean catalogue_layer_set_lost(Catalogue *c, const char *id, GError **error);
/* Not uploaded by itself (yet): @into has its content. Of one that is uploaded: WRONG_STATE. */
gboolean catalogue_layer_fold(Catalogue *c, const char *id, const char *into, GError **error);
