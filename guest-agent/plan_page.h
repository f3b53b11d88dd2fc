/* guest-agent/plan_page.h - the plan of a push, told page by page. */
#pragma once

#include "guest-agent/operation.h"
#include "guest-agent/peers.h"

/* @op has a plan, operation_has_plan(). Takes over @ticket. */
void plan_page_answer(Operation *op, struct ticket *ticket, const Moult__PlanQuery *query);
