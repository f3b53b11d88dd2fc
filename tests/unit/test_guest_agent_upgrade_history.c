/* tests/unit/test_guest_agent_upgrade_history.c - what a guest answers when it is asked about a push that has
 * ended. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "common/error.h"
#include "guest-agent/upgrade/transaction.h"
#include "tests/support/packs.h"

TestSuite(history, .timeout = 60);

#define P(x) MOULT__TRANSACTION_PHASE__PHASE_##x

static PackReader *write_release(TempDir *t, const TrustStore *trust, const char *version)
{
        g_autofree char *path = tempdir_path(t, version);
        const struct pack_writer_options options = {.name = "history", .version = version, .zstd_level = 1};
        g_autoptr(PackWriter) w = pack_writer_new(path, &options, NULL);
        g_autoptr(SigningKey) key = packs_key(t);

        packs_add_file(w, "file", (const uint8_t *)version, strlen(version));
        cr_assert(pack_writer_finish(w, &key, 1, NULL, NULL));
        return packs_open(path, trust, NULL);
}

static Upgrade *open_engine(TempDir *t)
{
        g_autoptr(GError) error = NULL;
        g_autofree char *root = tempdir_path(t, "root"), *state = tempdir_path(t, "state"), *recovered = NULL;
        const struct upgrade_config config = {
                .root = root, .state_dir = state, .workers = 1, .keep_generations = 2};
        Upgrade *u;

        cr_assert(eq(int, g_mkdir_with_parents(root, 0755), 0));
        u = upgrade_open(&config, &recovered, &error);
        cr_assert(u != NULL, "%s", error ? error->message : "");
        return u;
}

static Transaction *make_active(Upgrade *u, PackReader *pack, guint8 id)
{
        struct transaction_request request = {.push_id = {id}, .workers = 1};
        Transaction *t = transaction_new(u, pack, &request, NULL, NULL, NULL);

        cr_assert(t != NULL);
        cr_assert(transaction_plan(t, NULL, NULL));
        cr_assert(transaction_stage(t, NULL, NULL));
        cr_assert(transaction_commit(t, NULL, NULL));
        return t;
}

static void expect(Upgrade *u, guint8 id, Moult__TransactionPhase phase, gboolean was_committed)
{
        Moult__TransactionState *s = upgrade_find_push(u, (const guint8[16]){id});

        cr_assert(s != NULL);
        cr_expect(eq(int, s->phase, phase));
        cr_expect(eq(int, s->was_committed, was_committed));
        transaction_state_free(s);
}

Test(history, a_push_that_was_taken_back_later_had_been_committed)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(TrustStore) trust = packs_trust(t);
        g_autoptr(PackReader) pack = write_release(t, trust, "1");
        g_autoptr(Upgrade) u = open_engine(t);
        Transaction *push = make_active(u, pack, 1);

        cr_assert(transaction_confirm(push, NULL));
        transaction_free(push);
        expect(u, 1, P(COMMITTED), FALSE);
        cr_assert(upgrade_rollback(u, (const guint8[16]){2}, &(struct rollback_target){0}, NULL, NULL, NULL));
        expect(u, 1, P(ROLLED_BACK), TRUE);
        expect(u, 2, P(ROLLED_BACK), FALSE); /* the rollback itself */
}

Test(history, a_push_that_was_never_confirmed_had_not)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(TrustStore) trust = packs_trust(t);
        g_autoptr(PackReader) pack = write_release(t, trust, "1");
        g_autoptr(Upgrade) u = open_engine(t);
        g_autoptr(Transaction) push = make_active(u, pack, 1);

        cr_assert(transaction_abort(push, NULL, NULL));
        expect(u, 1, P(ROLLED_BACK), FALSE);
}

Test(history, a_rollback_takes_back_the_push_that_it_names_or_none)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(TrustStore) trust = packs_trust(t);
        g_autoptr(PackReader) pack = write_release(t, trust, "1");
        g_autoptr(Upgrade) u = open_engine(t);
        Transaction *push = make_active(u, pack, 1);
        const struct rollback_target other = {.number = 1, .of_push = (const guint8[16]){9}};
        const struct rollback_target right = {.number = 1, .of_push = (const guint8[16]){1}};
        g_autoptr(GError) error = NULL;

        cr_assert(transaction_confirm(push, NULL));
        transaction_free(push);
        cr_expect(not(upgrade_rollback(u, (const guint8[16]){2}, &other, NULL, NULL, &error)));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_REFUSED));
        expect(u, 1, P(COMMITTED), FALSE);
        cr_expect(upgrade_rollback(u, (const guint8[16]){3}, &right, NULL, NULL, NULL));
        expect(u, 1, P(ROLLED_BACK), TRUE);
}
