/* guest-agent/host_pin.c - the pin, the token, and the file that keeps them. */
#include "guest-agent/host_pin.h"

#include <fcntl.h>
#include <string.h>

#include "common/atomic_file.h"
#include "common/error.h"
#include "common/events.h"
#include "common/fd.h"
#include "proto/limits.h"

#define FILE_NAME    "host.pin"
#define GROUP        "host"
#define TOKEN_PREFIX "moult1:"

struct HostPin {
        char *dir;
        gboolean known;
        guint8 fingerprint[DIGEST_SIZE];
        GStrv endpoints;
        char *token_digest; /* of the last token that was used, or NULL */
        char *secret;       /* of a token that was not used yet */
        char *new_digest;   /* the digest of that one */
};

static char *digest_of(const char *token)
{
        return g_compute_checksum_for_string(G_CHECKSUM_SHA256, token, -1);
}

static gboolean read_file(HostPin *p, GError **error)
{
        g_autofree char *path = g_build_filename(p->dir, FILE_NAME, NULL);
        g_autoptr(GKeyFile) keys = g_key_file_new();
        g_autoptr(GError) local = NULL;
        g_autofree char *hex = NULL;

        if (!g_key_file_load_from_file(keys, path, G_KEY_FILE_NONE, &local)) {
                if (g_error_matches(local, G_FILE_ERROR, G_FILE_ERROR_NOENT))
                        return TRUE;
                g_propagate_prefixed_error(error, g_steal_pointer(&local), "the host's pin %s: ", path);
                return FALSE;
        }
        hex = g_key_file_get_string(keys, GROUP, "fingerprint", NULL);
        if (!hex || !digest_from_hex(hex, p->fingerprint)) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                            "the host's pin %s is damaged: remove it, the host is then learned over the "
                            "virtio port or by a "
                            "new token",
                            path);
                return FALSE;
        }
        p->known = TRUE;
        p->endpoints = g_key_file_get_string_list(keys, GROUP, "endpoints", NULL, NULL);
        p->token_digest = g_key_file_get_string(keys, GROUP, "token-digest", NULL);
        return TRUE;
}

static gboolean take_token(HostPin *p, const char *token, GError **error)
{
        g_autofree char *digest = digest_of(token);
        g_auto(GStrv) parts = g_strsplit(token, ":", 3);

        if (token[0] == 0 || g_strcmp0(digest, p->token_digest) == 0)
                return TRUE;
        guint8 fingerprint[DIGEST_SIZE];
        if (!g_str_has_prefix(token, TOKEN_PREFIX) || g_strv_length(parts) != 3 || parts[2][0] == 0 ||
            !digest_from_hex(parts[1], fingerprint)) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                            "the join token is not of the form moult1:FINGERPRINT:SECRET; `moult vm add "
                            "--token` prints one");
                return FALSE;
        }
        memcpy(p->fingerprint, fingerprint, sizeof fingerprint);
        p->known = TRUE;
        p->secret = g_strdup(parts[2]);
        p->new_digest = g_steal_pointer(&digest);
        return TRUE;
}

HostPin *host_pin_load(const char *dir, const char *token, GError **error)
{
        g_autoptr(HostPin) p = g_new0(HostPin, 1);

        p->dir = g_strdup(dir);
        if (!read_file(p, error) || !take_token(p, token, error))
                return NULL;
        if (!p->endpoints)
                p->endpoints = g_new0(char *, 1);
        return g_steal_pointer(&p);
}

void host_pin_free(HostPin *p)
{
        if (!p)
                return;
        g_free(p->dir);
        g_strfreev(p->endpoints);
        g_free(p->token_digest);
        g_free(p->secret);
        g_free(p->new_digest);
        g_free(p);
}

const guint8 *host_pin_fingerprint(const HostPin *p)
{
        return p->known ? p->fingerprint : NULL;
}

const char *host_pin_secret(const HostPin *p)
{
        return p->secret;
}

const char *const *host_pin_endpoints(const HostPin *p)
{
        return (const char *const *)p->endpoints;
}

gboolean host_pin_learn(HostPin *p, const guint8 fingerprint[static DIGEST_SIZE],
                        const char *const *endpoints)
{
        if (p->known && memcmp(p->fingerprint, fingerprint, DIGEST_SIZE) == 0 &&
            g_strv_equal(endpoints, (const char *const *)p->endpoints))
                return FALSE;
        memcpy(p->fingerprint, fingerprint, DIGEST_SIZE);
        p->known = TRUE;
        g_strfreev(p->endpoints);
        p->endpoints = g_strdupv((char **)endpoints);
        host_pin_spend_token(p); /* what the hypervisor vouches for counts more */
        return TRUE;
}

gboolean host_pin_spend_token(HostPin *p)
{
        if (!p->secret)
                return FALSE;
        g_clear_pointer(&p->secret, g_free);
        g_free(p->token_digest);
        p->token_digest = g_steal_pointer(&p->new_digest);
        return TRUE;
}

struct save {
        char *dir, *data;
        gsize len;
};

static gboolean save_file(const struct save *s, GError **error)
{
        scoped_fd int dir = -1;

        if (g_mkdir_with_parents(s->dir, 0700) < 0)
                return moult_error_errno(error, errno, "making %s", s->dir);
        dir = open(s->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (dir < 0)
                return moult_error_errno(error, errno, "opening %s", s->dir);
        return atomic_file_write_at(dir, FILE_NAME, s->data, s->len, 0600, error);
}

static void save_run(gpointer job)
{
        struct save *s = job;
        g_autoptr(GError) error = NULL;

        if (!save_file(s, &error))
                event_log(EVENT_WARNING, "agent-pin-not-saved", error->message, NULL);
}

static void save_done(gpointer job)
{
        struct save *s = job;

        g_free(s->dir);
        g_free(s->data);
        g_free(s);
}

void host_pin_save(const HostPin *p, Worker *worker)
{
        g_autoptr(GKeyFile) keys = g_key_file_new();
        struct save *s = g_new0(struct save, 1);
        char hex[2 * DIGEST_SIZE + 1];

        digest_to_hex(p->fingerprint, hex);
        g_key_file_set_string(keys, GROUP, "fingerprint", hex);
        g_key_file_set_string_list(keys, GROUP, "endpoints", (const char *const *)p->endpoints,
                                   g_strv_length(p->endpoints));
        if (p->token_digest)
                g_key_file_set_string(keys, GROUP, "token-digest", p->token_digest);
        s->dir = g_strdup(p->dir);
        s->data = g_key_file_to_data(keys, &s->len, NULL);
        worker_push(worker, save_run, save_done, s);
}
