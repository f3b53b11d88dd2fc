/* host-service/cli/release_apply.c - moult release apply: a release into an image, offline. */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "common/error.h"
#include "host-service/cli/commands.h"
#include "host-service/cli/output.h"
#include "host-service/cli/pack_file.h"
#include "host-service/cli/progress.h"
#include "host-service/cli/remote.h"
#include "host-service/image/image_apply.h"
#include "host-service/release/pack_verify.h"
#include "proto/message.h"

struct apply {
        char *image, *output, *trust;
        gboolean force, allow_drift, dry_run;
        /* found */
        struct image_name name;
        char *output_path, *pack, *release;
};

static void apply_clear(struct apply *a)
{
        g_free(a->image);
        g_free(a->output);
        g_free(a->trust);
        image_name_clear(&a->name);
        g_free(a->output_path);
        g_free(a->pack);
        g_free(a->release);
}
typedef struct apply Apply;
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Apply, apply_clear)

/* NAME=VERSION is in moultd's store, on this machine. NULL with @error. */
static char *stored_pack(Cli *cli, const char *spec, GError **error)
{
        if (cli_host(cli)) {
                command_usage_error(error, "%s is in the store of another host: give the release as a file",
                                    spec);
                return NULL;
        }
        g_autoptr(Client) c = client_new(cli);
        g_autofree char *path = remote_release_path(c, spec, error);
        g_autoptr(JsonNode) answer = path ? client_get(c, path, error) : NULL;
        const char *pack = answer && JSON_NODE_HOLDS_OBJECT(answer)
                                   ? json_text(json_node_get_object(answer), "pack_path")
                                   : NULL;
        if (answer && !pack)
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_UNSUPPORTED,
                            "moultd does not say where %s lies: it is older than this command", spec);
        return g_strdup(pack);
}

/* Signature and digests, before a virtual machine is started for nothing. */
static gboolean check_pack(Apply *a, Cli *cli, GError **error)
{
        struct pack_verify_report report;
        g_autoptr(PackReader) r = pack_file_open(a->pack, a->trust, cli->cancellable, error);

        if (!r)
                return FALSE;
        if (!pack_verify(r, 0, NULL, NULL, cli->cancellable, &report, error)) {
                g_prefix_error(error, "%s: ", a->pack);
                return FALSE;
        }
        const Manifest *m = pack_reader_manifest(r);
        g_autofree char *name = message_string(m->name), *version = message_string(m->version);
        a->release = g_strdup_printf("%s %s", name, version);
        return TRUE;
}

/* The output's format is the image's; its directory is there. */
static gboolean check_output(Apply *a, GError **error)
{
        struct stat st;

        if (!a->output)
                return TRUE;
        g_autofree char *dir = g_path_get_dirname(a->output), *base = g_path_get_basename(a->output);
        char *real = realpath(dir, NULL);

        if (!real)
                return moult_error_errno(error, errno, "opening the directory of %s", a->output);
        a->output_path = g_build_filename(real, base, NULL);
        free(real);
        if (lstat(a->output_path, &st) < 0)
                return errno == ENOENT || moult_error_errno(error, errno, "looking at %s", a->output);
        if (S_ISREG(st.st_mode) && a->force && !g_str_equal(a->output_path, a->name.path))
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_BUSY, "%s exists already; choose another name%s",
                    a->output, S_ISREG(st.st_mode) ? ", or say --force to replace it" : "");
        return FALSE;
}

static void show(const char *what, gpointer user)
{
        progress_update(user, "image", what, 0, 0);
}

static void print(const Apply *a, Cli *cli, const struct image_apply_report *r)
{
        JsonObject *o = json_object_new();
        g_autoptr(JsonNode) node = json_node_init_object(json_node_alloc(), o);

        json_object_unref(o);
        json_object_set_string_member(o, "image", a->output_path ? a->output_path : a->name.path);
        json_object_set_string_member(o, "release", a->release);
        json_object_set_string_member(o, "system", r->system);
        json_object_set_int_member(o, "changed", r->changed);
        json_object_set_int_member(o, "equal", r->equal);
        json_object_set_boolean_member(o, "dry_run", a->dry_run);
        if (r->plan)
                json_object_set_string_member(o, "plan", r->plan);
        if (output_machine(cli, node))
                return;
        if (a->dry_run) {
                output_words(cli, "%s%u would change in %s%s%s, %u are equal; nothing was written\n", r->plan,
                             r->changed, a->name.path, *r->system ? ", " : "", r->system, r->equal);
                return;
        }
        output_words(cli, "%s is in %s%s%s: %u changed, %u were equal\n", a->release,
                     a->output_path ? a->output_path : a->name.path, *r->system ? ", " : "", r->system,
                     r->changed, r->equal);
        if (!a->output_path)
                output_words(cli, "VMs whose disk is a layer over the image must be made anew from it.\n");
}

static gboolean apply(Apply *a, Cli *cli, const char *release, GError **error)
{
        if (!image_name_parse(a->image, &a->name, error) || !check_output(a, error))
                return FALSE;
        a->pack = pack_file_is_named(release) ? g_strdup(release) : stored_pack(cli, release, error);
        if (!a->pack || !check_pack(a, cli, error))
                return FALSE;
        Progress *progress = progress_new(cli);
        const struct image_apply_options options = {
                .image = &a->name,
                .output = a->output_path,
                .replace = a->force,
                .pack = a->pack,
                .trust_dir = a->trust,
                .allow_drift = a->allow_drift,
                .dry_run = a->dry_run,
                .progress = show,
                .user = progress,
        };
        struct image_apply_report report;
        gboolean ok = image_apply(&options, cli->cancellable, &report, error);
        progress_free(progress);
        if (!ok)
                return FALSE;
        print(a, cli, &report);
        image_apply_report_clear(&report);
        return TRUE;
}

static ExitCode run(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        g_auto(Apply) a = {0};
        const GOptionEntry entries[] = {
                {"image", 0, 0, G_OPTION_ARG_FILENAME, &a.image,
                 "The image: FILE.qcow2, FILE.raw, FILE.img (raw), qcow2:FILE or raw:FILE", "IMAGE"},
                {"output", 'o', 0, G_OPTION_ARG_FILENAME, &a.output,
                 "Write a new image, and leave IMAGE as it is: for one that VMs stand on", "FILE"},
                {"force", 0, 0, G_OPTION_ARG_NONE, &a.force, "Replace what is at --output", NULL},
                {"dry-run", 0, 0, G_OPTION_ARG_NONE, &a.dry_run, "Say what would be done; write nothing",
                 NULL},
                {"allow-drift", 0, 0, G_OPTION_ARG_NONE, &a.allow_drift,
                 "Overwrite files that are not what the release expects", NULL},
                {"trust", 0, 0, G_OPTION_ARG_FILENAME, &a.trust,
                 "Directory of trusted *.pub keys (default " CLI_DEFAULT_TRUST ")", "DIR"},
                {0},
        };

        if (!command_parse(self, cli, entries, 1, 1, &argc, &argv, error))
                return EXIT_CODE_OK;
        if (!a.image) {
                command_usage_error(error, "'moult release apply' needs --image");
                return EXIT_CODE_USAGE;
        }
        if (a.dry_run && a.output) {
                command_usage_error(error, "with --dry-run nothing is written: leave --output out");
                return EXIT_CODE_USAGE;
        }
        if (!a.trust)
                a.trust = g_strdup(CLI_DEFAULT_TRUST);
        return apply(&a, cli, argv[1], error) ? EXIT_CODE_OK : EXIT_CODE_INTERNAL;
}

const struct command command_release_apply = {
        .name = "apply",
        .arguments = "--image IMAGE FILE|NAME[=VERSION]",
        .summary = "Put a release into a disk image that no VM uses",
        .details = "  moult release apply --image golden.qcow2 app-2.moult\n"
                   "  moult release apply --image golden.qcow2 --output golden-2.qcow2 app=2\n"
                   "\n"
                   "New VMs from the image then have what upgraded ones have: the same engine does it, in a "
                   "virtual\n"
                   "machine of its own. A FILE is what has a '/' in its name or ends in .moult. The work is "
                   "done on a "
                   "copy,\n"
                   "which takes the image's place when all of it is in and was read back; until then the "
                   "image is as it "
                   "was.\n"
                   "Hooks of the stages check, pre and post run in the image's system, with MOULT_OFFLINE=1; "
                   "health "
                   "hooks\n"
                   "and restarts do not. An image that a running VM uses, itself or below its own layer, is "
                   "refused.",
        .run = run,
};
