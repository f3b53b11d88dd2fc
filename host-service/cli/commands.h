/* host-service/cli/commands.h - every command there is. A new one is a file and a line here and in its group.
 */
#pragma once

#include "host-service/cli/command.h"

extern const struct command command_root;

extern const struct command command_key_new;
extern const struct command command_key_show;
extern const struct command command_release_apply;
extern const struct command command_release_build;
extern const struct command command_release_capture;
extern const struct command command_release_import;
extern const struct command command_release_list;
extern const struct command command_release_remove;
extern const struct command command_release_show;
extern const struct command command_release_verify;

extern const struct command command_snapshot_create;
extern const struct command command_snapshot_export;
extern const struct command command_snapshot_list;
extern const struct command command_snapshot_mount;
extern const struct command command_snapshot_mounts;
extern const struct command command_snapshot_rollback;
extern const struct command command_snapshot_schedule;
extern const struct command command_snapshot_unmount;
extern const struct command command_snapshot_upload;
extern const struct command command_snapshot_merge;
extern const struct command command_snapshot_verify;
extern const struct command command_snapshot_remove;
extern const struct command command_snapshot_prune;

extern const struct command command_store_gc;
extern const struct command command_store_pull;
extern const struct command command_store_push;
extern const struct command command_store_verify;

extern const struct command command_template_prepare;

extern const struct command command_vm_add;
extern const struct command command_vm_discover; /* only with libvirt */
extern const struct command command_vm_list;
extern const struct command command_vm_prepare; /* only with libvirt */
extern const struct command command_vm_remove;
extern const struct command command_vm_set;
extern const struct command command_vm_show;
extern const struct command command_vm_wait;

extern const struct command command_doctor;
extern const struct command command_drift;
extern const struct command command_events;
extern const struct command command_fleet;
extern const struct command command_history;
extern const struct command command_jobs;
extern const struct command command_push;
extern const struct command command_rollback;
extern const struct command command_rollout;
extern const struct command command_status;
extern const struct command command_token;
