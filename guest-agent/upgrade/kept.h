/* guest-agent/upgrade/kept.h - the file lists that are kept with the generations, for those who only look. */
#pragma once

#include "guest-agent/upgrade/transaction.h"
#include "shm/manifest.h"

/* What a push, or a rollback of one, was about. */
struct kept_release {
        guint64 generation;
        char *release;      /* "NAME VERSION", or NULL */
        Manifest *manifest; /* owned, until stolen */
};
void kept_release_clear(struct kept_release *k);

/* By the push that made or took back the generation; @push_id NULL: the newest committed generation.
 * NOT_FOUND if there is none, or its list is not kept. */
gboolean upgrade_kept_release(Upgrade *u, const guint8 *push_id, struct kept_release *ret, GError **error);
/* The tree that it upgrades. */
const char *upgrade_root(const Upgrade *u);
/* A descriptor of the state directory, to be closed by the caller: for looking into it after @u has gone. -1:
 * there is none yet. */
int upgrade_kept_directory(const Upgrade *u);
/* The list of one generation, by that descriptor; NULL: it is not kept. Any thread: it repairs nothing. */
Manifest *kept_manifest_at(int directory, guint64 generation);
/* Restarts a service that runs, as after a switch. HEALTH: it did not come up. REFUSED: this tree's services
 * are not to be restarted (it is not the machine's own), or it is the agent itself. */
gboolean upgrade_restart_unit(Upgrade *u, const char *unit, GError **error);
