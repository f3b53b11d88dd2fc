/* tests/threads/threads_engine.c - a transaction whose threads share all they can share: for ThreadSanitizer.
 *
 * More staging threads than CPUs, small files in batches and large ones in chunks, raw and compressed; a
 * second release whose plan compares contents in parallel; somebody who asks for the state all the time, as
 * the daemon does. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "guest-agent/upgrade/transaction.h"
#include "tests/support/packs.h"

#define SMALL   160u
#define LARGE   3u
#define WORKERS 6u

static void fill(uint8_t *buf, size_t len, unsigned seed)
{
        for (size_t i = 0; i < len; i++)
                buf[i] = seed % 2 != 0 ? (uint8_t)('a' + i / 64 % 16) : (uint8_t)(i * seed >> 3);
}

static PackReader *write_release(TempDir *t, const TrustStore *trust, unsigned version)
{
        g_autoptr(GError) error = NULL;
        g_autofree char *name = g_strdup_printf("release-%u", version), *path = tempdir_path(t, name);
        g_autofree char *text = g_strdup_printf("%u", version);
        const struct pack_writer_options options = {.name = "threads", .version = text, .zstd_level = 1};
        size_t large = 5 * CHUNK_SIZE + 77;
        g_autofree uint8_t *buf = g_malloc(large);
        g_autoptr(PackWriter) w = pack_writer_new(path, &options, &error);
        for (unsigned i = 0; i < SMALL; i++) {
                g_autofree char *file = g_strdup_printf("small-%03u", i);
                /* Every fourth one is the same in both releases: planned as equal. */
                fill(buf, i * 331, i % 4 == 0 ? 2 * i : i + version);
                packs_add_file(w, file, buf, i * 331);
        }
        for (unsigned i = 0; i < LARGE; i++) {
                g_autofree char *file = g_strdup_printf("x-large-%u", i);
                fill(buf, large, i + version);
                packs_add_file(w, file, buf, large);
        }
        g_autoptr(SigningKey) key = packs_key(t);
        if (!pack_writer_finish(w, &key, 1, NULL, &error))
                g_error("%s", error->message);
        PackReader *r = packs_open(path, trust, &error);
        if (r == NULL)
                g_error("%s", error->message);
        return r;
}

struct asking {
        Transaction *transaction;
        gint end; /* atomic */
};

static gpointer ask(gpointer user)
{
        struct asking *a = user;
        while (!g_atomic_int_get(&a->end)) {
                transaction_state_free(transaction_state(a->transaction));
                g_thread_yield();
        }
        return NULL;
}

static void on_state(const Moult__TransactionState *s, gpointer user)
{
        guint64 *seen = user; /* calls are serialised: no lock */
        *seen = s->bytes_done;
}

static void push(Upgrade *u, PackReader *pack, guint8 id)
{
        g_autoptr(GError) error = NULL;
        guint64 seen = 0;
        struct transaction_request request = {.push_id = {id}, .workers = WORKERS};
        g_autoptr(Transaction) t = transaction_new(u, pack, &request, on_state, &seen, &error);
        if (t == NULL)
                g_error("%s", error->message);
        struct asking asking = {.transaction = t};
        GThread *thread = g_thread_new("ask", ask, &asking);
        if (!transaction_plan(t, NULL, &error) || !transaction_stage(t, NULL, &error) ||
            !transaction_commit(t, NULL, &error) || !transaction_confirm(t, &error))
                g_error("%s", error->message);
        g_atomic_int_set(&asking.end, 1);
        g_thread_join(thread);
        g_assert_cmpuint(seen, >, 0);
}

int main(void)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        g_autoptr(TrustStore) trust = packs_trust(t);
        g_autoptr(PackReader) old = write_release(t, trust, 1);
        g_autoptr(PackReader) new = write_release(t, trust, 2);
        g_autofree char *root = tempdir_path(t, "root"), *state = tempdir_path(t, "state"), *recovered = NULL;
        const struct upgrade_config config = {
                .root = root, .state_dir = state, .workers = WORKERS, .keep_generations = 2};
        if (g_mkdir_with_parents(root, 0755) < 0)
                g_error("cannot make %s", root);
        g_autoptr(Upgrade) u = upgrade_open(&config, &recovered, &error);
        if (u == NULL)
                g_error("%s", error->message);
        push(u, old, 1);
        push(u, new, 2);
        if (!upgrade_rollback(u, (const guint8[16]){3}, &(struct rollback_target){0}, NULL, NULL, &error))
                g_error("%s", error->message);
        return 0;
}
