/* host-service/push/guest_desk.h - answers what the API asks about living guests (host-service/guest_view.h).
 */
#pragma once

#include "host-service/guest_view.h"
#include "host-service/guests/guests.h"
#include "host-service/push/guest_ask.h"
#include "host-service/push/leftovers.h"
#include "host-service/push/vm_backings.h"
#include "host-service/push/vm_notes.h"

/* All borrowed. */
struct guest_desk {
        Guests *guests;
        VmNotes *notes;
        VmBackings *backings;
        GuestAsks *asks;
        Leftovers *leftovers;
        char *(*mapped_by)(gpointer user, const guint8 digest[static 32]); /* as in guest_view_ops */
        char *(*pushed_by)(gpointer user, const char *vm);                 /* likewise */
        gpointer user;
};

/* Valid as long as @d is. */
struct guest_view guest_desk_view(const struct guest_desk *d);
