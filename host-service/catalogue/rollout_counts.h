/* host-service/catalogue/rollout_counts.h - how many pushes of a rollout are in which state, kept while it
 * runs.
 *
 * Theory of operation: a rollout looks at its counts whenever a push has ended. To count them in the table
 * each time is a row read for each VM of the fleet, for each VM of the fleet. So they are counted once, and
 * then moved with each row that is changed (catalogue_rollout_count() in rollouts.h reads them). What changes
 * many rows, and a transaction that is undone, forgets them: they are counted anew when somebody asks.
 * Private to host-service/catalogue/. */
#pragma once

#include "host-service/catalogue/rollouts.h"

/* The row of one push was changed, in a transaction. Rows that count in the same way change nothing. TRUE:
 * they do not. */
gboolean rollout_counts_move(Catalogue *c, const PushRecord *before, const PushRecord *after);
/* Which rows were changed is not known. The tally counts it as a change. */
void rollout_counts_forget(Catalogue *c);
