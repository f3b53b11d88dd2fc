/* proto/legality.c - the state gate's tables: who may send what to whom, and what answers what. Pure. */
#include "proto/legality.h"

#define BODY(x) MOULT__MESSAGE__BODY_##x

enum { HOST = 1, AGENT = 2, COMMAND = 4 };

/* One row for each kind that may begin an exchange. A kind without a row is legal only as an answer. */
static const struct {
        Moult__Message__BodyCase body;
        unsigned senders;
        Moult__Message__BodyCase answer; /* NOT_SET: a notice, or answered by an error only */
} kinds[] = {
        {BODY(ERROR), HOST | AGENT | COMMAND, BODY(_NOT_SET)},
        {BODY(ACK), HOST | AGENT | COMMAND, BODY(_NOT_SET)},
        {BODY(PING), HOST | AGENT | COMMAND, BODY(ACK)},
        {BODY(OFFER), HOST | COMMAND, BODY(STATE)},
        {BODY(COMMAND), HOST | COMMAND, BODY(STATE)},
        {BODY(PLAN_QUERY), HOST | COMMAND, BODY(PLAN_PAGE)},
        {BODY(HISTORY_QUERY), HOST | COMMAND, BODY(HISTORY)},
        {BODY(ROLLBACK), HOST | COMMAND, BODY(STATE)},
        {BODY(STALE_QUERY), HOST | COMMAND, BODY(STALE_REPORT)},
        {BODY(TREE_QUERY), HOST, BODY(TREE_PAGE)},
        {BODY(TREE_READ), HOST, BODY(TREE_DATA)},
        {BODY(FACTS_QUERY), HOST, BODY(FACTS)},
        {BODY(FREEZE), HOST | COMMAND, BODY(FREEZE_STATE)},
        {BODY(FREEZE_STATE), AGENT, BODY(_NOT_SET)}, /* as a notice: the same */
        {BODY(STATE), AGENT, BODY(_NOT_SET)},        /* as a notice: the state has changed */
        {BODY(FETCH), AGENT, BODY(DATA)},
        {BODY(UPGRADE_REQUEST), AGENT | COMMAND, BODY(ACK)},
        {BODY(STATUS_QUERY), HOST | COMMAND, BODY(STATUS)},
};

gboolean legality_roles_fit(Moult__Role a, Moult__Role b)
{
        Moult__Role other = a == MOULT__ROLE__ROLE_AGENT ? b : a;

        if (a != MOULT__ROLE__ROLE_AGENT && b != MOULT__ROLE__ROLE_AGENT)
                return FALSE;
        return other == MOULT__ROLE__ROLE_HOST || other == MOULT__ROLE__ROLE_COMMAND;
}

static unsigned role_bit(Moult__Role role)
{
        switch (role) {
        case MOULT__ROLE__ROLE_HOST:
                return HOST;
        case MOULT__ROLE__ROLE_AGENT:
                return AGENT;
        case MOULT__ROLE__ROLE_COMMAND:
                return COMMAND;
        default:
                return 0;
        }
}

const char *legality_refusal(Moult__Message__BodyCase body, Moult__Role role)
{
        for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
                if (kinds[i].body != body)
                        continue;
                return kinds[i].senders & role_bit(role) ? NULL : "not for a peer of this role to send";
        }
        return "legal only as an answer";
}

gboolean legality_answers(Moult__Message__BodyCase request, Moult__Message__BodyCase reply)
{
        if (reply == BODY(ERROR))
                return TRUE;
        for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++)
                if (kinds[i].body == request)
                        return kinds[i].answer == reply && reply != BODY(_NOT_SET);
        return FALSE;
}
