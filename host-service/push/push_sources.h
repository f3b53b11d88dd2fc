/* host-service/push/push_sources.h - the ladder that a guest is told. */
#pragma once

#include "host-service/push/push_window.h"

#define PUSH_SOURCES_MAX 4u

struct push_ways {
        Moult__SourceKind window; /* plugged now; UNSPECIFIED: none */
        gboolean may_climb;       /* the other kind of window can still be asked for */
        gboolean tls, serial;     /* sessions that stand */
};

/* Pure. Best first; the number of them. A window that may still come has its place in the list already: an
 * agent goes on past it as soon as it is told that there will be none, or after a few seconds. */
gsize push_sources_list(PushTransport t, const struct push_ways *ways,
                        Moult__SourceKind ret[static PUSH_SOURCES_MAX]);
/* The same from what there is now. */
gsize push_sources_now(Guests *g, const PushRecord *r, const PushWindow *w,
                       Moult__SourceKind ret[static PUSH_SOURCES_MAX]);
/* @s NULL: after a restart a window may be plugged before the guest is back; one that knew it then will know
 * it. */
gboolean push_sources_pmem_is_known(const Session *s);
