/* fuse-overlay/targetfs/source_pack.c - instant mode: files out of the release's pack. */
#include "fuse-overlay/targetfs/source_pack.h"

#include <string.h>

#include "common/digest.h"
#include "common/error.h"
#include "common/events.h"
#include "common/fd.h"
#include "fuse-overlay/targetfs/read_deadline.h"
#include "fuse-overlay/targetfs/source_counted.h"
#include "fuse-overlay/targetfs/source_socket.h"
#include "proto/limits.h"
#include "shm/pci_window.h"
#include "shm/pmem_window.h"

/* The ways to the bytes, best first. */
enum way { WAY_PCI, WAY_PMEM, WAY_SOCKET, WAY_NONE };

struct SourcePack {
        char *sysfs_pci, *sysfs_block, *dev, *socket;
        PackReader *reader;
        gsize bytes[WAY_NONE];  /* atomic: read by each way */
        GHashTable *by_content; /* struct content_key -> index + 1 */
        /* Under the ladder's lock. */
        enum way next;
        gboolean damaged; /* shared memory gave wrong bytes: not used again */
};

struct content_key {
        guint8 digest[DIGEST_SIZE];
        guint64 size;
};

static guint key_hash(gconstpointer p)
{
        guint h;
        memcpy(&h, ((const struct content_key *)p)->digest, sizeof h);
        return h;
}

static gboolean key_equal(gconstpointer a, gconstpointer b)
{
        const struct content_key *x = a, *y = b;
        return x->size == y->size && memcmp(x->digest, y->digest, DIGEST_SIZE) == 0;
}

static gboolean key_of(const Moult__Entry *e, struct content_key *ret)
{
        if (e->type != MOULT__ENTRY_TYPE__ENTRY_FILE || e->digest.len != DIGEST_SIZE)
                return FALSE;
        memcpy(ret->digest, e->digest.data, DIGEST_SIZE);
        ret->size = e->size;
        return TRUE;
}

static void index_contents(SourcePack *p)
{
        const Manifest *m = pack_reader_manifest(p->reader);
        p->by_content = g_hash_table_new_full(key_hash, key_equal, g_free, NULL);
        for (gsize i = 0; i < m->n_entries; i++) {
                struct content_key key;
                if (key_of(m->entries[i], &key))
                        g_hash_table_insert(p->by_content, g_memdup2(&key, sizeof key),
                                            GSIZE_TO_POINTER(i + 1));
        }
}

/* NULL: this way does not work now. */
static PackSource *open_way(SourcePack *p, enum way way)
{
        const struct pack_header *h = pack_reader_header(p->reader);

        if (way == WAY_PCI && p->sysfs_pci != NULL && !p->damaged)
                return pci_window_open(p->sysfs_pci, h->manifest_digest, /* strict= */ FALSE, NULL);
        if (way == WAY_PMEM && p->sysfs_block != NULL && p->dev != NULL && !p->damaged)
                return pmem_window_open(p->sysfs_block, p->dev, h->manifest_digest, /* strict= */ FALSE,
                                        NULL);
        if (way == WAY_SOCKET && p->socket != NULL && read_deadline_left_ms() > 0)
                return source_socket_new(p->socket, h->manifest_digest, h->pack_size);
        return NULL;
}

/* Of the ladder: the next way that works. After the last one has failed, a later read begins with the first
 * again. */
static PackSource *open_next(gpointer user, gboolean damaged, GError **error)
{
        SourcePack *p = user;

        p->damaged |= damaged;
        while (p->next != WAY_NONE) {
                enum way way = p->next++;
                PackSource *source = open_way(p, way);
                if (source == NULL)
                        continue;
                event_log(EVENT_INFO, "targetfs-source", "reading the release", "source", source->ops->name,
                          NULL);
                return source_counted_new(source, &p->bytes[way]);
        }
        p->next = WAY_PCI;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_IO,
                    "the release's shared memory is not there, and the agent cannot give the bytes");
        return NULL;
}

char *source_pack_counts(SourcePack *p)
{
        return g_strdup_printf("ivshmem=%" G_GSIZE_FORMAT " pmem=%" G_GSIZE_FORMAT " agent=%" G_GSIZE_FORMAT,
                               (gsize)g_atomic_pointer_get(&p->bytes[WAY_PCI]),
                               (gsize)g_atomic_pointer_get(&p->bytes[WAY_PMEM]),
                               (gsize)g_atomic_pointer_get(&p->bytes[WAY_SOCKET]));
}

static gboolean read_list(SourcePack *p, int record_fd, GError **error)
{
        g_autoptr(GBytes) header = fd_read_file_at(record_fd, "header", PACK_HEADER_SIZE, error);
        g_autoptr(GBytes) manifest =
                header != NULL ? fd_read_file_at(record_fd, "manifest", LIMIT_MANIFEST_BYTES, error) : NULL;
        g_autoptr(GBytes) signature =
                manifest != NULL ? fd_read_file_at(record_fd, "signature", LIMIT_SIGNATURE_BYTES, error)
                                 : NULL;
        if (signature == NULL)
                return FALSE;
        struct pack_header h;
        const char *why = g_bytes_get_size(header) == PACK_HEADER_SIZE
                                  ? pack_header_parse(g_bytes_get_data(header, NULL), G_MAXUINT64, &h)
                                  : "it is cut off";
        if (why != NULL) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT, "the kept pack header: %s", why);
                return FALSE;
        }
        g_autoptr(PackSource) ladder = pack_source_ladder_new(h.pack_size, open_next, p);
        /* The agent verified the signature before it kept the list, where only root writes. */
        p->reader = pack_reader_open_kept(header, manifest, signature, ladder, /* trust= */ NULL, error);
        return p->reader != NULL;
}

SourcePack *source_pack_new(const struct source_pack_config *config, GError **error)
{
        g_autoptr(SourcePack) p = g_new0(SourcePack, 1);
        p->sysfs_pci = g_strdup(config->sysfs_pci);
        p->sysfs_block = g_strdup(config->sysfs_block);
        p->dev = g_strdup(config->dev);
        p->socket = g_strdup(config->socket);
        if (!read_list(p, config->record_fd, error)) {
                g_prefix_error(error, "opening the kept list of the release: ");
                return NULL;
        }
        index_contents(p);
        return g_steal_pointer(&p);
}

void source_pack_free(SourcePack *p)
{
        if (p == NULL)
                return;
        if (p->by_content != NULL)
                g_hash_table_unref(p->by_content);
        pack_reader_unref(p->reader);
        g_free(p->sysfs_pci);
        g_free(p->sysfs_block);
        g_free(p->dev);
        g_free(p->socket);
        g_free(p);
}

VerifiedFile *source_pack_open(SourcePack *p, const Moult__Entry *entry, GError **error)
{
        struct content_key key;
        gpointer found = key_of(entry, &key) ? g_hash_table_lookup(p->by_content, &key) : NULL;
        if (found == NULL) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND,
                            "the file is neither in the store nor in the release's pack");
                return NULL;
        }
        return verified_file_open(p->reader, (guint32)(GPOINTER_TO_SIZE(found) - 1), error);
}
