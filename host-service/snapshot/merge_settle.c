/* host-service/snapshot/merge_settle.c - the table of docs/snapshots.md. */
#include "host-service/snapshot/merge_settle.h"

typedef enum { ON_LAYER, ON_RESULT, ON_OTHER } Stand;

const struct vm_disk *merge_settle_disk(const MergeRecord *r, const GPtrArray *disks)
{
        for (guint i = 0; i < disks->len; i++) {
                const struct vm_disk *d = disks->pdata[i];

                /* By the path, once QEMU was started anew. */
                if (g_strcmp0(d->file, r->top) == 0 || g_strcmp0(d->file, r->path) == 0)
                        return d;
        }
        return NULL;
}

static const char *file_at(const struct vm_disk *d, guint depth)
{
        return d->below->len > depth ? ((const struct vm_image *)d->below->pdata[depth])->file : NULL;
}

static Stand disk_has(const MergeRecord *r, const struct vm_disk *d)
{
        if (!d || d->below->len == 0)
                return ON_OTHER;
        if (g_strcmp0(file_at(d, 0), r->upper_file) == 0 && g_strcmp0(file_at(d, 1), r->lower_file) == 0)
                return ON_LAYER;
        if (g_strcmp0(file_at(d, 0), r->file) == 0 && g_strcmp0(file_at(d, 1), r->below) == 0 &&
            (d->below->len > 1) == (r->below != NULL))
                return ON_RESULT;
        return ON_OTHER;
}

static Stand header_has(const MergeRecord *r, const struct merge_look *look)
{
        return g_strcmp0(look->backing, r->upper_file) == 0 ? ON_LAYER
               : g_strcmp0(look->backing, r->file) == 0     ? ON_RESULT
                                                            : ON_OTHER;
}

MergeSettle merge_settle(const MergeRecord *r, const GPtrArray *disks, const struct merge_look *look)
{
        Stand header = header_has(r, look), qemu = disks ? disk_has(r, merge_settle_disk(r, disks)) : header;

        if (!look->is_top || header == ON_OTHER || qemu == ON_OTHER)
                return MERGE_STRANGE;
        /* Without the file there is nothing to stand on, whatever names it. */
        if (!look->has_result && (qemu == ON_RESULT || header == ON_RESULT))
                return MERGE_STRANGE;
        /* A header that names the new file before QEMU has it: nobody of us does it in this order. */
        if (qemu == ON_LAYER)
                return header == ON_LAYER ? MERGE_APART : MERGE_STRANGE;
        return header == ON_RESULT ? MERGE_TOGETHER : MERGE_HALF;
}

/* ---- domains ---- */

static const struct vm_disk *disk_with(const GPtrArray *disks, const char *file)
{
        for (guint i = 0; i < disks->len; i++)
                if (g_strcmp0(((const struct vm_disk *)disks->pdata[i])->file, file) == 0)
                        return disks->pdata[i];
        return NULL;
}

/* Who started it from the well-known path, whatever that is, starts it from what it is. */
static gboolean is_defined(const MergeRecord *r, const char *defined, const char *top)
{
        return !defined || g_str_equal(defined, top) || g_str_equal(defined, r->path);
}

static gboolean has_new_top(const MergeRecord *r, const char *next, const GPtrArray *disks,
                            const char *defined, const struct merge_look *look)
{
        if (disks)
                return disk_with(disks, next) != NULL;
        return defined && !g_str_equal(defined, r->path) ? g_str_equal(defined, next) : look->is_next;
}

static MergeSettle settle_old_top(const MergeRecord *r, const GPtrArray *disks, const char *defined,
                                  const struct merge_look *look)
{
        MergeSettle settle = merge_settle(r, disks, look);

        return is_defined(r, defined, r->top) && settle != MERGE_HALF ? settle : MERGE_STRANGE;
}

static MergeSettle settle_new_top(const MergeRecord *r, const char *next, const GPtrArray *disks,
                                  const char *defined, const struct merge_look *look)
{
        if (!look->has_result || (disks && disk_has(r, disk_with(disks, next)) != ON_RESULT) ||
            (!is_defined(r, defined, r->top) && !is_defined(r, defined, next)))
                return MERGE_STRANGE;
        if (look->is_next ? header_has(r, look) != ON_RESULT : !look->is_top)
                return MERGE_STRANGE;
        return look->is_next && is_defined(r, defined, next) && r->state != MERGE_STOPPED ? MERGE_TOGETHER
                                                                                          : MERGE_HALF;
}

MergeSettle merge_settle_domain(const MergeRecord *r, const char *next, const GPtrArray *disks,
                                const char *defined, const struct merge_look *look)
{
        return has_new_top(r, next, disks, defined, look) ? settle_new_top(r, next, disks, defined, look)
                                                          : settle_old_top(r, disks, defined, look);
}
