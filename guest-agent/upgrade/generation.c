/* guest-agent/upgrade/generation.c - STATE_DIR/generations/N: what is kept of one transaction. */
#include "guest-agent/upgrade/generation.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/atomic_file.h"
#include "common/error.h"
#include "common/fault.h"
#include "common/fd.h"
#include "proto/limits.h"

#define DIR_NAME   "generations"
#define RECORD_MAX (1024u * 1024u * 1024u)
#define OFFER_MAX  (4u * 1024u * 1024u)

static Generation *generation_at(int state_fd, guint64 number, gboolean create, GError **error)
{
        g_autofree char *path = g_strdup_printf(DIR_NAME "/%" G_GUINT64_FORMAT, number);
        g_autoptr(Generation) g = g_new0(Generation, 1);
        g->number = number;
        g->dirfd = openat(state_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (g->dirfd < 0) {
                moult_error_errno(error, errno, "opening the record of generation %" G_GUINT64_FORMAT,
                                  number);
                return NULL;
        }
        g->journal = journal_open(g->dirfd, create, error);
        if (g->journal == NULL) {
                g_prefix_error(error, "generation %" G_GUINT64_FORMAT ": ", number);
                return NULL;
        }
        return g_steal_pointer(&g);
}

Generation *generation_create(int state_fd, guint64 number, GError **error)
{
        g_autofree char *path = g_strdup_printf(DIR_NAME "/%" G_GUINT64_FORMAT, number);
        if (mkdirat(state_fd, DIR_NAME, 0700) < 0 && errno != EEXIST) {
                moult_error_errno(error, errno, "creating the directory of generations");
                return NULL;
        }
        if (mkdirat(state_fd, path, 0700) < 0) {
                moult_error_errno(error, errno, "creating the record of generation %" G_GUINT64_FORMAT,
                                  number);
                return NULL;
        }
        g_autoptr(Generation) g = generation_at(state_fd, number, /* create= */ TRUE, error);
        if (g == NULL)
                return NULL;
        scoped_fd int all = openat(state_fd, DIR_NAME, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (all < 0 || (!fault_skip("sync-generation") &&
                        (fsync(g->dirfd) < 0 || fsync(all) < 0 || fsync(state_fd) < 0))) {
                moult_error_errno(error, errno, "syncing the record of generation %" G_GUINT64_FORMAT,
                                  number);
                return NULL;
        }
        return g_steal_pointer(&g);
}

static ProtobufCMessage *load_message(int dirfd, const char *name, gsize max,
                                      const ProtobufCMessageDescriptor *type, GError **error)
{
        g_autoptr(GBytes) b = fd_read_file_at(dirfd, name, max, error);
        if (b == NULL)
                return NULL;
        gsize len;
        const guint8 *data = g_bytes_get_data(b, &len);
        ProtobufCMessage *m = protobuf_c_message_unpack(type, NULL, len, data);
        if (m == NULL)
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT, "the record \"%s\" is damaged", name);
        return m;
}

static gboolean save_message(int dirfd, const char *name, const ProtobufCMessage *m, GError **error)
{
        gsize len = protobuf_c_message_get_packed_size(m);
        g_autofree guint8 *data = g_malloc(len + 1);
        protobuf_c_message_pack(m, data);
        return atomic_file_write_at(dirfd, name, data, len, 0600, error);
}

Generation *generation_open(int state_fd, guint64 number, GError **error)
{
        g_autoptr(Generation) g = generation_at(state_fd, number, /* create= */ FALSE, error);
        if (g == NULL)
                return NULL;
        g->offer = (Moult__Record__Offer *)load_message(g->dirfd, "offer", OFFER_MAX,
                                                        &moult__record__offer__descriptor, NULL);
        return g_steal_pointer(&g);
}

void generation_free(Generation *g)
{
        if (g == NULL)
                return;
        journal_free(g->journal);
        if (g->dirfd >= 0)
                close(g->dirfd);
        if (g->offer != NULL)
                moult__record__offer__free_unpacked(g->offer, NULL);
        g_free(g);
}

static int number_compare(gconstpointer a, gconstpointer b)
{
        guint64 x = *(const guint64 *)a, y = *(const guint64 *)b;
        return x < y ? -1 : x > y;
}

GArray *generation_list(int state_fd, GError **error)
{
        g_autoptr(GArray) list = g_array_new(FALSE, FALSE, sizeof(guint64));
        int fd = openat(state_fd, DIR_NAME, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 && errno == ENOENT)
                return g_steal_pointer(&list);
        DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
        if (dir == NULL) {
                moult_error_errno(error, errno, "listing the generations");
                if (fd >= 0)
                        close(fd);
                return NULL;
        }
        struct dirent *de;
        while ((de = readdir(dir)) != NULL) {
                char *end;
                guint64 n = g_ascii_strtoull(de->d_name, &end, 10);
                if (*end == '\0' && n > 0)
                        g_array_append_val(list, n);
        }
        closedir(dir);
        g_array_sort(list, number_compare);
        return g_steal_pointer(&list);
}

gboolean generation_save_offer(Generation *g, Moult__Record__Offer *offer, GError **error)
{
        if (g->offer != NULL)
                moult__record__offer__free_unpacked(g->offer, NULL);
        g->offer = offer;
        return save_message(g->dirfd, "offer", &offer->base, error);
}

gboolean generation_save_plan(Generation *g, const Moult__Record__Plan *plan, GError **error)
{
        return save_message(g->dirfd, "plan", &plan->base, error);
}

Moult__Record__Plan *generation_load_plan(Generation *g, GError **error)
{
        g_autoptr(GError) why = NULL;
        ProtobufCMessage *m =
                load_message(g->dirfd, "plan", RECORD_MAX, &moult__record__plan__descriptor, &why);
        if (m == NULL && !g_error_matches(why, MOULT_ERROR, MOULT_ERROR_NOT_FOUND))
                g_propagate_error(error, g_steal_pointer(&why));
        return (Moult__Record__Plan *)m;
}

gboolean generation_remove_plan(Generation *g, GError **error)
{
        if (unlinkat(g->dirfd, "plan", 0) < 0 && errno != ENOENT)
                return moult_error_errno(error, errno, "removing a plan that is done with");
        return TRUE;
}

static gboolean keep(Generation *g, const char *name, GBytes *bytes, GError **error)
{
        gsize len;
        const void *data = g_bytes_get_data(bytes, &len);
        scoped_fd int fd =
                openat(g->dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
                return moult_error_errno(error, errno, "keeping the pack's %s", name);
        return fd_write_all(fd, data, len, name, error);
}

gboolean generation_keep_pack(Generation *g, PackReader *pack, GError **error)
{
        return keep(g, "header", pack_reader_header_bytes(pack), error) &&
               keep(g, "manifest", pack_reader_manifest_bytes(pack), error) &&
               keep(g, "signature", pack_reader_signature_bytes(pack), error);
}

gboolean generation_save_target(Generation *g, const Target *t, GError **error)
{
        g_autoptr(GBytes) bytes = target_serialise(t);
        gsize len;
        const void *data = g_bytes_get_data(bytes, &len);
        return atomic_file_write_at(g->dirfd, "target", data, len, 0600, error);
}

Target *generation_load_target(Generation *g, GError **error)
{
        g_autoptr(GError) why = NULL;
        g_autoptr(GBytes) bytes = fd_read_file_at(g->dirfd, "target", RECORD_MAX, &why);
        if (bytes == NULL) {
                if (!g_error_matches(why, MOULT_ERROR, MOULT_ERROR_NOT_FOUND))
                        g_propagate_error(error, g_steal_pointer(&why));
                return NULL;
        }
        Target *t = target_parse(bytes, error);
        if (t == NULL)
                g_prefix_error(error, "the target of generation %" G_GUINT64_FORMAT ": ", g->number);
        return t;
}

Manifest *generation_load_manifest(Generation *g, GError **error)
{
        g_autoptr(GBytes) header = fd_read_file_at(g->dirfd, "header", PACK_HEADER_SIZE, error);
        g_autoptr(GBytes) bytes =
                header != NULL ? fd_read_file_at(g->dirfd, "manifest", LIMIT_MANIFEST_BYTES, error) : NULL;
        if (bytes == NULL)
                return NULL;
        struct pack_header h;
        guint8 digest[DIGEST_SIZE];
        gsize len, header_len;
        const guint8 *head = g_bytes_get_data(header, &header_len);
        const void *data = g_bytes_get_data(bytes, &len);
        const char *why =
                header_len == PACK_HEADER_SIZE ? pack_header_parse(head, G_MAXINT64, &h) : "it is short";
        g_autoptr(Hasher) hasher = hasher_new();
        hasher_sha256(hasher, data, len, digest);
        if (why == NULL && memcmp(digest, h.manifest_digest, DIGEST_SIZE) != 0)
                why = "the list does not match it";
        if (why != NULL) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT,
                            "the kept pack header of generation %" G_GUINT64_FORMAT ": %s", g->number, why);
                return NULL;
        }
        return manifest_parse(data, len, &h, error);
}

gboolean generation_sync(Generation *g, GError **error)
{
        if (fault_skip("sync-state"))
                return TRUE;
        return syncfs(g->dirfd) == 0 ? TRUE : moult_error_errno(error, errno, "syncing the state directory");
}

gboolean generation_is_push(const Generation *g, const guint8 push_id[static 16])
{
        return g->offer != NULL && g->offer->push_id.len == 16 &&
               memcmp(g->offer->push_id.data, push_id, 16) == 0;
}
