/* host-service/push/vm_releases.h - what each VM runs now, by its guest's own word.
 *
 * Pushes are not all that changes it: rollbacks, `moult-agent rollback` in the guest, its dead-man timer, a
 * VM that was reverted. So the guest's history is asked for when a session stands, when a push has ended, and
 * when the guest tells of an end that no push of ours waits for; the newest committed release of it is the
 * catalogue's `last_release`. */
#pragma once

#include "host-service/guests/guests.h"
#include "host-service/push/guest_ask.h"

typedef struct VmReleases VmReleases;

/* All must outlive it but @asks, which is freed before. */
VmReleases *vm_releases_new(const struct host_env *env, Catalogue *c, Guests *g, GuestAsks *asks);
void vm_releases_free(VmReleases *v);
/* Soon, from the loop; at most once in two seconds for each VM, however often it is called. */
void vm_releases_ask(VmReleases *v, const char *vm);

/* The catalogue's words for a release that was pushed whole, or of which files were selected. Newly
 * allocated. */
char *vm_release_text(const char *release, gboolean selected);
