/* tests/support/fake_agent.h - an agent with a script instead of an engine, behind a socket as QEMU's chardev
 * is.
 *
 * It answers as docs/protocol.md says, walks through the phases by itself, and dies, forgets, refuses or
 * hangs where the script says. What it does is written to a log that several fakes share, so that a test can
 * assert an order. */
#pragma once

#include <gio/gio.h>

#include "tests/support/agent_talk.h"

#define FAKE_PHASES (MOULT__TRANSACTION_PHASE__PHASE_FAILED + 1)

struct fake_agent_script {
        Moult__TransactionPhase die_at;  /* on entering it the connection is cut, once; NONE: never */
        gboolean restarts;               /* dying is a restart: what was not committing is forgotten */
        Moult__TransactionPhase hold_at; /* goes no further by itself */
        Moult__TransactionPhase
                end;      /* REFUSED, FAILED (in staging), ROLLED_BACK (in health); NONE: committed */
        gboolean fetches; /* staging really fetches the whole pack over the session */
        guint step_ms;    /* from one phase to the next; 0: at once */
        gboolean deaf;    /* reads, and neither does nor answers anything */
        guint busy;       /* so many offers are answered BUSY first */
        guint plan_items;
        gboolean switches_early; /* has switched when it reports COMMITTING; else from ACTIVE on */
        GBytes *expected;        /* what a fetched pack must be */
        const char *release;     /* what its history calls that: "demo 1.0" if nobody says otherwise */
        const char *join_token;
        gboolean stale;          /* a process runs old code */
        gboolean cut_when_asked; /* for that, it cuts the connection */
        gboolean old;            /* it does not know that question */
        gboolean knows_pmem;
        gboolean locked_down; /* waits in planning until it hears what comes in place of an ivshmem window */
};

typedef struct FakeAgent FakeAgent;

/* Listens at @path. @log: of char *, "NAME EVENT"; borrowed. */
FakeAgent *fake_agent_new(const char *name, const char *path, GPtrArray *log);
void fake_agent_free(FakeAgent *a);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FakeAgent, fake_agent_free)
struct fake_agent_script *fake_agent_script(FakeAgent *a);
/* A connection that the agent made itself (TLS). Takes over @t. */
void fake_agent_attach(FakeAgent *a, Transport *t);
Moult__TransactionPhase fake_agent_phase(const FakeAgent *a);
/* Ends a hold. */
void fake_agent_go_on(FakeAgent *a);
/* As if it was asked to in the guest. */
void fake_agent_roll_back(FakeAgent *a);
void fake_agent_cut(FakeAgent *a);
/* The established session, or NULL. */
Session *fake_agent_session(FakeAgent *a);
/* Sources of the last offer. */
guint fake_agent_offered(const FakeAgent *a, Moult__SourceKind ret[static 4]);
guint fake_agent_commits(const FakeAgent *a); /* how often the tree was switched */
guint fake_agent_offers(
        const FakeAgent *a); /* pushes that it was offered and took, not counting repetitions */
guint64 fake_agent_fetched(const FakeAgent *a); /* bytes of packs, over all pushes */
/* What runs, by its history; NULL: what it began with. */
const char *fake_agent_release(const FakeAgent *a);
