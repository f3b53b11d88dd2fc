/* guest-agent/upgrade/plan_select.h - the part of a release that was asked for, with what it depends on. */
#pragma once

#include "guest-agent/upgrade/plan.h"

/* Marks the selected entries: the paths asked for, what lies below them, the directories above them that are
 * missing in the live tree, and the other names of hard-linked files. MOULT_ERROR_NOT_FOUND names a path that
 * selects nothing. */
gboolean plan_select(Plan *p, const struct plan_request *request, GError **error);
