/* guest-agent/cli/thaw.c - `moult-agent thaw` and `moult-agent freeze-status`: the way out of a freeze from
 * inside the guest, also without the daemon. */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/error.h"
#include "guest-agent/cli/client.h"
#include "guest-agent/cli/online.h"
#include "guest-agent/cli/state_out.h"
#include "guest-agent/config.h"
#include "guest-agent/freezer.h"

#define TIMEOUT_MS 30000u

static const char *phase_name(Moult__FreezePhase phase)
{
        static const char *const names[] = {"none", "hooks", "freezing", "frozen", "thawing", "thawed"};

        return (gsize)phase < G_N_ELEMENTS(names) ? names[phase] : "unknown";
}

static void print_state(const Moult__FreezeState *s)
{
        g_autofree char *text = message_string(s->text), *hook = message_string(s->hook);

        if (s->phase == MOULT__FREEZE_PHASE__FREEZE_PHASE_NONE) {
                g_print("freeze: none since the machine started\n");
                return;
        }
        g_print("freeze: %s, %u file systems, %" G_GUINT64_FORMAT ".%03u s frozen%s\n", phase_name(s->phase),
                s->mounts, s->frozen_us / G_USEC_PER_SEC, (unsigned)(s->frozen_us % G_USEC_PER_SEC / 1000),
                s->phase != MOULT__FREEZE_PHASE__FREEZE_PHASE_THAWED ? ""
                : s->held                                            ? ", held until it was asked to thaw"
                                                                     : ", did not hold");
        if (s->lease_left_ms > 0)
                g_print("lease:  thaws by itself in %u.%03u s\n", s->lease_left_ms / 1000,
                        s->lease_left_ms % 1000);
        if (hook[0])
                g_print("hook:   %s\n", hook);
        if (text[0])
                g_print("why:    %s\n", text);
}

static int show(const Moult__FreezeState *s, gboolean json)
{
        if (json)
                state_out_json(&s->base);
        else
                print_state(s);
        return AGENT_EXIT_OK;
}

static Message *ask(Client *client, Moult__FreezeAction action, GError **error)
{
        Message request = MOULT__MESSAGE__INIT;
        Moult__Freeze body = MOULT__FREEZE__INIT;

        body.action = action;
        request.body_case = MOULT__MESSAGE__BODY_FREEZE;
        request.freeze = &body;
        return client_ask(client, &request, TIMEOUT_MS, error);
}

static gboolean is_over(const Moult__FreezeState *s)
{
        return s->phase == MOULT__FREEZE_PHASE__FREEZE_PHASE_THAWED ||
               s->phase == MOULT__FREEZE_PHASE__FREEZE_PHASE_NONE;
}

static int thaw_through(Client *client, gboolean json)
{
        g_autoptr(GError) error = NULL;
        g_autoptr(Message) m = ask(client, MOULT__FREEZE_ACTION__FREEZE_THAW, &error);

        while (m && !is_over(m->freeze_state)) {
                Message *next = client_next_state(client, &error);

                if (next && next->body_case != MOULT__MESSAGE__BODY_FREEZE_STATE) {
                        message_free(next);
                        continue;
                }
                message_free(g_steal_pointer(&m));
                m = next;
        }
        return m ? show(m->freeze_state, json) : command_fail(error);
}

/* What nobody holds any more. */
static int thaw_left_over(const char *directory)
{
        g_autoptr(GError) error = NULL;
        g_autoptr(FreezeRecord) record = freeze_record_load(directory, &error);
        g_autoptr(GString) problem = g_string_new(NULL);
        guint thawed = 0;

        if (error)
                return command_fail(error);
        for (guint n = 0; record && freeze_record_is_left(record) && problem->len == 0; n++) {
                g_autoptr(MountTable) mounts = mount_table_load(NULL);

                if (n > 0) /* a freeze of it that is under way */
                        g_usleep(FREEZE_RETHAW_US);
                thawed += freeze_record_rescue(record, mounts, n < FREEZE_RESCUE_PATIENT, problem);
        }
        if (thawed > 0)
                g_print("thawed %u file systems that nobody held any more\n", thawed);
        if (problem->len == 0)
                return AGENT_EXIT_OK;
        g_printerr("moult-agent: %s", problem->str);
        return AGENT_EXIT_FAILED;
}

/* Of cgroup 2, or NULL. Commands of a unit with Delegate= run in a group below it. */
static char *control_group(pid_t pid)
{
        g_autofree char *path = g_strdup_printf("/proc/%d/cgroup", (int)pid), *text = NULL;
        g_auto(GStrv) lines = NULL;

        if (!g_file_get_contents(path, &text, NULL, NULL))
                return NULL;
        lines = g_strsplit(text, "\n", -1);
        for (char **line = lines; *line; line++) {
                if (!g_str_has_prefix(*line, "0::"))
                        continue;
                if (g_str_has_suffix(*line, "/.control"))
                        (*line)[strlen(*line) - strlen("/.control")] = 0;
                return g_strdup(*line + strlen("0::"));
        }
        return NULL;
}

/* Whoever ends our control group ends the holder, too. */
static gboolean ends_with_us(int fd)
{
        struct ucred holder;
        socklen_t len = sizeof holder;
        g_autofree char *ours = control_group(getpid()), *its = NULL;

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &holder, &len) < 0)
                return FALSE;
        its = control_group(holder.pid);
        return ours && its && g_str_equal(ours, its);
}

/* Without the daemon: its hooks run when it is back. */
static int thaw_alone(const char *socket, gboolean left_over, gboolean group)
{
        g_autofree char *directory = g_path_get_dirname(socket);
        g_autoptr(GError) error = NULL;
        int fd = freezer_connect(directory, &error);
        struct freeze_report r;
        gboolean asked;

        if (error)
                return command_fail(error);
        if (fd < 0)
                return thaw_left_over(directory);
        if (left_over && !(group && ends_with_us(fd))) { /* somebody holds it */
                close(fd);
                return AGENT_EXIT_OK;
        }
        asked = freezer_ask(fd, FREEZE_ORDER_THAW, FREEZE_THAWED, &r, &error);
        close(fd);
        if (error)
                return command_fail(error);
        if (!asked)
                return thaw_left_over(directory);
        g_print("thawed %u file systems; the agent does not run: post-thaw hooks run when it is back\n",
                r.mounts);
        return AGENT_EXIT_OK;
}

int command_thaw(int argc, char **argv)
{
        struct client_options options = {NULL, FALSE};
        gboolean left_over = FALSE, group = FALSE;
        const GOptionEntry entries[] = {CLIENT_OPTIONS(&options),
                                        {"left-over", 0, 0, G_OPTION_ARG_NONE, &left_over,
                                         "Only what nobody holds any more; without the daemon", NULL},
                                        {"control-group", 0, 0, G_OPTION_ARG_NONE, &group,
                                         "The same, and what a process of our control group holds", NULL},
                                        G_OPTION_ENTRY_NULL};
        g_autoptr(Client) client = NULL;
        int status;

        if (!command_parse(&argc, &argv, entries, "",
                           "Ends a freeze: what was to be protected by it is not, then.", &status))
                return status;
        left_over |= group;
        if (!left_over)
                client = client_connect(&options, NULL);
        status = client ? thaw_through(client, options.json)
                        : thaw_alone(options.socket ? options.socket : AGENT_SOCKET, left_over, group);
        g_free(options.socket);
        return status;
}

int command_freeze_status(int argc, char **argv)
{
        struct client_options options = {NULL, FALSE};
        const GOptionEntry entries[] = {CLIENT_OPTIONS(&options), G_OPTION_ENTRY_NULL};
        g_autoptr(GError) error = NULL;
        g_autoptr(Client) client = NULL;
        g_autoptr(Message) answer = NULL;
        int status;

        if (!command_parse(&argc, &argv, entries, "",
                           "Shows whether file systems are frozen, and for how long.", &status))
                return status;
        client = client_connect(&options, &error);
        g_free(options.socket);
        if (!client)
                return client_unreachable(error);
        answer = ask(client, MOULT__FREEZE_ACTION__FREEZE_QUERY, &error);
        return answer ? show(answer->freeze_state, options.json) : command_fail(error);
}
