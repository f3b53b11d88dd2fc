/* guest-agent/cli/which.c - `moult-agent which PATH...`: what serves a path now, from which release, by which
 * method (U10). */
#include "common/error.h"
#include "guest-agent/cli/offline.h"
#include "guest-agent/cli/state_out.h"
#include "guest-agent/upgrade/served.h"
#include "proto/message.h"

static void print_served(const Moult__Record__Served *s)
{
        g_autofree char *path = message_string(s->path), *physical = message_string(s->physical),
                        *merge = message_string(s->merge), *method = message_string(s->method),
                        *release = message_string(s->release), *fs = message_string(s->file_system),
                        *mount = message_string(s->mount);
        g_print("/%s", path);
        if (!g_str_equal(path, physical))
                g_print(" (/%s)", physical);
        if (s->merged)
                g_print(": %s %s, generation %" G_GUINT64_FORMAT ", merged by %s at /%s over %s at %s\n",
                        s->deleted ? "deleted by" : "target file system, from", release, s->generation,
                        method, merge, fs, mount);
        else if (s->merge.len > 0)
                g_print(": the original, %s at %s, seen through %s at /%s\n", fs, mount, method, merge);
        else
                g_print(": the original, %s at %s\n", fs, mount);
        if (s->sources.len > 0) {
                g_autofree char *sources = message_string(s->sources);
                g_print("  not copied yet; bytes read of the release's pack so far: %s\n", sources);
        }
}

int command_which(int argc, char **argv)
{
        struct offline_options o = {0};
        const GOptionEntry entries[] = {OFFLINE_OPTIONS(&o), G_OPTION_ENTRY_NULL};
        g_autoptr(GError) error = NULL;
        int status;
        if (!command_parse(&argc, &argv, entries, "PATH...",
                           "Says for each path whether the target file system or the original serves it now.",
                           &status)) {
                offline_options_clear(&o);
                return status;
        }
        if (argc < 2) {
                g_printerr("moult-agent: which file? Give at least one path\n");
                offline_options_clear(&o);
                return AGENT_EXIT_USAGE;
        }
        g_autoptr(Upgrade) u = offline_open_read_only(&o, &error);
        status = u != NULL ? AGENT_EXIT_OK : command_fail(error);
        for (int i = 1; u != NULL && i < argc; i++) {
                g_autoptr(GError) why = NULL;
                Moult__Record__Served *s = upgrade_served(u, argv[i], &why);
                if (s == NULL) {
                        status = command_fail(why);
                        continue;
                }
                if (o.json)
                        state_out_json(&s->base);
                else
                        print_served(s);
                moult__record__served__free_unpacked(s, NULL);
        }
        offline_options_clear(&o);
        return status;
}
