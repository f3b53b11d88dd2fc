/* host-service/cli/release_capture.c - moult release capture: what differs between two states becomes a
 * signed pack. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "common/error.h"
#include "host-service/cli/build_report.h"
#include "host-service/cli/commands.h"
#include "host-service/cli/progress.h"
#include "host-service/cli/vm_files.h"
#include "host-service/release/deb_tree.h"

/* What --from or --to names. */
enum side_kind { SIDE_DIRECTORY, SIDE_PACKAGES, SIDE_VM };

#define VM_PREFIX "vm:"

static enum side_kind kind_of_word(const char *word)
{
        return g_str_has_prefix(word, VM_PREFIX) ? SIDE_VM
               : g_str_has_suffix(word, ".deb")  ? SIDE_PACKAGES
                                                 : SIDE_DIRECTORY;
}

/* Judges the words only, and says what could be meant instead. */
static gboolean side_kind_of(const char *option, char **words, enum side_kind *ret, GError **error)
{
        enum side_kind kind = kind_of_word(words[0]);

        for (unsigned i = 0; words[i]; i++) {
                struct stat st;

                if (kind_of_word(words[i]) != kind || (i > 0 && kind != SIDE_PACKAGES))
                        return command_usage_error(
                                error,
                                "%s is one directory, one VM (vm:NAME), or any number of .deb packages",
                                option);
                if (kind == SIDE_VM)
                        continue;
                if (stat(words[i], &st) < 0)
                        return moult_error_errno(error, errno, "%s %s", option, words[i]);
                if (kind == SIDE_DIRECTORY && !S_ISDIR(st.st_mode)) {
                        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                                    "%s %s is neither a directory nor a .deb package", option, words[i]);
                        return FALSE;
                }
        }
        *ret = kind;
        return TRUE;
}

static gboolean capture_packages(BuildCommandLine *o, Cli *cli, Progress *progress,
                                 struct release_build_report *ret, GError **error)
{
        const struct build_tree_options options = {.exclude = o->build.exclude,
                                                   .owner_root = o->build.owner_root};
        g_autoptr(GPtrArray) notes = g_ptr_array_new_with_free_func(g_free);
        g_autoptr(BuildTree) new_tree =
                deb_tree_read((const char *const *)o->to, &options, notes, cli->cancellable, error);
        g_autoptr(BuildTree) old_tree = NULL;

        if (!new_tree)
                return FALSE;
        o->build.packages = true;
        old_tree = deb_tree_read((const char *const *)o->from, &options, NULL, cli->cancellable, error);
        if (!old_tree ||
            !release_build_trees(&o->build, g_steal_pointer(&new_tree), g_steal_pointer(&old_tree),
                                 build_report_progress, progress, cli->cancellable, ret, error))
                return FALSE;
        g_ptr_array_extend_and_steal(ret->warnings, g_steal_pointer(&notes));
        return TRUE;
}

/* A pilot VM against the tree of its golden image. */
static gboolean capture_vm(BuildCommandLine *o, Cli *cli, Progress *progress,
                           struct release_build_report *ret, GError **error)
{
        g_autoptr(Client) client = client_new(cli);
        struct vm_files files = {client, o->to[0] + strlen(VM_PREFIX), progress};
        const struct agent_tree_asker asker = vm_files_asker(&files);
        const struct vm_tree_options options = {
                .base = o->from[0],
                .per_vm = o->per_vm,
                .exclude = o->build.exclude,
                .exclude_xattr = o->build.exclude_xattr,
                .hash = o->checksum,
        };
        BuildTree *new_tree, *old_tree;

        o->build.new_dir = files.vm;
        o->build.threads = 1; /* contents come through this thread's connection */
        return vm_tree_read(&files, &asker, &options, &new_tree, &old_tree, cli->cancellable, error) &&
               release_build_trees(&o->build, new_tree, old_tree, build_report_progress, progress,
                                   cli->cancellable, ret, error);
}

static gboolean capture(BuildCommandLine *o, Cli *cli, Progress *progress, struct release_build_report *ret,
                        GError **error)
{
        enum side_kind from, to;

        if (!side_kind_of("--from", o->from, &from, error) || !side_kind_of("--to", o->to, &to, error))
                return FALSE;
        if (from == SIDE_VM)
                return command_usage_error(error,
                                           "--from is what the other VMs have: the tree of the golden image");
        if ((from == SIDE_PACKAGES) != (to == SIDE_PACKAGES))
                return command_usage_error(
                        error,
                        "packages are compared with packages, and directories or a VM with a directory");
        o->build.new_dir = o->to[0];
        o->build.old_dir = o->from[0];
        if (to == SIDE_PACKAGES)
                return capture_packages(o, cli, progress, ret, error);
        if (to == SIDE_VM)
                return capture_vm(o, cli, progress, ret, error);
        return release_build(&o->build, build_report_progress, progress, cli->cancellable, ret, error);
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
                "  moult release capture --from /srv/golden-1 --to vm:pilot --name fix --version 1 --sign "
                "ops.key \\\n"
                "        -o fix.moult\n"
                "\n"
                "What belongs to one machine (identity, logs, leases, caches) is left out by the list in\n"
                "/etc/moult/per-vm.list, or by the one that comes with moult (/usr/share/moult/per-vm.list), "
                "and\n"
                "the report names it. A conffile that a VM's administrator changed stays as it is. "
                "Maintainer\n"
                "scripts of packages are not run: the report names the packages that have some.",
        .run = run,
};
