/* tests/support/layer_lab.h - layers for tests: disks in memory that can be read and written as layers are,
 * and an object store that fails as it is told. */
#pragma once

#include "host-service/layers/layer_io.h"
#include "host-service/layers/layer_task.h"
#include "tests/support/host_world.h"

/* A layer of a disk, or a whole one. As a reader it tells its ranges in pieces; as a writer it takes what
 * comes. Both abort the test if two callers come at once, or one reads what is no data. */
typedef struct {
        struct layer_reader reader;
        struct layer_writer writer;
        uint8_t *bytes;
        LayerRangeKind *kinds; /* of sectors */
        gint busy;
        guint64 bytes_read;
        guint reads;
} FakeDisk;
FakeDisk *fake_disk_new(uint64_t size_bytes); /* all absent */
void fake_disk_free(FakeDisk *d);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FakeDisk, fake_disk_free)
/* Data of the guest's; @seed 0: zeros that are written as data. The same seed gives the same bytes. */
void fake_disk_fill(FakeDisk *d, uint64_t offset, uint64_t len, guint32 seed);
void fake_disk_zero(FakeDisk *d, uint64_t offset, uint64_t len);
/* @d with what it does not have from @below: what a guest sees; all of it can be read. */
FakeDisk *fake_disk_over(const FakeDisk *d, const FakeDisk *below);
/* The guest sees the same: kinds do not count. */
gboolean fake_disk_equal(const FakeDisk *a, const FakeDisk *b);

/* A directory, and what goes wrong in front of it. All fields may be set at any time. */
typedef struct {
        ObjectStore base;
        ObjectStore *inner;
        gint fail_puts;                /* so many puts fail from now on with TIMEOUT */
        const char *lose_at;           /* a put of a key that begins so removes one chunk first */
        const char *garble;            /* what is got under a key that begins so has one bit changed */
        void (*on_put)(gpointer user); /* any thread */
        gpointer user;
        gint puts, gets; /* of chunks; atomic */
} WaywardStore;
WaywardStore *wayward_store_new(const char *dir);
void wayward_store_free(WaywardStore *s);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(WaywardStore, wayward_store_free)

typedef struct {
        HostWorld *world;
        WaywardStore *store;
        char *dir;     /* of the store */
        gboolean over; /* the last upload or restore */
        GError *error;
        struct layer_upload_result up;
        struct layer_restore_result down;
} LayerLab;
/* Timers are ready at once, and move the clock by what they wait for. */
LayerLab *layer_lab_new(void);
void layer_lab_free(LayerLab *l);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LayerLab, layer_lab_free)
/* Both run the loop to the end; FALSE: l->error says why. */
gboolean layer_lab_upload(LayerLab *l, const char *id, FakeDisk *d, FakeDisk *parent,
                          const struct layer_upload_options *options);
gboolean layer_lab_restore(LayerLab *l, const struct layer_ref *newest_first, guint n, FakeDisk *to,
                           const struct layer_restore_options *options);
void layer_lab_wait(LayerLab *l);
/* For layer_upload_start(), with the lab. */
void layer_lab_uploaded(const struct layer_upload_result *result, const GError *error, gpointer lab);
/* Keys below @prefix; of char *, sorted. */
GPtrArray *layer_lab_keys(LayerLab *l, const char *prefix);
