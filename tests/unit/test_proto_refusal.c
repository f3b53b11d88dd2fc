/* tests/unit/test_proto_refusal.c - the content gate: each field at its limit passes, one beyond it is
 * refused by name.
 *
 * The messages are changed by field name through protobuf-c's descriptors, so that a row is one line. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "common/digest.h"
#include "proto/limits.h"
#include "proto/message.h"
#include "proto/refusal.h"

TestSuite(refusal, .timeout = 30);

static guint8 bytes[LIMIT_DATA_BYTES + 16]; /* 'a' everywhere: valid as name, text and (short) path */

/* One valid message of each kind, to be spoiled. */
struct sample {
        Message m;
        Moult__Hello hello;
        Moult__Error error;
        Moult__Ping ping;
        Moult__Offer offer;
        Moult__PushCommand command;
        Moult__PlanQuery plan_query;
        Moult__HistoryQuery history_query;
        Moult__RollbackGeneration rollback;
        Moult__TransactionState state;
        Moult__PlanItem item, *items[LIMIT_PLAN_PAGE + 1];
        Moult__PlanPage plan_page;
        Moult__HistoryItem past, *pasts[LIMIT_HISTORY + 1];
        Moult__History history;
        Moult__Fetch fetch;
        Moult__Data data;
        Moult__UpgradeRequest upgrade_request;
        Moult__Status status;
        Moult__StaleQuery stale_query;
        Moult__StaleProcess stale, *stales[LIMIT_STALE_PROCESSES + 1];
        Moult__StaleNamespace behind, *behinds[LIMIT_STALE_NAMESPACES + 1];
        Moult__StaleRestart restart, *restarts[LIMIT_RESTART_UNITS + 1];
        Moult__StaleReport stale_report;
        Moult__FactsPlace place, *places[LIMIT_FACTS_PLACES + 1];
        Moult__Facts facts;
        Moult__Freeze freeze;
        Moult__FreezeState freeze_state;
        Moult__SourceKind sources[16];
        ProtobufCBinaryData list[LIMIT_SELECTION + 1];
};

static ProtobufCBinaryData blob(size_t len)
{
        return message_blob(bytes, len);
}

static void sample_init(struct sample *s)
{
        memset(bytes, 'a', sizeof bytes);
        moult__message__init(&s->m);
        s->m.id = 1;
        moult__hello__init(&s->hello);
        s->hello.version_min = s->hello.version_max = 1;
        s->hello.nonce = blob(16);
        s->hello.role = MOULT__ROLE__ROLE_AGENT;
        moult__error__init(&s->error);
        moult__ping__init(&s->ping);
        moult__offer__init(&s->offer);
        s->offer.push_id = blob(16);
        s->offer.manifest_digest = blob(32);
        s->offer.pack_size = 4096;
        s->offer.n_sources = 1;
        s->offer.sources = s->sources;
        s->sources[0] = MOULT__SOURCE_KIND__SOURCE_TLS;
        moult__push_command__init(&s->command);
        s->command.push_id = blob(16);
        moult__plan_query__init(&s->plan_query);
        s->plan_query.push_id = blob(16);
        s->plan_query.count = 1;
        moult__history_query__init(&s->history_query);
        moult__rollback_generation__init(&s->rollback);
        s->rollback.push_id = blob(16);
        moult__transaction_state__init(&s->state);
        s->state.push_id = blob(16);
        moult__plan_item__init(&s->item);
        s->item.path = blob(1);
        for (size_t i = 0; i < G_N_ELEMENTS(s->items); i++)
                s->items[i] = &s->item;
        moult__plan_page__init(&s->plan_page);
        s->plan_page.push_id = blob(16);
        s->plan_page.items = s->items;
        s->plan_page.n_items = 1;
        s->plan_page.total = LIMIT_ENTRIES;
        moult__history_item__init(&s->past);
        for (size_t i = 0; i < G_N_ELEMENTS(s->pasts); i++)
                s->pasts[i] = &s->past;
        moult__history__init(&s->history);
        s->history.items = s->pasts;
        s->history.n_items = 1;
        moult__fetch__init(&s->fetch);
        s->fetch.manifest_digest = blob(32);
        s->fetch.length = 1;
        moult__data__init(&s->data);
        s->data.bytes = blob(1);
        moult__upgrade_request__init(&s->upgrade_request);
        s->upgrade_request.n_paths = 1;
        s->upgrade_request.paths = s->list;
        moult__status__init(&s->status);
        moult__facts_place__init(&s->place);
        for (size_t i = 0; i < G_N_ELEMENTS(s->places); i++)
                s->places[i] = &s->place;
        moult__facts__init(&s->facts);
        s->facts.places = s->places;
        s->facts.n_places = 1;
        s->facts.keys = s->list;
        moult__freeze__init(&s->freeze);
        moult__freeze_state__init(&s->freeze_state);
        moult__stale_query__init(&s->stale_query);
        moult__stale_process__init(&s->stale);
        moult__stale_namespace__init(&s->behind);
        moult__stale_restart__init(&s->restart);
        s->restart.unit = blob(1);
        for (size_t i = 0; i < G_N_ELEMENTS(s->stales); i++)
                s->stales[i] = &s->stale;
        for (size_t i = 0; i < G_N_ELEMENTS(s->behinds); i++)
                s->behinds[i] = &s->behind;
        for (size_t i = 0; i < G_N_ELEMENTS(s->restarts); i++)
                s->restarts[i] = &s->restart;
        moult__stale_report__init(&s->stale_report);
        s->stale_report.processes = s->stales;
        s->stale_report.namespaces = s->behinds;
        s->stale_report.restarts = s->restarts;
        s->stale_report.n_processes = s->stale_report.n_namespaces = s->stale_report.n_restarts = 1;
        s->stale_report.processes_total = s->stale_report.namespaces_total = 1000;
        for (size_t i = 0; i < G_N_ELEMENTS(s->list); i++)
                s->list[i] = blob(1);
}

static const char *judge(struct sample *s, Moult__Message__BodyCase body, void *sub)
{
        s->m.body_case = body;
        s->m.ping = sub; /* all members of the union are pointers */
        return message_refusal(&s->m);
}

#define BODY(x) MOULT__MESSAGE__BODY_##x
/* The formatter never comes to rest on this one. */
/* clang-format off */
#define BODIES(X)                                                                                            \
        X(HELLO, hello)                                                                                      \
        X(ERROR, error)                                                                                      \
        X(PING, ping)                                                                                        \
        X(OFFER, offer)                                                                                      \
        X(COMMAND, command)                                                                                  \
        X(PLAN_QUERY, plan_query)                                                                            \
        X(HISTORY_QUERY, history_query) X(ROLLBACK, rollback) X(STATE, state) X(PLAN_PAGE, plan_page)        \
                X(HISTORY, history) X(FETCH, fetch) X(DATA, data) X(UPGRADE_REQUEST, upgrade_request)        \
                        X(STATUS, status) X(STALE_QUERY, stale_query) X(STALE_REPORT, stale_report)          \
                        X(FACTS, facts) X(FREEZE, freeze) X(FREEZE_STATE, freeze_state)
/* clang-format on */

/* Sets @lvalue, wants a refusal that names @text, and takes it back. */
#define REFUSES(body, sub, lvalue, value, text)                                                              \
        do {                                                                                                 \
                __typeof__(lvalue) before = (lvalue);                                                        \
                const char *why;                                                                             \
                (lvalue) = (value);                                                                          \
                why = judge(s, BODY(body), &s->sub);                                                         \
                cr_expect(ne(ptr, (void *)why, NULL), #lvalue " = " #value " passed");                       \
                cr_expect(ne(ptr, why ? strstr(why, text) : NULL, NULL), "%s does not name " text,           \
                          why ? why : "(passed)");                                                           \
                (lvalue) = before;                                                                           \
        } while (0)
#define PASSES(body, sub, lvalue, value)                                                                     \
        do {                                                                                                 \
                __typeof__(lvalue) before = (lvalue);                                                        \
                const char *why;                                                                             \
                (lvalue) = (value);                                                                          \
                why = judge(s, BODY(body), &s->sub);                                                         \
                cr_expect(eq(ptr, (void *)why, NULL), #lvalue " = " #value " is refused: %s", why);          \
                (lvalue) = before;                                                                           \
        } while (0)
/* A bytes field: empty, at the limit, beyond. */
#define FIXED(body, sub, field, size)                                                                        \
        do {                                                                                                 \
                REFUSES(body, sub, s->sub.field, blob(0), #field);                                           \
                REFUSES(body, sub, s->sub.field, blob((size)-1), #field);                                    \
                REFUSES(body, sub, s->sub.field, blob((size) + 1), #field);                                  \
        } while (0)
#define UP_TO(body, sub, lvalue, size, text)                                                                 \
        do {                                                                                                 \
                PASSES(body, sub, lvalue, blob(0));                                                          \
                PASSES(body, sub, lvalue, blob(size));                                                       \
                REFUSES(body, sub, lvalue, blob((size) + 1), text);                                          \
        } while (0)

#define WITH_SAMPLE                                                                                          \
        g_autofree struct sample *s = g_new0(struct sample, 1);                                              \
        sample_init(s)

Test(refusal, every_sample_passes_and_without_its_body_does_not)
{
        WITH_SAMPLE;

#define CHECK(body, sub)                                                                                     \
        PASSES(body, sub, s->m.id, 7);                                                                       \
        cr_expect(ne(ptr, (void *)judge(s, BODY(body), NULL), NULL), #body " without a body passed");
        BODIES(CHECK)
#undef CHECK
        cr_expect(
                eq(ptr, (void *)judge(s, BODY(_NOT_SET), NULL), NULL)); /* the session answers: unsupported */
}

Test(refusal, hello)
{
        WITH_SAMPLE;
        static guint8 raw[] = "a b";

        FIXED(HELLO, hello, nonce, 16);
        PASSES(HELLO, hello, s->hello.echo, blob(16));
        REFUSES(HELLO, hello, s->hello.echo, blob(15), "echo");
        REFUSES(HELLO, hello, s->hello.echo, blob(17), "echo");
        REFUSES(HELLO, hello, s->hello.version_min, 0, "version");
        REFUSES(HELLO, hello, s->hello.version_min, 2, "version");
        REFUSES(HELLO, hello, s->hello.role, MOULT__ROLE__ROLE_UNKNOWN, "role");
        REFUSES(HELLO, hello, s->hello.role, (Moult__Role)4, "enum");
        UP_TO(HELLO, hello, s->hello.software, LIMIT_SOFTWARE, "software");
        UP_TO(HELLO, hello, s->hello.boot_id, LIMIT_NAME_BYTES, "boot_id");
        UP_TO(HELLO, hello, s->hello.hostname, LIMIT_HOSTNAME, "hostname");
        UP_TO(HELLO, hello, s->hello.join_token, LIMIT_JOIN_TOKEN, "join_token");
        REFUSES(HELLO, hello, s->hello.join_token, message_blob(raw, 3), "join_token");
        PASSES(HELLO, hello, s->hello.tls_fingerprint, blob(32));
        REFUSES(HELLO, hello, s->hello.tls_fingerprint, blob(31), "tls_fingerprint");
        s->hello.capabilities = s->hello.endpoints = s->list;
        PASSES(HELLO, hello, s->hello.n_capabilities, LIMIT_CAPABILITIES);
        REFUSES(HELLO, hello, s->hello.n_capabilities, LIMIT_CAPABILITIES + 1, "capabilities");
        PASSES(HELLO, hello, s->hello.n_endpoints, LIMIT_ENDPOINTS);
        REFUSES(HELLO, hello, s->hello.n_endpoints, LIMIT_ENDPOINTS + 1, "endpoints");
        s->hello.n_capabilities = s->hello.n_endpoints = 1;
        REFUSES(HELLO, hello, s->list[0], blob(0), "capabilities");
        REFUSES(HELLO, hello, s->list[0], blob(LIMIT_NAME_BYTES + 1), "capabilities");
        s->hello.n_capabilities = 0;
        PASSES(HELLO, hello, s->list[0], blob(LIMIT_ENDPOINT));
        REFUSES(HELLO, hello, s->list[0], blob(LIMIT_ENDPOINT + 1), "endpoints");
}

Test(refusal, error)
{
        WITH_SAMPLE;

        UP_TO(ERROR, error, s->error.text, LIMIT_TEXT, "text");
        REFUSES(ERROR, error, s->error.code, (Moult__ErrorCode)16, "enum");
        REFUSES(ERROR, error, s->error.code, (Moult__ErrorCode)-1, "enum");
}

Test(refusal, offer)
{
        WITH_SAMPLE;

        FIXED(OFFER, offer, push_id, 16);
        FIXED(OFFER, offer, manifest_digest, 32);
        REFUSES(OFFER, offer, s->offer.pack_size, 0, "pack_size");
        PASSES(OFFER, offer, s->offer.pack_size, LIMIT_FILE_SIZE);
        REFUSES(OFFER, offer, s->offer.pack_size, LIMIT_FILE_SIZE + 1, "pack_size");
        REFUSES(OFFER, offer, s->offer.n_sources, 0, "sources");
        REFUSES(OFFER, offer, s->offer.n_sources, LIMIT_SOURCES + 1, "sources");
        REFUSES(OFFER, offer, s->sources[0], MOULT__SOURCE_KIND__SOURCE_UNSPECIFIED, "sources");
        PASSES(OFFER, offer, s->sources[0], MOULT__SOURCE_KIND__SOURCE_IVSHMEM);
        PASSES(OFFER, offer, s->sources[0], MOULT__SOURCE_KIND__SOURCE_SERIAL);
        REFUSES(OFFER, offer, s->sources[0], MOULT__SOURCE_KIND__SOURCE_FILE, "sources");
        PASSES(OFFER, offer, s->sources[0], MOULT__SOURCE_KIND__SOURCE_PMEM);
        REFUSES(OFFER, offer, s->sources[0], (Moult__SourceKind)6, "enum");
        REFUSES(OFFER, offer, s->sources[0], (Moult__SourceKind)64, "enum");
        s->sources[1] = s->sources[0];
        REFUSES(OFFER, offer, s->offer.n_sources, 2, "twice");
        PASSES(OFFER, offer, s->offer.confirm_timeout_ms, LIMIT_CONFIRM_TIMEOUT_MS);
        REFUSES(OFFER, offer, s->offer.confirm_timeout_ms, LIMIT_CONFIRM_TIMEOUT_MS + 1,
                "confirm_timeout_ms");
        REFUSES(OFFER, offer, s->offer.workers, LIMIT_WORKERS + 1, "workers");
        REFUSES(OFFER, offer, s->offer.sync_mode, (Moult__SyncMode)2, "enum");
        s->offer.selection = s->list;
        PASSES(OFFER, offer, s->offer.n_selection, LIMIT_SELECTION);
        REFUSES(OFFER, offer, s->offer.n_selection, LIMIT_SELECTION + 1, "selection");
}

Test(refusal, paths)
{
        WITH_SAMPLE;

#define PATH(text) message_blob(text, sizeof(text) - 1)
        PASSES(UPGRADE_REQUEST, upgrade_request, s->list[0], PATH("usr/lib/x"));
        PASSES(UPGRADE_REQUEST, upgrade_request, s->list[0], PATH("/usr/lib/x"));
        PASSES(UPGRADE_REQUEST, upgrade_request, s->list[0], PATH("n\xff\n"));
        REFUSES(UPGRADE_REQUEST, upgrade_request, s->list[0], PATH(""), "paths");
        REFUSES(UPGRADE_REQUEST, upgrade_request, s->list[0], PATH("/"), "paths");
        REFUSES(UPGRADE_REQUEST, upgrade_request, s->list[0], PATH("//a"), "paths");
        REFUSES(UPGRADE_REQUEST, upgrade_request, s->list[0], PATH("a//b"), "paths");
        REFUSES(UPGRADE_REQUEST, upgrade_request, s->list[0], PATH("a/"), "paths");
        REFUSES(UPGRADE_REQUEST, upgrade_request, s->list[0], PATH("a/../b"), "paths");
        REFUSES(UPGRADE_REQUEST, upgrade_request, s->list[0], PATH("./a"), "paths");
        REFUSES(UPGRADE_REQUEST, upgrade_request, s->list[0], PATH("a\0b"), "paths");
        REFUSES(UPGRADE_REQUEST, upgrade_request, s->list[0], blob(256), "paths");
        REFUSES(UPGRADE_REQUEST, upgrade_request, s->list[0], blob(LIMIT_PATH_BYTES + 2), "paths");
        REFUSES(UPGRADE_REQUEST, upgrade_request, s->upgrade_request.n_paths, 0, "paths");
        PASSES(UPGRADE_REQUEST, upgrade_request, s->upgrade_request.n_paths, LIMIT_SELECTION);
        REFUSES(UPGRADE_REQUEST, upgrade_request, s->upgrade_request.n_paths, LIMIT_SELECTION + 1, "paths");
}

Test(refusal, commands_and_queries)
{
        WITH_SAMPLE;

        FIXED(COMMAND, command, push_id, 16);
        REFUSES(COMMAND, command, s->command.action, (Moult__PushAction)6, "enum");
        s->command.sources = s->sources;
        REFUSES(COMMAND, command, s->command.n_sources, 1, "none");
        s->command.action = MOULT__PUSH_ACTION__PUSH_SOURCES_CHANGED;
        PASSES(COMMAND, command, s->command.n_sources, 1);
        REFUSES(COMMAND, command, s->command.n_sources, LIMIT_SOURCES + 1, "sources");
        s->command.n_sources = 1;
        REFUSES(COMMAND, command, s->sources[0], MOULT__SOURCE_KIND__SOURCE_FILE, "file");
        REFUSES(COMMAND, command, s->sources[0], MOULT__SOURCE_KIND__SOURCE_UNSPECIFIED, "sources");
        s->sources[1] = s->sources[0];
        REFUSES(COMMAND, command, s->command.n_sources, 2, "twice");
        FIXED(PLAN_QUERY, plan_query, push_id, 16);
        REFUSES(PLAN_QUERY, plan_query, s->plan_query.count, 0, "count");
        PASSES(PLAN_QUERY, plan_query, s->plan_query.count, LIMIT_PLAN_PAGE);
        REFUSES(PLAN_QUERY, plan_query, s->plan_query.count, LIMIT_PLAN_PAGE + 1, "count");
        PASSES(HISTORY_QUERY, history_query, s->history_query.count, LIMIT_HISTORY);
        REFUSES(HISTORY_QUERY, history_query, s->history_query.count, LIMIT_HISTORY + 1, "count");
        FIXED(ROLLBACK, rollback, push_id, 16);
}

Test(refusal, facts)
{
        WITH_SAMPLE;

        UP_TO(FACTS, facts, s->facts.software, LIMIT_SOFTWARE, "software");
        UP_TO(FACTS, facts, s->facts.kernel, LIMIT_FACTS_WORD, "kernel");
        UP_TO(FACTS, facts, s->facts.keys_problem, LIMIT_TEXT, "keys_problem");
        UP_TO(FACTS, facts, s->facts.unsettled, LIMIT_TEXT, "unsettled");
        UP_TO(FACTS, facts, s->facts.state_problem, LIMIT_TEXT, "state_problem");
        UP_TO(FACTS, facts, s->facts.lockdown, LIMIT_FACTS_WORD, "lockdown");
        UP_TO(FACTS, facts, s->facts.selinux, LIMIT_FACTS_WORD, "selinux");
        UP_TO(FACTS, facts, s->facts.apparmor, LIMIT_FACTS_WORD, "apparmor");
        UP_TO(FACTS, facts, s->facts.label, LIMIT_FACTS_WORD, "label");
        UP_TO(FACTS, facts, s->place.point, LIMIT_PATH_BYTES + 1, "point");
        UP_TO(FACTS, facts, s->place.type, LIMIT_FACTS_WORD, "type");
        PASSES(FACTS, facts, s->facts.n_places, LIMIT_FACTS_PLACES);
        REFUSES(FACTS, facts, s->facts.n_places, LIMIT_FACTS_PLACES + 1, "places");
        PASSES(FACTS, facts, s->facts.clock_us, LIMIT_CLOCK_US);
        REFUSES(FACTS, facts, s->facts.clock_us, LIMIT_CLOCK_US + 1, "clock_us");
        PASSES(FACTS, facts, s->facts.overlayfs, MOULT__SIGHT__SIGHT_LOADABLE);
        REFUSES(FACTS, facts, s->facts.overlayfs, (Moult__Sight)4, "enum");
        REFUSES(FACTS, facts, s->place.free_bytes, 1, "free");
        REFUSES(FACTS, facts, s->place.free_inodes, 1, "free");
        s->list[0] = blob(DIGEST_SIZE);
        PASSES(FACTS, facts, s->facts.n_keys, 1);
        s->facts.n_keys = 1;
        REFUSES(FACTS, facts, s->list[0], blob(DIGEST_SIZE - 1), "keys");
        REFUSES(FACTS, facts, s->list[0], blob(DIGEST_SIZE + 1), "keys");
}

Test(refusal, freeze)
{
        WITH_SAMPLE;

        PASSES(FREEZE, freeze, s->freeze.freeze_id, blob(16));
        REFUSES(FREEZE, freeze, s->freeze.freeze_id, blob(15), "freeze_id");
        REFUSES(FREEZE, freeze, s->freeze.freeze_id, blob(17), "freeze_id");
        REFUSES(FREEZE, freeze, s->freeze.lease_ms, 1, "lease_ms");
        REFUSES(FREEZE, freeze, s->freeze.no_hooks, TRUE, "no_hooks");
        REFUSES(FREEZE, freeze, s->freeze.action, (Moult__FreezeAction)4, "enum");
        PASSES(FREEZE, freeze, s->freeze.action, MOULT__FREEZE_ACTION__FREEZE_THAW);
        s->freeze.action = MOULT__FREEZE_ACTION__FREEZE_RENEW;
        s->freeze.lease_ms = LIMIT_FREEZE_LEASE_MS;
        FIXED(FREEZE, freeze, freeze_id, 16);
        s->freeze.freeze_id = blob(16);
        REFUSES(FREEZE, freeze, s->freeze.no_hooks, TRUE, "no_hooks");
        s->freeze.action = MOULT__FREEZE_ACTION__FREEZE_BEGIN;
        FIXED(FREEZE, freeze, freeze_id, 16);
        PASSES(FREEZE, freeze, s->freeze.no_hooks, TRUE);
        PASSES(FREEZE, freeze, s->freeze.lease_ms, 1);
        REFUSES(FREEZE, freeze, s->freeze.lease_ms, 0, "lease_ms");
        REFUSES(FREEZE, freeze, s->freeze.lease_ms, LIMIT_FREEZE_LEASE_MS + 1, "lease_ms");
}

Test(refusal, freeze_state)
{
        WITH_SAMPLE;

        PASSES(FREEZE_STATE, freeze_state, s->freeze_state.freeze_id, blob(16));
        REFUSES(FREEZE_STATE, freeze_state, s->freeze_state.held, TRUE, "held");
        s->freeze_state.freeze_id = blob(16);
        s->freeze_state.phase = MOULT__FREEZE_PHASE__FREEZE_PHASE_FROZEN;
        FIXED(FREEZE_STATE, freeze_state, freeze_id, 16);
        REFUSES(FREEZE_STATE, freeze_state, s->freeze_state.held, TRUE, "held");
        PASSES(FREEZE_STATE, freeze_state, s->freeze_state.lease_left_ms, LIMIT_FREEZE_LEASE_MS);
        REFUSES(FREEZE_STATE, freeze_state, s->freeze_state.lease_left_ms, LIMIT_FREEZE_LEASE_MS + 1,
                "lease");
        PASSES(FREEZE_STATE, freeze_state, s->freeze_state.mounts, LIMIT_FREEZE_MOUNTS);
        REFUSES(FREEZE_STATE, freeze_state, s->freeze_state.mounts, LIMIT_FREEZE_MOUNTS + 1, "mounts");
        PASSES(FREEZE_STATE, freeze_state, s->freeze_state.hooks_run, LIMIT_FREEZE_HOOKS);
        REFUSES(FREEZE_STATE, freeze_state, s->freeze_state.hooks_run, LIMIT_FREEZE_HOOKS + 1, "hooks");
        PASSES(FREEZE_STATE, freeze_state, s->freeze_state.frozen_us, LIMIT_CLOCK_US);
        REFUSES(FREEZE_STATE, freeze_state, s->freeze_state.frozen_us, UINT64_MAX, "frozen_us");
        UP_TO(FREEZE_STATE, freeze_state, s->freeze_state.text, LIMIT_TEXT, "text");
        UP_TO(FREEZE_STATE, freeze_state, s->freeze_state.hook, LIMIT_HOOK_NAME, "hook");
        UP_TO(FREEZE_STATE, freeze_state, s->freeze_state.hook_output, LIMIT_HOOK_OUTPUT, "hook_output");
        REFUSES(FREEZE_STATE, freeze_state, s->freeze_state.error, (Moult__ErrorCode)16, "enum");
        REFUSES(FREEZE_STATE, freeze_state, s->freeze_state.phase, (Moult__FreezePhase)6, "enum");
        s->freeze_state.phase = MOULT__FREEZE_PHASE__FREEZE_PHASE_THAWED;
        PASSES(FREEZE_STATE, freeze_state, s->freeze_state.held, TRUE);
}

Test(refusal, state)
{
        WITH_SAMPLE;

        PASSES(STATE, state, s->state.push_id, blob(0)); /* phase none */
        s->state.phase = MOULT__TRANSACTION_PHASE__PHASE_STAGING;
        FIXED(STATE, state, push_id, 16);
        UP_TO(STATE, state, s->state.text, LIMIT_TEXT, "text");
        UP_TO(STATE, state, s->state.hook, LIMIT_NAME_BYTES, "hook");
        UP_TO(STATE, state, s->state.hook_output, LIMIT_HOOK_OUTPUT, "hook_output");
        UP_TO(STATE, state, s->state.release, LIMIT_RELEASE, "release");
        REFUSES(STATE, state, s->state.manifest_digest, blob(31), "manifest_digest");
        REFUSES(STATE, state, s->state.phase, (Moult__TransactionPhase)12, "enum");
        REFUSES(STATE, state, s->state.error, (Moult__ErrorCode)16, "enum");
        REFUSES(STATE, state, s->state.source_wanted, (Moult__SourceKind)6, "enum");
        REFUSES(STATE, state, s->state.source, (Moult__SourceKind)6, "enum");
        REFUSES(STATE, state, s->state.entries_total, LIMIT_ENTRIES + 1, "entries");
        REFUSES(STATE, state, s->state.entries_change, 1, "entries");
        REFUSES(STATE, state, s->state.entries_equal, 1, "entries");
        REFUSES(STATE, state, s->state.entries_blocked, 1, "entries");
        s->status.current = &s->state; /* the same inside a status */
        REFUSES(STATUS, status, s->state.entries_blocked, 1, "entries");
        REFUSES(STATUS, status, s->state.text, blob(LIMIT_TEXT + 1), "text");
        s->status.current = NULL;
}

Test(refusal, plan_page)
{
        WITH_SAMPLE;

        FIXED(PLAN_PAGE, plan_page, push_id, 16);
        PASSES(PLAN_PAGE, plan_page, s->plan_page.n_items, LIMIT_PLAN_PAGE);
        REFUSES(PLAN_PAGE, plan_page, s->plan_page.n_items, LIMIT_PLAN_PAGE + 1, "items");
        REFUSES(PLAN_PAGE, plan_page, s->plan_page.total, 0, "items");
        REFUSES(PLAN_PAGE, plan_page, s->plan_page.total, LIMIT_ENTRIES + 1, "total");
        PASSES(PLAN_PAGE, plan_page, s->plan_page.first, LIMIT_ENTRIES - 1);
        REFUSES(PLAN_PAGE, plan_page, s->plan_page.first, LIMIT_ENTRIES, "items");
        REFUSES(PLAN_PAGE, plan_page, s->plan_page.first, UINT32_MAX, "items");
        REFUSES(PLAN_PAGE, plan_page, s->item.path, blob(0), "path");
        REFUSES(PLAN_PAGE, plan_page, s->item.path, PATH("../x"), "path");
        UP_TO(PLAN_PAGE, plan_page, s->item.reason, LIMIT_TEXT, "reason");
        UP_TO(PLAN_PAGE, plan_page, s->item.mount, LIMIT_PATH_BYTES + 1, "mount");
        UP_TO(PLAN_PAGE, plan_page, s->item.owner_package, LIMIT_PACKAGE_NAME, "owner_package");
        REFUSES(PLAN_PAGE, plan_page, s->item.action, (Moult__PlanAction)8, "enum");
        REFUSES(PLAN_PAGE, plan_page, s->item.type, (Moult__EntryType)8, "enum");
}

Test(refusal, stale_report)
{
        WITH_SAMPLE;

        PASSES(STALE_QUERY, stale_query, s->stale_query.push_id, blob(16));
        REFUSES(STALE_QUERY, stale_query, s->stale_query.push_id, blob(15), "push_id");
        PASSES(STALE_REPORT, stale_report, s->stale_report.push_id, blob(16));
        REFUSES(STALE_REPORT, stale_report, s->stale_report.push_id, blob(17), "push_id");
        UP_TO(STALE_REPORT, stale_report, s->stale_report.release, LIMIT_RELEASE, "release");
        UP_TO(STALE_REPORT, stale_report, s->stale_report.incomplete, LIMIT_TEXT, "incomplete");
        PASSES(STALE_REPORT, stale_report, s->stale_report.n_processes, LIMIT_STALE_PROCESSES);
        REFUSES(STALE_REPORT, stale_report, s->stale_report.n_processes, LIMIT_STALE_PROCESSES + 1,
                "processes");
        REFUSES(STALE_REPORT, stale_report, s->stale_report.processes_total, 0, "more than there are");
        PASSES(STALE_REPORT, stale_report, s->stale_report.n_namespaces, LIMIT_STALE_NAMESPACES);
        REFUSES(STALE_REPORT, stale_report, s->stale_report.n_namespaces, LIMIT_STALE_NAMESPACES + 1,
                "namespaces");
        REFUSES(STALE_REPORT, stale_report, s->stale_report.namespaces_total, 0, "more than there are");
        PASSES(STALE_REPORT, stale_report, s->stale_report.n_restarts, LIMIT_RESTART_UNITS);
        REFUSES(STALE_REPORT, stale_report, s->stale_report.n_restarts, LIMIT_RESTART_UNITS + 1, "restarts");
        UP_TO(STALE_REPORT, stale_report, s->stale.command, LIMIT_STALE_COMMAND, "command");
        UP_TO(STALE_REPORT, stale_report, s->stale.unit, LIMIT_STALE_UNIT, "unit");
        UP_TO(STALE_REPORT, stale_report, s->behind.command, LIMIT_STALE_COMMAND, "command");
        UP_TO(STALE_REPORT, stale_report, s->behind.unit, LIMIT_STALE_UNIT, "unit");
        UP_TO(STALE_REPORT, stale_report, s->restart.error, LIMIT_TEXT, "error");
        REFUSES(STALE_REPORT, stale_report, s->restart.unit, blob(0), "unit");
}

Test(refusal, stale_report_lists)
{
        WITH_SAMPLE;

        s->stale.files = s->behind.mounts = s->list;
        s->stale.files_total = s->behind.mounts_total = 1000;
        PASSES(STALE_REPORT, stale_report, s->stale.n_files, LIMIT_STALE_FILES);
        REFUSES(STALE_REPORT, stale_report, s->stale.n_files, LIMIT_STALE_FILES + 1, "files");
        PASSES(STALE_REPORT, stale_report, s->behind.n_mounts, LIMIT_STALE_FILES);
        REFUSES(STALE_REPORT, stale_report, s->behind.n_mounts, LIMIT_STALE_FILES + 1, "mounts");
        s->stale.n_files = s->behind.n_mounts = 2;
        REFUSES(STALE_REPORT, stale_report, s->stale.files_total, 1, "files");
        REFUSES(STALE_REPORT, stale_report, s->behind.mounts_total, 1, "mounts");
        s->list[0] = blob(0);
        REFUSES(STALE_REPORT, stale_report, s->stale.n_files, 1, "files");
        s->list[0] = blob(LIMIT_PATH_BYTES + 1);
        PASSES(STALE_REPORT, stale_report, s->stale.n_files, 1);
        /* Each within its limit, and all of them too long together. */
        REFUSES(STALE_REPORT, stale_report, s->stale_report.n_processes, 16, "64 KiB");
}

Test(refusal, history_and_status)
{
        WITH_SAMPLE;

        PASSES(HISTORY, history, s->history.n_items, LIMIT_HISTORY);
        REFUSES(HISTORY, history, s->history.n_items, LIMIT_HISTORY + 1, "items");
        UP_TO(HISTORY, history, s->past.text, LIMIT_TEXT, "text");
        UP_TO(HISTORY, history, s->past.release, LIMIT_RELEASE, "release");
        REFUSES(HISTORY, history, s->past.manifest_digest, blob(33), "manifest_digest");
        REFUSES(HISTORY, history, s->past.phase, (Moult__TransactionPhase)12, "enum");
        UP_TO(STATUS, status, s->status.software, LIMIT_SOFTWARE, "software");
        UP_TO(STATUS, status, s->status.boot_id, LIMIT_NAME_BYTES, "boot_id");
        UP_TO(STATUS, status, s->status.release, LIMIT_RELEASE, "release");
        REFUSES(STATUS, status, s->status.sessions, LIMIT_SESSIONS + 1, "sessions");
        s->status.session_names = s->list;
        PASSES(STATUS, status, s->status.n_session_names, LIMIT_SESSIONS);
        REFUSES(STATUS, status, s->status.n_session_names, LIMIT_SESSIONS + 1, "session_names");
}

Test(refusal, fetch_and_data)
{
        WITH_SAMPLE;

        FIXED(FETCH, fetch, manifest_digest, 32);
        REFUSES(FETCH, fetch, s->fetch.length, 0, "length");
        PASSES(FETCH, fetch, s->fetch.length, LIMIT_FETCH_BYTES);
        REFUSES(FETCH, fetch, s->fetch.length, LIMIT_FETCH_BYTES + 1, "length");
        REFUSES(FETCH, fetch, s->fetch.offset, LIMIT_FILE_SIZE + 1, "offset");
        REFUSES(FETCH, fetch, s->fetch.offset, UINT64_MAX, "offset");
        PASSES(DATA, data, s->data.bytes, blob(LIMIT_DATA_BYTES));
        REFUSES(DATA, data, s->data.bytes, blob(LIMIT_DATA_BYTES + 1), "bytes");
        REFUSES(DATA, data, s->data.offset, LIMIT_FILE_SIZE + 1, "offset");
        REFUSES(DATA, data, s->data.bytes, blob(0), "bytes");
        s->data.last = 1;
        PASSES(DATA, data, s->data.bytes, blob(0));
}

static void expect_no_strings(const ProtobufCMessageDescriptor *d)
{
        for (unsigned i = 0; i < d->n_fields; i++) {
                const ProtobufCFieldDescriptor *f = &d->fields[i];

                cr_expect(ne(int, (int)f->type, (int)PROTOBUF_C_TYPE_STRING), "%s.%s is a string", d->name,
                          f->name);
                if (f->type == PROTOBUF_C_TYPE_MESSAGE)
                        expect_no_strings(f->descriptor);
        }
}

/* A message with everything in it once: mandatory bytes of a length that fits, one element in each list of
 * messages. All memory goes to @pool. */
static ProtobufCMessage *filled(const ProtobufCMessageDescriptor *d, GPtrArray *pool)
{
        ProtobufCMessage *m = g_malloc0(d->sizeof_message);

        g_ptr_array_add(pool, m);
        protobuf_c_message_init(d, m);
        for (unsigned i = 0; i < d->n_fields; i++) {
                const ProtobufCFieldDescriptor *f = &d->fields[i];
                char *at = (char *)m + f->offset;

                if (f->type == PROTOBUF_C_TYPE_BYTES && f->label != PROTOBUF_C_LABEL_REPEATED) {
                        gboolean is_digest = strstr(f->name, "digest") || strstr(f->name, "finger");

                        *(ProtobufCBinaryData *)at = blob(is_digest ? 32 : 16);
                } else if (f->type == PROTOBUF_C_TYPE_MESSAGE) {
                        ProtobufCMessage *sub = filled(f->descriptor, pool);

                        if (f->label == PROTOBUF_C_LABEL_REPEATED) {
                                ProtobufCMessage **list = g_new(ProtobufCMessage *, 1);

                                g_ptr_array_add(pool, list);
                                list[0] = sub;
                                *(ProtobufCMessage ***)at = list;
                                *(size_t *)((char *)m + f->quantifier_offset) = 1;
                        } else {
                                *(ProtobufCMessage **)at = sub;
                        }
                }
        }
        return m;
}

/* Whoever adds a bytes or repeated field to the schema must add its limit: no message may run into the "has
 * no limit" of the walker. */
Test(refusal, no_field_of_the_schema_is_without_a_limit)
{
        expect_no_strings(&moult__message__descriptor);
        memset(bytes, 'a', sizeof bytes);
        for (unsigned i = 0; i < moult__message__descriptor.n_fields; i++) {
                const ProtobufCFieldDescriptor *f = &moult__message__descriptor.fields[i];
                g_autoptr(GPtrArray) pool = g_ptr_array_new_with_free_func(g_free);
                Message m = MOULT__MESSAGE__INIT;
                const char *why;

                if (f->type != PROTOBUF_C_TYPE_MESSAGE)
                        continue;
                m.body_case = (Moult__Message__BodyCase)f->id;
                m.ping = (Moult__Ping *)filled(f->descriptor, pool);
                why = message_refusal(&m);
                cr_expect(eq(ptr, why ? strstr(why, "has no limit") : NULL, NULL), "%s: %s", f->name, why);
        }
}
