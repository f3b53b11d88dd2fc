/* guest-agent/methods.h - what a peer may ask, who may ask it, and who answers.
 *
 * The session has passed the frame gate and the content gate (proto/refusal.h) before a message comes here;
 * this is the state gate. What no row names is answered with an error; an error is never answered. */
#pragma once

#include "guest-agent/freeze.h"
#include "guest-agent/peers.h"
#include "guest-agent/push.h"
#include "guest-agent/look_answers.h"

struct methods {
        Pushes *pushes;
        Peers *peers;
        LookAnswers *tree, *facts;
        Freezes *freezes;
        const char *software, *boot_id;
        gint64 started_us; /* monotonic */
        gboolean stopping; /* nothing new is begun */
        gboolean opening;  /* the engine waits for frozen file systems: only the freeze is there */
};

void methods_dispatch(const struct methods *methods, Peer *p, const Message *m);
