/* guest-agent/cli/stale.c - `moult-agent stale`: who still runs old code. Looks for itself: no daemon is
 * asked. */
#include "guest-agent/stale.h"

#include "guest-agent/cli/offline.h"
#include "guest-agent/cli/online.h"
#include "guest-agent/cli/state_out.h"
#include "proto/message.h"

static void print_names(const ProtobufCBinaryData *names, size_t n, guint32 total)
{
        for (size_t i = 0; i < n; i++) {
                g_autofree char *name = message_string(names[i]);
                g_print("        %s\n", name);
        }
        if (total > n)
                g_print("        and %u more\n", total - (guint32)n);
}

static void print_process(const Moult__StaleProcess *p)
{
        g_autofree char *command = message_string(p->command), *unit = message_string(p->unit);

        g_print("%7u  %s%s%s%s\n", p->pid, command, unit[0] ? "  (" : "", unit, unit[0] ? ")" : "");
        print_names(p->files, p->n_files, p->files_total);
}

static void print_namespace(const Moult__StaleNamespace *n)
{
        g_autofree char *command = message_string(n->command), *unit = message_string(n->unit);

        g_print("%7u  %s%s%s%s: its mount namespace (%u processes) did not follow\n", n->pid, command,
                unit[0] ? "  (" : "", unit, unit[0] ? ")" : "", n->processes);
        print_names(n->mounts, n->n_mounts, n->mounts_total);
}

static void print_report(const Moult__StaleReport *r)
{
        g_autofree char *release = message_string(r->release), *incomplete = message_string(r->incomplete);

        if (r->processes_total + r->namespaces_total == 0)
                g_print("%s: none of %u processes runs files that it replaced\n", release, r->looked_at);
        else
                g_print("%s: %u of %u processes run files that were replaced\n", release, r->processes_total,
                        r->looked_at);
        for (size_t i = 0; i < r->n_processes; i++)
                print_process(r->processes[i]);
        if (r->processes_total > r->n_processes)
                g_print("    and %u more processes\n", r->processes_total - (guint32)r->n_processes);
        for (size_t i = 0; i < r->n_namespaces; i++)
                print_namespace(r->namespaces[i]);
        if (r->namespaces_total > r->n_namespaces)
                g_print("    and %u more mount namespaces\n", r->namespaces_total - (guint32)r->n_namespaces);
        if (incomplete[0])
                g_print("not complete: %s\n", incomplete);
}

int command_stale(int argc, char **argv)
{
        struct offline_options o = {0};
        const GOptionEntry entries[] = {OFFLINE_OPTIONS(&o), G_OPTION_ENTRY_NULL};
        g_autoptr(GError) error = NULL;
        int status;

        if (!command_parse(&argc, &argv, entries, "",
                           "Lists processes that still have files mapped or open which the newest committed "
                           "upgrade replaced.",
                           &status)) {
                offline_options_clear(&o);
                return status;
        }
        g_autoptr(Upgrade) u = offline_open_read_only(&o, &error);
        g_autoptr(Moult__StaleReport) r = u ? stale_look(u, NULL, &error) : NULL;

        offline_options_clear(&o);
        if (!r)
                return command_fail(error);
        if (o.json)
                state_out_json(&r->base);
        else
                print_report(r);
        return AGENT_EXIT_OK;
}
