/* tests/unit/test_proto_handshake.c - hello races: whatever the order, both sides stand, and no hello is
 * answered for ever. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "proto/handshake.h"
#include "proto/legality.h"

TestSuite(handshake, .timeout = 30);

/* A hello in flight; owns what Moult__Hello points to. */
struct letter {
        Handshake sender; /* as it was */
        Moult__Hello hello;
};

struct side {
        Handshake h;
        guint8 next_nonce;
        int established, anew;
};

static void begin(struct side *s)
{
        guint8 nonce[HANDSHAKE_NONCE_SIZE];

        memset(nonce, ++s->next_nonce, sizeof nonce);
        handshake_begin(&s->h, nonce);
}

static void side_init(struct side *s, Moult__Role role, guint8 first_nonce)
{
        *s = (struct side){.next_nonce = first_nonce};
        handshake_init(&s->h, role);
        begin(s);
}

static void write_letter(struct side *s, struct letter *ret)
{
        moult__hello__init(&ret->hello);
        ret->sender = s->h;
        handshake_fill(&ret->sender, &ret->hello); /* the pointers are into the letter's own copy */
        s->h.echo_sent = ret->sender.echo_sent;
}

/* TRUE and *ret_answer set if the side answers. */
static gboolean read_letter(struct side *s, const struct letter *l, struct letter *ret_answer)
{
        gboolean answer;
        const char *why;
        enum handshake_verdict v = handshake_receive(&s->h, &l->hello, &answer, &why);

        if (v == HANDSHAKE_PEER_ANEW) {
                s->anew++;
                begin(s);
                v = handshake_receive(&s->h, &l->hello, &answer, &why);
        }
        if (v == HANDSHAKE_ESTABLISHED)
                s->established++;
        if (v == HANDSHAKE_ANSWER || (v == HANDSHAKE_ESTABLISHED && answer)) {
                write_letter(s, ret_answer);
                return TRUE;
        }
        return FALSE;
}

/* Lets the two answer each other, beginning with @first to @reader; fails if that does not end. */
static void converse(struct side *reader, struct side *other, struct letter first)
{
        struct letter letters[2] = {first};

        for (int i = 0; i < 20; i++) {
                if (!read_letter(reader, &letters[i % 2], &letters[(i + 1) % 2]))
                        return;
                struct side *swap = reader;
                reader = other;
                other = swap;
        }
        cr_fail("two sides answer each other for ever");
}

static void sides(struct side *host, struct side *agent)
{
        side_init(host, MOULT__ROLE__ROLE_HOST, 10);
        side_init(agent, MOULT__ROLE__ROLE_AGENT, 100);
}

static void expect_standing(const struct side *a, const struct side *b)
{
        cr_expect(a->h.established);
        cr_expect(b->h.established);
        cr_expect(zero(int, memcmp(a->h.peer_nonce, b->h.nonce, HANDSHAKE_NONCE_SIZE)));
        cr_expect(zero(int, memcmp(b->h.peer_nonce, a->h.nonce, HANDSHAKE_NONCE_SIZE)));
}

Test(handshake, one_side_begins)
{
        struct side host, agent;
        struct letter l;

        sides(&host, &agent);
        write_letter(&host, &l);
        converse(&agent, &host, l);
        expect_standing(&host, &agent);
        cr_expect(eq(int, host.established, 1));
        cr_expect(eq(int, agent.established, 1));
        cr_expect(eq(uint, host.h.version, 1));
        cr_expect(eq(int, (int)host.h.peer_role, (int)MOULT__ROLE__ROLE_AGENT));
}

Test(handshake, both_begin_at_once)
{
        struct side host, agent;
        struct letter a, b, answer_a, answer_b;

        sides(&host, &agent);
        write_letter(&host, &a);
        write_letter(&agent, &b);
        cr_assert(read_letter(&agent, &a, &answer_a));
        cr_assert(read_letter(&host, &b, &answer_b));
        converse(&host, &agent, answer_a);
        converse(&agent, &host, answer_b);
        expect_standing(&host, &agent);
        cr_expect(zero(int, host.anew + agent.anew));
        cr_expect(eq(int, host.established, 1));
        cr_expect(eq(int, agent.established, 1));
}

Test(handshake, doubled_and_late_hellos_of_the_same_attempt_change_nothing)
{
        struct side host, agent;
        struct letter first;

        sides(&host, &agent);
        write_letter(&host, &first);
        converse(&agent, &host, first);
        for (int i = 0; i < 3; i++) /* the first one again: it has no echo */
                converse(&agent, &host, first);
        expect_standing(&host, &agent);
        cr_expect(zero(int, host.anew + agent.anew));
}

Test(handshake, a_lost_last_hello_is_healed_by_the_next_one)
{
        struct side host, agent;
        struct letter l, answer, lost;

        sides(&host, &agent);
        write_letter(&host, &l);
        cr_assert(read_letter(&agent, &l, &answer));
        cr_assert(read_letter(&host, &answer, &lost)); /* the host stands; the agent never hears it */
        cr_expect(host.h.established);
        cr_expect(not(agent.h.established));
        write_letter(&agent, &l); /* its timer */
        converse(&host, &agent, l);
        expect_standing(&host, &agent);
        cr_expect(zero(int, host.anew));
}

Test(handshake, a_restarted_peer_is_noticed_and_both_stand_again)
{
        struct side host, agent;
        struct letter l;

        sides(&host, &agent);
        write_letter(&host, &l);
        converse(&agent, &host, l);
        begin(&agent); /* restarted: knows nothing */
        write_letter(&agent, &l);
        converse(&host, &agent, l);
        expect_standing(&host, &agent);
        cr_expect(eq(int, host.anew, 1));
        cr_expect(eq(int, host.established, 2));
}

Test(handshake, a_hello_of_an_older_attempt_cannot_establish)
{
        struct side host, agent;
        struct letter l, old_answer, none;

        sides(&host, &agent);
        write_letter(&host, &l);
        cr_assert(read_letter(&agent, &l, &old_answer)); /* echoes the host's first nonce */
        begin(&host);
        read_letter(&host, &old_answer, &none);
        cr_expect(not(host.h.established));
}

Test(handshake, our_own_echoed_bytes_are_ignored)
{
        struct side host;
        struct letter l, none;

        side_init(&host, MOULT__ROLE__ROLE_HOST, 1);
        write_letter(&host, &l);
        cr_expect(not(read_letter(&host, &l, &none)));
        cr_expect(not(host.h.peer_known));
}

static enum handshake_verdict judge(struct side *s, guint32 min, guint32 max, Moult__Role role,
                                    gboolean *ret_first, const char **ret_why)
{
        struct side peer;
        struct letter l;

        side_init(&peer, role, 200);
        write_letter(&peer, &l);
        l.hello.version_min = min;
        l.hello.version_max = max;
        return handshake_receive(&s->h, &l.hello, ret_first, ret_why);
}

Test(handshake, versions_without_overlap_are_refused_with_the_side_to_upgrade)
{
        struct side host;
        gboolean first;
        const char *why;

        side_init(&host, MOULT__ROLE__ROLE_HOST, 1);
        cr_expect(eq(int, judge(&host, 2, 3, MOULT__ROLE__ROLE_AGENT, &first, &why), HANDSHAKE_REFUSED));
        cr_expect(first);
        cr_expect(ne(ptr, strstr(why, "upgrade this side"), NULL), "%s", why);
        cr_expect(eq(int, judge(&host, 2, 3, MOULT__ROLE__ROLE_AGENT, &first, &why), HANDSHAKE_REFUSED));
        cr_expect(not(first)); /* the same one again: told already */
        cr_expect(eq(int, judge(&host, 1, 9, MOULT__ROLE__ROLE_AGENT, &first, &why), HANDSHAKE_ANSWER));
}

Test(handshake, roles_that_do_not_talk_to_each_other_are_refused)
{
        struct side host;
        gboolean first;
        const char *why;

        side_init(&host, MOULT__ROLE__ROLE_HOST, 1);
        cr_expect(eq(int, judge(&host, 1, 1, MOULT__ROLE__ROLE_HOST, &first, &why), HANDSHAKE_REFUSED));
        cr_expect(eq(int, judge(&host, 1, 1, MOULT__ROLE__ROLE_COMMAND, &first, &why), HANDSHAKE_REFUSED));
        cr_expect(eq(int, judge(&host, 1, 1, MOULT__ROLE__ROLE_AGENT, &first, &why), HANDSHAKE_ANSWER));
}

/* Every order in which a few losses, repetitions and restarts can fall: in the end, with a quiet line, both
 * stand. */
Test(handshake, heals_after_any_short_history)
{
        enum { A_SENDS, B_SENDS, A_SENDS_LOST, B_SENDS_LOST, A_BEGINS, B_BEGINS, B_OLD_AGAIN, KINDS };
        enum { STEPS = 5 };
        int histories = 1;

        for (int i = 0; i < STEPS; i++)
                histories *= KINDS;
        for (int history = 0; history < histories; history++) {
                struct side a, b;
                struct letter l, old;
                int code = history;

                sides(&a, &b);
                write_letter(&b, &old);
                for (int i = 0; i < STEPS; i++, code /= KINDS) {
                        switch (code % KINDS) {
                        case A_SENDS:
                                write_letter(&a, &l);
                                converse(&b, &a, l);
                                break;
                        case B_SENDS:
                                write_letter(&b, &l);
                                converse(&a, &b, l);
                                break;
                        case A_SENDS_LOST:
                                write_letter(&a, &l);
                                break;
                        case B_SENDS_LOST:
                                write_letter(&b, &old);
                                break;
                        case A_BEGINS:
                                begin(&a);
                                break;
                        case B_BEGINS:
                                begin(&b);
                                break;
                        case B_OLD_AGAIN:
                                converse(&a, &b, old);
                                break;
                        }
                }
                for (int i = 0; i < 3; i++) { /* the timers of those who do not stand */
                        if (!a.h.established) {
                                write_letter(&a, &l);
                                converse(&b, &a, l);
                        }
                        if (!b.h.established) {
                                write_letter(&b, &l);
                                converse(&a, &b, l);
                        }
                }
                cr_assert(a.h.established && b.h.established, "history %d", history);
                cr_assert(zero(int, memcmp(a.h.peer_nonce, b.h.nonce, HANDSHAKE_NONCE_SIZE)), "history %d",
                          history);
        }
}

Test(handshake, tables_know_every_kind_of_message)
{
        for (unsigned i = 0; i < moult__message__descriptor.n_fields; i++) {
                const ProtobufCFieldDescriptor *f = &moult__message__descriptor.fields[i];
                Moult__Message__BodyCase body = (Moult__Message__BodyCase)f->id;
                gboolean begins = FALSE, answers = FALSE;

                if (f->type != PROTOBUF_C_TYPE_MESSAGE || body == MOULT__MESSAGE__BODY_HELLO)
                        continue;
                for (int role = MOULT__ROLE__ROLE_HOST; role <= MOULT__ROLE__ROLE_COMMAND; role++)
                        begins |= legality_refusal(body, (Moult__Role)role) == NULL;
                for (unsigned j = 0; j < moult__message__descriptor.n_fields; j++)
                        answers |= legality_answers(
                                (Moult__Message__BodyCase)moult__message__descriptor.fields[j].id, body);
                cr_expect(begins || answers, "%s can neither begin an exchange nor answer one", f->name);
        }
}

Test(handshake, tables_keep_each_to_its_part)
{
        cr_expect(
                ne(ptr, (void *)legality_refusal(MOULT__MESSAGE__BODY_OFFER, MOULT__ROLE__ROLE_AGENT), NULL));
        cr_expect(
                ne(ptr, (void *)legality_refusal(MOULT__MESSAGE__BODY_FETCH, MOULT__ROLE__ROLE_HOST), NULL));
        cr_expect(ne(ptr, (void *)legality_refusal(MOULT__MESSAGE__BODY_DATA, MOULT__ROLE__ROLE_HOST), NULL));
        cr_expect(
                eq(ptr, (void *)legality_refusal(MOULT__MESSAGE__BODY_OFFER, MOULT__ROLE__ROLE_HOST), NULL));
        cr_expect(legality_answers(MOULT__MESSAGE__BODY_FETCH, MOULT__MESSAGE__BODY_DATA));
        cr_expect(legality_answers(MOULT__MESSAGE__BODY_FETCH, MOULT__MESSAGE__BODY_ERROR));
        cr_expect(not(legality_answers(MOULT__MESSAGE__BODY_FETCH, MOULT__MESSAGE__BODY_STATE)));
        cr_expect(not(legality_answers(MOULT__MESSAGE__BODY_ACK, MOULT__MESSAGE__BODY__NOT_SET)));
}
