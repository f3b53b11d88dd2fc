/* host-service/api/refusal.c - the content gate for single values of requests. */
#include "host-service/api/refusal.h"

#include <string.h>
#include <sys/un.h>

#include "host-service/api/caller.h"
#include "host-service/catalogue/operations.h"
#include "host-service/catalogue/pushes.h"
#include "proto/limits.h"

#define JSON_DEPTH_MAX  16
#define LIBVIRT_URI_MAX 1000u
#define ALNUM_LOWER     "abcdefghijklmnopqrstuvwxyz0123456789"
#define ALNUM           ALNUM_LOWER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

/* 1..64 bytes, the first one of @first, the others of @others. */
static gboolean is_name(const char *text, gsize len, const char *first, const char *others)
{
        return len >= 1 && len <= LIMIT_NAME_BYTES && strchr(first, text[0]) && strspn(text, others) >= len;
}

const char *vm_name_refusal(const char *text)
{
        if (!is_name(text, strlen(text), ALNUM, ALNUM "._-"))
                return "must be 1 to 64 of A-Z a-z 0-9 . _ -, beginning with a letter or digit";
        return NULL;
}

const char *restore_point_refusal(const char *text)
{
        if (!is_name(text, strlen(text), ALNUM, ALNUM "._-:+ "))
                return "must be the name of a snapshot, or a time: 2026-11-29T20:05:00Z, 2026-11-29 20:05, "
                       "2h ago";
        return NULL;
}

#define LABEL_CHARS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._/-"
#define LABEL_MAX   63

/* The first @len bytes of @text. */
static gboolean is_label_part(const char *text, gsize len, const char *chars)
{
        return len > 0 && len <= LABEL_MAX && strspn(text, chars) >= len;
}

const char *label_key_refusal(const char *text)
{
        return is_label_part(text, strlen(text), LABEL_CHARS)
                       ? NULL
                       : "must be the key of a label: 1 to 63 letters, digits and ._/-";
}

static gboolean is_label(const char *text, gsize len)
{
        const char *sign = memchr(text, '=', len);

        return sign && is_label_part(text, (gsize)(sign - text), LABEL_CHARS) &&
               is_label_part(sign + 1, len - (gsize)(sign - text) - 1, LABEL_CHARS ":+@");
}

const char *label_refusal(const char *text)
{
        return is_label(text, strlen(text))
                       ? NULL
                       : "must be KEY=VALUE: each 1 to 63 letters, digits and ._/-, in the "
                         "value also :+@";
}

const char *labels_refusal(const char *text)
{
        for (const char *end; (end = strchr(text, ',')) != NULL; text = end + 1)
                if (!is_label(text, (gsize)(end - text)))
                        return "must be KEY=VALUE[,KEY=VALUE]...: letters, digits and ._/-, in a value also "
                               ":+@";
        return label_refusal(text);
}

const char *release_name_refusal(const char *text)
{
        if (!is_name(text, strlen(text), ALNUM_LOWER, ALNUM_LOWER "+.-"))
                return "must be 1 to 64 of a-z 0-9 + . -, beginning with a letter or digit";
        return NULL;
}

const char *release_version_refusal(const char *text)
{
        if (!is_name(text, strlen(text), ALNUM, ALNUM "+.:~-"))
                return "must be 1 to 64 of A-Z a-z 0-9 + . : ~ -, beginning with a letter or digit";
        return NULL;
}

const char *release_spec_refusal(const char *text)
{
        const char *equals = strchr(text, '=');

        if (!is_name(text, equals ? (gsize)(equals - text) : strlen(text), ALNUM_LOWER, ALNUM_LOWER "+.-") ||
            (equals && release_version_refusal(equals + 1)))
                return "must be NAME or NAME=VERSION";
        return NULL;
}

const char *operation_id_refusal(const char *text)
{
        return operation_id_is_valid(text) ? NULL
                                           : "must be an operation's id: 26 digits and capital letters";
}

const char *operation_state_refusal(const char *text)
{
        OperationState s;

        return operation_state_parse(text, &s)
                       ? NULL
                       : "must be queued, running, succeeded, failed, cancelled or partial";
}

const char *operation_kind_refusal(const char *text)
{
        static const char *const kinds[] = {"push",
                                            "rollout",
                                            "rollback",
                                            "release-import",
                                            "release-verify",
                                            "store-verify",
                                            "store-gc",
                                            "store-push",
                                            "store-pull",
                                            "store-verify-shared",
                                            "store-gc-shared",
                                            "snapshot-create",
                                            "snapshot-merge",
                                            "snapshot-verify",
                                            "snapshot-remove",
                                            "snapshot-prune",
                                            NULL};

        return g_strv_contains(kinds, text)
                       ? NULL
                       : "must be push, rollout, rollback, release-import, release-verify, store-verify, "
                         "store-gc, store-push, store-pull, store-verify-shared, store-gc-shared, "
                         "snapshot-create or snapshot-merge";
}

const char *transport_refusal(const char *text)
{
        PushTransport t;

        return push_transport_parse(text, &t) ? NULL : "must be auto, ivshmem, pmem, virtio-serial or tls";
}

const char *sync_mode_refusal(const char *text)
{
        return g_str_equal(text, "fast") || g_str_equal(text, "gentle") ? NULL : "must be fast or gentle";
}

const char *merge_method_refusal(const char *text)
{
        Moult__MergeMethod m;

        return push_merge_parse(text, &m) ? NULL : "must be auto, overlay, bind or union";
}

const char *file_path_refusal(const char *text)
{
        if (text[0] != '/')
                return "must be an absolute path";
        if (strlen(text) > LIMIT_PATH_BYTES)
                return "must be at most 4095 bytes long";
        return NULL;
}

const char *scope_refusal(const char *text)
{
        ApiScope scope;

        return api_scope_parse(text, &scope) ? NULL : "must be one of read, push, admin";
}

const char *socket_path_refusal(const char *text)
{
        struct sockaddr_un address;

        if (text[0] != '/' || text[1] == '\0')
                return "must be the absolute path of a Unix socket";
        if (strlen(text) >= sizeof address.sun_path)
                return "must be at most 107 bytes long: a socket's address holds no more";
        for (const char *p = text; *p; p++)
                if (g_ascii_iscntrl(*p))
                        return "must not hold control characters";
        return NULL;
}

/* libvirt's URIs can name programs that it runs as us (command=, netcat=, qemu+ext): only what is known. */
const char *libvirt_uri_refusal(const char *text)
{
        static const char *const schemes[] = {"qemu",     "qemu+unix",   "qemu+ssh",     "qemu+tls",
                                              "qemu+tcp", "qemu+libssh", "qemu+libssh2", NULL};
        static const char *const known[] = {"socket", "mode",         "pkipath", "keyfile", "known_hosts",
                                            "no_tty", "tls_priority", "sshauth", NULL};
        g_autoptr(GUri) uri = NULL;
        g_autoptr(GHashTable) params = NULL;
        GHashTableIter i;
        gpointer name;

        if (strlen(text) > LIBVIRT_URI_MAX)
                return "must be at most 1000 bytes long";
        uri = g_uri_parse(text, G_URI_FLAGS_NONE, NULL);
        if (!uri || !g_strv_contains(schemes, g_uri_get_scheme(uri)))
                return "must be a URI of libvirt's QEMU driver, like qemu:///system or "
                       "qemu+ssh://HOST/system";
        /* ssh would take it for an option. */
        if ((g_uri_get_host(uri) && g_uri_get_host(uri)[0] == '-') ||
            (g_uri_get_userinfo(uri) && g_uri_get_userinfo(uri)[0] == '-'))
                return "must not have a user or host that begins with '-'";
        if (!g_uri_get_query(uri))
                return NULL;
        params = g_uri_parse_params(g_uri_get_query(uri), -1, "&;", G_URI_PARAMS_NONE, NULL);
        if (!params)
                return "has parameters that cannot be read";
        g_hash_table_iter_init(&i, params);
        while (g_hash_table_iter_next(&i, &name, NULL))
                if (!g_strv_contains(known, name))
                        return "may have the parameters socket, mode, pkipath, keyfile, known_hosts, no_tty, "
                               "tls_priority and sshauth, no others";
        return NULL;
}

const char *domain_refusal(const char *text)
{
        gsize len = strlen(text);

        if (len < 1 || len > 255)
                return "must be a domain's name or UUID, of 1 to 255 bytes";
        for (const char *p = text; *p; p++)
                if (g_ascii_iscntrl(*p) || *p == '/')
                        return "must not hold '/' or control characters";
        return NULL;
}

static gboolean is_printable(const char *text, gsize min, gsize max)
{
        gsize len = strlen(text);

        for (gsize i = 0; i < len; i++)
                if (!g_ascii_isgraph(text[i]))
                        return FALSE;
        return len >= min && len <= max;
}

const char *join_token_refusal(const char *text)
{
        if (g_str_has_prefix(text, JOIN_TOKEN_PREFIX))
                return "must be the secret alone: the answer has the whole token";
        return is_printable(text, 16, 128) ? NULL
                                           : "must be 16 to 128 printable ASCII characters without spaces";
}

const char *idempotency_key_refusal(const char *text)
{
        return is_printable(text, 1, 128) ? NULL
                                          : "must be 1 to 128 printable ASCII characters without spaces";
}

const char *json_text_refusal(const char *text, gsize len)
{
        /* Brackets, signs, digits, and the letters of true, false, null and of exponents. */
        static const char outside[] = " \t\r\n{}[]:,\"0123456789+-.eEtrufalsn";
        gboolean in_string = FALSE;
        int depth = 0;

        if (!g_utf8_validate(text, (gssize)len, NULL))
                return "the body is not UTF-8 text";
        for (gsize i = 0; i < len; i++) {
                char ch = text[i];

                if (in_string) {
                        if ((guchar)ch < 0x20)
                                return "the body is not JSON: a control character in a string";
                        if (ch == '\\' && len - i > 5 && strncmp(text + i, "\\u0000", 6) == 0)
                                return "the body has a NUL character in a string";
                        if (ch == '\\')
                                i++;
                        else if (ch == '"')
                                in_string = FALSE;
                        continue;
                }
                if (ch == '\0' || !strchr(outside, ch))
                        return "the body is not JSON";
                if (ch == '"')
                        in_string = TRUE;
                else if ((ch == '{' || ch == '[') && ++depth > JSON_DEPTH_MAX)
                        return "the body is nested too deeply";
                else if (ch == '}' || ch == ']')
                        depth--;
        }
        return in_string || depth != 0 ? "the body is not JSON: it ends too early" : NULL;
}
