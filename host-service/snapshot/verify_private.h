/* host-service/snapshot/verify_private.h - what the files of a verification share; for them only.
 *
 * verify.c: the job, and which part comes when. verify_plan.c: what there is to look at. verify_store.c and
 * verify_files.c: looking. verify_deep.c: rebuilding and comparing. verify_report.c: whom what was found
 * affects.
 *
 * Each layer, chunk and file is looked at once, however many restore points need it. Who looks, in a worker
 * thread, only notes what is wrong (verify_note()); the loop says later what that means. */
#pragma once

#include <json-glib/json-glib.h>

#include "host-service/jobs/job_task.h"
#include "host-service/snapshot/restore.h"
#include "host-service/snapshot/restore_point.h"
#include "host-service/snapshot/verify.h"
#include "host-service/store/report.h"
#include "host-service/store/transfer.h"

struct SnapshotVerifies {
        const struct host_env *env;
        Catalogue *catalogue;
        Jobs *jobs;
        LayerRefs *refs;
        GPtrArray *tasks; /* of struct verify */
};

struct verify_point {
        RestorePoint *p;
        GPtrArray *chains;           /* of FileChain, by disk; NULL inside: not all of its files are here */
        SnapshotManifest *manifest;  /* as the store should have it */
        gboolean in_store, in_files; /* as the catalogue has it */
        gboolean store_hurt, files_hurt;
        gboolean compared; /* rebuilt from the store, and the same as in files */
        gboolean rebuilt;
};

struct verify_layer {
        const LayerRecord *r;
        GArray *chunks;     /* of struct layer_chunk; NULL: its map could not be had */
        guint64 room_bytes; /* that its data take in an image of their own, at most */
};

struct verify_chunk {
        guint8 id[DIGEST_SIZE];
        guint32 len;
        gboolean missing;
        char *why; /* NULL: it is whole, as far as is known */
};

struct verify_file {
        char *path, *format;
        char *below;        /* that it stands on; NULL: nothing */
        guint64 size_bytes; /* of the disk; 0: not on record */
        GPtrArray *base;    /* a line whose base it is; NULL: it is none's first file */
};

/* Something that is wrong: with a layer, a file, or one restore point. */
struct verify_hurt {
        FindingKind kind;
        char *layer, *file; /* or NULL */
        struct verify_point *point;
        char *text;
};

struct verify {
        SnapshotVerifies *owner;
        struct job_task job;
        char *vm, *snapshot; /* or NULL */
        gboolean deep;
        char *scratch;
        GPtrArray *held;         /* ids of layers to which we have references */
        GPtrArray *points;       /* of struct verify_point, newest first */
        GPtrArray *layers;       /* of struct verify_layer: that the store should have */
        GHashTable *layer_index; /* id -> struct verify_layer */
        GPtrArray *chunks;       /* of struct verify_chunk: each once */
        GHashTable *chunk_index; /* struct verify_chunk as a set */
        GPtrArray *files;        /* of struct verify_file */
        Transfer *transfer;
        Restore *restore;
        guint point, disk; /* --deep: which is rebuilt */
        char *part;        /* the file for it */
        GMutex lock;       /* of hurts */
        GPtrArray *hurts;  /* of struct verify_hurt */
        gint64 done, total, bytes;
};

/* Any thread; @layer, @file, @point: one of them; @text is taken. */
void verify_note(struct verify *v, FindingKind kind, const char *layer, const char *file,
                 struct verify_point *point, char *text);
/* Whether the error says that something there is damaged or missing, and not that one could not look. */
gboolean verify_is_damage(const GError *error);
void verify_count(struct verify *v, gint64 n); /* any thread */

/* verify_plan.c: from the rows. */
gboolean verify_plan(struct verify *v, GError **error);
void verify_plan_clear(struct verify *v);

/* Steps for transfer_start(), whose user is the struct verify. */
gboolean verify_manifest_step(guint index, gpointer user, GCancellable *cancellable, GError **error);
gboolean verify_map_step(guint index, gpointer user, GCancellable *cancellable, GError **error);
gboolean verify_chunk_step(guint index, gpointer user, GCancellable *cancellable, GError **error);
gboolean verify_file_step(guint index, gpointer user, GCancellable *cancellable, GError **error);
/* Between maps and chunks: each chunk once. After chunks: what damaged ones mean to layers. */
void verify_collect_chunks(struct verify *v);
void verify_judge_chunks(struct verify *v);

/* verify_report.c: which restore points are hurt by what was found until now; may be asked again. */
void verify_judge(struct verify *v);
JsonObject *verify_result(struct verify *v);
/* NULL, or CORRUPT: how many are damaged. */
GError *verify_error(struct verify *v);

/* verify_deep.c: rebuilds what can be, one after the other, and then calls @then with NULL or what it failed
 * at, from the loop. */
void verify_deep(struct verify *v, void (*then)(struct verify *v, const GError *error));
