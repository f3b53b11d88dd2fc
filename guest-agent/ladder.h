/* guest-agent/ladder.h - the ways to a pack's bytes, best first, and which one is used now.
 *
 * Theory of operation: shm/pack_source.h has a source that asks for the next rung when the one in use is
 * gone, and goes on at the very block that failed. Which rung that is, is decided here: the first in the
 * host's order that works *now*. The window works until a read from it fails, and again once the host says
 * that its sources changed. Windows are two rungs: a PCI BAR, and, where the kernel does not let us map one,
 * persistent memory. The second is plugged only for who needs it (it stays in the VM until that is powered
 * off), so the ladder says that it is wanted, and waits a while: for the device, or for the host's word that
 * there will be none. A session works while it stands; one that stands but sent nothing cools down before it
 * is asked again. When nothing works, the staging thread sleeps until something does, for at most the
 * configured patience: a forced transport survives a reconnect. */
#pragma once

#include "guest-agent/peers.h"
#include "shm/pack_source.h"

typedef struct Ladder Ladder;

struct ladder_config {
        Peers *peers;
        const char *sysfs_pci, *sysfs_block, *dev;
        guint8 manifest_digest[32];
        uint64_t pack_size;
        const Moult__SourceKind *rungs; /* copied */
        size_t n_rungs;
        gboolean strict_window;
        unsigned patience_s;
        GCancellable *cancellable; /* a reference is taken */
        void (*wanted)(
                gpointer user); /* ladder_wanted() is another one now; any thread, no lock of ours held */
        gpointer user;
};

Ladder *ladder_new(const struct ladder_config *config);
/* After the last user of ladder_source() has gone. */
void ladder_free(Ladder *l);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Ladder, ladder_free)

/* The pack's bytes are in use already, and the host has agreed to that. So from now on they are waited for
 * @patience_ms, of which @passed_ms are over, and no rung is given up before that because the host says no:
 * one that restarts does, until it knows its pushes again. Any thread. */
void ladder_hold_on(Ladder *l, guint64 patience_ms, guint64 passed_ms);
/* Owned by the ladder. Reading from it blocks in whatever way the rungs do. */
PackSource *ladder_source(Ladder *l);
/* The host plugged or unplugged something. @can: what of the ladder can be had now; @n_can 0: all. Any
 * thread. */
void ladder_look_again(Ladder *l, const Moult__SourceKind *can, size_t n_can);
/* The window that is waited for although nobody has plugged it; UNSPECIFIED: none. Any thread. */
Moult__SourceKind ladder_wanted(Ladder *l);
/* Any thread. The rung in use (or last in use), and how often that has changed to another kind. */
Moult__SourceKind ladder_kind(Ladder *l);
unsigned ladder_changes(Ladder *l);
