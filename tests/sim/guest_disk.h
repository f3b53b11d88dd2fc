/* tests/sim/guest_disk.h - what a simulated guest does not forget: its files, its journal, its history.
 *
 * Here is the truth that the host's reports are compared with. A release replaces all of the files, one after
 * the other; the journal is written before the first and after the last. */
#pragma once

#include "proto/channel.pb-c.h"
#include "tests/sim/world.h"

#define GUEST_FILES 4u

struct generation {
        guint64 number;
        guint8 push_id[16], back_id[16]; /* of the push; of the operation that took it back, if one did */
        guint release;
        guint old[GUEST_FILES];
        Moult__TransactionPhase phase; /* COMMITTED or ROLLED_BACK */
        Moult__ErrorCode error;
        gboolean was_committed;
};

struct journal {
        Moult__TransactionPhase phase; /* NONE, COMMITTING, ACTIVE, ROLLING_BACK */
        guint8 push_id[16];
        guint release;
        guint old[GUEST_FILES];
        guint done; /* files that were exchanged */
        guint32 confirm_ms;
        guint boots;      /* since it is active */
        gboolean is_back; /* a rollback of the generation `target` by command */
        guint64 target;
        Moult__ErrorCode error; /* why it goes back */
};

typedef struct {
        World *w;
        const char *vm;
        guint files[GUEST_FILES]; /* release of each */
        struct journal journal;
        GArray *history;     /* of struct generation, oldest first */
        GHashTable *applied; /* push id (GBytes) -> how often it became active */
        guint reverts; /* how often it became what it was before: then the host may know what it does not */
} GuestDisk;

GuestDisk *guest_disk_new(World *w, const char *vm);
void guest_disk_free(GuestDisk *d);
GuestDisk *guest_disk_copy(const GuestDisk *d);

/* A push is active for the first time: counted; twice is an error. */
void guest_disk_activated(GuestDisk *d);
/* The journal's operation has ended so. */
void guest_disk_end(GuestDisk *d, Moult__TransactionPhase phase, Moult__ErrorCode error);
/* By push id, of a push or of a rollback; NULL. */
struct generation *guest_disk_find(const GuestDisk *d, const guint8 id[static 16]);
struct generation *guest_disk_newest_committed(const GuestDisk *d);
/* All files are of one release, which is the one that the journal or the history names; only between
 * operations and when active. */
void guest_disk_check(GuestDisk *d);
