/* proto/legality.h - the state gate's tables: who may send what to whom, and what answers what. Pure. */
#pragma once

#include <glib.h>

#include "proto/message.h"

/* True if peers of these roles talk to each other: host and agent, the guest's own command and agent. */
gboolean legality_roles_fit(Moult__Role a, Moult__Role b);
/* NULL, or why a message of this kind may not come from @role (answers are judged by legality_answers). */
const char *legality_refusal(Moult__Message__BodyCase body, Moult__Role role);
/* True if @reply may answer @request. Error answers everything. */
gboolean legality_answers(Moult__Message__BodyCase request, Moult__Message__BodyCase reply);
