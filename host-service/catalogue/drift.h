/* host-service/catalogue/drift.h - what the last comparison of each VM with its golden image and its releases
 * has found.
 *
 * moultd does not compare: `moult drift` does, and tells (docs/capture.md). A result holds until something
 * may have changed the VM: a push or rollback that ended (vms.changes counts those, by a trigger), or another
 * release in the guest. */
#pragma once

#include "host-service/catalogue/catalogue.h"

typedef enum {
        DRIFT_UNCHECKED,
        DRIFT_OUTDATED, /* checked, and changed since */
        DRIFT_IN_STEP,
        DRIFT_DRIFTS,
        DRIFT_STATE_MAX,
} DriftState;
const char *drift_state_name(DriftState s);

struct drift_record {
        DriftState state;
        gint64 checked_us; /* 0: never */
        gint64 files;      /* that had drifted then */
};

/* @vm must be known: NOT_FOUND. *@ret_changes (may be NULL): for who begins a check, to be given back to
 * catalogue_drift_set(). */
gboolean catalogue_drift_get(Catalogue *c, const char *vm, struct drift_record *ret, gint64 *ret_changes,
                             GError **error);
/* The result of a check that began at @as_of. The result of a check that began later stays. Event vm.drift if
 * it is another result than before. */
gboolean catalogue_drift_set(Catalogue *c, const char *vm, gint64 as_of, gint64 files, GError **error);
/* How many VMs are in each state. */
gboolean catalogue_drift_count(Catalogue *c, gint64 counts[static DRIFT_STATE_MAX], GError **error);
