/* tests/sim/qemu.h - a simulated QEMU: its QMP monitor, and the windows that are plugged into the VM. */
#pragma once

#include "tests/sim/world.h"

typedef struct Qemu Qemu;

/* @ports: free root ports; 0: nothing can be plugged. */
Qemu *qemu_new(World *w, const char *vm, guint ports);
void qemu_free(Qemu *q);
/* A client has connected. Takes over @t. */
void qemu_serve(Qemu *q, Transport *t);
gboolean qemu_is_served(const Qemu *q);
/* The VM is powered off: nothing is plugged any more, the monitor is gone. */
void qemu_off(Qemu *q);
/* The guest boots again: it lets go of what it was to let go of. */
void qemu_reset(Qemu *q);
/* The guest does not let go of a window before so long. */
void qemu_hold_windows(Qemu *q, gint64 for_us);
/* The path that a window shows, or NULL; and whether anything of moult's is left. */
const char *qemu_window(const Qemu *q);
gboolean qemu_has_anything(const Qemu *q);
