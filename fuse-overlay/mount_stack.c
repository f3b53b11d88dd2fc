/* fuse-overlay/mount_stack.c - the mounts at one place: which are ours, and how one takes the place of
 * another.
 */
#include "fuse-overlay/mount_stack.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fault.h"
#include "common/fd.h"
#include "common/fs_beneath.h"
#include "fuse-overlay/mount_api.h"
#include "fuse-overlay/mount_carry.h"

#define TAG_PREFIX "moult-"
/* What the mount table shows after the root of a bind whose name was removed or replaced since. */
#define DELETED "//deleted"
/* The same in /proc/self/fd. */
#define UNLINKED " (deleted)"

char *mount_tag(MergeMethod method, const char *id)
{
        return g_strdup_printf(TAG_PREFIX "%s-%s", merge_method_name(method), id);
}

static gboolean is_id(const char *s)
{
        return strlen(s) == TARGET_ID_LENGTH && strspn(s, "0123456789abcdef") == TARGET_ID_LENGTH;
}

static gboolean is_tagged(const char *source, MergeMethod *ret_method, const char **ret_id)
{
        if (!g_str_has_prefix(source, TAG_PREFIX))
                return FALSE;
        const char *name = source + strlen(TAG_PREFIX);
        const char *dash = strchr(name, '-');
        if (dash == NULL || !is_id(dash + 1))
                return FALSE;
        g_autofree char *method = g_strndup(name, (gsize)(dash - name));
        MergeMethod found;
        if (!merge_method_parse(method, &found) || found == MERGE_AUTO)
                return FALSE;
        *ret_id = dash + 1;
        *ret_method = found;
        return TRUE;
}

static gboolean is_linked(const struct mount *m, const char *trees, char **ret_id)
{
        if (trees == NULL || !g_str_has_prefix(m->root, trees))
                return FALSE;
        g_autofree char *id = g_strdup(m->root + strlen(trees));
        if (g_str_has_suffix(id, DELETED))
                id[strlen(id) - strlen(DELETED)] = '\0';
        if (!is_id(id))
                return FALSE;
        *ret_id = g_steal_pointer(&id);
        return TRUE;
}

gboolean mount_is_merge(const struct mount *m, const char *trees, MergeMethod *ret_method,
                        char ret_id[static TARGET_ID_LENGTH + 1])
{
        const char *id = NULL;
        g_autofree char *linked = NULL;
        MergeMethod method = MERGE_BIND;
        if (!is_tagged(m->source, &method, &id)) {
                if (!is_linked(m, trees, &linked))
                        return FALSE;
                method = MERGE_BIND;
                id = linked;
        }
        g_strlcpy(ret_id, id, TARGET_ID_LENGTH + 1);
        *ret_method = method;
        return TRUE;
}

void mount_place_free(struct mount_place *p)
{
        if (p == NULL)
                return;
        scoped_fd_close(&p->fd);
        g_clear_pointer(&p->layers, g_array_unref);
        g_free(p->point);
        g_free(p);
}

static void read_layers(struct mount_place *p, const MountTable *table, guint64 anchor_group)
{
        guint keep = 0;
        for (const struct mount *m = mount_table_find(table, mount_api_id(p->fd));
             m != NULL && g_str_equal(m->point, p->point); m = mount_table_find(table, m->parent_id)) {
                struct mount_layer layer = {.id = m->id};
                if (mount_is_merge(m, p->trees, &layer.method, layer.merge_id))
                        layer.kind = LAYER_MERGE;
                else if (anchor_group != 0 && m->peer_group == anchor_group)
                        layer.kind = LAYER_ANCHOR;
                g_array_append_val(p->layers, layer);
                if (layer.kind != LAYER_FOREIGN)
                        keep = p->layers->len;
        }
        g_array_set_size(p->layers, keep);
}

/* An object whose name was removed since is mounted there all the same. */
static gboolean is_path(const char *found, const char *expected)
{
        gsize len = strlen(expected);
        return found != NULL && strncmp(found, expected, len) == 0 &&
               (found[len] == '\0' || g_str_equal(found + len, UNLINKED));
}

struct mount_place *mount_place_open(int root_fd, const char *path, const char *trees, Originals *o,
                                     GError **error)
{
        g_autoptr(MountPlace) p = g_new0(MountPlace, 1);
        p->path = path;
        p->trees = trees;
        p->layers = g_array_new(FALSE, TRUE, sizeof(struct mount_layer));
        p->fd = fs_beneath_open(root_fd, path, O_PATH | O_NOFOLLOW, 0, error);
        if (p->fd < 0) {
                g_prefix_error(error, "the place /%s of a merge is gone: ", path);
                return NULL;
        }
        g_autofree char *root = mount_api_path(root_fd);
        g_autofree char *found = mount_api_path(p->fd);
        p->point = g_strconcat(root != NULL && !g_str_equal(root, "/") ? root : "", "/", path, NULL);
        if (!is_path(found, p->point)) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "/%s leads to %s: a link has been put in its way since it was planned", path,
                            found != NULL ? found : "nowhere");
                return NULL;
        }
        g_autoptr(MountTable) table = mount_table_load(error);
        if (table == NULL)
                return NULL;
        read_layers(p, table, o != NULL ? originals_peer_group(o, path) : 0);
        return g_steal_pointer(&p);
}

const struct mount_layer *mount_place_top(const struct mount_place *p)
{
        return p->layers->len > 0 ? &g_array_index(p->layers, struct mount_layer, 0) : NULL;
}

gboolean mount_place_is_tidy(const struct mount_place *p)
{
        for (guint i = 1; i < p->layers->len; i++)
                if (g_array_index(p->layers, struct mount_layer, i).kind != LAYER_ANCHOR)
                        return FALSE;
        return TRUE;
}

const struct mount_layer *mount_place_lowest(const struct mount_place *p)
{
        for (guint i = p->layers->len; i > 0; i--) {
                const struct mount_layer *l = &g_array_index(p->layers, struct mount_layer, i - 1);
                if (l->kind == LAYER_MERGE)
                        return l;
        }
        return NULL;
}

static gboolean has_anchor(const struct mount_place *p)
{
        return p->layers->len > 0 &&
               g_array_index(p->layers, struct mount_layer, p->layers->len - 1).kind == LAYER_ANCHOR;
}

gboolean mount_place_can_exchange(const struct mount_place *p)
{
        return has_anchor(p) || mount_api_has_beneath();
}

static gboolean is_directory(int fd)
{
        struct stat st;
        return fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Anchor and merge are put together in private, and come to the place as one tree. */
static gboolean attach_anchored(struct mount_place *p, Originals *o, int tree_fd, const GPtrArray *carried,
                                GError **error)
{
        scoped_fd int anchor = mount_api_clone(p->fd, p->point, error);
        if (anchor < 0 || !mount_api_set_propagation(anchor, MS_PRIVATE, FALSE, p->point, error) ||
            !mount_api_set_propagation(anchor, MS_SHARED, FALSE, p->point, error))
                return FALSE;
        scoped_fd int stage = originals_stage(o, is_directory(p->fd), error);
        if (stage < 0 || !mount_api_move(anchor, stage, MOUNT_ON_TOP, "the staging place", error) ||
            !mount_carry_into(carried, anchor, error) ||
            !mount_api_move(tree_fd, anchor, MOUNT_ON_TOP, "the staging place", error))
                return FALSE;
        scoped_fd int handle = mount_api_clone(anchor, p->point, error);
        if (handle < 0 || !originals_install(o, p->path, handle, error))
                return FALSE;
        if (fault_point("merge-anchored") != 0)
                return moult_error_errno(error, EIO, "bringing the merge to %s", p->point);
        return mount_api_move(anchor, p->fd, MOUNT_ON_TOP, p->point, error);
}

gboolean mount_place_attach(struct mount_place *p, Originals *o, int tree_fd, const GPtrArray *carried,
                            GError **error)
{
        if (mount_api_has_beneath())
                return mount_api_move(tree_fd, p->fd, MOUNT_ON_TOP, p->point, error);
        return attach_anchored(p, o, tree_fd, carried, error);
}

static gboolean put_beneath_by_handle(struct mount_place *p, Originals *o, int tree_fd, GError **error)
{
        scoped_fd int handle = originals_get(o, p->path, error);
        scoped_fd int fresh = handle >= 0 ? mount_api_clone(handle, p->point, error) : -1;
        if (fresh < 0 || !mount_api_move(tree_fd, handle, MOUNT_ON_TOP, p->point, error))
                return FALSE;
        if (fault_point("merge-covered") != 0)
                return moult_error_errno(error, EIO, "mounting beneath %s", p->point);
        return originals_advance(o, p->path, handle, fresh, error);
}

gboolean mount_place_replace(struct mount_place *p, Originals *o, int tree_fd, gboolean *ret_on_top,
                             GError **error)
{
        gboolean beneath;
        if (has_anchor(p)) {
                if (!put_beneath_by_handle(p, o, tree_fd, error))
                        return FALSE;
                beneath = TRUE;
        } else {
                beneath = mount_api_has_beneath() &&
                          mount_api_move(tree_fd, p->fd, MOUNT_BENEATH, p->point, NULL);
        }
        *ret_on_top = !beneath;
        if (!beneath)
                return mount_api_move(tree_fd, p->fd, MOUNT_ON_TOP, p->point, error);
        if (fault_point("merge-beneath") != 0)
                return moult_error_errno(error, EIO, "taking the old merge off %s", p->point);
        return mount_api_detach(p->fd, p->point, error);
}

gboolean mount_place_unwind(int root_fd, const char *path, const char *trees, Originals *o, guint64 id,
                            GError **error)
{
        for (;;) {
                /* Looked at anew each time: whose mount is taken off must be known, not guessed. */
                g_autoptr(MountPlace) p = mount_place_open(root_fd, path, trees, o, error);
                if (p == NULL)
                        return FALSE;
                const struct mount_layer *top = mount_place_top(p);
                if (top == NULL || top->id == id)
                        return TRUE;
                if (top->kind == LAYER_FOREIGN) {
                        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                                    "something else is mounted over the merge at %s: unmount it first",
                                    p->point);
                        return FALSE;
                }
                if (!mount_api_detach(p->fd, p->point, error))
                        return FALSE;
        }
}
