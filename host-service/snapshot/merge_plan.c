/* host-service/snapshot/merge_plan.c - which merge is next: one that was begun, or the first that there is to
 * do. */
#include "common/error.h"
#include "host-service/catalogue/operations.h"
#include "host-service/catalogue/vms.h"
#include "host-service/disk/disk.h"
#include "host-service/hypervisor/libvirt_uri.h"
#include "host-service/snapshot/known_disks.h"
#include "host-service/snapshot/layer_name.h"
#include "host-service/snapshot/merge_choice.h"
#include "host-service/snapshot/merge_private.h"

/* One that an earlier moultd has begun. */
static MergeRecord *begun(SnapshotMerge *m, GError **error)
{
        g_autoptr(GPtrArray) rows = catalogue_merge_list(m->catalogue, m->vm, error);

        for (guint i = 0; rows && i < rows->len; i++) {
                const MergeRecord *r = rows->pdata[i];

                if (r->state == MERGE_PLANNED || r->state == MERGE_COMPARED || r->state == MERGE_STOPPED)
                        return g_ptr_array_steal_index(rows, i);
        }
        return NULL;
}

/* @error unset, and FALSE: a create finds out itself. */
static gboolean may_begin(SnapshotMerge *m, const VmRecord *vm, GError **error)
{
        if (!vm || !vm->libvirt || libvirt_uri_is_local(vm->libvirt))
                return TRUE;
        if (m->which == MERGE_ALL)
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_UNSUPPORTED,
                            "VM \"%s\" is a domain of the libvirt %s: the files of its disks are on that "
                            "host, and "
                            "are merged by a moultd there",
                            m->vm, vm->libvirt);
        return FALSE;
}

static void set_next(SnapshotMerge *m)
{
        g_autofree char *dir = g_path_get_dirname(m->r->file), *name = g_path_get_basename(m->r->file);
        g_autofree char *next = layer_name_of_top(name);

        if (m->kind == &merge_by_libvirt)
                m->next = g_build_filename(dir, next, NULL);
}

gboolean merge_plan_begin(SnapshotMerge *m, GError **error)
{
        g_autoptr(GError) why = NULL;
        g_autoptr(VmRecord) vm = catalogue_vm_get(m->catalogue, m->vm, NULL);

        m->kind = vm && vm->libvirt ? &merge_by_libvirt : &merge_by_qemu;
        m->r = begun(m, &why);
        if (why)
                g_propagate_error(error, g_steal_pointer(&why));
        else if (m->r)
                set_next(m);
        return m->r || (!why && may_begin(m, vm, error));
}

/* What it is made of, and what is below. The texts are @found's and the row's. */
static GPtrArray *chain_of(const MergeRecord *r, const struct vm_disk *d, GError **error)
{
        g_autoptr(GPtrArray) chain = g_ptr_array_new_with_free_func(g_free);

        for (guint i = 0; i < d->below->len; i++) {
                const struct vm_image *image = d->below->pdata[i];
                struct disk_image *of = g_new0(struct disk_image, 1);

                of->path = image->file;
                of->format = image->format;
                g_ptr_array_add(chain, of);
                if (image->file && image->format)
                        continue;
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "what the disk %s stands on is not all in plain files: its history is not merged",
                            r->device);
                return NULL;
        }
        return g_steal_pointer(&chain);
}

/* A VM that is off needs no room for a layer: its tops are copied. Nobody who did not ask for it changes what
 * one that is off is started with. */
static gboolean has_disks(SnapshotMerge *m, GError **error)
{
        g_clear_pointer(&m->known, g_ptr_array_unref);
        if (!m->found && m->which == MERGE_ALL)
                m->known = known_disks(m->catalogue, m->vm, error);
        return m->found || m->known;
}

gboolean merge_plan_choose(SnapshotMerge *m, GError **error)
{
        g_autofree char *id = operation_id_new(m->catalogue);
        const struct vm_disk *disk = NULL;
        g_autoptr(MergeRecord) r = NULL;

        if (!has_disks(m, error))
                return FALSE;
        r = merge_choice_make(m->catalogue, m->vm, m->found ? m->found : m->known, m->which, id, &disk,
                              error);
        if (!r || (m->kind == &merge_by_libvirt && !merge_domain_plan(m, r, error)))
                return FALSE;
        m->chain = chain_of(r, disk, error);
        if (!m->chain)
                return FALSE;
        r->created_us = host_wall_us(m->env);
        m->r = g_steal_pointer(&r);
        set_next(m);
        return TRUE;
}
