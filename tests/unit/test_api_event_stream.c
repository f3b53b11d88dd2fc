/* tests/unit/test_api_event_stream.c - a stream neither skips what was forgotten nor stalls on a failed read.
 */
#include "host-service/api/event_stream.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <sqlite3.h>
#include <string.h>

#include "host-service/catalogue/event_log.h"
#include "tests/support/host_world.h"

TestSuite(api_event_stream, .timeout = 60);

struct fixture {
        HostWorld *w;
        Catalogue *c;
        struct api_streams *streams;
        SoupServer *server;
        GSocketConnection *client;
        GString *text; /* what the client has got */
        gboolean over;
        char buf[4096];
        const char *vm; /* the stream's filter */
};

static void on_request(SoupServer *server, SoupServerMessage *msg, const char *path, GHashTable *query,
                       gpointer user)
{
        struct fixture *f = user;

        cr_assert(api_streams_add(f->streams, msg, 0, NULL, f->vm, NULL));
}

static void on_read(GObject *source, GAsyncResult *result, gpointer user)
{
        struct fixture *f = user;
        gssize n = g_input_stream_read_finish(G_INPUT_STREAM(source), result, NULL);

        if (n <= 0) {
                f->over = TRUE;
                return;
        }
        g_string_append_len(f->text, f->buf, n);
        f->over = g_str_has_suffix(f->text->str, "\r\n0\r\n\r\n"); /* the last chunk */
        g_input_stream_read_async(G_INPUT_STREAM(source), f->buf, sizeof f->buf, 0, NULL, on_read, f);
}

/* Until the streams were woken: that is an idle source which stands before this one. */
static gboolean on_idle(gpointer user)
{
        *(gboolean *)user = TRUE;
        return G_SOURCE_REMOVE;
}

static void let_streams_look(struct fixture *f)
{
        gboolean done = FALSE;
        GSource *idle = g_idle_source_new();

        g_source_set_callback(idle, on_idle, &done, NULL);
        g_source_attach(idle, f->w->env.context);
        while (!done)
                g_main_context_iteration(f->w->env.context, TRUE);
        g_source_unref(idle);
}

static void wait_for(struct fixture *f, const char *text)
{
        while (!strstr(f->text->str, text))
                g_main_context_iteration(f->w->env.context, TRUE);
}

static void begin(struct fixture *f)
{
        static const char request[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
        g_autoptr(GSocketClient) client = g_socket_client_new();
        GSList *uris;

        f->w = host_world_new();
        f->c = host_world_catalogue(f->w);
        f->w->env.clock = f->w->real->clock; /* the test's own clock would beat the heart without a pause */
        f->streams = api_streams_new(&f->w->env, f->c);
        f->text = g_string_new(NULL);
        f->server = g_object_new(SOUP_TYPE_SERVER, NULL);
        soup_server_add_handler(f->server, NULL, on_request, f, NULL);
        cr_assert(soup_server_listen_local(f->server, 0, SOUP_SERVER_LISTEN_IPV4_ONLY, NULL));
        uris = soup_server_get_uris(f->server);
        f->client = g_socket_client_connect_to_host(client, "127.0.0.1", (guint16)g_uri_get_port(uris->data),
                                                    NULL, NULL);
        cr_assert(ne(ptr, f->client, NULL));
        g_slist_free_full(uris, (GDestroyNotify)g_uri_unref);
        cr_assert(g_output_stream_write_all(g_io_stream_get_output_stream(G_IO_STREAM(f->client)), request,
                                            strlen(request), NULL, NULL, NULL));
        g_input_stream_read_async(g_io_stream_get_input_stream(G_IO_STREAM(f->client)), f->buf, sizeof f->buf,
                                  0, NULL, on_read, f);
        wait_for(f, ": moultd events");
}

static void end(struct fixture *f)
{
        g_socket_shutdown(g_socket_connection_get_socket(f->client), TRUE, TRUE, NULL);
        while (!f->over)
                g_main_context_iteration(f->w->env.context, TRUE);
        g_object_unref(f->client);
        soup_server_disconnect(f->server);
        let_streams_look(f);
        api_streams_free(f->streams);
        g_object_unref(f->server);
        catalogue_close(f->c);
        g_string_free(f->text, TRUE);
        host_world_free(f->w);
}

static void add(struct fixture *f, const char *type, const char *vm)
{
        cr_assert(catalogue_event_add(f->c, type, NULL, vm, "{}", NULL));
}

Test(api_event_stream, one_that_missed_forgotten_events_ends)
{
        struct fixture f = {0};

        begin(&f);
        add(&f, "test.seen", "a");
        wait_for(&f, "test.seen");
        /* All within one turn of the loop: the stream had no chance to send the first of them. */
        add(&f, "test.lost", "a");
        add(&f, "test.kept", "a");
        cr_assert(catalogue_event_prune(f.c, 1, NULL));
        while (!f.over)
                g_main_context_iteration(f.w->env.context, TRUE);
        cr_expect(eq(ptr, strstr(f.text->str, "test.kept"), NULL), "%s", f.text->str);
        end(&f);
}

Test(api_event_stream, what_was_not_for_the_stream_is_not_missed)
{
        struct fixture f = {.vm = "a"};

        begin(&f);
        for (int i = 0; i < 5; i++)
                add(&f, "test.other", "b");
        let_streams_look(&f);
        cr_assert(catalogue_event_prune(f.c, 1, NULL));
        add(&f, "test.mine", "a");
        wait_for(&f, "test.mine");
        cr_expect(not(f.over));
        cr_expect(eq(ptr, strstr(f.text->str, "test.other"), NULL), "%s", f.text->str);
        end(&f);
}

static void outside(struct fixture *f, const char *sql)
{
        sqlite3 *db;

        cr_assert(eq(int, sqlite3_open(f->w->env.catalogue_path, &db), SQLITE_OK));
        cr_assert(eq(int, sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK), "%s", sqlite3_errmsg(db));
        sqlite3_close(db);
}

Test(api_event_stream, a_log_that_cannot_be_read_just_now_is_read_again)
{
        struct fixture f = {0};

        begin(&f);
        add(&f, "test.late", "a");
        outside(&f, "ALTER TABLE events RENAME TO away");
        let_streams_look(&f);
        cr_expect(eq(ptr, strstr(f.text->str, "test.late"), NULL));
        outside(&f, "ALTER TABLE away RENAME TO events");
        wait_for(&f, "test.late"); /* without another event that would wake the stream */
        end(&f);
}
