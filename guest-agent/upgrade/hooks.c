/* guest-agent/upgrade/hooks.c - the release's own scripts, and the restart of services.
 *
 * A script runs from a sealed memory file, so nothing on the disk can change it, and no mount option forbids
 * it. */
#include "guest-agent/upgrade/hooks.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fault.h"
#include "common/fd.h"
#include "guest-agent/upgrade/process.h"
#include "proto/message.h"

#define RESTART_TIMEOUT_MS 120000u
#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif
#define OUTPUT_IN_ERROR 400u

const char *hook_stage_name(Moult__HookStage stage)
{
        switch (stage) {
        case MOULT__HOOK_STAGE__HOOK_CHECK:
                return "check";
        case MOULT__HOOK_STAGE__HOOK_PRE:
                return "pre";
        case MOULT__HOOK_STAGE__HOOK_POST:
                return "post";
        default:
                return "health";
        }
}

static int script_memory(const Moult__Hook *h, GError **error)
{
        /* Linux 6.3 wants to be told that it is for execution; older ones do not know the flag. */
        scoped_fd int fd = memfd_create("moult-hook", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
        if (fd < 0 && errno == EINVAL)
                fd = memfd_create("moult-hook", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (fd < 0) {
                moult_error_errno(error, errno, "making room for a hook");
                return -1;
        }
        if (!fd_write_all(fd, h->script.data, h->script.len, "a hook", error))
                return -1;
        if (fchmod(fd, 0500) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK) < 0) {
                moult_error_errno(error, errno, "sealing a hook");
                return -1;
        }
        /* A file that is open for writing cannot be executed. */
        char path[64];
        g_snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        int readable = open(path, O_RDONLY | O_CLOEXEC);
        if (readable < 0)
                moult_error_errno(error, errno, "reopening a hook");
        return readable;
}

static GStrv hook_environment(const struct hook_context *c, const Moult__Hook *h, const char *name)
{
        g_autofree char *release = message_string(c->manifest->name),
                        *version = message_string(c->manifest->version);
        g_autofree char *generation = g_strdup_printf("%" G_GUINT64_FORMAT, c->generation);
        g_autoptr(GString) push = g_string_new(NULL);
        for (int i = 0; i < 16; i++)
                g_string_append_printf(push, "%02x", c->push_id[i]);
        GStrv e = g_new0(char *, 1);
        e = g_environ_setenv(e, "PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", TRUE);
        e = g_environ_setenv(e, "HOME", "/root", TRUE);
        e = g_environ_setenv(e, "LANG", "C.UTF-8", TRUE);
        e = g_environ_setenv(e, "MOULT_RELEASE", release, TRUE);
        e = g_environ_setenv(e, "MOULT_VERSION", version, TRUE);
        e = g_environ_setenv(e, "MOULT_GENERATION", generation, TRUE);
        e = g_environ_setenv(e, "MOULT_PUSH_ID", push->str, TRUE);
        e = g_environ_setenv(e, "MOULT_STAGE", hook_stage_name(h->stage), TRUE);
        e = g_environ_setenv(e, "MOULT_HOOK", name, TRUE);
        if (c->inside)
                e = g_environ_setenv(e, "MOULT_OFFLINE", "1", TRUE);
        return g_environ_setenv(e, "MOULT_ROOT", c->inside ? "/" : c->root, TRUE);
}

/* The end of the output as one line, for an error text. */
static char *last_words(const char *output)
{
        gsize len = strlen(output);
        const char *at = len > OUTPUT_IN_ERROR ? output + len - OUTPUT_IN_ERROR : output;
        while ((*at & 0xc0) == 0x80) /* not in the middle of a character */
                at++;
        return g_strstrip(g_strdelimit(g_strdup(at), "\r\n\t", ' '));
}

static gboolean hook_run(const struct hook_context *c, const Moult__Hook *h, GError **error)
{
        static const char *const argv[] = {"/proc/self/fd/3", NULL};
        g_autofree char *name = message_string(h->name);
        MoultError code = h->stage == MOULT__HOOK_STAGE__HOOK_HEALTH ? MOULT_ERROR_HEALTH : MOULT_ERROR_HOOK;
        struct process_result r = {0};
        g_autoptr(GError) why = NULL;

        if (c->observe != NULL)
                c->observe(name, NULL, c->user);
        scoped_fd int fd = script_memory(h, error);
        if (fd < 0)
                return FALSE;
        g_auto(GStrv) environment = hook_environment(c, h, name);
        struct process_request q = {.argv = argv,
                                    .environment = (const char *const *)environment,
                                    .script_fd = fd,
                                    .root = c->inside ? c->root : NULL,
                                    .timeout_ms = h->timeout_ms};
        if (!process_run(&q, &r, &why)) {
                g_set_error(error, MOULT_ERROR, code, "%s hook \"%s\" could not be started: %s",
                            hook_stage_name(h->stage), name, why->message);
                return FALSE;
        }
        if (c->observe != NULL)
                c->observe(name, r.output, c->user);
        g_autofree char *failure = process_failure(&r, h->timeout_ms);
        if (failure != NULL) {
                g_autofree char *said = last_words(r.output);
                g_set_error(error, MOULT_ERROR, code, "%s hook \"%s\" failed: %s%s%s",
                            hook_stage_name(h->stage), name, failure,
                            *said != '\0' ? "; its last output: " : "", said);
        }
        process_result_clear(&r);
        return failure == NULL;
}

gboolean hooks_run(const struct hook_context *c, Moult__HookStage stage, GError **error)
{
        if (c->inside && stage == MOULT__HOOK_STAGE__HOOK_HEALTH)
                return TRUE; /* nothing runs whose health it could be */
        for (size_t i = 0; i < c->manifest->n_hooks; i++) {
                if (c->manifest->hooks[i]->stage != stage)
                        continue;
                if (!hook_run(c, c->manifest->hooks[i], error))
                        return FALSE;
                int fake = fault_point("hook");
                if (fake != 0)
                        return moult_error_errno(error, fake, "after a hook");
        }
        return TRUE;
}

/* Restarting ourselves would end the transaction in the middle: that is for after it. */
static gboolean is_ourselves(const char *unit)
{
        return g_str_equal(unit, "moult-agent") || g_str_equal(unit, "moult-agent.service");
}

static gboolean unit_restart(const struct hook_context *c, const char *unit, GError **error)
{
        gboolean systemd = g_file_test("/run/systemd/system", G_FILE_TEST_IS_DIR);
        const char *command = c->init_command != NULL ? c->init_command : systemd ? "systemctl" : "service";
        g_autofree char *base = g_path_get_basename(command);
        /* A service that does not run stays stopped: the release asks for new code, not for new services. */
        const char *by_systemctl[] = {command, "try-restart", "--", unit, NULL};
        const char *by_service[] = {command, unit, "restart", NULL};
        static const char *const environment[] = {
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", NULL};
        struct process_result r = {0};
        g_autoptr(GError) why = NULL;
        gboolean init_script = g_str_equal(base, "service");
        /* An init script starts the daemon as a child of ours: often with a mere "&", holding our output. */
        struct process_request q = {.argv = init_script ? by_service : by_systemctl,
                                    .environment = environment,
                                    .script_fd = -1,
                                    .timeout_ms = RESTART_TIMEOUT_MS,
                                    .leaves_daemons = init_script};
        if (!process_run(&q, &r, &why)) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_HEALTH, "restarting %s: %s", unit, why->message);
                return FALSE;
        }
        g_autofree char *failure = process_failure(&r, RESTART_TIMEOUT_MS);
        if (failure != NULL) {
                g_autofree char *said = last_words(r.output);
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_HEALTH, "restarting %s failed: %s%s%s", unit,
                            failure, *said != '\0' ? "; " : "", said);
        }
        process_result_clear(&r);
        return failure == NULL;
}

/* Another tree's services are not ours to restart, but for tests that bring their own command. */
static gboolean may_restart(const struct hook_context *c)
{
        return g_str_equal(c->root, "/") || c->init_command != NULL;
}

gboolean unit_restart_one(const struct hook_context *c, const char *unit, GError **error)
{
        if (may_restart(c) && !is_ourselves(unit))
                return unit_restart(c, unit, error);
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED, "%s is not restarted: %s", unit,
                    is_ourselves(unit) ? "it is the agent that would do it"
                                       : "the tree is not that of the running machine");
        return FALSE;
}

/* With @notes, a failure goes there and the next is tried. */
static gboolean restart_each(const struct hook_context *c, GString *notes, GError **error)
{
        if (!may_restart(c))
                return TRUE;
        for (size_t i = 0; i < c->manifest->n_restart_units; i++) {
                g_autofree char *unit = message_string(c->manifest->restart_units[i]);
                if (is_ourselves(unit))
                        continue;
                g_autofree char *shown = g_strdup_printf("restart %s", unit);
                if (c->observe != NULL)
                        c->observe(shown, NULL, c->user);
                g_autoptr(GError) why = NULL;
                if (unit_restart(c, unit, &why))
                        continue;
                if (notes == NULL) {
                        g_propagate_error(error, g_steal_pointer(&why));
                        return FALSE;
                }
                g_string_append_printf(notes, "%s\n", why->message);
        }
        return TRUE;
}

gboolean units_restart(const struct hook_context *c, GError **error)
{
        return restart_each(c, NULL, error);
}

void units_restart_all(const struct hook_context *c, GString *notes)
{
        restart_each(c, notes, NULL);
}
