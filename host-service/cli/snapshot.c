/* host-service/cli/snapshot.c - moult snapshot create, rollback and so on. */
#include "host-service/cli/snapshot.h"

#include <string.h>

#include "host-service/cli/client.h"
#include "host-service/cli/commands.h"
#include "host-service/cli/output.h"
#include "host-service/cli/remote.h"
#include "host-service/cli/text.h"

static gboolean print_upload(Cli *cli, JsonObject *s)
{
        g_autofree char *sent = text_bytes((uint64_t)MAX(json_number(s, "sent_bytes"), 0));

        output_words(cli,
                     "%s: the store has snapshot %s; %" G_GINT64_FORMAT
                     " layers were missing, %s were sent\n",
                     json_text(s, "vm"), json_text(s, "snapshot"), json_number(s, "layers"), sent);
        return TRUE;
}

static gboolean print_export(Cli *cli, JsonObject *s)
{
        g_autofree char *bytes = text_bytes((uint64_t)MAX(json_number(s, "bytes"), 0));

        output_words(cli, "%s: snapshot %s is in %s (%s of data, from the %s)\n", json_text(s, "vm"),
                     json_text(s, "snapshot"), json_text(s, "path"), bytes,
                     strcmp(json_text(s, "from"), "store") == 0 ? "store" : "files of this host");
        return TRUE;
}

static gboolean print_rollback(Cli *cli, JsonObject *s)
{
        output_words(
                cli, "%s: its disks are those of snapshot %s; what they were before is snapshot %s\n  %s\n",
                json_text(s, "vm"), json_text(s, "to"), json_text(s, "before"),
                json_flag(s, "running") ? "its guest starts from them now"
                                        : "start the VM as always, or `cont` in its monitor if it is there");
        return TRUE;
}

static gboolean merge_print(Cli *cli, JsonObject *result)
{
        gint64 n = json_number(result, "merged");

        if (n == 0)
                output_words(cli, "%s: no disk stands on two layers: there was nothing to merge\n",
                             json_text(result, "vm"));
        else
                output_words(cli, "%s: history and layer are one file, of %" G_GINT64_FORMAT " disk%s\n",
                             json_text(result, "vm"), n, n == 1 ? "" : "s");
        return TRUE;
}

gboolean snapshot_result_print(Cli *cli, JsonObject *operation)
{
        JsonObject *s = json_child(operation, "result");
        const char *kind = json_text(operation, "kind"), *grade = s ? json_text(s, "grade") : NULL;
        JsonArray *disks = s ? json_list(s, "disks") : NULL;
        g_autofree char *frozen = NULL;

        if (s && g_strcmp0(kind, "snapshot-merge") == 0)
                return merge_print(cli, s);
        if (s && g_strcmp0(kind, "snapshot-upload") == 0)
                return print_upload(cli, s);
        if (s && g_strcmp0(kind, "snapshot-export") == 0)
                return print_export(cli, s);
        if (s && g_strcmp0(kind, "snapshot-rollback") == 0)
                return print_rollback(cli, s);
        if (s && (snapshot_prune_print(cli, kind, s) || snapshot_mount_print(cli, kind, s)))
                return TRUE;
        if (g_strcmp0(kind, "snapshot-create") != 0 || !grade || !disks)
                return FALSE;
        frozen = text_duration_us((uint64_t)MAX(json_number(s, "frozen_us"), 0));
        output_words(cli, "%s: snapshot %s of %u disk%s is taken\n", json_text(s, "vm"), json_text(s, "name"),
                     json_array_get_length(disks), json_array_get_length(disks) == 1 ? "" : "s");
        if (strcmp(grade, "crash") == 0)
                output_words(cli, "  crash-consistent, as after a power cut: %s\n",
                             json_text(s, "why") ? json_text(s, "why") : "nothing was frozen");
        else
                output_words(cli, "  %s; the guest's file systems were frozen for %s\n",
                             strcmp(grade, "application") == 0 ? "application-consistent: its hooks ran"
                                                               : "file-system-consistent",
                             frozen);
        return TRUE;
}

static ExitCode run_create(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        gboolean no_quiesce = FALSE, require_quiesce = FALSE, no_upload = FALSE, detach = FALSE;
        g_autofree char *name = NULL;
        g_auto(GStrv) disks = NULL;
        const GOptionEntry entries[] = {
                {"name", 0, 0, G_OPTION_ARG_STRING, &name, "Its name (default: the time)", "NAME"},
                {"disk", 0, 0, G_OPTION_ARG_STRING_ARRAY, &disks,
                 "Only this drive, by its id in QEMU or its path; may be repeated (default: all that the "
                 "guest "
                 "can write to)",
                 "ID|PATH"},
                {"no-quiesce", 0, 0, G_OPTION_ARG_NONE, &no_quiesce, "Freeze nothing in the guest", NULL},
                {"require-quiesce", 0, 0, G_OPTION_ARG_NONE, &require_quiesce,
                 "No snapshot if the guest cannot be frozen", NULL},
                {"no-upload", 0, 0, G_OPTION_ARG_NONE, &no_upload,
                 "Keep it in files of this host ('moult snapshot upload' brings it to the store later)",
                 NULL},
                {"detach", 0, 0, G_OPTION_ARG_NONE, &detach, "Do not wait; print the job's id", NULL},
                {0},
        };
        JsonObject *body;
        JsonArray *a = NULL;

        if (!command_parse(self, cli, entries, 1, 1, &argc, &argv, error))
                return EXIT_CODE_OK;
        body = json_object_new();
        json_object_set_string_member(body, "vm", argv[1]);
        json_object_set_boolean_member(body, "quiesce", !no_quiesce);
        json_object_set_boolean_member(body, "require_quiesce", require_quiesce);
        json_object_set_boolean_member(body, "upload", !no_upload);
        if (name)
                json_object_set_string_member(body, "name", name);
        for (guint i = 0; disks && disks[i]; i++) {
                a = a ? a : json_array_new();
                json_array_add_string_element(a, disks[i]);
        }
        if (a)
                json_object_set_array_member(body, "disks", a);
        return remote_ask_for(cli, "/v1/snapshots", body, detach, error);
}

const struct command command_snapshot_create = {
        .name = "create",
        .arguments = "VM [OPTION...]",
        .summary = "Take a snapshot of a VM, of all its disks at one instant",
        .details = "The guest's file systems are frozen for the moment of the switch, by its agent, after "
                   "the hooks "
                   "in its /etc/moult/pre-freeze.d. What could not be frozen is taken all the same, and says "
                   "so. The "
                   "disks' paths stay what they are; the layers lie beside them. Of a VM that is off the "
                   "present layer of each disk is copied.",
        .run = run_create,
};

static ExitCode run_upload(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        gint64 rate = 0;
        gboolean detach = FALSE;
        const GOptionEntry entries[] = {
                {"limit-rate", 0, 0, G_OPTION_ARG_INT64, &rate, "At most so many bytes per second", "BYTES"},
                {"detach", 0, 0, G_OPTION_ARG_NONE, &detach, "Do not wait; print the job's id", NULL},
                {0},
        };
        JsonObject *body;

        if (!command_parse(self, cli, entries, 2, 2, &argc, &argv, error))
                return EXIT_CODE_OK;
        if (rate < 0) {
                command_usage_error(error, "--limit-rate takes bytes per second, and no negative number "
                                           "(0: no limit)");
                return EXIT_CODE_USAGE;
        }
        body = json_object_new();
        json_object_set_string_member(body, "vm", argv[1]);
        json_object_set_string_member(body, "snapshot", argv[2]);
        json_object_set_int_member(body, "rate", rate);
        return remote_ask_for(cli, "/v1/snapshots/upload", body, detach, error);
}

const struct command command_snapshot_upload = {
        .name = "upload",
        .arguments = "VM NAME [OPTION...]",
        .summary = "Bring a snapshot into the store, with all that it stands on",
        .details = "Snapshots are uploaded in the background when they were taken. This is for one that was "
                   "not, or whose upload has failed. What is there already is not sent again.",
        .run = run_upload,
};

static ExitCode run_export(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        g_autofree char *disk = NULL, *output = NULL, *path = NULL;
        gboolean detach = FALSE;
        const GOptionEntry entries[] = {
                {"output", 'o', 0, G_OPTION_ARG_FILENAME, &output, "The new file, on moultd's host", "FILE"},
                {"disk", 0, 0, G_OPTION_ARG_STRING, &disk, "Which drive, if the snapshot has several", "ID"},
                {"detach", 0, 0, G_OPTION_ARG_NONE, &detach, "Do not wait; print the job's id", NULL},
                {0},
        };
        JsonObject *body;

        if (!command_parse(self, cli, entries, 2, 2, &argc, &argv, error))
                return EXIT_CODE_OK;
        if (!output) {
                command_usage_error(error, "say where to: --output FILE");
                return EXIT_CODE_USAGE;
        }
        path = g_canonicalize_filename(output, NULL);
        body = json_object_new();
        json_object_set_string_member(body, "vm", argv[1]);
        json_object_set_string_member(body, "snapshot", argv[2]);
        json_object_set_string_member(body, "path", path);
        if (disk)
                json_object_set_string_member(body, "disk", disk);
        return remote_ask_for(cli, "/v1/snapshots/export", body, detach, error);
}

const struct command command_snapshot_export = {
        .name = "export",
        .arguments = "VM NAME --output FILE [OPTION...]",
        .summary = "Write a disk as it was at a restore point into a qcow2 file of its own",
        .details = "From the files of this host, if all of them are here; else from the store. The VM is not "
                   "touched, and may run.",
        .run = run_export,
};

static ExitCode run_rollback(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        g_autofree char *to = NULL;
        gboolean restart = FALSE, detach = FALSE;
        const GOptionEntry entries[] = {
                {"to", 0, 0, G_OPTION_ARG_STRING, &to,
                 "The snapshot, or the last one at or before a time: \"2026-11-29 20:05\", \"2h ago\"",
                 "NAME|TIME"},
                {"restart", 0, 0, G_OPTION_ARG_NONE, &restart,
                 "If the VM runs: stop it as a reset does, and let it start from there", NULL},
                {"detach", 0, 0, G_OPTION_ARG_NONE, &detach, "Do not wait; print the job's id", NULL},
                {0},
        };
        JsonObject *body;

        if (!command_parse(self, cli, entries, 1, 1, &argc, &argv, error))
                return EXIT_CODE_OK;
        if (!to) {
                command_usage_error(error,
                                    "say to which restore point: --to NAME ('moult snapshot list' has them)");
                return EXIT_CODE_USAGE;
        }
        body = json_object_new();
        json_object_set_string_member(body, "vm", argv[1]);
        json_object_set_string_member(body, "snapshot", to);
        json_object_set_boolean_member(body, "restart", restart);
        return remote_ask_for(cli, "/v1/snapshots/rollback", body, detach, error);
}

const struct command command_snapshot_rollback = {
        .name = "rollback",
        .arguments = "VM --to NAME|TIME [OPTION...]",
        .summary = "Give a VM the disks of a restore point",
        .details =
                "What it had until then is kept as a snapshot, so that this can be taken back, too. What is "
                "not on this host is fetched from the store. The disks' paths stay what they are: a VM "
                "that is off is started as always. One that runs is refused, or with --restart reset: its "
                "guest "
                "is not asked, and what it had not written is lost.",
        .run = run_rollback,
};

static ExitCode run_merge(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        gboolean detach = FALSE;
        const GOptionEntry entries[] = {
                {"detach", 0, 0, G_OPTION_ARG_NONE, &detach, "Do not wait; print the job's id", NULL},
                {0},
        };
        JsonObject *body;

        if (!command_parse(self, cli, entries, 1, 1, &argc, &argv, error))
                return EXIT_CODE_OK;
        body = json_object_new();
        json_object_set_string_member(body, "vm", argv[1]);
        return remote_ask_for(cli, "/v1/snapshots/merge", body, detach, error);
}

const struct command command_snapshot_merge = {
        .name = "merge",
        .arguments = "VM [OPTION...]",
        .summary = "Make one file of a VM's history and the layer above it, disk by disk",
        .details = "The VM goes on meanwhile, or is off. Both files stay untouched; they go when the disk "
                   "stands on the "
                   "new one, except "
                   "what is in no store yet. moultd does this by itself when the store has both, and when a "
                   "snapshot "
                   "has no room.",
        .run = run_merge,
};
