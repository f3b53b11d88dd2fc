/* tests/sim/wire.h - a simulated byte stream between the host and something in or around a VM.
 *
 * A stream does not reorder or double; it is late, cut into other pieces than were sent, stands still,
 * breaks, or has noise in it. A port (virtio-serial) is a stream whose far end outlives the near one: its far
 * end is AWAY while no host is connected, may find the rest of an old frame when one is again, and the host
 * does not see an agent come and go. What is sent to an absent end is lost. */
#pragma once

#include "proto/transport.h"
#include "tests/sim/world.h"

typedef struct Wire Wire;
typedef enum { WIRE_HOST, WIRE_FAR } WireSide;

/* Runs before the host has an effect on the world; FALSE: it has none any more, as it was killed. */
typedef gboolean (*wire_effect_func)(gpointer user);

Wire *wire_new(World *w, const char *name, gboolean is_port, wire_effect_func effect, gpointer user);
void wire_free(Wire *wire); /* no end may be left */

/* A new end. There is none on this side. */
Transport *wire_attach(Wire *wire, WireSide side);
gboolean wire_is_attached(const Wire *wire, WireSide side);
/* The connection breaks: the ends hear it, what is on its way is lost. */
void wire_cut(Wire *wire);
/* Bytes that nobody sent come to @side. */
void wire_noise(Wire *wire, WireSide side);
/* Nothing arrives for so long; then all does. */
void wire_stall(Wire *wire, gint64 for_us);
/* How long a piece is on its way, at most; the least is a tenth of it. */
void wire_set_latency(Wire *wire, gint64 us);
