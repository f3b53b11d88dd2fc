/* host-service/snapshot/layer_name.h - the names of layers: "web-1.qcow2.moult-ID-DISK.layer".
 *
 * A layer's name is its identity (docs/snapshots.md, *Files*): given once, never to another file. */
#pragma once

#include <glib.h>

#define LAYER_DISKS_MAX 64u /* of one VM */

struct layer_name {
        char id[27]; /* a ULID: the operation that made the layer */
        guint disk;  /* of the VM, from 0 */
};

/* The name of a layer of the disk whose well-known path ends in @base. Owned by the caller. REFUSED: it would
 * be longer than a file name can be. */
char *layer_name_new(const char *base, const char *id, guint disk, GError **error);
/* Whether @name is that of a layer of the disk @base. */
gboolean layer_name_parse(const char *name, const char *base, struct layer_name *ret);
/* The disk that @name is a layer of: the end of its well-known path. NULL: it is no layer's. Owned by the
 * caller. */
char *layer_name_base(const char *name);
/* "ID-DISK", by which catalogue and store know the layer @name. NULL: it is no layer's. Owned by the caller.
 */
char *layer_name_id(const char *name);
/* The name of the top that takes the place of another one once @name, a merged file, lies below it: as that
 * of @name, with a ULID that no operation has (of theirs the first bit of the random part is 0). Owned by the
 * caller. NULL: @name is no layer's. */
char *layer_name_of_top(const char *name);
