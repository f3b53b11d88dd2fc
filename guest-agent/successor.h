/* guest-agent/successor.h - when an agent whose path leads to another program gives way to it.
 *
 * In the middle of an upgrade: as soon as it is active, so that the host's confirmation is an answer to the
 * new program. After one: once the host had its time to ask what it wants to know. After a start that took
 * the new program back: at once. Never while something runs. */
#pragma once

#include <glib.h>

#include "proto/channel.pb-c.h"

/* Of rest, after the end of a push or a rollback. */
#define SUCCESSOR_REST_S 3

enum successor_when { SUCCESSOR_NOT, SUCCESSOR_AFTER_REST, SUCCESSOR_NOW };

/* Pure. @replaced: another program is there; @working: steps, looks or answers are queued or run. */
enum successor_when successor_rule(Moult__TransactionPhase phase, gboolean replaced, gboolean working);
