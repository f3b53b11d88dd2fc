/* guest-agent/freeze_state.c - what the agent keeps of a freeze, and how it is told. */
#include "guest-agent/freeze_state.h"

#include <string.h>

#include "common/digest.h"
#include "common/error.h"

#define FILE_NAME "freeze.state"
#define GROUP     "freeze"

struct freeze_state *freeze_state_new(const guint8 id[static FREEZE_ID_SIZE])
{
        struct freeze_state *s = g_new0(struct freeze_state, 1);

        memcpy(s->id, id, FREEZE_ID_SIZE);
        s->begun = g_ptr_array_new_with_free_func(g_free);
        g_ptr_array_add(s->begun, NULL);
        return s;
}

void freeze_state_free(struct freeze_state *s)
{
        if (!s)
                return;
        g_ptr_array_unref(s->begun);
        g_free(s->text);
        g_free(s->hook);
        g_free(s->hook_output);
        g_free(s);
}

void freeze_state_add_begun(struct freeze_state *s, const char *hook)
{
        g_ptr_array_insert(s->begun, (gint)s->begun->len - 1, g_strdup(hook));
}

void freeze_state_fail(struct freeze_state *s, GError *why, char *hook, char *output)
{
        if (why) {
                g_free(s->text);
                s->error = moult_error_code(why);
                s->text = g_strdup(why->message);
                g_error_free(why);
        }
        if (hook) {
                g_free(s->hook);
                s->hook = hook;
        }
        if (output) {
                g_free(s->hook_output);
                s->hook_output = output;
        }
}

/* ---- the file ---- */

static char *id_text(const guint8 *id)
{
        GString *text = g_string_new(NULL);

        for (guint i = 0; i < FREEZE_ID_SIZE; i++)
                g_string_append_printf(text, "%02x", id[i]);
        return g_string_free(text, FALSE);
}

static gboolean id_parse(const char *text, guint8 *ret)
{
        return text && strlen(text) == (gsize)2 * FREEZE_ID_SIZE && bytes_from_hex(text, ret, FREEZE_ID_SIZE);
}

static void set_text(GKeyFile *keys, const char *key, const char *text)
{
        if (text)
                g_key_file_set_string(keys, GROUP, key, text);
}

gboolean freeze_state_save(const struct freeze_state *s, const char *directory, GError **error)
{
        g_autofree char *path = g_build_filename(directory, FILE_NAME, NULL), *id = id_text(s->id);
        g_autoptr(GKeyFile) keys = g_key_file_new();

        g_key_file_set_string(keys, GROUP, "id", id);
        g_key_file_set_boolean(keys, GROUP, "no-hooks", s->no_hooks);
        g_key_file_set_integer(keys, GROUP, "phase", (int)s->phase);
        g_key_file_set_integer(keys, GROUP, "error", (int)s->error);
        g_key_file_set_boolean(keys, GROUP, "held", s->held);
        g_key_file_set_integer(keys, GROUP, "mounts", (int)s->mounts);
        g_key_file_set_integer(keys, GROUP, "hooks-run", (int)s->hooks_run);
        g_key_file_set_uint64(keys, GROUP, "frozen-us", s->frozen_us);
        g_key_file_set_string_list(keys, GROUP, "begun", (const char *const *)s->begun->pdata,
                                   s->begun->len - 1);
        set_text(keys, "text", s->text);
        set_text(keys, "hook", s->hook);
        set_text(keys, "hook-output", s->hook_output);
        return g_key_file_save_to_file(keys, path, error);
}

struct freeze_state *freeze_state_load(const char *directory)
{
        g_autofree char *path = g_build_filename(directory, FILE_NAME, NULL), *id = NULL;
        g_autoptr(GKeyFile) keys = g_key_file_new();
        g_auto(GStrv) begun = NULL;
        guint8 bytes[FREEZE_ID_SIZE];
        struct freeze_state *s;

        if (!g_key_file_load_from_file(keys, path, G_KEY_FILE_NONE, NULL))
                return NULL;
        id = g_key_file_get_string(keys, GROUP, "id", NULL);
        if (!id_parse(id, bytes))
                return NULL;
        s = freeze_state_new(bytes);
        s->no_hooks = g_key_file_get_boolean(keys, GROUP, "no-hooks", NULL);
        s->phase = (Moult__FreezePhase)CLAMP(g_key_file_get_integer(keys, GROUP, "phase", NULL),
                                             MOULT__FREEZE_PHASE__FREEZE_PHASE_HOOKS,
                                             MOULT__FREEZE_PHASE__FREEZE_PHASE_THAWED);
        s->error =
                (MoultError)CLAMP(g_key_file_get_integer(keys, GROUP, "error", NULL), 0, MOULT_ERROR_MAX - 1);
        s->held = g_key_file_get_boolean(keys, GROUP, "held", NULL);
        s->mounts = (guint)CLAMP(g_key_file_get_integer(keys, GROUP, "mounts", NULL), 0,
                                 (int)LIMIT_FREEZE_MOUNTS);
        s->hooks_run = (guint)CLAMP(g_key_file_get_integer(keys, GROUP, "hooks-run", NULL), 0,
                                    (int)LIMIT_FREEZE_HOOKS);
        s->frozen_us = g_key_file_get_uint64(keys, GROUP, "frozen-us", NULL);
        s->text = g_key_file_get_string(keys, GROUP, "text", NULL);
        s->hook = g_key_file_get_string(keys, GROUP, "hook", NULL);
        s->hook_output = g_key_file_get_string(keys, GROUP, "hook-output", NULL);
        begun = g_key_file_get_string_list(keys, GROUP, "begun", NULL, NULL);
        for (char **name = begun; name && *name; name++)
                freeze_state_add_begun(s, *name);
        return s;
}

/* ---- the holder's words ---- */

static const char *point_of(const struct freeze_report *r, const struct freeze_record *record)
{
        return record && r->failed < record->n ? record->mounts[r->failed].point : "a file system";
}

static GError *why_of(const struct freeze_report *r, const struct freeze_record *record)
{
        const char *point = point_of(r, record);

        switch ((enum freeze_why)r->why) {
        case FREEZE_WHY_LEASE:
                return g_error_new(
                        MOULT_ERROR, MOULT_ERROR_TIMEOUT,
                        "the lease was over before the host asked to thaw: thawed by itself, what "
                        "was done meanwhile was not protected; a longer lease, or renewing it, helps");
        case FREEZE_WHY_TOLD:
                return g_error_new(
                        MOULT_ERROR, MOULT_ERROR_CANCELLED,
                        "the guest told the process that holds the freeze to end (a shutdown, say): "
                        "thawed");
        case FREEZE_WHY_MOUNT:
                if (r->failed_errno == EBUSY)
                        return g_error_new(MOULT_ERROR, MOULT_ERROR_BUSY,
                                           "%s is frozen by somebody else (fsfreeze -u %s, or wait): nothing "
                                           "stays frozen by moult",
                                           point, point);
                return g_error_new(MOULT_ERROR, MOULT_ERROR_IO, "freezing %s: %s: nothing stays frozen",
                                   point, g_strerror((int)r->failed_errno));
        case FREEZE_WHY_HANGS:
                return g_error_new(MOULT_ERROR, MOULT_ERROR_TIMEOUT,
                                   "writing out and freezing %s took too long (a slow or stuck disk): thawed",
                                   point);
        case FREEZE_WHY_NOTHING:
                return g_error_new(MOULT_ERROR, MOULT_ERROR_UNSUPPORTED,
                                   "there is no file system here that can be frozen");
        case FREEZE_WHY_STOLEN:
                return g_error_new(MOULT_ERROR, MOULT_ERROR_WRONG_STATE,
                                   "somebody else had thawed %s: what was done meanwhile was not protected",
                                   point);
        case FREEZE_WHY_NOT:
        case FREEZE_WHY_ASKED:
                break;
        }
        return r->held ? NULL
                       : g_error_new(MOULT_ERROR, MOULT_ERROR_CANCELLED,
                                     "it was given up before everything was frozen");
}

static Moult__FreezePhase phase_of(enum freeze_phase phase)
{
        switch (phase) {
        case FREEZE_SYNCING:
        case FREEZE_FREEZING:
                return MOULT__FREEZE_PHASE__FREEZE_PHASE_FREEZING;
        case FREEZE_FROZEN:
                return MOULT__FREEZE_PHASE__FREEZE_PHASE_FROZEN;
        case FREEZE_THAWING:
        case FREEZE_THAWED:
                break;
        }
        return MOULT__FREEZE_PHASE__FREEZE_PHASE_THAWING;
}

void freeze_state_take(struct freeze_state *s, const struct freeze_report *r,
                       const struct freeze_record *record)
{
        s->phase = phase_of((enum freeze_phase)r->phase);
        s->mounts = MIN(r->mounts, LIMIT_FREEZE_MOUNTS);
        s->frozen_us = r->frozen_us;
        s->told_us = g_get_monotonic_time();
        s->lease_ends_us = r->phase == FREEZE_FROZEN ? s->told_us + (gint64)r->lease_left_us : 0;
        if (r->phase != FREEZE_THAWED)
                return;
        s->held = r->held != 0;
        if (s->error == MOULT_ERROR_UNSPECIFIED && r->problem[0])
                freeze_state_fail(s,
                                  g_error_new(MOULT_ERROR, MOULT_ERROR_IO, "nothing was frozen: %.*s",
                                              (int)sizeof r->problem, r->problem),
                                  NULL, NULL);
        else if (s->error == MOULT_ERROR_UNSPECIFIED)
                freeze_state_fail(s, why_of(r, record), NULL, NULL);
}

void freeze_state_tell(const struct freeze_state *s, ProtobufCBinaryData id,
                       void (*call)(Moult__FreezeState *message, gpointer user), gpointer user)
{
        Moult__FreezeState m = MOULT__FREEZE_STATE__INIT;

        m.freeze_id = id;
        if (s) {
                gint64 since_us = s->phase == MOULT__FREEZE_PHASE__FREEZE_PHASE_FROZEN
                                          ? g_get_monotonic_time() - s->told_us
                                          : 0;
                gint64 left_us = s->lease_ends_us ? s->lease_ends_us - g_get_monotonic_time() : 0;

                m.freeze_id = message_blob(s->id, FREEZE_ID_SIZE);
                m.phase = s->phase;
                m.error = (Moult__ErrorCode)s->error;
                m.text = message_bytes(s->text ? s->text : "");
                m.held = s->held && s->phase == MOULT__FREEZE_PHASE__FREEZE_PHASE_THAWED;
                m.mounts = s->mounts;
                m.hooks_run = s->hooks_run;
                m.hook = message_bytes(s->hook ? s->hook : "");
                m.hook_output = message_bytes(s->hook_output ? s->hook_output : "");
                m.frozen_us = s->frozen_us + (guint64)since_us;
                m.lease_left_ms = (guint32)CLAMP(left_us / 1000, 0, (gint64)LIMIT_FREEZE_LEASE_MS);
        }
        call(&m, user);
}
