/* host-service/snapshot/disk_choice.c - which disks. */
#include "host-service/snapshot/disk_choice.h"

#include "common/error.h"
#include "host-service/snapshot/layer_name.h"

static gboolean refuse(const struct vm_disk *d, GError **error, const char *why)
{
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED, "no snapshot can be taken of the disk %s: %s",
                    d->device, why);
        return FALSE;
}

/* By its id, or by its well-known path. */
static gboolean is_called(const struct vm_disk *d, const char *word)
{
        g_autofree char *dir = d->file ? g_path_get_dirname(d->file) : NULL;
        g_autofree char *name = d->file ? g_path_get_basename(d->file) : NULL;
        g_autofree char *base = name ? layer_name_base(name) : NULL;
        g_autofree char *path = name ? g_build_filename(dir, base ? base : name, NULL) : NULL;

        return g_str_equal(d->device, word) || g_strcmp0(path, word) == 0;
}

static gboolean is_wanted(const struct vm_disk *d, const char *const *wanted)
{
        for (guint i = 0; wanted && wanted[i]; i++)
                if (is_called(d, wanted[i]))
                        return TRUE;
        return !wanted && d->writable && !d->removable;
}

static gboolean may_be_taken(const struct vm_disk *d, enum disk_sealing how, GError **error)
{
        if (!d->writable || d->removable)
                return refuse(d, error, "the guest cannot write to it, or it is a removable medium");
        if (!d->file)
                return refuse(d, error, "it is no plain file with an absolute path");
        if (g_strcmp0(d->format, "qcow2") != 0 && g_strcmp0(d->format, "raw") != 0)
                return refuse(d, error, "its image is neither qcow2 nor raw");
        if (how == DISK_SEALED && d->below->len + 2 > CHAIN_FILES_MAX)
                return refuse(d, error,
                              "its chain would have more than 4 files, and there are no two layers of this "
                              "VM's directly below the top that could be merged");
        return TRUE;
}

/* The present top has its own name already, or is known by the well-known path, and gets one. The other file
 * is born with one. */
static gboolean name_files(struct snapshot_disk *s, const struct vm_disk *d, const char *id,
                           const char *first_id, enum disk_sealing how, GError **error)
{
        g_autofree char *dir = g_path_get_dirname(d->file), *name = g_path_get_basename(d->file);
        g_autofree char *base = layer_name_base(name);

        char **top = how == DISK_COPIED ? &s->next : &s->layer;
        char **other = how == DISK_COPIED ? &s->layer : &s->next;

        s->is_first = base == NULL;
        if (s->is_first) {
                base = g_strdup(name);
                *top = layer_name_new(base, first_id, s->number, error);
                if (!*top)
                        return FALSE;
        } else {
                *top = g_strdup(name);
        }
        s->path = g_build_filename(dir, base, NULL);
        *other = layer_name_new(base, id, s->number, error);
        return *other != NULL;
}

static gboolean is_taken_already(const SnapshotRecord *r, const struct snapshot_disk *s)
{
        for (guint i = 0; i < s->number; i++)
                if (g_str_equal(((const struct snapshot_disk *)r->disks->pdata[i])->path, s->path))
                        return TRUE;
        return FALSE;
}

static gboolean add(SnapshotRecord *r, const struct vm_disk *d, const char *first_id, enum disk_sealing how,
                    GError **error)
{
        struct snapshot_disk *s;

        if (!may_be_taken(d, how, error))
                return FALSE;
        s = snapshot_record_add_disk(r);
        s->device = g_strdup(d->device);
        s->format = g_strdup(d->format);
        s->size_bytes = d->size_bytes;
        if (!name_files(s, d, r->id, first_id, how, error))
                return FALSE;
        return is_taken_already(r, s) ? refuse(d, error, "its file is another disk's, too") : TRUE;
}

static gboolean all_are_there(const GPtrArray *disks, const char *const *wanted, GError **error)
{
        for (guint w = 0; wanted && wanted[w]; w++) {
                g_autoptr(GString) known = g_string_new(NULL);
                gboolean found = FALSE;

                for (guint i = 0; i < disks->len; i++) {
                        const struct vm_disk *d = disks->pdata[i];

                        found |= is_called(d, wanted[w]);
                        g_string_append_printf(known, "%s%s", known->len ? ", " : "", d->device);
                }
                if (found)
                        continue;
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND, "the VM has no disk %s; it has %s",
                            wanted[w], known->len ? known->str : "none");
                return FALSE;
        }
        return TRUE;
}

gboolean disk_choice_make(SnapshotRecord *r, const GPtrArray *disks, const char *const *wanted,
                          const char *first_id, enum disk_sealing how, GError **error)
{
        if (!all_are_there(disks, wanted, error))
                return FALSE;
        for (guint i = 0; i < disks->len; i++) {
                const struct vm_disk *d = disks->pdata[i];

                if (is_wanted(d, wanted) && !add(r, d, first_id, how, error))
                        return FALSE;
        }
        if (r->disks->len > 0)
                return TRUE;
        g_set_error_literal(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "the VM has no disk that the guest can write to: there is nothing to take");
        return FALSE;
}
