/* host-service/snapshot/settle.c - the table of docs/snapshots.md. */
#include "host-service/snapshot/settle.h"

typedef enum { TOP_LAYER, TOP_NEXT, TOP_WELL_KNOWN, TOP_OTHER } Top;

static Top which(const struct snapshot_disk *s, const char *file)
{
        g_autofree char *dir = g_path_get_dirname(s->path);
        g_autofree char *layer = g_build_filename(dir, s->layer, NULL);
        g_autofree char *next = g_build_filename(dir, s->next, NULL);

        return g_strcmp0(file, next) == 0      ? TOP_NEXT
               : g_strcmp0(file, layer) == 0   ? TOP_LAYER
               : g_strcmp0(file, s->path) == 0 ? TOP_WELL_KNOWN
                                               : TOP_OTHER;
}

static Top top_of(const struct snapshot_disk *s, const GPtrArray *disks)
{
        for (guint i = 0; i < disks->len; i++) {
                Top top = which(s, ((const struct vm_disk *)disks->pdata[i])->file);

                if (top != TOP_OTHER)
                        return top;
        }
        return TOP_OTHER;
}

static Settle judge(Top top, const struct layer_look *look)
{
        if (look->well_known == WELL_KNOWN_OTHER)
                return SETTLE_FOREIGN;
        switch (top) {
        case TOP_LAYER:
                return SETTLE_BACK;
        case TOP_NEXT:
                return look->has_next ? SETTLE_TAKEN : SETTLE_FOREIGN;
        case TOP_WELL_KNOWN:
                /* QEMU was, or will be, started from it. At the first snapshot the same QEMU may still have
                 * the layer open by this name: then the path is the layer's until QEMU has the new top. */
                return look->well_known == WELL_KNOWN_NEXT ? SETTLE_TAKEN : SETTLE_BACK;
        case TOP_OTHER:
        default:
                return SETTLE_FOREIGN;
        }
}

Settle settle_disk(const struct snapshot_disk *s, const GPtrArray *disks, const struct layer_look *look)
{
        return judge(disks ? top_of(s, disks) : TOP_WELL_KNOWN, look);
}

Settle settle_disk_defined(const struct snapshot_disk *s, const char *file, const struct layer_look *look)
{
        return judge(which(s, file), look);
}

gboolean settle_is_taken(const Settle *each, guint n, gboolean *ret_foreign)
{
        gboolean taken = n > 0;

        *ret_foreign = FALSE;
        for (guint i = 0; i < n; i++) {
                *ret_foreign |= each[i] == SETTLE_FOREIGN;
                taken &= each[i] == SETTLE_TAKEN;
        }
        return taken;
}
