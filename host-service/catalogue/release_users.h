/* host-service/catalogue/release_users.h - which VMs still need which releases, as far as is on record. */
#pragma once

#include "host-service/catalogue/releases.h"

/* Of the worst to lose first. */
typedef enum {
        RELEASE_USE_PUSH,  /* a push to the VM that is not final */
        RELEASE_USE_ON,    /* the VM's guest says that it runs it */
        RELEASE_USE_BACK,  /* pushed to the VM and committed: it may roll back to it */
        RELEASE_USE_WINDOW /* a window with the pack is plugged into it, or may be */
} ReleaseUse;
const char *release_use_name(ReleaseUse u); /* "push", "on", "back", "window" */

typedef struct release_user {
        gint64 release; /* ReleaseRecord.id */
        ReleaseUse use;
        char *vm;
} ReleaseUser;
void release_user_free(ReleaseUser *u);

/* Every use that the catalogue knows of, by release, then by use; a VM may be there once for each use. Of
 * the committed pushes of each VM the newest @ways_back count. What is plugged is asked for elsewhere
 * (guest_view.h). Only VMs that moultd still knows. */
GPtrArray *catalogue_release_users(Catalogue *c, guint ways_back, GError **error);
