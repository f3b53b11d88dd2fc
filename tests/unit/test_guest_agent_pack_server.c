/* tests/unit/test_guest_agent_pack_server.c - instant mode's way over the agent: the server of a merge and
 * the agent's pack server, with a real pack between them. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "fuse-overlay/pack_socket.h"
#include "fuse-overlay/targetfs/read_deadline.h"
#include "fuse-overlay/targetfs/source_pack.h"
#include "guest-agent/pack_server.h"
#include "tests/support/packs.h"

TestSuite(pack_server, .timeout = 60);

/* A pack, the record that an agent keeps of it, and an agent's main loop in a thread of its own. */
struct rig {
        TempDir *dir;
        guint8 digest[32];
        guint8 *bytes; /* of the pack: a test may damage them */
        gsize n_bytes;
        PackReader *reader;
        char *path;
        GMainContext *context;
        GMainLoop *loop;
        GThread *thread;
        PackServer *server;
};

static gpointer run_loop(gpointer user)
{
        struct rig *r = user;
        g_main_context_push_thread_default(r->context);
        r->server = pack_server_new(r->path, NULL);
        g_main_loop_run(r->loop);
        pack_server_free(r->server);
        g_main_context_pop_thread_default(r->context);
        return NULL;
}

static void keep(struct rig *r, const char *name, GBytes *bytes)
{
        gsize len;
        const void *data = g_bytes_get_data(bytes, &len);
        tempdir_put(r->dir, name, data, len);
}

static void start_agent(struct rig *r)
{
        r->context = g_main_context_new();
        r->loop = g_main_loop_new(r->context, FALSE);
        r->thread = g_thread_new("agent", run_loop, r);
        while (!g_main_loop_is_running(r->loop))
                g_thread_yield();
}

static void stop_agent(struct rig *r)
{
        g_main_loop_quit(r->loop);
        g_thread_join(r->thread);
        g_main_loop_unref(r->loop);
        g_main_context_unref(r->context);
}

static struct rig *rig_new(void)
{
        struct rig *r = g_new0(struct rig, 1);
        g_autoptr(GError) error = NULL;
        r->dir = tempdir_new();
        g_autofree char *pack = packs_small(r->dir, r->digest);
        cr_assert(g_file_get_contents(pack, (char **)&r->bytes, &r->n_bytes, NULL));
        r->reader = packs_open(pack, NULL, &error);
        cr_assert_not_null(r->reader);
        keep(r, "header", pack_reader_header_bytes(r->reader));
        keep(r, "manifest", pack_reader_manifest_bytes(r->reader));
        keep(r, "signature", pack_reader_signature_bytes(r->reader));
        r->path = tempdir_path(r->dir, "pack.sock");
        start_agent(r);
        return r;
}

static void rig_free(struct rig *r)
{
        stop_agent(r);
        pack_reader_unref(r->reader);
        g_free(r->bytes);
        g_free(r->path);
        tempdir_free(r->dir);
        g_free(r);
}

static SourcePack *open_pack(struct rig *r)
{
        g_autoptr(GError) error = NULL;
        const struct source_pack_config config = {.record_fd = r->dir->fd, .socket = r->path};
        SourcePack *p = source_pack_new(&config, &error);
        cr_assert_not_null(p, "%s", error != NULL ? error->message : "");
        return p;
}

static const Moult__Entry *entry(struct rig *r, const char *path)
{
        const Manifest *m = pack_reader_manifest(r->reader);
        return m->entries[manifest_find(m, path, strlen(path))];
}

static gboolean read_text(struct rig *r, SourcePack *p, char *buf, gsize *len, GError **error)
{
        g_autoptr(VerifiedFile) f = source_pack_open(p, entry(r, "etc/text"), error);
        read_deadline_begin();
        return f != NULL && verified_file_read(f, 0, buf, 6000, len, NULL, error);
}

Test(pack_server, a_file_of_the_pack_is_read_over_the_agent)
{
        struct rig *r = rig_new();
        g_autoptr(PackSource) source = packs_memory_source(r->bytes, r->n_bytes);
        g_autoptr(SourcePack) p = open_pack(r);
        g_autoptr(GError) error = NULL;
        g_autofree char *want = g_strnfill(6000, 'a');
        char buf[6000];
        gsize len;

        pack_server_set(r->server, r->digest, source);
        cr_assert(read_text(r, p, buf, &len, &error), "%s", error != NULL ? error->message : "");
        cr_assert(eq(sz, len, 6000));
        cr_assert(eq(int, memcmp(buf, want, 6000), 0));
        rig_free(r);
}

Test(pack_server, bytes_that_were_not_signed_are_an_error_and_never_given_out)
{
        struct rig *r = rig_new();
        for (gsize i = PACK_HEADER_SIZE; i < pack_reader_header(r->reader)->manifest_offset; i++)
                r->bytes[i] ^= 0x55;
        g_autoptr(PackSource) source = packs_memory_source(r->bytes, r->n_bytes);
        g_autoptr(SourcePack) p = open_pack(r);
        g_autoptr(GError) error = NULL;
        char buf[6000] = {0};
        gsize len = 77;

        pack_server_set(r->server, r->digest, source);
        cr_assert_not(read_text(r, p, buf, &len, &error));
        cr_assert(eq(int, (int)moult_error_code(error), MOULT_ERROR_CORRUPT));
        cr_assert(eq(sz, len, 77));
        for (gsize i = 0; i < sizeof buf; i++)
                cr_assert(eq(chr, buf[i], 0));
        rig_free(r);
}

Test(pack_server, another_pack_is_refused_with_the_reason_and_a_later_read_succeeds)
{
        struct rig *r = rig_new();
        g_autoptr(PackSource) source = packs_memory_source(r->bytes, r->n_bytes);
        g_autoptr(SourcePack) p = open_pack(r);
        g_autoptr(GError) error = NULL;
        const guint8 other[32] = {9};
        char buf[6000];
        gsize len;

        pack_server_set(r->server, other, source);
        cr_assert_not(read_text(r, p, buf, &len, &error));
        cr_assert_not_null(strstr(error->message, "not being pushed now"), "%s", error->message);
        g_clear_error(&error);
        pack_server_set(r->server, r->digest, source);
        cr_assert(read_text(r, p, buf, &len, &error), "%s", error != NULL ? error->message : "");
        rig_free(r);
}

Test(pack_server, an_agent_that_restarts_is_found_again)
{
        struct rig *r = rig_new();
        g_autoptr(PackSource) source = packs_memory_source(r->bytes, r->n_bytes);
        g_autoptr(SourcePack) p = open_pack(r);
        g_autoptr(GError) error = NULL;
        char buf[6000];
        gsize len;

        pack_server_set(r->server, r->digest, source);
        cr_assert(read_text(r, p, buf, &len, &error));
        stop_agent(r);
        start_agent(r);
        pack_server_set(r->server, r->digest, source);
        cr_assert(read_text(r, p, buf, &len, &error), "%s", error != NULL ? error->message : "");
        rig_free(r);
}

Test(pack_server, noise_closes_that_connection_alone)
{
        struct rig *r = rig_new();
        g_autoptr(PackSource) source = packs_memory_source(r->bytes, r->n_bytes);
        g_autoptr(SourcePack) p = open_pack(r);
        g_autoptr(GError) error = NULL;
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        struct pack_socket_request noise = {.magic = PACK_SOCKET_MAGIC, .length = G_MAXUINT32};
        scoped_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        char buf[6000];
        gsize len;

        pack_server_set(r->server, r->digest, source);
        strcpy(address.sun_path, r->path);
        cr_assert(eq(int, connect(fd, (struct sockaddr *)&address, sizeof address), 0));
        cr_assert(eq(sz, (gsize)send(fd, &noise, sizeof noise, 0), sizeof noise));
        cr_assert(eq(int, (int)recv(fd, buf, 1, 0), 0));
        cr_assert(read_text(r, p, buf, &len, &error), "%s", error != NULL ? error->message : "");
        rig_free(r);
}

Test(pack_server, a_file_that_the_pack_does_not_have_is_not_found)
{
        struct rig *r = rig_new();
        g_autoptr(SourcePack) p = open_pack(r);
        g_autoptr(GError) error = NULL;
        guint8 digest[32] = {1};
        Moult__Entry e = MOULT__ENTRY__INIT;
        e.digest = (ProtobufCBinaryData){sizeof digest, digest};
        e.size = 6000;

        cr_assert_null(source_pack_open(p, &e, &error));
        cr_assert(eq(int, (int)moult_error_code(error), MOULT_ERROR_NOT_FOUND));
        rig_free(r);
}
