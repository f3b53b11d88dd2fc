/* host-service/metrics/loop_watch.h - how long single turns of the loop take: what everybody else waits.
 *
 * It sees a turn's begin and end from inside of the loop and wakes nobody up: an idle daemon stays idle. */
#pragma once

#include "host-service/env.h"

typedef struct LoopWatch LoopWatch;
/* From the loop, at the end of a turn that had something to do. */
typedef void (*loop_watch_func)(gint64 turn_us, gpointer user);

LoopWatch *loop_watch_new(const struct host_env *env, loop_watch_func func, gpointer user);
void loop_watch_free(LoopWatch *w);
