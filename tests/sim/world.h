/* tests/sim/world.h - simulated time, chance and the trace: what everything in the simulation stands on.
 *
 * Theory of operation: nothing happens but (a) what is ready in the host's main context, and (b) the next
 * event of a queue that is ordered by time, then by the order in which events were made. Time stands still
 * while the context has something to do, and jumps to the next timer or event when it has not. All choices
 * come from one generator that the seed starts. So a seed is a history. */
#pragma once

#include <gio/gio.h>

#include "proto/session.h"

typedef struct World World;
typedef void (*world_func)(gpointer user);

World *world_new(guint64 seed, gboolean show_trace);
void world_free(World *w);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(World, world_free)

GMainContext *world_context(World *w);
gint64 world_now_us(const World *w); /* monotonic; begins at 1 s */
gint64 world_wall_us(const World *w);
void world_jump_wall(World *w, gint64 by_us);

/* Below @n; 0 for n of 0 and 1. */
guint world_random(World *w, guint n);
/* From @low to @high, both included. */
guint world_between(World *w, guint low, guint high);
gboolean world_chance(World *w, guint of_1000);
void world_random_fill(World *w, void *buf, gsize len);

/* Calls @func once, @delay_us from now. */
void world_at(World *w, gint64 delay_us, world_func func, gpointer user);
/* The same; @drop frees @user if it never comes. */
void world_at_full(World *w, gint64 delay_us, world_func func, gpointer user, GDestroyNotify drop);
/* No event with this @user comes any more. */
void world_forget(World *w, gconstpointer user);
/* As host_clock_ops.timer_new. */
GSource *world_timer_new(World *w, gint64 delay_us);
/* From now on every timer of the context is due: so that threads that are waited for come to their end. */
void world_hurry(World *w, gboolean on);
/* For sessions on both sides; @env is the World. */
extern const struct session_environment world_session_environment;

/* Lets everything happen that happens at the next moment. FALSE: nothing will ever happen. */
gboolean world_step(World *w);

/* One line of the history: it counts in the digest and is shown if that was asked for. */
void world_trace(World *w, const char *format, ...) G_GNUC_PRINTF(2, 3);
const char *world_digest(World *w); /* of the trace so far; ends it */

/* An invariant is broken. The first one is kept. */
void world_fail(World *w, const char *format, ...) G_GNUC_PRINTF(2, 3);
const char *world_failure(const World *w); /* or NULL */
