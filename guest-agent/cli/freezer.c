/* guest-agent/cli/freezer.c - `moult-agent freezer`: holds a freeze. Started by the daemon, not by people. */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/digest.h"
#include "guest-agent/cli/command.h"
#include "guest-agent/cli/online.h"
#include "guest-agent/freezer.h"

static gboolean parse_id(const char *text, guint8 *ret)
{
        return text && strlen(text) == (gsize)2 * FREEZE_ID_SIZE && bytes_from_hex(text, ret, FREEZE_ID_SIZE);
}

/* The agent waits for a word, whatever it is. */
static void tell_problem(const struct freezer_options *o, const GError *error)
{
        struct freeze_report r = {.magic = FREEZE_MAGIC, .phase = FREEZE_THAWED, .why = FREEZE_WHY_NOTHING};

        memcpy(r.id, o->id, FREEZE_ID_SIZE);
        g_strlcpy(r.problem, error->message, sizeof r.problem);
        if (o->agent >= 0)
                send(o->agent, &r, sizeof r, MSG_NOSIGNAL);
        g_printerr("moult-agent freezer: %s\n", error->message);
}

int command_freezer(int argc, char **argv)
{
        g_autofree char *directory = NULL, *mountinfo = NULL, *id_text = NULL;
        int lease_ms = 0, agent = -1, status;
        guint8 id[FREEZE_ID_SIZE];
        const GOptionEntry entries[] = {
                {"directory", 0, 0, G_OPTION_ARG_FILENAME, &directory, "Where its socket and record are",
                 "DIR"},
                {"mountinfo", 0, 0, G_OPTION_ARG_FILENAME, &mountinfo, "The mounts that are frozen", "FILE"},
                {"id", 0, 0, G_OPTION_ARG_STRING, &id_text, "Name of the freeze, 32 hexadecimal digits",
                 "ID"},
                {"lease-ms", 0, 0, G_OPTION_ARG_INT, &lease_ms, "Thaw by itself after that", "MS"},
                {"agent", 0, 0, G_OPTION_ARG_INT, &agent, "A socket of the agent's", "FD"},
                G_OPTION_ENTRY_NULL};
        g_autoptr(GError) error = NULL;

        if (!command_parse(&argc, &argv, entries, "",
                           "Freezes file systems until it is told to thaw them, or its lease ends. The "
                           "daemon starts it.",
                           &status))
                return status;
        if (!directory || !mountinfo || !parse_id(id_text, id) || lease_ms < 1 ||
            lease_ms > (int)LIMIT_FREEZE_LEASE_MS) {
                g_printerr(
                        "moult-agent freezer: it is the daemon that starts it; see moult-agent(8), thaw\n");
                return AGENT_EXIT_USAGE;
        }
        const struct freezer_options options = {directory, mountinfo, id, (gint64)lease_ms * 1000, agent};
        if (!freezer_run(&options, &error)) {
                tell_problem(&options, error);
                return AGENT_EXIT_FAILED;
        }
        _exit(AGENT_EXIT_OK); /* a thread may hang in an operation on a file system */
}
