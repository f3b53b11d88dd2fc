/* host-service/cli/release_capture.c - moult release capture: what differs between two states becomes a
 * signed pack. */
#include <errno.h>
#include <sys/stat.h>

#include "common/error.h"
#include "host-service/cli/build_report.h"
#include "host-service/cli/commands.h"
#include "host-service/cli/progress.h"
#include "host-service/release/deb_tree.h"

/* What --from or --to names. */
enum side_kind { SIDE_DIRECTORY, SIDE_PACKAGES };

static gboolean is_package(const char *path)
{
        return g_str_has_suffix(path, ".deb");
}

/* Judges the words only, and says what could be meant instead. */
static gboolean side_kind_of(const char *option, char **words, enum side_kind *ret, GError **error)
{
        gboolean packages = is_package(words[0]);

        for (unsigned i = 0; words[i]; i++) {
                struct stat st;

                if (is_package(words[i]) != packages || (i > 0 && !packages))
                        return command_usage_error(
                                error, "%s is one directory, or any number of .deb packages", option);
                if (stat(words[i], &st) < 0)
                        return moult_error_errno(error, errno, "%s %s", option, words[i]);
                if (!packages && !S_ISDIR(st.st_mode)) {
                        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                                    "%s %s is neither a directory nor a .deb package", option, words[i]);
                        return FALSE;
                }
        }
        *ret = packages ? SIDE_PACKAGES : SIDE_DIRECTORY;
        return TRUE;
}

static gboolean capture(BuildCommandLine *o, Cli *cli, Progress *progress, struct release_build_report *ret,
                        GError **error)
{
        enum side_kind from, to;

        if (!side_kind_of("--from", o->from, &from, error) || !side_kind_of("--to", o->to, &to, error))
                return FALSE;
        if (from != to)
                return command_usage_error(
                        error, "--from and --to are of the same kind: two directories, or packages");
        o->build.new_dir = o->to[0];
        o->build.old_dir = o->from[0];
        if (to == SIDE_DIRECTORY)
                return release_build(&o->build, build_report_progress, progress, cli->cancellable, ret,
                                     error);

        const struct build_tree_options options = {.exclude = o->build.exclude,
                                                   .owner_root = o->build.owner_root};
        g_autoptr(GPtrArray) notes = g_ptr_array_new_with_free_func(g_free);
        g_autoptr(BuildTree) new_tree = NULL, old_tree = NULL;

        o->build.packages = true;
        new_tree = deb_tree_read((const char *const *)o->to, &options, notes, cli->cancellable, error);
        if (!new_tree)
                return FALSE;
        old_tree = deb_tree_read((const char *const *)o->from, &options, NULL, cli->cancellable, error);
        if (!old_tree ||
            !release_build_trees(&o->build, g_steal_pointer(&new_tree), g_steal_pointer(&old_tree),
                                 build_report_progress, progress, cli->cancellable, ret, error))
                return FALSE;
        g_ptr_array_extend_and_steal(ret->warnings, g_steal_pointer(&notes));
        return TRUE;
}

static ExitCode run(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        g_auto(BuildCommandLine) o = {0};
        struct release_build_report report;

        if (!build_command_line_parse(self, cli, argc, argv, /* capture= */ true, &o, error))
                return EXIT_CODE_OK;
        Progress *progress = progress_new(cli);
        gboolean ok = capture(&o, cli, progress, &report, error);
        progress_free(progress);
        if (!ok)
                return EXIT_CODE_INTERNAL;
        build_report_print(cli, &o, &report);
        release_build_report_clear(&report);
        return EXIT_CODE_OK;
}

const struct command command_release_capture = {
        .name = "capture",
        .arguments = "--from OLD --to NEW --name NAME --version VERSION -o FILE",
        .summary = "Build a release from what differs between two states",
        .details =
                "OLD and NEW are two directories, or two sets of .deb packages (--from and --to once for "
                "each):\n"
                "\n"
                "  moult release capture --from /srv/golden-1 --to /srv/golden-2 --name base --version 2 \\\n"
                "        --sign ops.key -o base-2.moult\n"
                "  moult release capture --from curl_7.88.1-10+deb12u8_amd64.deb \\\n"
                "        --to curl_7.88.1-10+deb12u12_amd64.deb --name curl --version 7.88.1-10+deb12u12 \\\n"
                "        --sign ops.key -o curl.moult\n"
                "\n"
                "What belongs to one machine (identity, logs, leases, caches) is left out by the list in\n"
                "/etc/moult/per-vm.list, or by the one that comes with moult (/usr/share/moult/per-vm.list), "
                "and\n"
                "the report names it. A conffile that a VM's administrator changed stays as it is. "
                "Maintainer\n"
                "scripts of packages are not run: the report names the packages that have some.",
        .run = run,
};
