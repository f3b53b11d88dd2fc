/* host-service/cli/build_report.h - what a build or a capture tells while it runs and when it is done. */
#pragma once

#include "host-service/cli/release_build_options.h"

/* A release_build_observer; @user is a Progress. */
void build_report_progress(const struct release_build_progress *p, gpointer user);
/* As words, or for machines. */
void build_report_print(Cli *cli, const BuildCommandLine *o, const struct release_build_report *r);
