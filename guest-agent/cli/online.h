/* guest-agent/cli/online.h - the daemon, and the commands that ask it. */
#pragma once

#include "proto/channel.pb-c.h"

int command_run(int argc, char **argv);
int command_status(int argc, char **argv);
int command_request(int argc, char **argv);
int command_history(int argc, char **argv);
int command_rollback(int argc, char **argv);

int command_try(int argc, char **argv);
int command_stale(int argc, char **argv);
int command_freezer(int argc, char **argv);
int command_freeze_status(int argc, char **argv);
int command_thaw(int argc, char **argv);

/* For people; also of a tree without a daemon. */
void history_print(const Moult__History *h);
