/* guest-agent/upgrade/survey_directories.c - directories: changed in place, made or taken as a whole, or
 * kept. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/fs_beneath.h"
#include "guest-agent/upgrade/survey.h"
#include "proto/message.h"
#include "shm/entry_metadata.h"

#define NAMES_SHOWN 8u

/* Names in the live directory @dirfd (path @path in the manifest's terms), at any depth, that the release
 * does not delete; a mount below counts as one. At most NAMES_SHOWN are added to @names; *n counts them all.
 */
static gboolean unlisted_children(struct survey *s, int dirfd, const char *path, guint64 mount_id,
                                  GPtrArray *names, guint *n, GError **error)
{
        int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return moult_error_errno(error, errno, "listing /%s", path);
        DIR *dir = fdopendir(fd);
        if (dir == NULL) {
                close(fd);
                return moult_error_errno(error, ENOMEM, "listing /%s", path);
        }
        gboolean ok = TRUE;
        struct dirent *de;
        while (ok && (errno = 0, de = readdir(dir)) != NULL) {
                if (g_str_equal(de->d_name, ".") || g_str_equal(de->d_name, ".."))
                        continue;
                g_autofree char *child = g_strdup_printf("%s/%s", path, de->d_name);
                gssize at = manifest_find(s->plan->manifest, child, strlen(child));
                struct object_facts f;
                ok = classify_look(fd, de->d_name, &f, error);
                if (!ok || !f.exists)
                        continue;
                gboolean listed = at >= 0 && s->plan->entries[at].selected &&
                                  s->plan->manifest->entries[at]->type == MOULT__ENTRY_TYPE__ENTRY_DELETE;
                if (!listed || f.mount_id != mount_id) {
                        if ((*n)++ < NAMES_SHOWN)
                                g_ptr_array_add(names, message_string(message_bytes(child)));
                        continue;
                }
                if (S_ISDIR(f.mode)) {
                        scoped_fd int sub =
                                openat(fd, de->d_name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                        ok = sub >= 0 ? unlisted_children(s, sub, child, mount_id, names, n, error)
                                      : moult_error_errno(error, errno, "opening /%s", child);
                }
        }
        if (ok && errno != 0)
                ok = moult_error_errno(error, errno, "listing /%s", path);
        closedir(dir);
        return ok;
}

/* NULL in *ret if the live directory of @pe may go as a whole; else why not. */
static gboolean directory_leftovers(struct survey *s, const struct plan_entry *pe, int parent_fd, char **ret,
                                    GError **error)
{
        scoped_fd int fd = openat(parent_fd, survey_last_component(pe->path),
                                  O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        struct object_facts self;
        if (fd < 0)
                return moult_error_errno(error, errno, "opening /%s", pe->path);
        if (!classify_look(fd, "", &self, error))
                return FALSE;
        g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
        guint n = 0;
        *ret = NULL;
        if (!unlisted_children(s, fd, pe->path, self.mount_id, names, &n, error))
                return FALSE;
        if (n == 0)
                return TRUE;
        guint shown = names->len;
        g_ptr_array_add(names, NULL);
        g_autofree char *list = g_strjoinv(", /", (char **)names->pdata);
        *ret = g_strdup_printf("the directory holds %u name(s) that the release does not know: /%s%s", n,
                               list, n > shown ? ", ..." : "");
        return TRUE;
}

/* Two entries may describe one existing directory (/lib and /usr/lib after the merge of both) if they agree.
 */
static gboolean same_directory_entry(struct survey *s, gint32 first, guint32 second)
{
        const Moult__Entry *a = s->plan->manifest->entries[first], *b = s->plan->manifest->entries[second];
        g_autoptr(Metadata) ma = metadata_from_entry(a), mb = metadata_from_entry(b);
        mb->mtime = ma->mtime;
        g_autofree char *differs = metadata_difference(ma, mb, S_IFDIR);
        return differs == NULL;
}

/* A directory entry where a directory is: its own metadata, in place. */
static gboolean survey_existing_directory(struct survey *s, guint32 index, int fd,
                                          const struct object_facts *o, GError **error)
{
        struct plan_entry *pe = &s->plan->entries[index];
        gint32 own = plan_places_directory(s->places, fd, error);
        if (own < 0)
                return FALSE;
        struct plan_directory *d = plan_directory(s->plan, own);
        gint32 parent = pe->directory;
        if (d->entry >= 0) {
                if (same_directory_entry(s, d->entry, index)) {
                        pe->action = MOULT__PLAN_ACTION__PLAN_EQUAL;
                        survey_set_reason(pe, g_strdup_printf("the same directory as /%s",
                                                              s->plan->entries[d->entry].path));
                } else {
                        survey_block(pe,
                                     g_strdup_printf("the same directory as /%s here, with other metadata",
                                                     s->plan->entries[d->entry].path));
                }
                return TRUE;
        }
        struct metadata_object object = {.dirfd = -1, .name = pe->path, .fd = -1};
        scoped_fd int readable = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (readable < 0)
                return moult_error_errno(error, errno, "opening /%s", pe->path);
        object.fd = readable;
        g_autoptr(Metadata) have = metadata_read(&object, NULL, error);
        if (have == NULL)
                return FALSE;
        g_autoptr(Metadata) want = metadata_from_entry(s->plan->manifest->entries[index]);
        g_autofree char *differs = metadata_difference(have, want, S_IFDIR);
        d->entry = (gint32)index;
        d->old = g_steal_pointer(&have);
        pe->directory = own;
        pe->area = d->area;
        struct content_facts none = {0};
        struct decision decision = plan_decide(s->plan->manifest->entries[index], o, &none, NULL, differs);
        survey_conclude(s, index, o, decision, HOW_IN_PLACE);
        d->changes = pe->how == HOW_IN_PLACE;
        gboolean is_mount = parent < 0 || d->area != plan_directory(s->plan, parent)->area;
        if ((pe->action == MOULT__PLAN_ACTION__PLAN_BLOCKED || pe->how == HOW_MERGE) && is_mount) {
                /* The release's directory is below the mount, out of sight. */
                pe->action = MOULT__PLAN_ACTION__PLAN_EQUAL;
                pe->how = HOW_NONE;
                survey_set_reason(pe, g_strdup_printf("kept: %s is mounted on it",
                                                      plan_area(s->plan, d->area)->fs_type));
                d->entry = -1;
        }
        return TRUE;
}

gboolean survey_directory(struct survey *s, guint32 index, int parent_fd, const struct object_facts *o,
                          GError **error)
{
        struct plan_entry *pe = &s->plan->entries[index];
        if (o->exists && S_ISDIR(o->mode)) {
                scoped_fd int fd = openat(parent_fd, survey_last_component(pe->path),
                                          O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                if (fd < 0)
                        return moult_error_errno(error, errno, "opening /%s", pe->path);
                return survey_existing_directory(s, index, fd, o, error);
        }
        if (o->exists && S_ISLNK(o->mode)) {
                scoped_fd int fd =
                        fs_beneath_open(s->request->root_fd, pe->path, O_PATH | O_DIRECTORY, 0, NULL);
                if (fd >= 0) {
                        pe->action = MOULT__PLAN_ACTION__PLAN_EQUAL;
                        survey_set_reason(pe, g_strdup("a symbolic link to a directory is kept"));
                        return TRUE;
                }
        }
        struct content_facts content;
        if (!survey_inspect_now(s, index, o, &content, error))
                return FALSE;
        struct decision d = plan_decide(s->plan->manifest->entries[index], o, &content, NULL, NULL);
        survey_conclude(s, index, o, d, survey_how_of(&d, o, FALSE));
        if (pe->how == HOW_CREATE || pe->how == HOW_EXCHANGE || pe->how == HOW_MERGE)
                plan_places_set(s->places, pe->path, PARENT_CREATED, (gint32)index);
        return TRUE;
}

/* A live directory is in the way, or is to be deleted. */
gboolean survey_directory_goes(struct survey *s, guint32 index, int parent_fd, const struct object_facts *o,
                               GError **error)
{
        struct plan_entry *pe = &s->plan->entries[index];
        gboolean is_delete = s->plan->manifest->entries[index]->type == MOULT__ENTRY_TYPE__ENTRY_DELETE;
        struct content_facts none = {0};
        struct decision d = plan_decide(s->plan->manifest->entries[index], o, &none, NULL, NULL);
        g_autofree char *leftovers = NULL;
        if (!directory_leftovers(s, pe, parent_fd, &leftovers, error)) {
                g_free(d.reason);
                return FALSE;
        }
        if (leftovers != NULL && is_delete && s->request->allow_drift) {
                g_free(d.reason);
                pe->action = MOULT__PLAN_ACTION__PLAN_EQUAL;
                survey_set_reason(pe, g_strdup_printf("kept: %s", leftovers));
                return TRUE;
        }
        if (leftovers != NULL && is_delete) {
                g_free(d.reason);
                d = (struct decision){MOULT__PLAN_ACTION__PLAN_DRIFT, g_steal_pointer(&leftovers)};
        }
        survey_conclude(s, index, o, d, survey_how_of(&d, o, is_delete));
        if (leftovers != NULL)
                survey_block(pe, g_steal_pointer(&leftovers));
        if (pe->action == MOULT__PLAN_ACTION__PLAN_REPLACE || pe->action == MOULT__PLAN_ACTION__PLAN_DELETE)
                plan_places_set(s->places, pe->path, PARENT_REMOVED, (gint32)index);
        return TRUE;
}
