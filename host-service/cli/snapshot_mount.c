/* host-service/cli/snapshot_mount.c - moult snapshot mount, unmount, mounts: files out of a restore point. */
#include <string.h>

#include "host-service/cli/client.h"
#include "host-service/cli/commands.h"
#include "host-service/cli/output.h"
#include "host-service/cli/remote.h"
#include "host-service/cli/snapshot.h"
#include "host-service/cli/text.h"

static const struct column columns[] = {
        {"VM", "vm", COLUMN_TEXT},       {"SNAPSHOT", "snapshot", COLUMN_TEXT},
        {"DISK", "device", COLUMN_TEXT}, {"SIZE", "size_bytes", COLUMN_BYTES},
        {"FROM", "from", COLUMN_TEXT},   {"ALIVE", "alive", COLUMN_TEXT},
        {"URI", "uri", COLUMN_TEXT},     {0},
};

static const char nothing[] = "nothing is mounted; 'moult snapshot mount VM NAME' mounts a restore point";

/* The format is said each time: what is guessed from the first bytes is what the guest has written there. */
static void print_disk(Cli *cli, JsonObject *d)
{
        g_autofree char *size = text_bytes((uint64_t)MAX(json_number(d, "size_bytes"), 0));
        const char *uri = json_text(d, "uri"), *socket = json_text(d, "socket");
        g_autofree char *quoted = uri ? g_shell_quote(uri) : NULL,
                        *shorter = socket ? g_strconcat("nbd:///?socket=", socket, NULL) : NULL,
                        *for_guestfs = shorter ? g_shell_quote(shorter) : NULL;

        output_words(cli, "\n%s (%s, from the %s):\n  %s\n", json_text(d, "device"), size,
                     g_strcmp0(json_text(d, "from"), "store") == 0 ? "store" : "files of this host", uri);
        output_words(cli, "  files:        guestmount --ro --format=raw -a %s -i DIR\n", for_guestfs);
        output_words(cli, "  block device: qemu-nbd --read-only --format=raw --connect=/dev/nbd0 %s\n",
                     quoted);
        output_words(cli, "  one file:     nbdfuse --readonly DIR %s\n", quoted);
}

static gboolean print_mount(Cli *cli, JsonObject *mount)
{
        JsonArray *disks = json_list(mount, "disks");

        output_words(cli, "%s: snapshot %s is mounted, read-only, on moultd's host:\n",
                     json_text(mount, "vm"), json_text(mount, "snapshot"));
        for (guint i = 0; disks && i < json_array_get_length(disks); i++)
                print_disk(cli, json_array_get_object_element(disks, i));
        output_words(cli, "\nIt stays until 'moult snapshot unmount %s %s', or moultd ends.\n",
                     json_text(mount, "vm"), json_text(mount, "snapshot"));
        return TRUE;
}

gboolean snapshot_mount_print(Cli *cli, const char *kind, JsonObject *result)
{
        if (g_strcmp0(kind, "snapshot-mount") == 0)
                return print_mount(cli, result);
        if (g_strcmp0(kind, "snapshot-unmount") != 0)
                return FALSE;
        output_words(cli, "%s: %" G_GINT64_FORMAT " unmounted\n", json_text(result, "vm"),
                     json_number(result, "unmounted"));
        return TRUE;
}

static ExitCode run_mount(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        g_autofree char *disk = NULL, *scratch = NULL, *path = NULL;
        gboolean detach = FALSE;
        const GOptionEntry entries[] = {
                {"disk", 0, 0, G_OPTION_ARG_STRING, &disk, "Only this drive (default: all)", "ID"},
                {"scratch", 0, 0, G_OPTION_ARG_FILENAME, &scratch,
                 "Where what is fetched from the store lies meanwhile, on moultd's host", "DIR"},
                {"detach", 0, 0, G_OPTION_ARG_NONE, &detach, "Do not wait; print the job's id", NULL},
                {0},
        };
        JsonObject *body;

        if (!command_parse(self, cli, entries, 2, 2, &argc, &argv, error))
                return EXIT_CODE_OK;
        body = json_object_new();
        json_object_set_string_member(body, "vm", argv[1]);
        json_object_set_string_member(body, "snapshot", argv[2]);
        if (disk)
                json_object_set_string_member(body, "disk", disk);
        if (scratch) {
                path = g_canonicalize_filename(scratch, NULL);
                json_object_set_string_member(body, "scratch", path);
        }
        return remote_ask_for(cli, "/v1/snapshots/mount", body, detach, error);
}

const struct command command_snapshot_mount = {
        .name = "mount",
        .arguments = "VM NAME|TIME [OPTION...]",
        .summary = "Serve the disks of a restore point, read-only, to take single files out of them",
        .details =
                "Over NBD, at a Unix socket on moultd's host for each disk: guestmount, nbdfuse and qemu-nbd "
                "read it. From the files of that host if all of them are here, else fetched from the store "
                "first. The VM is not touched, and may run. moultd keeps it until 'moult snapshot unmount'.",
        .run = run_mount,
};

static ExitCode run_unmount(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        JsonObject *body;

        if (!command_parse(self, cli, NULL, 1, 2, &argc, &argv, error))
                return EXIT_CODE_OK;
        body = json_object_new();
        json_object_set_string_member(body, "vm", argv[1]);
        if (argc > 2)
                json_object_set_string_member(body, "snapshot", argv[2]);
        return remote_ask_for(cli, "/v1/snapshots/unmount", body, FALSE, error);
}

const struct command command_snapshot_unmount = {
        .name = "unmount",
        .arguments = "VM [NAME]",
        .summary = "End what was mounted of a VM, or one restore point of it",
        .details = "Whoever still reads it gets errors: end guestmount and so on first.",
        .run = run_unmount,
};

/* One row for each disk; the mount's own members beside it. */
static JsonNode *rows_of(JsonNode *mounts)
{
        JsonArray *all = JSON_NODE_HOLDS_ARRAY(mounts) ? json_node_get_array(mounts) : NULL;
        JsonArray *rows = json_array_new();
        JsonNode *node = json_node_new(JSON_NODE_ARRAY);

        for (guint i = 0; all && i < json_array_get_length(all); i++) {
                JsonObject *m = json_array_get_object_element(all, i);
                JsonArray *disks = json_list(m, "disks");

                for (guint k = 0; disks && k < json_array_get_length(disks); k++) {
                        JsonObject *d = json_array_get_object_element(disks, k);

                        json_object_set_string_member(d, "vm", json_text(m, "vm"));
                        json_object_set_string_member(d, "snapshot", json_text(m, "snapshot"));
                        json_array_add_object_element(rows, json_object_ref(d));
                }
        }
        json_node_take_array(node, rows);
        return node;
}

static ExitCode run_mounts(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        if (!command_parse(self, cli, NULL, 0, 0, &argc, &argv, error))
                return EXIT_CODE_OK;
        g_autoptr(Client) c = client_new(cli);
        g_autoptr(JsonNode) mounts = remote_get_member(c, "/v1/snapshots/mounts", "mounts", error);
        g_autoptr(JsonNode) rows = NULL;

        if (!mounts || output_machine(cli, mounts))
                return EXIT_CODE_OK;
        rows = rows_of(mounts);
        output_list(cli, rows, columns, nothing, error);
        return EXIT_CODE_OK;
}

const struct command command_snapshot_mounts = {
        .name = "mounts",
        .summary = "The restore points that are mounted",
        .run = run_mounts,
};
