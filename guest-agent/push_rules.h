/* guest-agent/push_rules.h - which command does something in which phase: pure, so that it can be read and
 * tested. */
#pragma once

#include "proto/channel.pb-c.h"

enum push_verdict {
        VERDICT_ANSWER, /* done already, or under way, or never to be: the state says which */
        VERDICT_ACT,
        VERDICT_WRONG_STATE, /* too early: the host is ahead of what is true here */
};

enum push_verdict push_rule(Moult__TransactionPhase phase, Moult__PushAction action);
