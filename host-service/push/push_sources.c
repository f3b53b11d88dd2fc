/* host-service/push/push_sources.c - the ladder that a guest is told. */
#include "host-service/push/push_sources.h"

gsize push_sources_list(PushTransport t, const struct push_ways *ways,
                        Moult__SourceKind ret[static PUSH_SOURCES_MAX])
{
        gboolean is_auto = t == PUSH_TRANSPORT_AUTO;
        gsize n = 0;

        if (ways->window == MOULT__SOURCE_KIND__SOURCE_IVSHMEM && (is_auto || t == PUSH_TRANSPORT_IVSHMEM))
                ret[n++] = MOULT__SOURCE_KIND__SOURCE_IVSHMEM;
        if (ways->window == MOULT__SOURCE_KIND__SOURCE_PMEM ? is_auto || t == PUSH_TRANSPORT_PMEM
                                                            : is_auto && ways->may_climb)
                ret[n++] = MOULT__SOURCE_KIND__SOURCE_PMEM;
        if (t == PUSH_TRANSPORT_TLS || (is_auto && ways->tls))
                ret[n++] = MOULT__SOURCE_KIND__SOURCE_TLS;
        if (t == PUSH_TRANSPORT_SERIAL || (is_auto && ways->serial))
                ret[n++] = MOULT__SOURCE_KIND__SOURCE_SERIAL;
        return n;
}

gsize push_sources_now(Guests *g, const PushRecord *r, const PushWindow *w,
                       Moult__SourceKind ret[static PUSH_SOURCES_MAX])
{
        struct push_ways ways = {
                .window = push_window_kind(w),
                .may_climb = push_window_may_climb(w),
                .tls = guests_session(g, r->vm, GUEST_SESSION_TLS) != NULL,
                .serial = guests_session(g, r->vm, GUEST_SESSION_SERIAL) != NULL,
        };

        return push_sources_list(r->options.transport, &ways, ret);
}

gboolean push_sources_pmem_is_known(const Session *s)
{
        return !s || session_peer_can(s, CAPABILITY_PMEM);
}
