/* guest-agent/push_private.h - what push.c (steps, timers, changes) and push_requests.c (requests and their
 * answers) share. Nobody else includes it. */
#pragma once

#include "guest-agent/past.h"
#include "guest-agent/push.h"
#include "guest-agent/stale_answers.h"

struct Pushes {
        const struct agent_config *config;
        Peers *peers;
        struct pushes_events events;
        gpointer user;
        Worker *engine; /* steps */
        Upgrade *upgrade;
        Past *past;
        StaleAnswers *stale;

        Operation *current;           /* the one that runs, or the last one */
        Moult__TransactionPhase seen; /* its phase when last looked at */
        unsigned asked;               /* bit for each PushAction that is queued or running */
        unsigned steps;               /* queued or running for `current` */
        gboolean released;            /* `current` has let go of its transaction */
        guint rest;                   /* before a successor */
        guint retry;                  /* of a confirmation that could not be recorded */
        guint timer;                  /* dead-man, idle, or linger: by phase */
        gint64 timer_ends_us;
        PackServer *packs; /* or NULL */
};

struct operation_env push_env(Pushes *ps);
/* Takes over @op, which becomes the current one, and queues its first step. */
void push_begin(Pushes *ps, Operation *op);
/* A command that push_rule() lets act now. */
void push_act(Pushes *ps, const Moult__PushCommand *command);
