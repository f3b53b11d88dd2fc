/* host-service/push/push_window.h - a push's window in its VM: plugged before the offer, gone after staging.
 *
 * Which kind: ivshmem first, since it can be taken off. Persistent memory stays in the VM until that is
 * powered off, so it comes second: when QEMU refuses the first kind, when the guest says that it cannot map
 * it (kernel lockdown), or when it was asked for.
 *
 * The record's `plug` is the durable half: set before QEMU is asked to plug, cleared once QEMU has said that
 * nothing of ours is left. */
#pragma once

#include "host-service/catalogue/pushes.h"
#include "host-service/catalogue/releases.h"
#include "host-service/guests/guests.h"

typedef struct PushWindow PushWindow;

/* All must outlive the window. */
PushWindow *push_window_new(const struct host_env *env, Guests *g, PushRecord *r);
void push_window_free(PushWindow *w);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PushWindow, push_window_free)

/* Marks the record; the caller stores it before push_window_plug(). */
void push_window_mark(PushWindow *w);
/* @knows_pmem: the guest's agent does. @release must outlive the plugging.
 * @done runs exactly once, perhaps before this returns; unless the window is freed or push_window_drop()
 * comes first. */
void push_window_plug(PushWindow *w, const ReleaseRecord *release, gboolean knows_pmem,
                      hypervisor_done_func done, gpointer user);
/* The guest says that it cannot use the ivshmem window and waits for the other kind: it is plugged too, if
 * that may still be tried. @done as above, once for each push_window_plug(), however often the guest says so:
 * then it can be told what there is. */
void push_window_wanted(PushWindow *w, hypervisor_done_func done, gpointer user);
/* The push and the guest allow it, and it was not tried yet. */
gboolean push_window_may_climb(const PushWindow *w);
/* Right after staging: the window blocks migration and is of no more use. A failure shows in
 * push_window_drop(). */
void push_window_drop_early(PushWindow *w);
/* Takes off whatever may be plugged. @done as above. */
void push_window_drop(PushWindow *w, hypervisor_done_func done, gpointer user);
/* What the guest can see; UNSPECIFIED: none. */
Moult__SourceKind push_window_kind(const PushWindow *w);
/* The hypervisor has said that no window of ours is left. */
gboolean push_window_is_gone(const PushWindow *w);
