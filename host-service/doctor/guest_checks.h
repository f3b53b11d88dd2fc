/* host-service/doctor/guest_checks.h - what is wrong in a guest, and what to do: pure checks of what its
 * agent tells (FactsQuery, docs/protocol.md). Every number and text in there is the guest's word. */
#pragma once

#include "host-service/doctor/finding.h"
#include "proto/channel.pb-c.h"

struct guest_facts {
        const Moult__Facts *told;     /* NULL: it has not; passed the content gate */
        gboolean older;               /* since it does not know the question */
        char *problem;                /* or for this reason; owned */
        gint64 asked_us, answered_us; /* by the host's clock, since 1970 */
        GPtrArray *releases;          /* of struct doctor_release, owned: those of this host */
};
struct doctor_release {
        char *name; /* "NAME VERSION" */
        guint8 key_id[32];
};
GPtrArray *doctor_releases_new(void);
void guest_facts_clear(struct guest_facts *f);

/* One finding for each check, in the order of the table; only the first if nothing was told. Owned by the
 * caller. */
GPtrArray *doctor_judge_guest(const struct guest_facts *f);
/* How far the guest's clock is ahead of the host's (negative: behind), as far as the time that the question
 * took leaves no doubt. */
gint64 doctor_clock_offset_us(const struct guest_facts *f);
