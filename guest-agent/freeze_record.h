/* guest-agent/freeze_record.h - what the holder of a freeze tells: to the agent, message by message, and to
 * whoever comes after both, in a file.
 *
 * The file lies in memory (tmpfs) and is mapped and locked by the holder, which makes it whole before it
 * freezes anything; after that it only changes bytes that are there, so it needs nothing of a file system
 * while they are frozen, and a holder that is killed leaves the truth behind. One format for this machine:
 * other agents of it, older or newer, are told apart by the magic and the version. */
#pragma once

#include <glib.h>
#include <sys/types.h>

#include "common/mounts.h"
#include "guest-agent/freeze_machine.h"
#include "proto/limits.h"

#define FREEZE_ID_SIZE     16u
#define FREEZE_MAGIC       UINT32_C(0x6d667a31)
#define FREEZE_RECORD_NAME "freeze.mounts"
#define FREEZE_SOCKET_NAME "freeze.sock"

/* One datagram from the holder: after each change, and as the answer to an order. */
struct freeze_report {
        guint32 magic;
        guint8 id[FREEZE_ID_SIZE];
        guint32 phase; /* enum freeze_phase */
        guint32 why;   /* enum freeze_why */
        guint32 held;
        guint32 mounts;
        guint32 failed; /* with some of `why`: which of the record's mounts */
        guint32 failed_errno;
        guint64 frozen_us;
        guint64 lease_left_us; /* frozen */
        char problem[512];     /* it could not even begin: why, for people; else empty */
};

enum freeze_order_kind { FREEZE_ORDER_TELL, FREEZE_ORDER_RENEW, FREEZE_ORDER_THAW };

/* One datagram to the holder; each is answered by a report. */
struct freeze_order {
        guint32 magic;
        guint32 kind;
        guint64 lease_us; /* RENEW */
};

struct freeze_record_mount {
        guint64 id;     /* of the mount */
        guint64 device; /* a dev_t */
        char point[LIMIT_PATH_BYTES + 1];
};

struct freeze_record {
        struct freeze_report report;
        guint32 n;
        guint8 states[LIMIT_FREEZE_MOUNTS]; /* enum freeze_mount_state */
        struct freeze_record_mount mounts[];
};

/* Makes DIRECTORY/freeze.mounts for @n file systems, mapped; the caller fills it. NULL with @error, also if
 * @directory is not in memory. It stays when it is unmapped. */
struct freeze_record *freeze_record_new(const char *directory, guint n, GError **error);
/* What is there; NULL without @error: nothing. Only for when there is no holder (any more). */
struct freeze_record *freeze_record_load(const char *directory, GError **error);
void freeze_record_unmap(struct freeze_record *r);
typedef struct freeze_record FreezeRecord;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FreezeRecord, freeze_record_unmap)

/* Whether that file system may still be frozen. */
gboolean freeze_record_may_be_frozen(const struct freeze_record *r, guint i);
/* Whether any may. */
gboolean freeze_record_is_left(const struct freeze_record *r);
/* A rescue that left something is to be run again after FREEZE_RETHAW_US; so often at most is it patient. */
#define FREEZE_RESCUE_PATIENT 60u
/* The holder is gone: thaws what may be frozen, the last one first, and writes the end down: not held, and
 * THAWED, or THAWING as long as something is left (freeze_record_is_left()). Returns how many were frozen.
 * What cannot be opened or thawed is left and told in @problem, a line each. @mounts: where file systems are
 * mounted now; one that is not any more counts as thawed. NULL: not known. @patient: one that was about to be
 * frozen, and is not, is left: the FIFREEZE of a holder that was killed may still come to its end. */
guint freeze_record_rescue(struct freeze_record *r, const MountTable *mounts, gboolean patient,
                           GString *problem);
