/* guest-agent/upgrade/plan_places.c - which directory, and which staging area, each entry's name lies in. */
#include "guest-agent/upgrade/plan_places.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/fs_beneath.h"
#include "fuse-overlay/merge.h"

#define PHYSICAL_BYTES_MAX 65536u

struct PlanPlaces {
        Plan *plan;
        const struct plan_request *request;
        MountTable *mounts;
        GHashTable *parents;     /* path as in the manifest -> struct parent */
        GHashTable *directories; /* physical path -> index + 1 */
        GHashTable *areas;       /* physical path of a directory -> index + 1 */
        GPtrArray *refusals;     /* texts that parents point to */
        char *root;              /* physical path of the root, "" for "/" */
        char *state;             /* of the state directory, relative to the root; NULL: outside */
        int open_fd;
        gint32 open_directory;
};

static void directory_free(gpointer p)
{
        struct plan_directory *d = p;
        g_free(d->path);
        metadata_free(d->old);
        g_free(d);
}

static void area_free(gpointer p)
{
        struct plan_area *a = p;
        g_free(a->path);
        g_free(a->mount_point);
        g_free(a->fs_type);
        g_free(a->original_mount);
        g_free(a);
}

/* Where an open directory lies, as the kernel says. */
static char *physical_path(int fd, GError **error)
{
        char link[64];
        g_autofree char *buf = g_malloc(PHYSICAL_BYTES_MAX);
        g_snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t n = readlink(link, buf, PHYSICAL_BYTES_MAX - 1);
        if (n < 0) {
                moult_error_errno(error, errno, "reading %s (is /proc mounted?)", link);
                return NULL;
        }
        buf[n] = '\0';
        if (buf[0] != '/') {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_IO, "the directory %s is not reachable any more",
                            buf);
                return NULL;
        }
        return g_steal_pointer(&buf);
}

/* Relative to the root; NULL if it is not below it. */
static char *below_root(const PlanPlaces *p, const char *physical)
{
        gsize len = strlen(p->root);
        if (strncmp(physical, p->root, len) != 0)
                return NULL;
        if (physical[len] == '\0')
                return g_strdup("");
        return physical[len] == '/' ? g_strdup(physical + len + 1) : NULL;
}

PlanPlaces *plan_places_new(Plan *plan, const struct plan_request *request, GError **error)
{
        g_autoptr(PlanPlaces) p = g_new0(PlanPlaces, 1);
        p->plan = plan;
        p->request = request;
        p->open_fd = -1;
        p->open_directory = -1;
        p->parents = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
        p->directories = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        p->areas = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        p->refusals = g_ptr_array_new_with_free_func(g_free);
        plan->directories = g_ptr_array_new_with_free_func(directory_free);
        plan->areas = g_ptr_array_new_with_free_func(area_free);
        p->mounts = mount_table_load(error);
        if (p->mounts == NULL)
                return NULL;
        p->root = physical_path(request->root_fd, error);
        if (p->root == NULL)
                return NULL;
        if (g_str_equal(p->root, "/"))
                p->root[0] = '\0';
        scoped_fd int state = open(request->state_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (state >= 0) {
                g_autofree char *physical = physical_path(state, NULL);
                p->state = physical != NULL ? below_root(p, physical) : NULL;
        }
        return g_steal_pointer(&p);
}

void plan_places_free(PlanPlaces *p)
{
        if (p == NULL)
                return;
        if (p->open_fd >= 0)
                close(p->open_fd);
        g_clear_pointer(&p->mounts, mount_table_free);
        g_clear_pointer(&p->parents, g_hash_table_unref);
        g_clear_pointer(&p->directories, g_hash_table_unref);
        g_clear_pointer(&p->areas, g_hash_table_unref);
        g_clear_pointer(&p->refusals, g_ptr_array_unref);
        g_free(p->root);
        g_free(p->state);
        g_free(p);
}

/* The project that names in the directory must belong to, plus 1; 0: any. */
static guint64 project_of(int fd)
{
        struct fsxattr x;
        if (ioctl(fd, FS_IOC_FSGETXATTR, &x) < 0 || (x.fsx_xflags & FS_XFLAG_PROJINHERIT) == 0)
                return 0;
        return (guint64)x.fsx_projid + 1;
}

/* Below what we have merged at this place. */
static const struct mount *original_of(const PlanPlaces *p, const struct mount *m)
{
        const struct mount *below = m;
        while (below != NULL && g_str_has_prefix(below->source, MERGE_TAG_PREFIX))
                below = mount_table_find(p->mounts, below->parent_id);
        return below != NULL ? below : m;
}

static gint32 area_add(PlanPlaces *p, const char *path, const struct object_facts *f, GError **error)
{
        const struct mount *m = mount_table_find(p->mounts, f->mount_id);
        if (m == NULL) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_IO,
                            "/%s lies on a mount that is not in the mount table (mounts changed meanwhile: "
                            "try again)",
                            path);
                return -1;
        }
        scoped_fd int fd = fs_beneath_open(p->request->root_fd, *path != '\0' ? path : ".",
                                           O_PATH | O_DIRECTORY, 0, error);
        struct statfs fs;
        if (fd < 0)
                return -1;
        if (fstatfs(fd, &fs) < 0) {
                moult_error_errno(error, errno, "asking for the type of the file system at /%s", path);
                return -1;
        }
        struct plan_area *a = g_new0(struct plan_area, 1);
        a->path = g_strdup(path);
        a->mount_point = g_strdup(m->point);
        a->fs_type = g_strdup(m->type);
        a->original_mount = below_root(p, original_of(p, m)->point);
        if (a->original_mount == NULL) /* the root itself lies on it */
                a->original_mount = g_strdup("");
        a->kind = fs_kind_of(m->type);
        a->read_only_mount = m->read_only;
        a->read_only_super = m->super_read_only;
        a->closed = f->immutable;
        a->mount_id = f->mount_id;
        a->dev = f->dev;
        a->inode = f->inode;
        a->birth_ns = f->birth_ns;
        a->mtime_ns = f->mtime.tv_sec * G_GINT64_CONSTANT(1000000000) + f->mtime.tv_nsec;
        a->fs_magic = (guint32)fs.f_type;
        a->encrypted = f->encrypted;
        a->project = project_of(fd);
        g_ptr_array_add(p->plan->areas, a);
        return (gint32)p->plan->areas->len - 1;
}

/* Walks up from the directory @path (physical; facts @f) to the top of its area. */
static gint32 area_of(PlanPlaces *p, const char *path, const struct object_facts *f, GError **error)
{
        gpointer known = g_hash_table_lookup(p->areas, path);
        if (known != NULL)
                return GPOINTER_TO_INT(known) - 1;
        gint32 area = -1;
        if (*path != '\0') {
                g_autofree char *up = g_strdup(path);
                char *slash = strrchr(up, '/');
                *(slash != NULL ? slash : up) = '\0';
                struct object_facts above;
                scoped_fd int fd = fs_beneath_open(p->request->root_fd, *up != '\0' ? up : ".",
                                                   O_PATH | O_DIRECTORY, 0, error);
                if (fd < 0 || !classify_look(fd, "", &above, error))
                        return -1;
                if (above.mount_id == f->mount_id && above.dev == f->dev) {
                        area = area_of(p, up, &above, error);
                        if (area < 0)
                                return -1;
                }
        }
        if (area < 0)
                area = area_add(p, path, f, error);
        if (area >= 0)
                g_hash_table_insert(p->areas, g_strdup(path), GINT_TO_POINTER(area + 1));
        return area;
}

gint32 plan_places_directory(PlanPlaces *p, int fd, GError **error)
{
        g_autofree char *physical = physical_path(fd, error);
        if (physical == NULL)
                return -1;
        g_autofree char *path = below_root(p, physical);
        if (path == NULL) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_IO, "%s was moved out of the root meanwhile",
                            physical);
                return -1;
        }
        gpointer known = g_hash_table_lookup(p->directories, path);
        if (known != NULL)
                return GPOINTER_TO_INT(known) - 1;
        struct object_facts f;
        if (!classify_look(fd, "", &f, error))
                return -1;
        gint32 area = area_of(p, path, &f, error);
        if (area < 0)
                return -1;
        struct plan_directory *d = g_new0(struct plan_directory, 1);
        d->path = g_steal_pointer(&path);
        d->area = area;
        d->inode = f.inode;
        d->immutable = f.immutable;
        d->append_only = f.append_only;
        d->encrypted = f.encrypted;
        scoped_fd int readable = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        d->project = readable >= 0 ? project_of(readable) : 0;
        d->entry = -1;
        g_ptr_array_add(p->plan->directories, d);
        gint32 index = (gint32)p->plan->directories->len - 1;
        g_hash_table_insert(p->directories, g_strdup(d->path), GINT_TO_POINTER(index + 1));
        return index;
}

void plan_places_set(PlanPlaces *p, const char *path, ParentKind kind, gint32 carrier)
{
        struct parent *known = g_new0(struct parent, 1);
        *known = (struct parent){kind, -1, carrier, NULL};
        g_hash_table_replace(p->parents, g_strdup(path), known);
}

static gboolean parent_look(PlanPlaces *p, const char *path, struct parent *ret, GError **error)
{
        g_autoptr(GError) why = NULL;
        struct fs_detour detour;
        scoped_fd int fd =
                fs_beneath_open_directory(p->request->root_fd, *path != '\0' ? path : ".", &detour, &why);
        int saved = errno;
        g_autofree char *link = detour.link;
        *ret = (struct parent){PARENT_PRESENT, -1, -1, NULL};
        if (fd < 0) {
                switch (saved) {
                case ENOENT:
                        ret->kind = PARENT_MISSING;
                        return TRUE;
                case ENOTDIR:
                case ELOOP:
                        ret->kind = PARENT_NOT_DIRECTORY;
                        return TRUE;
                default:
                        g_propagate_error(error, g_steal_pointer(&why));
                        return FALSE;
                }
        }
        ret->directory = plan_places_directory(p, fd, error);
        if (ret->directory < 0)
                return FALSE;
        if (link == NULL)
                return TRUE;
        char *refusal = g_strdup_printf(
                "reached through the symbolic link \"%s\" of user %u, which leads to a directory of somebody "
                "else, /%s",
                link, detour.owner, plan_directory(p->plan, ret->directory)->path);
        g_ptr_array_add(p->refusals, refusal);
        ret->refusal = refusal;
        return TRUE;
}

gboolean plan_places_parent(PlanPlaces *p, const char *path, struct parent *ret, GError **error)
{
        const char *slash = strrchr(path, '/');
        g_autofree char *parent = g_strndup(path, slash != NULL ? (gsize)(slash - path) : 0);
        const struct parent *known = g_hash_table_lookup(p->parents, parent);
        if (known != NULL) {
                *ret = *known;
                return TRUE;
        }
        if (!parent_look(p, parent, ret, error))
                return FALSE;
        g_hash_table_insert(p->parents, g_steal_pointer(&parent), g_memdup2(ret, sizeof *ret));
        return TRUE;
}

int plan_places_open(PlanPlaces *p, gint32 directory, GError **error)
{
        if (p->open_fd >= 0 && p->open_directory == directory)
                return p->open_fd;
        const char *path = plan_directory(p->plan, directory)->path;
        int fd = fs_beneath_open(p->request->root_fd, *path != '\0' ? path : ".", O_PATH | O_DIRECTORY, 0,
                                 error);
        if (fd < 0)
                return -1;
        if (p->open_fd >= 0)
                close(p->open_fd);
        p->open_fd = fd;
        p->open_directory = directory;
        return fd;
}

struct place_facts plan_places_facts(PlanPlaces *p, gint32 directory)
{
        const struct plan_directory *d = plan_directory(p->plan, directory);
        const struct plan_area *a = plan_area(p->plan, d->area);
        return (struct place_facts){
                .mount_point = a->mount_point,
                .fs_type = a->fs_type,
                .kind = a->kind,
                .read_only_mount = a->read_only_mount,
                .read_only_super = a->read_only_super,
                .directory_immutable = d->immutable,
                .directory_append_only = d->append_only,
                .area_closed = a->closed,
                .other_key = d->encrypted != a->encrypted,
                .other_project = d->project != a->project,
                .is_overlay = g_str_equal(a->fs_type, "overlay"),
        };
}

const struct mount *plan_places_mount(PlanPlaces *p, guint64 mount_id)
{
        return mount_table_find(p->mounts, mount_id);
}

gboolean plan_places_is_own_state(const PlanPlaces *p, gint32 directory, const char *name)
{
        if (p->state == NULL || *p->state == '\0')
                return FALSE;
        const char *dir = plan_directory(p->plan, directory)->path;
        g_autofree char *path = *dir != '\0' ? g_strdup_printf("%s/%s", dir, name) : g_strdup(name);
        gsize len = strlen(p->state);
        return strncmp(path, p->state, len) == 0 && (path[len] == '/' || path[len] == '\0');
}
