/* tests/unit/test_guest_agent_push.c - whole pushes: a real agent, a real engine on a tree of its own, a fake
 * host at the port. Test names are the specification of what the host may rely on. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "guest-agent/upgrade/journal.h"
#include "tests/support/agent_rig.h"

TestSuite(agent_push, .timeout = 110);

#define PHASE(x) MOULT__TRANSACTION_PHASE__PHASE_##x
#define PUSH(x)  MOULT__PUSH_ACTION__PUSH_##x
#define FILLER   (4u * 1024u * 1024u)

static void offer(AgentRig *r, Moult__Offer *o)
{
        cr_assert(fake_host_offer(r->host, r->push_id, o), "%s",
                  r->host->error ? r->host->error->message : "");
}

static void command(AgentRig *r, Moult__PushAction action)
{
        cr_assert(fake_host_command(r->host, r->push_id, action), "%s",
                  r->host->error ? r->host->error->message : "");
}

static void expect_phase(AgentRig *r, Moult__TransactionPhase phase)
{
        cr_assert(fake_host_wait_phase(r->host, r->push_id, phase), "ended in phase %d: %.*s",
                  (int)r->host->state->state->phase, (int)r->host->state->state->text.len,
                  (char *)r->host->state->state->text.data);
}

static void expect_file(AgentRig *r, const char *path, const char *content)
{
        g_autofree char *text = agent_rig_read(r, path);

        cr_expect(eq(str, text, (char *)content));
}

static AgentRig *rig_with_release(gsize filler)
{
        AgentRig *r = agent_rig_new();

        agent_rig_write(r, "etc/a", "old a");
        agent_rig_write(r, "etc/b", "old b");
        agent_rig_release(r, "2", filler, "etc/a", "new a", "etc/b", "new b", "etc/c", "new c", NULL);
        return r;
}

static void expect_new(AgentRig *r)
{
        expect_file(r, "etc/a", "new a");
        expect_file(r, "etc/b", "new b");
        expect_file(r, "etc/c", "new c");
}

static void expect_old(AgentRig *r)
{
        expect_file(r, "etc/a", "old a");
        expect_file(r, "etc/b", "old b");
        expect_file(r, "etc/c", "");
}

static void push_to_active(AgentRig *r, Moult__Offer *o)
{
        offer(r, o);
        expect_phase(r, PHASE(PLANNED));
        command(r, PUSH(STAGE));
        expect_phase(r, PHASE(STAGED));
        command(r, PUSH(COMMIT));
        expect_phase(r, PHASE(ACTIVE));
}

Test(agent_push, changes_the_tree_only_at_commit_and_ends_committed)
{
        g_autoptr(AgentRig) r = rig_with_release(FILLER);
        Moult__Offer o = MOULT__OFFER__INIT;

        agent_rig_start(r);
        offer(r, &o);
        expect_phase(r, PHASE(PLANNED));
        command(r, PUSH(STAGE));
        expect_phase(r, PHASE(STAGED));
        expect_old(r);
        cr_expect(eq(int, (int)r->host->state->state->source, MOULT__SOURCE_KIND__SOURCE_SERIAL));
        cr_expect(zero(u32, r->host->state->state->source_changes));
        command(r, PUSH(COMMIT));
        expect_phase(r, PHASE(ACTIVE));
        expect_new(r);
        cr_expect(gt(u64, r->host->state->state->confirm_left_ms, 0));
        command(r, PUSH(CONFIRM));
        expect_phase(r, PHASE(COMMITTED));
        expect_new(r);
}

Test(agent_push, answers_doubled_and_late_commands_with_the_present_state)
{
        g_autoptr(AgentRig) r = rig_with_release(FILLER);
        Moult__Offer o = MOULT__OFFER__INIT;
        static const Moult__PushAction all[] = {PUSH(QUERY),   PUSH(STAGE), PUSH(COMMIT),
                                                PUSH(CONFIRM), PUSH(ABORT), PUSH(SOURCES_CHANGED)};

        agent_rig_start(r);
        offer(r, &o);
        offer(r, &o);
        expect_phase(r, PHASE(PLANNED));
        offer(r, &o);
        command(r, PUSH(STAGE));
        command(r, PUSH(STAGE));
        expect_phase(r, PHASE(STAGED));
        command(r, PUSH(STAGE));
        command(r, PUSH(COMMIT));
        command(r, PUSH(COMMIT));
        command(r, PUSH(STAGE));
        expect_phase(r, PHASE(ACTIVE));
        guint64 generation = r->host->state->state->generation;
        command(r, PUSH(COMMIT));
        command(r, PUSH(CONFIRM));
        command(r, PUSH(CONFIRM));
        expect_phase(r, PHASE(COMMITTED));
        for (size_t i = 0; i < G_N_ELEMENTS(all); i++) {
                command(r, all[i]);
                cr_expect(eq(int, (int)r->host->reply->state->phase, PHASE(COMMITTED)));
        }
        offer(r, &o);
        cr_expect(eq(int, (int)r->host->reply->state->phase, PHASE(COMMITTED)));
        cr_expect(eq(u64, r->host->reply->state->generation, generation));
        expect_new(r);
}

Test(agent_push, refuses_commands_that_come_too_early)
{
        g_autoptr(AgentRig) r = rig_with_release(0);
        Moult__Offer o = MOULT__OFFER__INIT;
        static const Moult__PushAction early[] = {PUSH(COMMIT), PUSH(CONFIRM)};

        agent_rig_start(r);
        offer(r, &o);
        expect_phase(r, PHASE(PLANNED));
        for (size_t i = 0; i < G_N_ELEMENTS(early); i++) {
                cr_expect(not(fake_host_command(r->host, r->push_id, early[i])));
                cr_expect(eq(int, r->host->error->code, MOULT_ERROR_WRONG_STATE));
        }
        command(r, PUSH(STAGE));
        expect_phase(r, PHASE(STAGED));
        cr_expect(not(fake_host_command(r->host, r->push_id, PUSH(CONFIRM))));
        expect_old(r);
}

Test(agent_push, knows_nothing_of_a_push_that_was_never_offered)
{
        g_autoptr(AgentRig) r = rig_with_release(0);

        agent_rig_start(r);
        for (int action = PUSH(QUERY); action <= PUSH(SOURCES_CHANGED); action++) {
                command(r, (Moult__PushAction)action);
                cr_expect(eq(int, (int)r->host->reply->state->phase, PHASE(NONE)));
        }
        expect_old(r);
}

Test(agent_push, holds_one_push_at_a_time)
{
        g_autoptr(AgentRig) r = rig_with_release(0);
        Moult__Offer o = MOULT__OFFER__INIT;
        static const guint8 other[16] = "another push id";

        agent_rig_start(r);
        offer(r, &o);
        expect_phase(r, PHASE(PLANNED));
        cr_expect(not(fake_host_offer(r->host, other, &o)));
        cr_expect(eq(int, r->host->error->code, MOULT_ERROR_BUSY));
        command(r, PUSH(ABORT));
        expect_phase(r, PHASE(FAILED));
        cr_expect(fake_host_offer(r->host, other, &o));
        cr_expect(fake_host_wait_phase(r->host, other, PHASE(PLANNED)));
}

Test(agent_push, dry_run_plans_and_changes_nothing)
{
        g_autoptr(AgentRig) r = rig_with_release(0);
        Moult__Offer dry = MOULT__OFFER__INIT, real = MOULT__OFFER__INIT;
        Message m = MOULT__MESSAGE__INIT;
        Moult__PlanQuery query = MOULT__PLAN_QUERY__INIT;

        dry.dry_run = TRUE;
        agent_rig_start(r);
        offer(r, &dry);
        expect_phase(r, PHASE(PLANNED));
        cr_expect(eq(u32, r->host->state->state->entries_change, 3));
        query.push_id = message_blob(r->push_id, 16);
        query.count = 2;
        m.body_case = MOULT__MESSAGE__BODY_PLAN_QUERY;
        m.plan_query = &query;
        cr_assert(fake_host_ask(r->host, &m));
        cr_assert(eq(u32, r->host->reply->plan_page->total, 3));
        cr_assert(eq(sz, r->host->reply->plan_page->n_items, 2));
        cr_expect(
                eq(int, (int)r->host->reply->plan_page->items[0]->action, MOULT__PLAN_ACTION__PLAN_REPLACE));
        query.first = 2;
        cr_assert(fake_host_ask(r->host, &m));
        cr_assert(eq(sz, r->host->reply->plan_page->n_items, 1));
        cr_expect(eq(int, (int)r->host->reply->plan_page->items[0]->action, MOULT__PLAN_ACTION__PLAN_CREATE));

        cr_expect(not(fake_host_command(r->host, r->push_id, PUSH(STAGE))));
        cr_expect(eq(int, r->host->error->code, MOULT_ERROR_WRONG_STATE));
        expect_old(r);
        agent_rig_next_push(r);
        push_to_active(r, &real); /* a dry run does not hold the guest */
}

Test(agent_push, trusts_nobody_without_a_key)
{
        g_autoptr(AgentRig) r = rig_with_release(0);
        Moult__Offer o = MOULT__OFFER__INIT;
        g_autofree char *pub = tempdir_path(r->dir, "trust/release.pub");

        unlink(pub);
        agent_rig_start(r);
        offer(r, &o);
        expect_phase(r, PHASE(REFUSED));
        cr_expect(eq(int, (int)r->host->state->state->error, MOULT__ERROR_CODE__ERROR_UNTRUSTED));
        g_autofree char *text = message_string(r->host->state->state->text);
        cr_expect(ne(ptr, strstr(text, "trusts no key"), NULL), "%s", text);
        expect_old(r);
}

Test(agent_push, rolls_back_by_itself_when_nobody_confirms)
{
        g_autoptr(AgentRig) r = rig_with_release(0);
        Moult__Offer o = MOULT__OFFER__INIT;

        o.confirm_timeout_ms = 200;
        agent_rig_start(r);
        push_to_active(r, &o);
        fake_host_vanish(r->host);
        fake_host_return(r->host);
        fake_host_wait_established(r->host);
        expect_phase(r, PHASE(ROLLED_BACK));
        cr_expect(eq(int, (int)r->host->state->state->error, MOULT__ERROR_CODE__ERROR_TIMEOUT));
        expect_old(r);
}

Test(agent_push, aborts_in_every_phase)
{
        Moult__Offer o = MOULT__OFFER__INIT;

        for (int when = 0; when < 4; when++) {
                g_autoptr(AgentRig) r = rig_with_release(FILLER);

                r->host->silent = when == 1;
                agent_rig_start(r);
                offer(r, &o);
                if (when != 1) {
                        expect_phase(r, PHASE(PLANNED));
                        r->host->silent = FALSE;
                }
                if (when >= 2) {
                        command(r, PUSH(STAGE));
                        expect_phase(r, PHASE(STAGED));
                }
                if (when == 3) {
                        command(r, PUSH(COMMIT));
                        expect_phase(r, PHASE(ACTIVE));
                }
                command(r, PUSH(ABORT));
                command(r, PUSH(ABORT));
                expect_phase(r, when == 3 ? PHASE(ROLLED_BACK) : PHASE(FAILED));
                cr_expect(eq(int, (int)r->host->state->state->error, MOULT__ERROR_CODE__ERROR_CANCELLED));
                expect_old(r);
        }
}

/* ---- hosts that vanish ---- */

static void vanish_and_return(AgentRig *r)
{
        int before = r->host->established;

        fake_host_vanish(r->host);
        fake_host_return(r->host);
        while (r->host->established == before)
                g_main_context_iteration(NULL, TRUE);
}

Test(agent_push, goes_on_after_the_host_vanished_in_any_phase)
{
        g_autoptr(AgentRig) r = rig_with_release(FILLER);
        Moult__Offer o = MOULT__OFFER__INIT;

        agent_rig_start(r);
        vanish_and_return(r);
        offer(r, &o);
        vanish_and_return(r); /* while planning, or just after: the state comes by itself */
        expect_phase(r, PHASE(PLANNED));
        vanish_and_return(r);
        command(r, PUSH(STAGE));
        r->host->hang_up_after = 1; /* in the middle of staging */
        expect_phase(r, PHASE(STAGED));
        vanish_and_return(r);
        command(r, PUSH(COMMIT));
        vanish_and_return(r);
        expect_phase(r, PHASE(ACTIVE));
        vanish_and_return(r);
        command(r, PUSH(CONFIRM));
        vanish_and_return(r);
        expect_phase(r, PHASE(COMMITTED));
        expect_new(r);
}

Test(agent_push, a_forced_transport_survives_that_the_host_hangs_up_again_and_again)
{
        g_autoptr(AgentRig) r = rig_with_release(4 * FILLER);
        Moult__Offer o = MOULT__OFFER__INIT;

        agent_rig_start(r);
        offer(r, &o);
        expect_phase(r, PHASE(PLANNED));
        command(r, PUSH(STAGE));
        for (int i = 0; i < 3; i++) {
                int before = r->host->established;

                r->host->hang_up_after = 3;
                while (r->host->established == before && r->host->state->state->phase != PHASE(STAGED))
                        g_main_context_iteration(NULL, TRUE);
        }
        r->host->hang_up_after = -1;
        expect_phase(r, PHASE(STAGED));
        cr_expect(zero(u32, r->host->state->state->source_changes),
                  "the same kind of source again is no change");
        command(r, PUSH(COMMIT));
        expect_phase(r, PHASE(ACTIVE));
        expect_new(r);
}

Test(agent_push, gives_up_when_its_patience_ends)
{
        g_autoptr(AgentRig) r = rig_with_release(FILLER);
        Moult__Offer o = MOULT__OFFER__INIT;

        agent_rig_option(r, "--patience-s=1");
        agent_rig_start(r);
        offer(r, &o);
        expect_phase(r, PHASE(PLANNED));
        command(r, PUSH(STAGE));
        r->host->refuse = MOULT_ERROR_IO;
        expect_phase(r, PHASE(FAILED));
        expect_old(r);
}

/* ---- ladder ---- */

static Moult__SourceKind window_then_serial[] = {MOULT__SOURCE_KIND__SOURCE_IVSHMEM,
                                                 MOULT__SOURCE_KIND__SOURCE_SERIAL};

Test(agent_push, reads_from_the_window_alone)
{
        g_autoptr(AgentRig) r = rig_with_release(FILLER);
        g_autofree char *bar = agent_rig_plug(r);
        Moult__Offer o = MOULT__OFFER__INIT;

        o.sources = window_then_serial;
        o.n_sources = 1;
        agent_rig_start(r);
        push_to_active(r, &o);
        cr_expect(zero(int, r->host->fetches));
        cr_expect(eq(int, (int)r->host->state->state->source, MOULT__SOURCE_KIND__SOURCE_IVSHMEM));
        expect_new(r);
}

Test(agent_push, climbs_down_in_the_middle_of_staging_when_the_window_goes)
{
        g_autoptr(AgentRig) r = rig_with_release(4 * FILLER);
        g_autofree char *bar = agent_rig_plug(r);
        Moult__Offer o = MOULT__OFFER__INIT;

        o.sources = window_then_serial;
        o.n_sources = 2;
        o.workers = 1; /* front to back: the first half comes from the window */
        agent_rig_start(r);
        offer(r, &o);
        expect_phase(r, PHASE(PLANNED));
        cr_expect(zero(int, r->host->fetches));
        cr_assert(zero(int, truncate(bar, (off_t)(r->host->pack_size / 2))));
        command(r, PUSH(STAGE));
        expect_phase(r, PHASE(STAGED));
        cr_expect(gt(int, r->host->fetches, 0));
        cr_expect(lt(u64, r->host->fetched_bytes, r->host->pack_size * 3 / 4),
                  "what the window gave is not fetched again");
        cr_expect(eq(int, (int)r->host->state->state->source, MOULT__SOURCE_KIND__SOURCE_SERIAL));
        cr_expect(eq(u32, r->host->state->state->source_changes, 1));
        command(r, PUSH(COMMIT));
        expect_phase(r, PHASE(ACTIVE));
        expect_new(r);
}

/* One byte, in the middle of the filler. */
static void damage(AgentRig *r, const char *bar)
{
        int fd = open(bar, O_RDWR | O_CLOEXEC);
        off_t at = (off_t)(r->host->pack_size / 2);
        guint8 byte;

        cr_assert(eq(int, (int)pread(fd, &byte, 1, at), 1));
        byte ^= 0x10;
        cr_assert(eq(int, (int)pwrite(fd, &byte, 1, at), 1));
        close(fd);
}

Test(agent_push, a_damaged_window_is_left_for_the_next_way)
{
        g_autoptr(AgentRig) r = rig_with_release(FILLER);
        g_autofree char *bar = agent_rig_plug(r);
        Moult__Offer o = MOULT__OFFER__INIT;

        o.sources = window_then_serial;
        o.n_sources = 2;
        agent_rig_start(r);
        damage(r, bar);
        offer(r, &o);
        expect_phase(r, PHASE(PLANNED));
        cr_expect(zero(int, r->host->fetches));
        command(r, PUSH(STAGE));
        expect_phase(r, PHASE(STAGED));
        cr_expect(gt(int, r->host->fetches, 0));
        cr_expect(eq(int, (int)r->host->state->state->source, MOULT__SOURCE_KIND__SOURCE_SERIAL));
        cr_expect(eq(u32, r->host->state->state->source_changes, 1));
        command(r, PUSH(COMMIT));
        expect_phase(r, PHASE(ACTIVE));
        expect_new(r);
}

/* A chunk that is none is found before there is a digest to compare. */
Test(agent_push, a_chunk_from_the_window_that_cannot_be_unpacked_is_read_again_elsewhere)
{
        g_autoptr(AgentRig) r = agent_rig_new();
        g_autoptr(GString) text = g_string_new(NULL);
        static const guint8 magic[] = {0x28, 0xb5, 0x2f, 0xfd}; /* of a zstd frame */
        Moult__Offer o = MOULT__OFFER__INIT;

        for (guint i = 0; i < 50000; i++)
                g_string_append_printf(text, "%u\n", i * 7);
        agent_rig_release(r, "2", 0, "etc/text", text->str, NULL);
        g_autofree char *bar = agent_rig_plug(r), *data = NULL;
        gsize len;
        cr_assert(g_file_get_contents(bar, &data, &len, NULL));
        char *frame = memmem(data, len, magic, sizeof magic);
        cr_assert(ne(ptr, frame, NULL));
        int fd = open(bar, O_WRONLY | O_CLOEXEC);
        cr_assert(eq(int, (int)pwrite(fd, "none", 4, frame - data), 4));
        close(fd);
        o.sources = window_then_serial;
        o.n_sources = 2;
        agent_rig_start(r);
        push_to_active(r, &o);
        cr_expect(eq(u32, r->host->state->state->source_changes, 1));
        expect_file(r, "etc/text", text->str);
}

Test(agent_push, a_damaged_window_that_is_the_only_way_is_named)
{
        g_autoptr(AgentRig) r = rig_with_release(FILLER);
        g_autofree char *bar = agent_rig_plug(r);
        Moult__Offer o = MOULT__OFFER__INIT;

        o.sources = window_then_serial;
        o.n_sources = 1;
        agent_rig_start(r);
        damage(r, bar);
        offer(r, &o);
        expect_phase(r, PHASE(PLANNED));
        command(r, PUSH(STAGE));
        expect_phase(r, PHASE(FAILED));
        g_autofree char *text = message_string(r->host->state->state->text);
        cr_expect(eq(int, (int)r->host->state->state->error, MOULT__ERROR_CODE__ERROR_CORRUPT));
        cr_expect(ne(ptr, strstr(text, "ivshmem: what was read there does not match"), NULL), "%s", text);
        expect_old(r);
}

Test(agent_push, climbs_up_when_the_host_says_that_a_window_was_plugged)
{
        g_autoptr(AgentRig) r = rig_with_release(4 * FILLER);
        Moult__Offer o = MOULT__OFFER__INIT;

        o.sources = window_then_serial;
        o.n_sources = 2;
        agent_rig_start(r);
        offer(r, &o);
        expect_phase(r, PHASE(PLANNED)); /* after the window did not appear */
        cr_expect(gt(int, r->host->fetches, 0));
        g_autofree char *bar = agent_rig_plug(r);
        r->host->refuse = MOULT_ERROR_IO; /* only the window can give the rest */
        command(r, PUSH(SOURCES_CHANGED));
        command(r, PUSH(STAGE));
        expect_phase(r, PHASE(STAGED));
        cr_expect(eq(int, (int)r->host->state->state->source, MOULT__SOURCE_KIND__SOURCE_IVSHMEM));
}

Test(agent_push, says_why_when_the_only_way_that_was_offered_is_not_there)
{
        g_autoptr(AgentRig) r = rig_with_release(0);
        Moult__Offer o = MOULT__OFFER__INIT;

        o.sources = window_then_serial;
        o.n_sources = 1;
        agent_rig_start(r);
        offer(r, &o);
        expect_phase(r, PHASE(FAILED));
        g_autofree char *text = message_string(r->host->state->state->text);
        cr_expect(ne(ptr, strstr(text, "ivshmem"), NULL), "%s", text);
        expect_old(r);
}

static Moult__SourceKind both_windows[] = {MOULT__SOURCE_KIND__SOURCE_IVSHMEM,
                                           MOULT__SOURCE_KIND__SOURCE_PMEM,
                                           MOULT__SOURCE_KIND__SOURCE_SERIAL};

Test(agent_push, reads_from_persistent_memory_alone)
{
        g_autoptr(AgentRig) r = rig_with_release(FILLER);
        g_autofree char *node = agent_rig_plug_pmem(r);
        Moult__Offer o = MOULT__OFFER__INIT;

        o.sources = both_windows + 1;
        o.n_sources = 1;
        agent_rig_start(r);
        push_to_active(r, &o);
        cr_expect(zero(int, r->host->fetches));
        cr_expect(eq(int, (int)r->host->state->state->source, MOULT__SOURCE_KIND__SOURCE_PMEM));
        expect_new(r);
}

static void expect_wanted(AgentRig *r, Moult__SourceKind kind)
{
        while (!r->host->state || r->host->state->state->source_wanted != kind)
                g_main_context_iteration(NULL, TRUE);
}

static void sources_changed(AgentRig *r, Moult__SourceKind *can, size_t n)
{
        Moult__PushCommand c = MOULT__PUSH_COMMAND__INIT;
        Message m = MOULT__MESSAGE__INIT;

        c.push_id = message_blob(r->push_id, 16);
        c.action = PUSH(SOURCES_CHANGED);
        c.sources = can;
        c.n_sources = n;
        m.body_case = MOULT__MESSAGE__BODY_COMMAND;
        m.command = &c;
        cr_assert(fake_host_ask(r->host, &m));
}

Test(agent_push, says_that_persistent_memory_is_wanted_and_takes_it_when_it_comes)
{
        g_autoptr(AgentRig) r = rig_with_release(FILLER);
        Moult__Offer o = MOULT__OFFER__INIT;

        o.sources = both_windows;
        o.n_sources = 3;
        agent_rig_start(r);
        offer(r, &o);
        expect_wanted(r, MOULT__SOURCE_KIND__SOURCE_PMEM);
        g_autofree char *node = agent_rig_plug_pmem(r);
        sources_changed(r, both_windows + 1, 2);
        expect_phase(r, PHASE(PLANNED));
        cr_expect(zero(int, r->host->fetches), "it did not begin on a slower way");
        cr_expect(eq(int, (int)r->host->state->state->source, MOULT__SOURCE_KIND__SOURCE_PMEM));
        cr_expect(eq(int, (int)r->host->state->state->source_wanted, MOULT__SOURCE_KIND__SOURCE_UNSPECIFIED));
}

Test(agent_push, goes_on_at_once_when_it_hears_that_there_will_be_no_persistent_memory)
{
        g_autoptr(AgentRig) r = rig_with_release(FILLER);
        Moult__Offer o = MOULT__OFFER__INIT;

        o.sources = both_windows;
        o.n_sources = 3;
        agent_rig_start(r);
        offer(r, &o);
        expect_wanted(r, MOULT__SOURCE_KIND__SOURCE_PMEM);
        sources_changed(r, both_windows + 2, 1);
        /* What comes now is too late: the host has said that it is not for this push. */
        g_autofree char *node = agent_rig_plug_pmem(r);
        expect_phase(r, PHASE(PLANNED));
        cr_expect(eq(int, (int)r->host->state->state->source, MOULT__SOURCE_KIND__SOURCE_SERIAL));
}

Test(agent_push, a_window_that_goes_in_the_middle_is_not_asked_for_under_another_name)
{
        g_autoptr(AgentRig) r = rig_with_release(4 * FILLER);
        g_autofree char *bar = agent_rig_plug(r);
        Moult__Offer o = MOULT__OFFER__INIT;

        o.sources = both_windows;
        o.n_sources = 3;
        o.workers = 1;
        agent_rig_start(r);
        offer(r, &o);
        expect_phase(r, PHASE(PLANNED));
        cr_assert(zero(int, truncate(bar, (off_t)(r->host->pack_size / 2))));
        command(r, PUSH(STAGE));
        expect_phase(r, PHASE(STAGED));
        cr_expect(eq(int, (int)r->host->state->state->source, MOULT__SOURCE_KIND__SOURCE_SERIAL));
        cr_expect(eq(u32, r->host->state->state->source_changes, 1));
}

Test(agent_push, persistent_memory_that_goes_in_the_middle_is_left_for_the_next_way)
{
        g_autoptr(AgentRig) r = rig_with_release(4 * FILLER);
        g_autofree char *node = agent_rig_plug_pmem(r);
        Moult__Offer o = MOULT__OFFER__INIT;

        o.sources = both_windows + 1;
        o.n_sources = 2;
        o.workers = 1;
        agent_rig_start(r);
        offer(r, &o);
        expect_phase(r, PHASE(PLANNED));
        cr_assert(zero(int, truncate(node, (off_t)(r->host->pack_size / 2))));
        command(r, PUSH(STAGE));
        expect_phase(r, PHASE(STAGED));
        cr_expect(lt(u64, r->host->fetched_bytes, r->host->pack_size * 3 / 4));
        cr_expect(eq(int, (int)r->host->state->state->source, MOULT__SOURCE_KIND__SOURCE_SERIAL));
}

/* ---- restarts ---- */

Test(agent_push, an_active_push_waits_for_its_confirmation_after_a_restart)
{
        g_autoptr(AgentRig) r = rig_with_release(0);
        Moult__Offer o = MOULT__OFFER__INIT;

        agent_rig_start(r);
        push_to_active(r, &o);
        agent_rig_stop(r);
        agent_rig_start(r);
        command(r, PUSH(QUERY));
        expect_phase(r, PHASE(ACTIVE));
        expect_new(r);
        command(r, PUSH(CONFIRM));
        expect_phase(r, PHASE(COMMITTED));
        agent_rig_stop(r);
        agent_rig_start(r);
        command(r, PUSH(QUERY));
        cr_expect(eq(int, (int)r->host->reply->state->phase, PHASE(COMMITTED)));
        offer(r, &o);
        expect_phase(r, PHASE(COMMITTED));
        expect_new(r);
}

Test(agent_push, an_active_push_that_nobody_confirms_after_a_restart_is_rolled_back)
{
        g_autoptr(AgentRig) r = rig_with_release(0);
        Moult__Offer o = MOULT__OFFER__INIT;

        o.confirm_timeout_ms = 500;
        agent_rig_start(r);
        push_to_active(r, &o);
        agent_rig_stop(r);
        agent_rig_start(r);
        expect_phase(r, PHASE(ROLLED_BACK));
        expect_old(r);
}

/* The record "active" of the only generation, @times of them, as if written in @boot at @ms since it. */
static void rewrite_active(AgentRig *r, guint times, const char *boot, guint64 ms)
{
        g_autofree char *path = tempdir_path(r->dir, "state/generations/1/journal"), *old = NULL;
        g_autoptr(GString) new = g_string_new(NULL);
        gsize len, good;

        cr_assert(g_file_get_contents(path, &old, &len, NULL));
        g_autoptr(GPtrArray) records = journal_parse(old, len, &good);
        for (guint i = 0; i + 1 < records->len; i++) {
                const struct journal_record *rec = records->pdata[i];
                g_autofree char *line = journal_format(rec->seq, rec->step, rec->time_unix_s, rec->text);
                g_string_append(new, line);
        }
        cr_assert(eq(int, ((struct journal_record *)records->pdata[records->len - 1])->step, JOURNAL_ACTIVE));
        for (guint i = 0; i < times; i++) {
                g_autofree char *text = g_strdup_printf("boot %s at %" G_GUINT64_FORMAT " ms", boot, ms);
                g_autofree char *line = journal_format(records->len + i, JOURNAL_ACTIVE, 1700000000, text);
                g_string_append(new, line);
        }
        cr_assert(g_file_set_contents(path, new->str, (gssize) new->len, NULL));
}

Test(agent_push, the_time_to_confirm_runs_on_while_no_agent_does)
{
        g_autoptr(AgentRig) r = rig_with_release(0);
        Moult__Offer o = MOULT__OFFER__INIT;
        g_autofree char *boot = NULL;

        cr_assert(g_file_get_contents("/proc/sys/kernel/random/boot_id", &boot, NULL, NULL));
        o.confirm_timeout_ms = 24 * 3600 * 1000;
        agent_rig_start(r);
        push_to_active(r, &o);
        agent_rig_stop(r);
        rewrite_active(r, 1, g_strchomp(boot), 0);
        agent_rig_start(r);
        while (r->host->reply == NULL || r->host->reply->state->confirm_left_ms == 0)
                command(r, PUSH(QUERY));
        cr_expect(eq(int, (int)r->host->reply->state->phase, PHASE(ACTIVE)));
        cr_expect(lt(u64, r->host->reply->state->confirm_left_ms,
                     o.confirm_timeout_ms - (guint64)(g_get_monotonic_time() / 1000 / 2)));
}

Test(agent_push, a_reboot_gives_the_time_to_confirm_once_more)
{
        g_autoptr(AgentRig) r = rig_with_release(0);
        Moult__Offer o = MOULT__OFFER__INIT;

        o.confirm_timeout_ms = 24 * 3600 * 1000;
        agent_rig_start(r);
        push_to_active(r, &o);
        agent_rig_stop(r);
        rewrite_active(r, 1, "another", 5);
        agent_rig_start(r);
        expect_phase(r, PHASE(ACTIVE));
        command(r, PUSH(CONFIRM));
        expect_phase(r, PHASE(COMMITTED));
        expect_new(r);
}

Test(agent_push, after_a_second_reboot_nobody_waits_for_a_confirmation)
{
        g_autoptr(AgentRig) r = rig_with_release(0);
        Moult__Offer o = MOULT__OFFER__INIT;

        o.confirm_timeout_ms = 24 * 3600 * 1000;
        agent_rig_start(r);
        push_to_active(r, &o);
        agent_rig_stop(r);
        rewrite_active(r, 2, "another", 5);
        agent_rig_start(r);
        expect_phase(r, PHASE(ROLLED_BACK));
        expect_old(r);
}

Test(agent_push, a_staged_push_goes_on_after_a_restart_when_it_is_offered_again)
{
        g_autoptr(AgentRig) r = rig_with_release(FILLER);
        Moult__Offer o = MOULT__OFFER__INIT;

        agent_rig_start(r);
        offer(r, &o);
        expect_phase(r, PHASE(PLANNED));
        command(r, PUSH(STAGE));
        expect_phase(r, PHASE(STAGED));
        agent_rig_stop(r);
        expect_old(r);
        agent_rig_start(r);
        push_to_active(r, &o);
        expect_new(r);
}

/* ---- rollback ---- */

static gboolean roll_back(AgentRig *r)
{
        Message m = MOULT__MESSAGE__INIT;
        Moult__RollbackGeneration body = MOULT__ROLLBACK_GENERATION__INIT;

        agent_rig_next_push(r);
        body.push_id = message_blob(r->push_id, 16);
        m.body_case = MOULT__MESSAGE__BODY_ROLLBACK;
        m.rollback = &body;
        return fake_host_ask(r->host, &m);
}

Test(agent_push, gives_the_old_files_back_when_asked)
{
        g_autoptr(AgentRig) r = rig_with_release(0);
        Moult__Offer o = MOULT__OFFER__INIT;

        agent_rig_start(r);
        push_to_active(r, &o);
        cr_expect(not(roll_back(r)), "an unconfirmed push is not a generation yet");
        cr_expect(eq(int, r->host->error->code, MOULT_ERROR_BUSY));
        r->push_id[0]--;
        command(r, PUSH(CONFIRM));
        expect_phase(r, PHASE(COMMITTED));
        cr_assert(roll_back(r));
        expect_phase(r, PHASE(ROLLED_BACK));
        expect_old(r);
        cr_assert(roll_back(r));
        cr_expect(not(fake_host_wait_phase(r->host, r->push_id, PHASE(ROLLED_BACK))),
                  "there is nothing more to take back");
}

/* ---- hostile messages ---- */

/* Each error that is told is followed by a state that is still active. */
Test(agent_push, a_confirmation_that_cannot_be_recorded_is_told_and_tried_again)
{
        g_setenv("MOULT_FAULT", "journal-committed.before=enospc", TRUE);
        g_autoptr(AgentRig) r = rig_with_release(0);
        Moult__Offer o = MOULT__OFFER__INIT;

        agent_rig_start(r);
        push_to_active(r, &o);
        command(r, PUSH(CONFIRM));
        while (r->host->state->state->error != MOULT__ERROR_CODE__ERROR_NO_SPACE)
                g_main_context_iteration(NULL, TRUE);
        cr_expect(eq(int, (int)r->host->state->state->phase, PHASE(ACTIVE)));
        expect_phase(r, PHASE(COMMITTED));
        cr_expect(eq(int, (int)r->host->state->state->error, MOULT__ERROR_CODE__ERROR_UNSPECIFIED));
        expect_new(r);
}

Test(agent_push, a_host_that_confirmed_in_vain_is_not_blamed)
{
        g_setenv("MOULT_FAULT", "journal-committed.before=enospc", TRUE);
        g_autoptr(AgentRig) r = rig_with_release(0);
        Moult__Offer o = MOULT__OFFER__INIT;

        o.confirm_timeout_ms = 600; /* less than to the second try */
        agent_rig_start(r);
        push_to_active(r, &o);
        command(r, PUSH(CONFIRM));
        expect_phase(r, PHASE(ROLLED_BACK));
        g_autofree char *text = message_string(r->host->state->state->text);
        cr_expect(ne(ptr, strstr(text, "the host confirmed, but"), NULL), "%s", text);
        cr_expect(ne(ptr, strstr(text, "No space left"), NULL), "%s", text);
        expect_old(r);
}

/* Nothing has begun without its record, so the agent is as free as before. */
Test(agent_push, a_rollback_that_could_not_be_recorded_can_be_asked_for_again)
{
        g_setenv("MOULT_FAULT", "journal-back.before=enospc", TRUE); /* before anybody passes a point */
        g_autoptr(AgentRig) r = rig_with_release(0);
        Moult__Offer o = MOULT__OFFER__INIT;

        agent_rig_start(r);
        push_to_active(r, &o);
        command(r, PUSH(CONFIRM));
        expect_phase(r, PHASE(COMMITTED));
        cr_assert(roll_back(r));
        expect_phase(r, PHASE(FAILED));
        expect_new(r);
        cr_assert(roll_back(r));
        expect_phase(r, PHASE(ROLLED_BACK));
        expect_old(r);
}

Test(agent_push, answers_what_is_not_for_it_with_an_error_and_lives_on)
{
        g_autoptr(AgentRig) r = rig_with_release(0);
        Moult__Offer o = MOULT__OFFER__INIT;
        Message m = MOULT__MESSAGE__INIT;
        Moult__UpgradeRequest request = MOULT__UPGRADE_REQUEST__INIT;
        Moult__Fetch fetch = MOULT__FETCH__INIT;
        ProtobufCBinaryData path = message_bytes("/etc/a");
        guint8 digest[32] = {0};

        agent_rig_start(r);
        request.paths = &path;
        request.n_paths = 1;
        m.body_case = MOULT__MESSAGE__BODY_UPGRADE_REQUEST;
        m.upgrade_request = &request;
        cr_expect(not(fake_host_ask(r->host, &m)));
        fetch.manifest_digest = message_blob(digest, 32);
        fetch.length = 1;
        m.body_case = MOULT__MESSAGE__BODY_FETCH;
        m.fetch = &fetch;
        cr_expect(not(fake_host_ask(r->host, &m)));
        push_to_active(r, &o);
        expect_new(r);
}

Test(agent_push, does_not_listen_to_a_peer_that_claims_another_role)
{
        g_autoptr(AgentRig) r = rig_with_release(0);
        Moult__Offer o = MOULT__OFFER__INIT;

        r->host->role = MOULT__ROLE__ROLE_COMMAND;
        agent_rig_start(r);
        cr_expect(not(fake_host_offer(r->host, r->push_id, &o)));
        cr_expect(eq(int, r->host->error->code, MOULT_ERROR_WRONG_STATE));
        expect_old(r);
}
