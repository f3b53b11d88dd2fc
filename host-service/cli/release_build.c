/* host-service/cli/release_build.c - moult release build: a directory tree becomes a signed pack. */
#include "host-service/cli/build_report.h"
#include "host-service/cli/commands.h"
#include "host-service/cli/progress.h"

static ExitCode run(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        g_auto(BuildCommandLine) o = {0};
        struct release_build_report report;

        if (!build_command_line_parse(self, cli, argc, argv, /* capture= */ false, &o, error))
                return EXIT_CODE_OK;
        Progress *progress = progress_new(cli);
        gboolean ok =
                release_build(&o.build, build_report_progress, progress, cli->cancellable, &report, error);
        progress_free(progress);
        if (!ok)
                return EXIT_CODE_INTERNAL;
        build_report_print(cli, &o, &report);
        release_build_report_clear(&report);
        return EXIT_CODE_OK;
}

const struct command command_release_build = {
        .name = "build",
        .arguments = "DIR --name NAME --version VERSION -o FILE",
        .summary = "Build a release pack from a directory tree, such as one from dpkg-deb -x",
        .details =
                "Run it as root over a tree that was extracted as root, so that owners and capabilities are "
                "the real\n"
                "ones; --owner-map root helps where that is not possible.\n"
                "\n"
                "  dpkg-deb -x openssl_3.0.15-1_amd64.deb old; dpkg-deb -x openssl_3.0.17-1_amd64.deb new\n"
                "  moult release build new --from old --name openssl --version 3.0.17-1 --sign ops.key -o "
                "openssl.moult\n"
                "\n"
                "The same input gives the same bytes if SOURCE_DATE_EPOCH is set. Files that belong to one "
                "machine\n"
                "(/etc/machine-id, SSH host keys, ...) are refused unless --allow-per-vm names them.",
        .run = run,
};
