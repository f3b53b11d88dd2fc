/* host-service/object_store.h - the shared store: immutable objects by key, that several hosts see.
 *
 * Two kinds: a directory (STATE_DIR/objects by default, or one that hosts share), and a bucket of an S3
 * service. Both have the same layout (store/chunk_index.h). Nothing in it is believed: chunks are compared
 * with their names, packs with their signatures.
 * Calls block: worker threads only, several at once.
 *
 * Errors: NOT_FOUND (no such object), TIMEOUT (absent, slow, busy or failing: worth another try), CORRUPT (an
 * answer that was cut short: likewise), UNTRUSTED (who we are, or our signature, is not accepted), REFUSED,
 * NO_SPACE, IO, CANCELLED. */
#pragma once

#include <gio/gio.h>

#define OBJECT_MAX_BYTES (64u << 20)

typedef struct ObjectStore ObjectStore;
struct ObjectStore {
        const struct object_store_ops *ops;
        char *name; /* for people: the directory, or s3://BUCKET/PREFIX at its endpoint; no secret */
};

struct object_entry {
        char *key;
        guint64 size;
        gint64 modified_s; /* since 1970, by the store's clock, not ours */
};
static inline struct object_entry *object_entry_new(const char *key, guint64 size, gint64 modified_s)
{
        struct object_entry *e = g_new(struct object_entry, 1);

        *e = (struct object_entry){g_strdup(key), size, modified_s};
        return e;
}
static inline void object_entry_free(gpointer entry)
{
        g_free(((struct object_entry *)entry)->key);
        g_free(entry);
}

struct object_store_ops {
        /* Larger than @max_bytes is CORRUPT. */
        GBytes *(*get)(ObjectStore *s, const char *key, gsize max_bytes, GCancellable *cancellable,
                       GError **error);
        /* There afterwards as a whole, or not at all. An object of that key may be there: it is the same. */
        gboolean (*put)(ObjectStore *s, const char *key, GBytes *data, GCancellable *cancellable,
                        GError **error);
        /* *ret_modified_s (NULL: not asked for) as in object_entry, if it is there. */
        gboolean (*has)(ObjectStore *s, const char *key, gboolean *ret, gint64 *ret_modified_s,
                        GCancellable *cancellable, GError **error);
        /* Makes its time of modification the present one, by the store's clock, without sending it. *ret is
         * FALSE if it is not there, or cannot be changed like this: put it. */
        gboolean (*touch)(ObjectStore *s, const char *key, gboolean *ret, GCancellable *cancellable,
                          GError **error);
        /* It does not come back, also after a power cut. An object that is not there: success. */
        gboolean (*remove)(ObjectStore *s, const char *key, GCancellable *cancellable, GError **error);
        /* The store's clock, in seconds since 1970: hosts' clocks may differ from it. */
        gboolean (*now)(ObjectStore *s, gint64 *ret_s, GCancellable *cancellable, GError **error);
        /* All objects whose keys begin with @prefix, which ends with '/'; of struct object_entry, in no
         * order. What comes or goes meanwhile may be in it or not. */
        GPtrArray *(*list)(ObjectStore *s, const char *prefix, GCancellable *cancellable, GError **error);
        void (*free)(ObjectStore *s);
};

static inline void object_store_free(ObjectStore *s)
{
        if (s)
                s->ops->free(s);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ObjectStore, object_store_free)

/* Made when the first object is put. */
ObjectStore *object_store_dir_new(const char *path);

struct s3_config {
        char *endpoint; /* "https://HOST[:PORT]"; http:// is taken too: what is fetched is verified anyway */
        char *bucket;   /* [a-z0-9.-] */
        char *prefix;   /* of keys, without '/' at its ends; may be "" */
        char *region;   /* "us-east-1" */
        char *credentials; /* file, or NULL: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN */
        char *ca;          /* file of PEM certificates that vouch for the endpoint; NULL: the system's */
        guint timeout_s;   /* without an answer, or slower than 1 KiB/s for so long: TIMEOUT */
};
/* Does not connect; reads the files now. MALFORMED: a setting, or no certificate in @ca; UNTRUSTED: the
 * credentials' file can be read by others; NOT_FOUND: no credentials. */
ObjectStore *object_store_s3_new(const struct s3_config *config, GError **error);
