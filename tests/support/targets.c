/* tests/support/targets.c - targets, and the files that their items want, for tests of the target file
 * system. */
#include "tests/support/targets.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/digest.h"
#include "common/fd.h"
#include "proto/message.h"
#include "shm/entry_metadata.h"

#define TIME_S 1700000000

Changes *changes_new(void)
{
        Changes *c = g_new0(Changes, 1);
        c->changes = g_array_new(FALSE, TRUE, sizeof(struct target_change));
        c->blocks = g_ptr_array_new_with_free_func(g_free);
        return c;
}

void changes_free(Changes *c)
{
        g_array_unref(c->changes);
        g_ptr_array_unref(c->blocks);
        g_free(c);
}

static void *own(Changes *c, void *block)
{
        g_ptr_array_add(c->blocks, block);
        return block;
}

struct target_change *changes_add(Changes *c, Moult__EntryType type, const char *path, const char *text)
{
        Moult__Entry *e = own(c, g_new(Moult__Entry, 1));
        char *own_path = own(c, g_strdup(path)), *own_text = own(c, g_strdup(text));
        moult__entry__init(e);
        e->type = type;
        e->path = message_bytes(own_path);
        if (type != MOULT__ENTRY_TYPE__ENTRY_DELETE) {
                e->mode = type == MOULT__ENTRY_TYPE__ENTRY_DIRECTORY ? 0755 : 0644;
                e->mtime_s = TIME_S;
        }
        if (type == MOULT__ENTRY_TYPE__ENTRY_FILE) {
                guint8 *digest = own(c, g_malloc(DIGEST_SIZE));
                g_autoptr(Hasher) h = hasher_new();
                verity_digest_buffer(h, own_text, strlen(own_text), digest);
                e->size = strlen(own_text);
                e->digest = message_blob(digest, DIGEST_SIZE);
        }
        if (type == MOULT__ENTRY_TYPE__ENTRY_SYMLINK) {
                e->mode = 0;
                e->link_target = message_bytes(own_text);
        }
        struct target_change change = {.path = own_path, .entry = e, .mount = "usr"};
        g_array_append_val(c->changes, change);
        return &g_array_index(c->changes, struct target_change, c->changes->len - 1);
}

struct target_change *changes_file(Changes *c, const char *path, const char *text)
{
        return changes_add(c, MOULT__ENTRY_TYPE__ENTRY_FILE, path, text);
}

struct target_change *changes_directory(Changes *c, const char *path)
{
        return changes_add(c, MOULT__ENTRY_TYPE__ENTRY_DIRECTORY, path, "");
}

struct target_change *changes_delete(Changes *c, const char *path)
{
        return changes_add(c, MOULT__ENTRY_TYPE__ENTRY_DELETE, path, "");
}

Moult__Entry *changes_entry(const struct target_change *change)
{
        return (Moult__Entry *)change->entry;
}

void changes_xattr(Changes *c, struct target_change *change, const char *name, const void *value, gsize len)
{
        Moult__Entry *e = changes_entry(change);
        Moult__Xattr **list = own(c, g_new(Moult__Xattr *, e->n_xattrs + 1));
        Moult__Xattr *x = own(c, g_new(Moult__Xattr, 1));
        moult__xattr__init(x);
        x->name = message_bytes(own(c, g_strdup(name)));
        x->value = message_blob(own(c, g_memdup2(value, len)), len);
        for (size_t i = 0; i < e->n_xattrs; i++)
                list[i] = e->xattrs[i];
        list[e->n_xattrs++] = x;
        e->xattrs = list;
}

Target *targets_compose(const Target *before, guint64 generation, const Changes *c)
{
        g_autofree char *name = g_strdup_printf("app %" G_GUINT64_FORMAT, generation);
        guint8 digest[DIGEST_SIZE];
        memset(digest, (int)generation, sizeof digest);
        struct target_release release = {name, generation, digest};
        return target_compose(before, &release, (const struct target_change *)(void *)c->changes->data,
                              c->changes->len);
}

char *targets_text(const Target *t)
{
        static const char *const names[] = {"file", "directory", "symlink", "hardlink",
                                            "char", "block",     "fifo",    "delete"};
        GString *s = g_string_new(NULL);
        for (guint i = 0; i < target_size(t); i++) {
                struct target_item item = target_get(t, i);
                g_string_append_printf(s, "%s %s\n", item.opaque ? "opaque" : names[item.entry->type],
                                       item.path);
        }
        return g_string_free(s, FALSE);
}

void targets_put_object(ObjectStore *s, const Moult__Entry *e, const char *text, int dirfd)
{
        g_autoptr(GError) error = NULL;
        g_autoptr(Metadata) want = metadata_from_entry(e);
        scoped_fd int fd = openat(dirfd, "incoming-file", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        g_assert_cmpint(fd, >=, 0);
        fd_write_all(fd, text, strlen(text), "incoming-file", &error);
        g_assert_no_error(error);
        struct metadata_object o = {.dirfd = -1, .fd = fd};
        metadata_apply(&o, S_IFREG, want, TRUE, &error);
        g_assert_no_error(error);
        object_store_take(s, e, dirfd, "incoming-file", &error);
        g_assert_no_error(error);
}
