/* host-service/cli/commands.c - the table of subcommands. */
#include "host-service/cli/commands.h"

static const struct command *const key_commands[] = {
        &command_key_new,
        &command_key_show,
        NULL,
};

static const struct command command_key = {
        .name = "key",
        .summary = "Keys that releases are signed with",
        .subcommands = key_commands,
};

static const struct command *const release_commands[] = {
        &command_release_apply,  &command_release_build,  &command_release_capture,
        &command_release_import, &command_release_list,   &command_release_show,
        &command_release_verify, &command_release_remove, NULL,
};

static const struct command command_release = {
        .name = "release",
        .summary = "Release packs: building, importing, looking into them",
        .subcommands = release_commands,
};

static const struct command *const vm_commands[] = {
#ifdef MOULT_LIBVIRT
        &command_vm_discover,
        &command_vm_prepare,
#endif
        &command_vm_add,
        &command_vm_list,
        &command_vm_show,
        &command_vm_set,
        &command_vm_wait,
        &command_vm_remove,
        NULL,
};

static const struct command command_vm = {
        .name = "vm",
        .summary = "The virtual machines that moultd knows",
        .subcommands = vm_commands,
};

static const struct command *const template_commands[] = {
        &command_template_prepare,
        NULL,
};

static const struct command command_template = {
        .name = "template",
        .summary = "Images that VMs are cloned from",
        .subcommands = template_commands,
};

static const struct command *const store_commands[] = {
        &command_store_verify, &command_store_gc, &command_store_push, &command_store_pull, NULL,
};

static const struct command command_store = {
        .name = "store",
        .summary = "The store of packs as a whole: is it sound, what can go",
        .subcommands = store_commands,
};

static const struct command *const snapshot_commands[] = {
        &command_snapshot_create,   &command_snapshot_list,
        &command_snapshot_upload,   &command_snapshot_rollback,
        &command_snapshot_export,   &command_snapshot_merge,
        &command_snapshot_verify,   &command_snapshot_remove,
        &command_snapshot_prune,    &command_snapshot_mount,
        &command_snapshot_mounts,   &command_snapshot_unmount,
        &command_snapshot_schedule, NULL,
};

static const struct command command_snapshot = {
        .name = "snapshot",
        .summary = "Restore points of running VMs",
        .subcommands = snapshot_commands,
};

static const struct command *const root_commands[] = {
        &command_push,     &command_rollout,  &command_rollback,
        &command_status,   &command_fleet,    &command_jobs,
        &command_history,  &command_events,   &command_vm,
        &command_release,  &command_store,    &command_key,
        &command_token,    &command_doctor,   &command_drift,
        &command_template, &command_snapshot, NULL,
};

const struct command command_root = {
        .name = "moult",
        .summary = "Upgrades of living virtual machines",
        .details = "'moult --version' prints the version. moult(1) is the manual; its EXIT STATUS lists the "
                   "exit codes.",
        .subcommands = root_commands,
};
