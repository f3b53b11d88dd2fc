/* host-service/disk/die_with_parent.h - a child set-up for GSubprocessLauncher: killed when we are. */
#pragma once

#include <glib.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

/* In the child, before exec. @parent: GINT_TO_POINTER(getpid()) of the parent, who may have died before it
 * was asked for. It ends with the thread that starts it, so that one has to wait for it. */
static inline void die_with_parent(gpointer parent)
{
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != GPOINTER_TO_INT(parent))
                _exit(127);
}
