/* tests/unit/test_doctor_guest_checks.c - each check of what a guest tells fires at what it is for, and only
 * there. */
#include "host-service/doctor/guest_checks.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "common/digest.h"
#include "proto/message.h"

TestSuite(doctor_guest, .timeout = 60);

#define NOW_US (20000 * G_TIME_SPAN_DAY)
#define GIB    (UINT64_C(1) << 30)
#define YES    MOULT__SIGHT__SIGHT_YES
#define NO     MOULT__SIGHT__SIGHT_NO

/* A guest, and what the host knows beside. */
struct world {
        struct guest_facts facts;
        Moult__Facts told;
        Moult__FactsPlace root, usr, *places[2];
        ProtobufCBinaryData keys[1];
        guint8 id[DIGEST_SIZE];
};

static void add_release(struct world *w, const char *name, guint8 key)
{
        struct doctor_release *r = g_new0(struct doctor_release, 1);

        r->name = g_strdup(name);
        r->key_id[0] = key;
        g_ptr_array_add(w->facts.releases, r);
}

static struct world *world_new(void)
{
        struct world *w = g_new0(struct world, 1);

        moult__facts__init(&w->told);
        moult__facts_place__init(&w->root);
        moult__facts_place__init(&w->usr);
        w->facts.told = &w->told;
        w->facts.asked_us = NOW_US;
        w->facts.answered_us = NOW_US + G_TIME_SPAN_SECOND;
        w->facts.releases = doctor_releases_new();
        add_release(w, "app 1", 0);
        w->told.software = message_bytes("moult-agent " MOULT_VERSION);
        w->told.protocol = 1;
        w->told.clock_us = NOW_US;
        w->keys[0] = message_blob(w->id, sizeof w->id);
        w->told.keys = w->keys;
        w->told.n_keys = 1;
        w->root.point = message_bytes("/");
        w->root.size_bytes = 10 * GIB;
        w->root.free_bytes = 5 * GIB;
        w->root.inodes = w->root.free_inodes = 1000;
        w->root.state = TRUE;
        w->usr.point = message_bytes("/usr");
        w->usr.size_bytes = w->usr.free_bytes = GIB;
        w->places[0] = &w->root;
        w->places[1] = &w->usr;
        w->told.places = w->places;
        w->told.n_places = 2;
        w->told.overlayfs = w->told.fuse = w->told.fuse_device = w->told.target_server = YES;
        w->told.merges_seen = w->told.boots_counted = YES;
        w->told.own_namespace = w->told.mount_beneath = NO;
        return w;
}

static void world_free(struct world *w)
{
        guest_facts_clear(&w->facts);
        g_free(w);
}

static void other_version(struct world *w)
{
        w->told.software = message_bytes("moult-agent 0.0.1");
}
static void little_behind(struct world *w)
{
        w->told.clock_us = NOW_US - 6 * G_TIME_SPAN_SECOND;
}
static void far_behind(struct world *w)
{
        w->told.clock_us = NOW_US - 3 * G_TIME_SPAN_HOUR;
}
static void far_ahead(struct world *w)
{
        w->told.clock_us = NOW_US + G_TIME_SPAN_SECOND + 5 * G_TIME_SPAN_DAY;
}
static void at_1970(struct world *w)
{
        w->told.clock_us = 0;
}
static void no_keys(struct world *w)
{
        w->told.n_keys = 0;
}
static void bad_keys(struct world *w)
{
        w->told.keys_problem = message_bytes("x.pub is \x1b no key");
}
static void strange_release(struct world *w)
{
        add_release(w, "app 2", 7);
}
static void little_room(struct world *w)
{
        w->root.free_bytes = GIB / 2;
}
static void no_room(struct world *w)
{
        w->root.free_bytes = GIB / 10;
}
static void no_inodes(struct world *w)
{
        w->root.free_inodes = 10;
}
static void state_fixed(struct world *w)
{
        w->root.read_only = TRUE;
}
static void no_overlay(struct world *w)
{
        w->told.overlayfs = NO;
}
static void no_fuse(struct world *w)
{
        w->told.fuse = w->told.fuse_device = NO;
}
static void no_device(struct world *w)
{
        w->told.fuse_device = NO;
}
static void no_server(struct world *w)
{
        w->told.target_server = NO;
}
static void no_method(struct world *w)
{
        no_overlay(w);
        no_device(w);
}
static void no_method_for_usr(struct world *w)
{
        no_method(w);
        w->usr.read_only = TRUE;
}
static void hidden(struct world *w)
{
        w->told.own_namespace = YES;
        w->told.merges_seen = NO;
}
static void locked(struct world *w)
{
        w->told.lockdown = message_bytes("integrity");
        w->told.pmem = NO;
}
static void uncounted(struct world *w)
{
        w->told.boots_counted = NO;
}
static void unsettled(struct world *w)
{
        w->told.unsettled = message_bytes("generation 3 is half back");
}
static void unreadable(struct world *w)
{
        w->told.state_problem = message_bytes("the journal is damaged");
}
static void unhealthy(struct world *w)
{
        w->told.generation = 3;
        w->told.starts_begun = 2;
}
static void selinux(struct world *w)
{
        w->told.selinux = message_bytes("enforcing");
        w->told.label = message_bytes("system_u:system_r:moult_t:s0");
}
static void apparmor(struct world *w)
{
        w->told.apparmor = message_bytes("enabled");
        w->told.label = message_bytes("/usr/sbin/moult-agent (enforce)");
}

static const struct {
        const char *id;
        DoctorSeverity severity;
        void (*spoil)(struct world *w);
        const char *found;
} cases[] = {
        {"guest-version", DOCTOR_NOTICE, other_version, "moult-agent 0.0.1 (protocol 1) runs there"},
        {"guest-clock", DOCTOR_NOTICE, little_behind, "6.0 s behind"},
        {"guest-clock", DOCTOR_WARNING, far_behind, "3 h behind"},
        {"guest-clock", DOCTOR_WARNING, far_ahead, "5 days ahead of"},
        {"guest-clock", DOCTOR_WARNING, at_1970, "20000 days behind"},
        {"guest-keys", DOCTOR_ERROR, no_keys, "trusts no key"},
        {"guest-keys", DOCTOR_ERROR, bad_keys, "x.pub is \\x1b no key"},
        {"guest-keys", DOCTOR_WARNING, strange_release, "signed app 2: a push"},
        {"guest-space", DOCTOR_WARNING, little_room, "/ has 512 MiB (5 %) free"},
        {"guest-space", DOCTOR_ERROR, no_room, "/ has 102 MiB (1 %) free"},
        {"guest-space", DOCTOR_ERROR, no_inodes, "1 % of its inodes"},
        {"guest-state", DOCTOR_ERROR, state_fixed, "state is on /, which is read-only"},
        {"guest-methods", DOCTOR_NOTICE, no_overlay, "slower"},
        {"guest-methods", DOCTOR_NOTICE, no_fuse, "no FUSE: instant mode"},
        {"guest-methods", DOCTOR_NOTICE, no_device, "cannot open /dev/fuse: instant mode"},
        {"guest-methods", DOCTOR_NOTICE, no_server, "moult-targetfs is not beside"},
        {"guest-methods", DOCTOR_WARNING, no_method, "no overlayfs, and the agent cannot open /dev/fuse"},
        {"guest-methods", DOCTOR_ERROR, no_method_for_usr, "there is such a place: /usr"},
        {"guest-mounts", DOCTOR_WARNING, hidden, "mount namespace of its own"},
        {"guest-window", DOCTOR_NOTICE, locked, "lockdown (integrity)"},
        {"guest-boots", DOCTOR_WARNING, uncounted, "nothing counts the starts"},
        {"guest-upgrade", DOCTOR_WARNING, unsettled, "not at its end: generation 3 is half back"},
        {"guest-upgrade", DOCTOR_ERROR, unreadable, "the journal is damaged"},
        {"guest-upgrade", DOCTOR_WARNING, unhealthy, "started 2 times with generation 3"},
        {"guest-labels", DOCTOR_WARNING, selinux,
         "SELinux confines the agent (system_u:system_r:moult_t:s0)"},
        {"guest-labels", DOCTOR_WARNING, apparmor, "AppArmor confines"},
};

/* Exactly the check @id has found something (NULL: none), and says what to do. */
static void expect_only(struct world *w, const char *id, DoctorSeverity severity, const char *found)
{
        g_autoptr(GPtrArray) findings = doctor_judge_guest(&w->facts);
        gboolean seen = id == NULL;

        for (guint i = 0; i < findings->len; i++) {
                const DoctorFinding *f = findings->pdata[i];
                gboolean hit = id && strcmp(f->id, id) == 0;

                seen = seen || hit;
                cr_expect(eq(int, (int)f->severity, (int)(hit ? severity : DOCTOR_OK)), "%s: %s", f->id,
                          f->found);
                cr_expect(eq(int, *f->found != '\0', hit), "%s: %s", f->id, f->found);
                if (hit)
                        cr_expect(strstr(f->found, found) && *f->action, "%s: %s", f->id, f->found);
        }
        cr_expect(seen, "there is no check %s", id);
}

Test(doctor_guest, one_that_is_well_has_nothing)
{
        struct world *w = world_new();

        expect_only(w, NULL, DOCTOR_OK, NULL);
        world_free(w);
}

Test(doctor_guest, each_check_fires_alone)
{
        g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
        struct world *well = world_new();
        g_autoptr(GPtrArray) all = doctor_judge_guest(&well->facts);

        for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
                struct world *w = world_new();

                cases[i].spoil(w);
                expect_only(w, cases[i].id, cases[i].severity, cases[i].found);
                g_hash_table_add(seen, (gpointer)cases[i].id);
                world_free(w);
        }
        cr_expect(eq(u32, g_hash_table_size(seen) + 1, all->len),
                  "a check has no case (guest-told has its own)");
        world_free(well);
}

/* A question that took long says little of the clock: only what is surely wrong counts. */
Test(doctor_guest, the_time_of_the_question_is_no_offset)
{
        struct world *w = world_new();

        w->facts.answered_us = NOW_US + 20 * G_TIME_SPAN_SECOND;
        w->told.clock_us = NOW_US + 19 * G_TIME_SPAN_SECOND;
        expect_only(w, NULL, DOCTOR_OK, NULL);
        cr_expect(eq(i64, doctor_clock_offset_us(&w->facts), 0));
        w->told.clock_us = NOW_US + 24 * G_TIME_SPAN_SECOND;
        expect_only(w, NULL, DOCTOR_OK, NULL);
        cr_expect(eq(i64, doctor_clock_offset_us(&w->facts), 4 * G_TIME_SPAN_SECOND));
        world_free(w);
}

Test(doctor_guest, what_could_not_be_found_out_is_no_finding)
{
        struct world *w = world_new();

        w->told.overlayfs = w->told.fuse = w->told.fuse_device = w->told.target_server =
                MOULT__SIGHT__SIGHT_UNKNOWN;
        w->told.merges_seen = w->told.own_namespace = w->told.boots_counted = MOULT__SIGHT__SIGHT_UNKNOWN;
        w->told.lockdown = message_bytes("integrity");
        w->root.inodes = w->root.free_inodes = w->root.size_bytes = w->root.free_bytes = 0;
        expect_only(w, NULL, DOCTOR_OK, NULL);
        world_free(w);
}

/* The records of a push that goes on are in motion. */
Test(doctor_guest, a_push_under_way_is_no_upgrade_that_is_stuck)
{
        struct world *w = world_new();

        unsettled(w);
        unhealthy(w);
        w->told.phase = MOULT__TRANSACTION_PHASE__PHASE_COMMITTING;
        expect_only(w, NULL, DOCTOR_OK, NULL);
        w->told.phase = MOULT__TRANSACTION_PHASE__PHASE_FAILED;
        expect_only(w, "guest-upgrade", DOCTOR_WARNING, "half back");
        world_free(w);
}

Test(doctor_guest, a_full_file_system_that_nobody_writes_to_is_well)
{
        struct world *w = world_new();

        w->usr.free_bytes = 0;
        w->usr.read_only = TRUE;
        expect_only(w, NULL, DOCTOR_OK, NULL);
        world_free(w);
}

Test(doctor_guest, who_is_not_confined_is_well)
{
        static const char *const labels[] = {"system_u:system_r:unconfined_service_t:s0", "unconfined"};
        struct world *w = world_new();

        w->told.selinux = message_bytes("enforcing");
        w->told.label = message_bytes(labels[0]);
        expect_only(w, NULL, DOCTOR_OK, NULL);
        w->told.selinux = message_bytes("permissive");
        w->told.label = message_bytes("a:b:moult_t:s0");
        expect_only(w, NULL, DOCTOR_OK, NULL);
        w->told.selinux = message_bytes("");
        w->told.apparmor = message_bytes("enabled");
        w->told.label = message_bytes(labels[1]);
        expect_only(w, NULL, DOCTOR_OK, NULL);
        world_free(w);
}

Test(doctor_guest, one_that_tells_nothing_is_a_single_finding)
{
        struct world *w = world_new();
        g_autoptr(GPtrArray) older = NULL, silent = NULL;
        const DoctorFinding *f;

        w->facts.told = NULL;
        w->facts.problem = g_strdup("the guest does not answer");
        silent = doctor_judge_guest(&w->facts);
        cr_assert(eq(u32, silent->len, 1));
        f = silent->pdata[0];
        cr_expect(eq(int, (int)f->severity, (int)DOCTOR_WARNING));
        cr_expect(strstr(f->found, "the guest does not answer") != NULL);
        w->facts.older = TRUE;
        older = doctor_judge_guest(&w->facts);
        cr_assert(eq(u32, older->len, 1));
        f = older->pdata[0];
        cr_expect(eq(int, (int)f->severity, (int)DOCTOR_NOTICE));
        cr_expect(strstr(f->found, "older than this question") && strstr(f->action, "newer moult-agent"));
        world_free(w);
}
