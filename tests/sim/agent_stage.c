/* tests/sim/agent_stage.c - where the simulated agent reads a pack from: the ladder. */
#include <string.h>

#include "proto/limits.h"
#include "tests/sim/agent_private.h"

#define PIECE 2000u

void agent_set_sources(Agent *a, const Moult__SourceKind *sources, gsize n)
{
        a->n_sources = (guint)MIN(n, AGENT_SOURCES);
        if (n > 0)
                memcpy(a->sources, sources, a->n_sources * sizeof sources[0]);
        a->source = 0;
        a->bad_reads = 0;
}

static void climb_down(Agent *a)
{
        a->source++;
        a->fetched = 0;
        agent_stage_later(a);
}

/* Bytes that do not match: the next rung, once; wrong there too, and the push has failed. */
static void read_badly(Agent *a)
{
        a->bad_reads++;
        if (a->bad_reads > 1 || a->source + 1 >= a->n_sources)
                agent_staged(a, MOULT__ERROR_CODE__ERROR_CORRUPT);
        else
                climb_down(a);
}

static void on_data(Session *s, const Message *reply, const GError *error, gpointer user)
{
        Agent *a = user;

        a->fetching = FALSE;
        a->fetch = 0;
        if (a->talk.phase != P(STAGING))
                return;
        if (error) {
                if (g_error_matches(error, MOULT_ERROR, MOULT_ERROR_IO) && !session_is_established(s))
                        return; /* goes on when there is a session again */
                if (g_error_matches(error, MOULT_ERROR, MOULT_ERROR_IO) ||
                    g_error_matches(error, MOULT_ERROR, MOULT_ERROR_CORRUPT))
                        read_badly(a);
                else
                        climb_down(a); /* not offered any more, busy */
                return;
        }
        if (!vault_is(a->release, reply->data->bytes.data, reply->data->bytes.len, reply->data->offset)) {
                read_badly(a);
                return;
        }
        a->fetched += reply->data->bytes.len;
        a->bytes_done = a->fetched;
        agent_talk_tell(&a->talk);
        agent_stage_later(a);
}

static void fetch(Agent *a)
{
        Moult__Fetch f = MOULT__FETCH__INIT;
        Message m = MOULT__MESSAGE__INIT;
        guint8 digest[DIGEST_SIZE];

        if (a->fetching || !a->talk.session || !session_is_established(a->talk.session))
                return; /* agent_session.c comes back when there is one */
        vault_digest(a->release, digest);
        f.manifest_digest = message_blob(digest, sizeof digest);
        f.offset = a->fetched;
        f.length = (guint32)MIN(PIECE, VAULT_PACK_SIZE - a->fetched);
        m.body_case = MOULT__MESSAGE__BODY_FETCH;
        m.fetch = &f;
        a->fetching = TRUE;
        a->fetch = session_request(a->talk.session, &m, 30000, on_data, a);
}

void agent_stage_lost(Agent *a)
{
        if (a->fetch && a->talk.session)
                session_forget(a->talk.session, a->fetch);
        a->fetch = 0;
        a->fetching = FALSE;
}

void agent_stage_more(Agent *a)
{
        VaultManner manner;

        if (a->source >= a->n_sources) {
                agent_staged(a, MOULT__ERROR_CODE__ERROR_IO);
        } else if (a->fetched == VAULT_PACK_SIZE) {
                agent_staged(a, 0);
        } else if (a->sources[a->source] == MOULT__SOURCE_KIND__SOURCE_SERIAL) {
                fetch(a);
        } else if (!a->guest->window(a->release, &manner, a->guest->user)) {
                climb_down(a);
        } else if (manner != VAULT_HONEST) {
                read_badly(a);
        } else {
                a->fetched = a->bytes_done = VAULT_PACK_SIZE;
                agent_stage_later(a);
        }
}
