/* guest-agent/upgrade/recheck.h - is the live tree still what the plan was made from? */
#pragma once

#include "guest-agent/upgrade/plan.h"

/* Looks at the inode and change time of every planned object again, equal ones included. MOULT_ERROR_DRIFT
 * names the first that changed. */
gboolean recheck_plan(const Plan *p, int root_fd, GError **error);
