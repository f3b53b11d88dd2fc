/* proto/refusal.c - the content gate for messages: pure, NULL or the reason.
 *
 * Two layers. The walker goes over a message by its descriptor: every `bytes` and every repeated field must
 * have a row in the table below (a field without one is refused: forgetting is safe), every enum a value of
 * its definition. Then come the rules that tie fields together, one function for each message that has some.
 */
#include "proto/refusal.h"

#include <glib.h>
#include <string.h>

#include "common/digest.h"
#include "common/fs_beneath.h"
#include "proto/limits.h"

enum content {
        BLOB, /* any bytes */
        TEXT, /* for people: any bytes; escaped where shown */
        NAME, /* printable ASCII without space */
        PATH, /* clean and relative; one leading '/' is allowed, people type it */
};

struct field_limit {
        const ProtobufCMessageDescriptor *message;
        const char *field;
        size_t min, max;  /* bytes, each element for repeated fields */
        size_t max_count; /* repeated fields */
        enum content content;
        gboolean optional; /* empty is fine as well */
        const char *why;
};

#define ROW(msg, fld, lo, hi, count, kind, opt)                                                              \
        {                                                                                                    \
                &moult__##msg##__descriptor, #fld, lo, hi, count, kind, opt,                                 \
                        #msg "." #fld ": length, count or content"                                           \
        }
#define ONE(msg, fld, lo, hi, kind) ROW(msg, fld, lo, hi, 1, kind, FALSE)
#define OPT(msg, fld, lo, hi, kind) ROW(msg, fld, lo, hi, 1, kind, TRUE)
#define ANY(msg, fld, hi)           ROW(msg, fld, 0, hi, 1, TEXT, TRUE)
#define REP(msg, fld, n, hi, kind)  ROW(msg, fld, 1, hi, n, kind, FALSE)
#define SUB(msg, fld, n)            ROW(msg, fld, 0, 0, n, BLOB, FALSE)

#define NONCE_SIZE     16u
#define PUSH_ID_SIZE   16u
#define FREEZE_ID_SIZE 16u

static const struct field_limit field_limits[] = {
        ONE(hello, nonce, NONCE_SIZE, NONCE_SIZE, BLOB),
        OPT(hello, echo, NONCE_SIZE, NONCE_SIZE, BLOB),
        REP(hello, capabilities, LIMIT_CAPABILITIES, LIMIT_NAME_BYTES, NAME),
        ANY(hello, software, LIMIT_SOFTWARE),
        OPT(hello, boot_id, 1, LIMIT_NAME_BYTES, NAME),
        OPT(hello, hostname, 1, LIMIT_HOSTNAME, TEXT),
        OPT(hello, tls_fingerprint, DIGEST_SIZE, DIGEST_SIZE, BLOB),
        OPT(hello, join_token, 1, LIMIT_JOIN_TOKEN, NAME),
        REP(hello, endpoints, LIMIT_ENDPOINTS, LIMIT_ENDPOINT, NAME),

        ANY(error, text, LIMIT_TEXT),

        ONE(offer, push_id, PUSH_ID_SIZE, PUSH_ID_SIZE, BLOB),
        ONE(offer, manifest_digest, DIGEST_SIZE, DIGEST_SIZE, BLOB),
        SUB(offer, sources, LIMIT_SOURCES),
        REP(offer, selection, LIMIT_SELECTION, LIMIT_PATH_BYTES + 1, PATH),

        ONE(push_command, push_id, PUSH_ID_SIZE, PUSH_ID_SIZE, BLOB),
        SUB(push_command, sources, LIMIT_SOURCES),
        ONE(plan_query, push_id, PUSH_ID_SIZE, PUSH_ID_SIZE, BLOB),
        ONE(rollback_generation, push_id, PUSH_ID_SIZE, PUSH_ID_SIZE, BLOB),
        OPT(rollback_generation, of_push, PUSH_ID_SIZE, PUSH_ID_SIZE, BLOB),

        OPT(transaction_state, push_id, PUSH_ID_SIZE, PUSH_ID_SIZE, BLOB),
        OPT(transaction_state, manifest_digest, DIGEST_SIZE, DIGEST_SIZE, BLOB),
        ANY(transaction_state, text, LIMIT_TEXT),
        ANY(transaction_state, hook, LIMIT_NAME_BYTES),
        ANY(transaction_state, hook_output, LIMIT_HOOK_OUTPUT),
        ANY(transaction_state, delta_text, LIMIT_TEXT),
        ANY(transaction_state, release, LIMIT_RELEASE),

        ONE(plan_page, push_id, PUSH_ID_SIZE, PUSH_ID_SIZE, BLOB),
        SUB(plan_page, items, LIMIT_PLAN_PAGE),
        ONE(plan_item, path, 1, LIMIT_PATH_BYTES, PATH),
        ANY(plan_item, reason, LIMIT_TEXT),
        ANY(plan_item, mount, LIMIT_PATH_BYTES + 1),
        ANY(plan_item, owner_package, LIMIT_PACKAGE_NAME),
        OPT(plan_item, merge, 1, LIMIT_PATH_BYTES, PATH),

        SUB(history, items, LIMIT_HISTORY),
        ANY(history_item, release, LIMIT_RELEASE),
        OPT(history_item, manifest_digest, DIGEST_SIZE, DIGEST_SIZE, BLOB),
        ANY(history_item, text, LIMIT_TEXT),

        OPT(stale_query, push_id, PUSH_ID_SIZE, PUSH_ID_SIZE, BLOB),
        OPT(stale_report, push_id, PUSH_ID_SIZE, PUSH_ID_SIZE, BLOB),
        ANY(stale_report, release, LIMIT_RELEASE),
        SUB(stale_report, processes, LIMIT_STALE_PROCESSES),
        SUB(stale_report, namespaces, LIMIT_STALE_NAMESPACES),
        SUB(stale_report, restarts, LIMIT_RESTART_UNITS),
        ANY(stale_report, incomplete, LIMIT_TEXT),
        ANY(stale_process, command, LIMIT_STALE_COMMAND),
        ANY(stale_process, unit, LIMIT_STALE_UNIT),
        REP(stale_process, files, LIMIT_STALE_FILES, LIMIT_PATH_BYTES + 1, TEXT),
        ANY(stale_namespace, command, LIMIT_STALE_COMMAND),
        ANY(stale_namespace, unit, LIMIT_STALE_UNIT),
        REP(stale_namespace, mounts, LIMIT_STALE_FILES, LIMIT_PATH_BYTES + 1, TEXT),
        ONE(stale_restart, unit, 1, LIMIT_STALE_UNIT, TEXT),
        ANY(stale_restart, error, LIMIT_TEXT),

        OPT(tree_query, after, 1, LIMIT_PATH_BYTES, PATH),
        OPT(tree_query, until, 1, LIMIT_PATH_BYTES, PATH),
        REP(tree_query, prune, LIMIT_TREE_GLOBS, LIMIT_PATH_BYTES, TEXT),
        REP(tree_query, no_content, LIMIT_TREE_GLOBS, LIMIT_PATH_BYTES, TEXT),
        SUB(tree_query, supposed, LIMIT_TREE_ITEMS),
        OPT(tree_page, reached, 1, LIMIT_PATH_BYTES, PATH),
        SUB(tree_page, items, LIMIT_TREE_ITEMS),
        REP(tree_page, gone, 2 * LIMIT_TREE_ITEMS, LIMIT_PATH_BYTES, PATH),
        ONE(tree_item, path, 1, LIMIT_PATH_BYTES, PATH),
        OPT(tree_item, digest, DIGEST_SIZE, DIGEST_SIZE, BLOB),
        ANY(tree_item, link_target, LIMIT_PATH_BYTES),
        SUB(tree_item, xattrs, LIMIT_XATTRS),
        ONE(xattr, name, 1, LIMIT_XATTR_NAME, NAME),
        ROW(xattr, value, 0, LIMIT_XATTR_VALUE, 1, BLOB, TRUE),
        ONE(tree_read, path, 1, LIMIT_PATH_BYTES, PATH),
        ROW(tree_data, bytes, 0, LIMIT_DATA_BYTES, 1, BLOB, TRUE),

        ANY(facts, software, LIMIT_SOFTWARE),
        ANY(facts, kernel, LIMIT_FACTS_WORD),
        REP(facts, keys, LIMIT_FACTS_KEYS, DIGEST_SIZE, BLOB),
        ANY(facts, keys_problem, LIMIT_TEXT),
        SUB(facts, places, LIMIT_FACTS_PLACES),
        ANY(facts, lockdown, LIMIT_FACTS_WORD),
        ANY(facts, unsettled, LIMIT_TEXT),
        ANY(facts, state_problem, LIMIT_TEXT),
        ANY(facts, selinux, LIMIT_FACTS_WORD),
        ANY(facts, apparmor, LIMIT_FACTS_WORD),
        ANY(facts, label, LIMIT_FACTS_WORD),
        ANY(facts_place, point, LIMIT_PATH_BYTES + 1),
        ANY(facts_place, type, LIMIT_FACTS_WORD),

        OPT(freeze, freeze_id, FREEZE_ID_SIZE, FREEZE_ID_SIZE, BLOB),
        OPT(freeze_state, freeze_id, FREEZE_ID_SIZE, FREEZE_ID_SIZE, BLOB),
        ANY(freeze_state, text, LIMIT_TEXT),
        ANY(freeze_state, hook, LIMIT_HOOK_NAME),
        ANY(freeze_state, hook_output, LIMIT_HOOK_OUTPUT),

        ONE(fetch, manifest_digest, DIGEST_SIZE, DIGEST_SIZE, BLOB),
        ROW(data, bytes, 0, LIMIT_DATA_BYTES, 1, BLOB, TRUE),
        REP(upgrade_request, paths, LIMIT_SELECTION, LIMIT_PATH_BYTES + 1, PATH),

        ANY(status, software, LIMIT_SOFTWARE),
        OPT(status, boot_id, 1, LIMIT_NAME_BYTES, NAME),
        REP(status, session_names, LIMIT_SESSIONS, LIMIT_NAME_BYTES, NAME),
        ANY(status, release, LIMIT_RELEASE),
};

static const struct field_limit *limit_of(const ProtobufCMessageDescriptor *d, const char *field)
{
        for (size_t i = 0; i < G_N_ELEMENTS(field_limits); i++)
                if (field_limits[i].message == d && strcmp(field_limits[i].field, field) == 0)
                        return &field_limits[i];
        return NULL;
}

static gboolean content_fits(enum content content, const ProtobufCBinaryData *b)
{
        switch (content) {
        case BLOB:
        case TEXT:
                return TRUE;
        case NAME:
                for (size_t i = 0; i < b->len; i++)
                        if (b->data[i] <= ' ' || b->data[i] > '~')
                                return FALSE;
                return TRUE;
        case PATH: {
                size_t slash = b->len > 0 && b->data[0] == '/';

                return fs_path_refusal(b->data + slash, b->len - slash) == NULL;
        }
        }
        return FALSE;
}

static gboolean bytes_fit(const struct field_limit *l, const ProtobufCBinaryData *b)
{
        if (b->len == 0)
                return l->optional || l->min == 0;
        return b->len >= l->min && b->len <= l->max && content_fits(l->content, b);
}

static const char *walk(const ProtobufCMessage *m);

/* One value of a field, at @at. */
static const char *value_refusal(const ProtobufCFieldDescriptor *f, const struct field_limit *l,
                                 const void *at)
{
        switch (f->type) {
        case PROTOBUF_C_TYPE_MESSAGE: {
                const ProtobufCMessage *sub = *(ProtobufCMessage *const *)at;

                return sub ? walk(sub) : NULL;
        }
        case PROTOBUF_C_TYPE_ENUM:
                if (!protobuf_c_enum_descriptor_get_value(f->descriptor, *(const int *)at))
                        return "an enum has a value that is unknown here";
                return NULL;
        case PROTOBUF_C_TYPE_BYTES:
                if (!l)
                        return "a bytes field has no limit";
                return bytes_fit(l, at) ? NULL : l->why;
        case PROTOBUF_C_TYPE_STRING:
                return "a string field: protobuf-c would cut it at NUL";
        default:
                return NULL;
        }
}

static const char *repeated_refusal(const ProtobufCFieldDescriptor *f, const struct field_limit *l,
                                    const char *base)
{
        size_t count = *(const size_t *)(base + f->quantifier_offset);
        const char *elements = *(char *const *)(base + f->offset);
        size_t step;

        if (!l)
                return "a repeated field has no limit";
        if (count > l->max_count)
                return l->why;
        switch (f->type) {
        case PROTOBUF_C_TYPE_MESSAGE:
                step = sizeof(ProtobufCMessage *);
                break;
        case PROTOBUF_C_TYPE_ENUM:
                step = sizeof(int);
                break;
        case PROTOBUF_C_TYPE_BYTES:
                step = sizeof(ProtobufCBinaryData);
                break;
        default:
                return NULL; /* repeated numbers: the count is all there is to check */
        }
        for (size_t i = 0; i < count; i++) {
                const char *why = value_refusal(f, l, elements + i * step);
                if (why)
                        return why;
        }
        return NULL;
}

/* Recursion is as deep as the schema, which has no recursive message: three levels. */
static const char *walk(const ProtobufCMessage *m)
{
        const ProtobufCMessageDescriptor *d = m->descriptor;
        const char *base = (const char *)m;

        /* Unknown fields are a newer peer's, and fine. Number 0 is nobody's; protobuf-c lets it pass. */
        for (unsigned i = 0; i < m->n_unknown_fields; i++)
                if (m->unknown_fields[i].tag == 0)
                        return "a field has the number 0";
        for (unsigned i = 0; i < d->n_fields; i++) {
                const ProtobufCFieldDescriptor *f = &d->fields[i];
                const struct field_limit *l = limit_of(d, f->name);
                const char *why;

                if ((f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) &&
                    *(const guint32 *)(base + f->quantifier_offset) != f->id)
                        continue;
                if (f->label == PROTOBUF_C_LABEL_REPEATED)
                        why = repeated_refusal(f, l, base);
                else
                        why = value_refusal(f, l, base + f->offset);
                if (why)
                        return why;
        }
        return NULL;
}

static const char *hello_refusal(const Moult__Hello *h)
{
        if (h->version_min == 0 || h->version_min > h->version_max)
                return "hello.version_min: not in 1..version_max";
        if (h->role == MOULT__ROLE__ROLE_UNKNOWN)
                return "hello.role: missing";
        return NULL;
}

static const char *sources_refusal(const Moult__SourceKind *sources, size_t n)
{
        guint32 seen = 0;

        for (size_t i = 0; i < n; i++) {
                guint32 bit = UINT32_C(1) << sources[i]; /* in range: the walker has looked */

                if (sources[i] == MOULT__SOURCE_KIND__SOURCE_UNSPECIFIED)
                        return "sources: unspecified";
                if (sources[i] == MOULT__SOURCE_KIND__SOURCE_FILE)
                        return "sources: a file, which is nothing that a host can offer";
                if (seen & bit)
                        return "sources: named twice";
                seen |= bit;
        }
        return NULL;
}

static const char *push_command_refusal(const Moult__PushCommand *c)
{
        if (c->n_sources > 0 && c->action != MOULT__PUSH_ACTION__PUSH_SOURCES_CHANGED)
                return "push_command.sources: this action has none";
        return sources_refusal(c->sources, c->n_sources);
}

static const char *offer_refusal(const Moult__Offer *o)
{
        const char *why;

        if (o->pack_size == 0 || o->pack_size > LIMIT_FILE_SIZE)
                return "offer.pack_size: not in 1..16 TiB";
        if (o->n_sources == 0)
                return "offer.sources: empty";
        why = sources_refusal(o->sources, o->n_sources);
        if (why)
                return why;
        if (o->confirm_timeout_ms > LIMIT_CONFIRM_TIMEOUT_MS)
                return "offer.confirm_timeout_ms: more than a day";
        if (o->workers > LIMIT_WORKERS)
                return "offer.workers: more than 64";
        return NULL;
}

static const char *plan_query_refusal(const Moult__PlanQuery *q)
{
        return q->count >= 1 && q->count <= LIMIT_PLAN_PAGE ? NULL : "plan_query.count: not in 1..512";
}

static const char *plan_page_refusal(const Moult__PlanPage *p)
{
        if (p->total > LIMIT_ENTRIES)
                return "plan_page.total: more entries than a pack may have";
        if (p->first > p->total || p->n_items > p->total - p->first)
                return "plan_page.items: more than the plan has";
        return NULL;
}

static const char *state_refusal(const Moult__TransactionState *s)
{
        if (s->phase != MOULT__TRANSACTION_PHASE__PHASE_NONE && s->push_id.len == 0)
                return "transaction_state.push_id: missing";
        if (s->entries_total > LIMIT_ENTRIES || s->entries_change > s->entries_total ||
            s->entries_equal > s->entries_total || s->entries_blocked > s->entries_total ||
            s->entries_merged > s->entries_change)
                return "transaction_state.entries: more than there are";
        return NULL;
}

static const char *stale_report_refusal(const Moult__StaleReport *r)
{
        if (r->processes_total < r->n_processes || r->namespaces_total < r->n_namespaces)
                return "stale_report: more than there are";
        for (size_t i = 0; i < r->n_processes; i++)
                if (r->processes[i]->files_total < r->processes[i]->n_files)
                        return "stale_process.files: more than there are";
        for (size_t i = 0; i < r->n_namespaces; i++)
                if (r->namespaces[i]->mounts_total < r->namespaces[i]->n_mounts)
                        return "stale_namespace.mounts: more than there are";
        if (moult__stale_report__get_packed_size(r) > LIMIT_STALE_BYTES)
                return "stale_report: longer than 64 KiB";
        return NULL;
}

static const char *facts_refusal(const Moult__Facts *f)
{
        for (size_t i = 0; i < f->n_keys; i++)
                if (f->keys[i].len != DIGEST_SIZE)
                        return "facts.keys: not the size of an id";
        for (size_t i = 0; i < f->n_places; i++)
                if (f->places[i]->free_bytes > f->places[i]->size_bytes ||
                    f->places[i]->free_inodes > f->places[i]->inodes)
                        return "facts_place: more is free than there is";
        if (f->clock_us > LIMIT_CLOCK_US)
                return "facts.clock_us: after the year 9999";
        return NULL;
}

static const char *freeze_refusal(const Moult__Freeze *f)
{
        gboolean begins = f->action == MOULT__FREEZE_ACTION__FREEZE_BEGIN;
        gboolean has_lease = begins || f->action == MOULT__FREEZE_ACTION__FREEZE_RENEW;

        if (has_lease && f->freeze_id.len == 0)
                return "freeze.freeze_id: missing";
        if (has_lease && (f->lease_ms == 0 || f->lease_ms > LIMIT_FREEZE_LEASE_MS))
                return "freeze.lease_ms: not in 1..60000";
        if (!has_lease && f->lease_ms != 0)
                return "freeze.lease_ms: this action has none";
        return begins || !f->no_hooks ? NULL : "freeze.no_hooks: this action runs none";
}

static const char *freeze_state_refusal(const Moult__FreezeState *s)
{
        if (s->phase != MOULT__FREEZE_PHASE__FREEZE_PHASE_NONE && s->freeze_id.len == 0)
                return "freeze_state.freeze_id: missing";
        if (s->held && s->phase != MOULT__FREEZE_PHASE__FREEZE_PHASE_THAWED)
                return "freeze_state.held: before the end";
        if (s->mounts > LIMIT_FREEZE_MOUNTS || s->hooks_run > LIMIT_FREEZE_HOOKS)
                return "freeze_state: more mounts or hooks than there can be";
        if (s->lease_left_ms > LIMIT_FREEZE_LEASE_MS)
                return "freeze_state.lease_left_ms: more than a lease has";
        return s->frozen_us <= LIMIT_CLOCK_US ? NULL : "freeze_state.frozen_us: out of range";
}

static const char *fetch_refusal(const Moult__Fetch *f)
{
        if (f->length == 0 || f->length > LIMIT_FETCH_BYTES)
                return "fetch.length: not in 1..1 MiB";
        if (f->offset > LIMIT_FILE_SIZE)
                return "fetch.offset: beyond any pack";
        return NULL;
}

static const char *data_refusal(const Moult__Data *d)
{
        if (d->offset > LIMIT_FILE_SIZE)
                return "data.offset: beyond any pack";
        if (d->bytes.len == 0 && !d->last)
                return "data.bytes: empty, and not the last";
        return NULL;
}

static const char *upgrade_request_refusal(const Moult__UpgradeRequest *r)
{
        return r->n_paths > 0 ? NULL : "upgrade_request.paths: empty";
}

static const char *body_refusal(const Moult__Message *m)
{
        switch (m->body_case) {
        case MOULT__MESSAGE__BODY_HELLO:
                return hello_refusal(m->hello);
        case MOULT__MESSAGE__BODY_COMMAND:
                return push_command_refusal(m->command);
        case MOULT__MESSAGE__BODY_OFFER:
                return offer_refusal(m->offer);
        case MOULT__MESSAGE__BODY_PLAN_QUERY:
                return plan_query_refusal(m->plan_query);
        case MOULT__MESSAGE__BODY_HISTORY_QUERY:
                return m->history_query->count <= LIMIT_HISTORY ? NULL : "history_query.count: more than 256";
        case MOULT__MESSAGE__BODY_STATE:
                return state_refusal(m->state);
        case MOULT__MESSAGE__BODY_PLAN_PAGE:
                return plan_page_refusal(m->plan_page);
        case MOULT__MESSAGE__BODY_FETCH:
                return fetch_refusal(m->fetch);
        case MOULT__MESSAGE__BODY_DATA:
                return data_refusal(m->data);
        case MOULT__MESSAGE__BODY_UPGRADE_REQUEST:
                return upgrade_request_refusal(m->upgrade_request);
        case MOULT__MESSAGE__BODY_FREEZE:
                return freeze_refusal(m->freeze);
        case MOULT__MESSAGE__BODY_FREEZE_STATE:
                return freeze_state_refusal(m->freeze_state);
        case MOULT__MESSAGE__BODY_FACTS:
                return facts_refusal(m->facts);
        case MOULT__MESSAGE__BODY_STALE_REPORT:
                return stale_report_refusal(m->stale_report);
        case MOULT__MESSAGE__BODY_STATUS:
                if (m->status->sessions > LIMIT_SESSIONS)
                        return "status.sessions: more than an agent can have";
                return m->status->current ? state_refusal(m->status->current) : NULL;
        default:
                return NULL;
        }
}

static gboolean has_sub_message(const Moult__Message *m)
{
        return m->body_case == MOULT__MESSAGE__BODY__NOT_SET || m->hello != NULL;
}

const char *message_refusal(const Moult__Message *m)
{
        const char *why;

        if (!has_sub_message(m)) /* all members of the union are pointers */
                return "the body is missing";
        why = walk(&m->base);
        return why ? why : body_refusal(m);
}
