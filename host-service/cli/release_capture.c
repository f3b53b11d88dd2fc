/* host-service/cli/release_capture.c - moult release capture: what differs between two states becomes a
 * signed pack. */
#include <string.h>

#include "host-service/cli/build_report.h"
#include "host-service/cli/commands.h"
#include "host-service/cli/progress.h"
#include "host-service/cli/sides.h"
#include "host-service/release/deb_tree.h"

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

/* Images and VMs: the old tree first, then what differs from it. */
static gboolean capture_sides(BuildCommandLine *o, Cli *cli, Side *from, Side *to, Progress *progress,
                              struct release_build_report *ret, GError **error)
{
        const struct side_options options = {
                .per_vm = o->per_vm,
                .exclude = o->build.exclude,
                .exclude_xattr = o->build.exclude_xattr,
                .owner_root = o->build.owner_root,
                .hash = o->checksum,
        };
        g_autoptr(BuildTree) old_tree = NULL, new_tree = NULL;

        if (to->kind == SIDE_VM)
                side_open_vm(to, cli, to->word + strlen("vm:"), progress);
        else
                progress_update(progress, "capture", "opening", 0, 0);
        if (!sides_open(from, to, error))
                return FALSE;
        progress_update(progress, "capture", "looking", 0, 0);
        old_tree = side_read(from, NULL, &options, cli->cancellable, error);
        new_tree = old_tree ? side_read(to, old_tree, &options, cli->cancellable, error) : NULL;
        return new_tree &&
               release_build_trees(&o->build, g_steal_pointer(&new_tree), g_steal_pointer(&old_tree),
                                   build_report_progress, progress, cli->cancellable, ret, error);
}

static gboolean capture(BuildCommandLine *o, Cli *cli, Progress *progress, struct release_build_report *ret,
                        GError **error)
{
        g_auto(Side) from = {.word = o->from[0]}, to = {.word = o->to[0]};

        if (!side_kind_of("--from", o->from, &from.kind, error) ||
            !side_kind_of("--to", o->to, &to.kind, error))
                return FALSE;
        if (from.kind == SIDE_VM)
                return command_usage_error(
                        error, "--from is what the other VMs have: the golden image, or its tree");
        if ((from.kind == SIDE_PACKAGES) != (to.kind == SIDE_PACKAGES))
                return command_usage_error(error,
                                           "packages are compared with packages, and directories, images "
                                           "or a VM with a directory or an image");
        o->build.new_dir = to.word;
        o->build.old_dir = from.word;
        if (to.kind == SIDE_PACKAGES)
                return capture_packages(o, cli, progress, ret, error);
        if (to.kind == SIDE_DIRECTORY && from.kind == SIDE_DIRECTORY)
                return release_build(&o->build, build_report_progress, progress, cli->cancellable, ret,
                                     error);
        return capture_sides(o, cli, &from, &to, progress, ret, error);
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
                "OLD and NEW are two directories, two disk images, or two sets of .deb packages (--from and "
                "--to once for\n"
                "each); NEW may be a VM, and a directory may be compared with an image:\n"
                "\n"
                "  moult release capture --from /srv/golden-1 --to /srv/golden-2 --name base --version 2 \\\n"
                "        --sign ops.key -o base-2.moult\n"
                "  moult release capture --from golden-1.qcow2 --to golden-2.qcow2 --name base --version 2 "
                "\\\n"
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
                "scripts of packages are not run: the report names the packages that have some. Images are "
                "opened "
                "in a\n"
                "virtual machine of their own; their format is in their name (.qcow2, .raw, .img) or said "
                "(qcow2:FILE).",
        .run = run,
};
