/* host-service/cli/drift_check.h - compares one VM with its golden image and with the releases that it has
 * taken. */
#pragma once

#include "host-service/cli/sides.h"

/* What every VM of one run is compared with, and how. All borrowed. */
struct drift_against {
        Cli *cli;
        BuildTree *golden; /* digests are added to it */
        const PerVmList *per_vm;
        const char *const *exclude;
        gboolean quick; /* size and time are trusted */
};

struct drift_found {
        JsonArray *drift;    /* what is neither the golden image's nor a release's: change, path, against */
        guint released;      /* so many differ from the golden image, as a release has them */
        guint per_vm;        /* so many belong to this machine and were left out */
        gint64 as_of;        /* what moultd counted before it began; -1: it is too old to say */
        GPtrArray *warnings; /* of char * */
};
void drift_found_clear(struct drift_found *f);

/* Reads @vm through moultd. @ret is to be cleared in any case. */
gboolean drift_check(const struct drift_against *against, const char *vm, struct drift_found *ret,
                     GError **error);
/* Tells moultd, for `moult fleet`. Failing to is a warning of @f: the result is right all the same. */
void drift_record(Cli *cli, const char *vm, struct drift_found *f);
