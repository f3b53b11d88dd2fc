/* tests/unit/test_hypervisor_qmp_backend.c - plugging and unplugging against a monitor that helps, stalls, or
 * lies.
 *
 * The clock that the backend is given makes long waits short: what is tested is what happens when a time is
 * over. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <criterion/parameterized.h>
#include <string.h>

#include "common/error.h"
#include "host-service/hypervisor/hypervisor.h"
#include "tests/support/fake_qmp.h"
#include "tests/support/fake_virt.h"
#include "tests/support/tempdir.h"

TestSuite(qmp_backend, .timeout = 110);

#define MIB (UINT64_C(1) << 20)

struct rig {
        TempDir *dir;
        struct host_env *real, env;
        struct host_clock_ops clock;
        GPtrArray *log;
        char *path;
        FakeQmp *qmp;
        FakeVirt *virt; /* test_hypervisor_libvirt_backend.c */
        Hypervisor *h;
        guint done, gone_events, lost_events;
        int error;
        char text[512];
        char *away;
        HypervisorStatus status;
};

/* Waits for a guest that does not let go (8 s) and for a QEMU that does not answer (10 s) end soon; one that
 * does answer has time for it on a busy machine. */
static GSource *hasty_timer(gpointer self, guint delay_ms)
{
        return g_timeout_source_new(delay_ms >= 10000 ? 3000 : delay_ms >= 8000 ? 500 : delay_ms);
}

static void on_event(HypervisorEvent event, const char *detail, gpointer user)
{
        struct rig *r = user;

        r->gone_events += event == HYPERVISOR_EVENT_WINDOW_GONE;
        r->lost_events += event == HYPERVISOR_EVENT_LOST;
        if (event == HYPERVISOR_EVENT_AWAY) {
                g_free(r->away);
                r->away = g_strdup(detail);
        }
}

static void rig_up(struct rig *r)
{
        g_autofree char *state = NULL;

        memset(r, 0, sizeof *r);
        r->dir = tempdir_new();
        state = tempdir_path(r->dir, "state");
        r->real = host_env_real_new(state, NULL);
        cr_assert(ne(ptr, r->real, NULL));
        r->env = *r->real;
        r->clock = *r->real->clock;
        r->clock.timer_new = hasty_timer;
        r->env.clock = &r->clock;
        r->log = g_ptr_array_new_with_free_func(g_free);
        r->path = tempdir_path(r->dir, "qmp");
        r->qmp = fake_qmp_new("vm", r->path, r->log);
#ifdef BEHIND_LIBVIRT
        r->virt = fake_virt_new(&r->env, r->path);
        r->h = hypervisor_libvirt_new(&r->env, "qemu:///system", "vm");
#else
        r->h = hypervisor_qmp_new(&r->env, r->path);
#endif
        hypervisor_set_events(r->h, on_event, r);
}

static void rig_down(struct rig *r)
{
        hypervisor_free(r->h);
        fake_virt_free(r->virt);
        fake_qmp_free(r->qmp);
        while (g_main_context_iteration(NULL, FALSE))
                ;
        host_env_real_free(r->real);
        g_ptr_array_unref(r->log);
        g_free(r->path);
        g_free(r->away);
        tempdir_free(r->dir);
}

static void on_done(const GError *error, gpointer user)
{
        struct rig *r = user;

        r->done++;
        r->error = error ? error->code : 0;
        g_strlcpy(r->text, error ? error->message : "", sizeof r->text);
}

static void on_status(HypervisorStatus status, const GError *error, gpointer user)
{
        ((struct rig *)user)->status = status;
        on_done(error, user);
}

static void on_files(const char *const *files, const GError *error, gpointer user)
{
        struct rig *r = user;

        on_done(error, user);
        if (files) {
                g_autofree char *joined = g_strjoinv(" ", (char **)(gpointer)files);

                g_strlcpy(r->text, joined, sizeof r->text);
        }
}

static void run_until(struct rig *r, guint done)
{
        while (r->done < done)
                g_main_context_iteration(NULL, TRUE);
        cr_assert(eq(u32, r->done, done));
}

static void plug(struct rig *r, const char *path)
{
        guint before = r->done;

        hypervisor_plug_pack(r->h, path, 256 * MIB, HYPERVISOR_WINDOW_IVSHMEM, on_done, r);
        run_until(r, before + 1);
}

static void plug_pmem(struct rig *r, const char *path, HypervisorWindow window)
{
        guint before = r->done;

        hypervisor_plug_pack(r->h, path, 2 * MIB, window, on_done, r);
        run_until(r, before + 1);
}

static void unplug(struct rig *r)
{
        guint before = r->done;

        hypervisor_unplug_pack(r->h, on_done, r);
        run_until(r, before + 1);
}

static guint count(const struct rig *r, const char *line)
{
        guint n = 0;

        for (guint i = 0; i < r->log->len; i++)
                n += g_str_equal(r->log->pdata[i], line);
        return n;
}

Test(qmp_backend, plugs_and_unplugs)
{
        struct rig r;

        rig_up(&r);
        cr_expect(not(hypervisor_is_plugged(r.h)));
        plug(&r, "/packs/a.moult");
        cr_expect(eq(int, r.error, 0), "%s", r.text);
        cr_expect(hypervisor_is_plugged(r.h));
        cr_expect(eq(str, (char *)fake_qmp_window(r.qmp, 0), "/packs/a.moult"));
        plug(&r, "/packs/a.moult");
        cr_expect(eq(int, r.error, 0));
        cr_expect(eq(u32, count(&r, "vm object-add moult-pack-0"), 1), "plugged already");
        unplug(&r);
        cr_expect(eq(int, r.error, 0));
        cr_expect(not(hypervisor_is_plugged(r.h)));
        cr_expect(eq(u32, fake_qmp_objects(r.qmp), 0));
        rig_down(&r);
}

Test(qmp_backend, operations_asked_for_at_once_are_done_in_order)
{
        struct rig r;

        rig_up(&r);
        hypervisor_plug_pack(r.h, "/packs/a.moult", MIB, HYPERVISOR_WINDOW_IVSHMEM, on_done, &r);
        hypervisor_unplug_pack(r.h, on_done, &r);
        hypervisor_plug_pack(r.h, "/packs/b.moult", MIB, HYPERVISOR_WINDOW_IVSHMEM, on_done, &r);
        hypervisor_query_status(r.h, on_status, &r);
        run_until(&r, 4);
        cr_expect(eq(int, r.status, HYPERVISOR_RUNNING));
        cr_expect(eq(str, (char *)fake_qmp_window(r.qmp, 0), "/packs/b.moult"));
        rig_down(&r);
}

Test(qmp_backend, what_the_disks_stand_on_is_asked_for)
{
        static const char *const backing[] = {"/golden/a.qcow2", "/golden/b c.qcow2", NULL};
        struct rig r;

        rig_up(&r);
        fake_qmp_script(r.qmp)->backing = backing;
        hypervisor_query_backing(r.h, on_files, &r);
        run_until(&r, 1);
        cr_expect(eq(int, r.error, 0));
        cr_expect(eq(str, r.text, "/golden/b c.qcow2 /golden/a.qcow2"));
        fake_qmp_script(r.qmp)->backing = NULL;
        hypervisor_query_backing(r.h, on_files, &r);
        run_until(&r, 2);
        cr_expect(eq(int, r.error, MOULT_ERROR_UNSUPPORTED));
        g_clear_pointer(&r.qmp, fake_qmp_free);
        hypervisor_query_backing(r.h, on_files, &r);
        run_until(&r, 3);
        cr_expect(eq(int, r.error, MOULT_ERROR_TIMEOUT));
        rig_down(&r);
}

Test(qmp_backend, a_vm_that_is_off_has_nothing_plugged)
{
        struct rig r;

        rig_up(&r);
        plug(&r, "/packs/a.moult");
        g_clear_pointer(&r.qmp, fake_qmp_free);
        unplug(&r);
        cr_expect(eq(int, r.error, 0), "%s", r.text);
        cr_expect(not(hypervisor_is_plugged(r.h)));
        hypervisor_query_status(r.h, on_status, &r);
        run_until(&r, 3);
        cr_expect(eq(int, r.error, 0));
        cr_expect(eq(int, r.status, HYPERVISOR_GONE));
        plug(&r, "/packs/a.moult");
        cr_expect(eq(int, r.error, MOULT_ERROR_TIMEOUT));
        rig_down(&r);
}

Test(qmp_backend, a_guest_that_does_not_let_go_is_asked_again_then_named)
{
        struct rig r;

        rig_up(&r);
        plug(&r, "/packs/a.moult");
        fake_qmp_script(r.qmp)->stuck = 100;
        unplug(&r);
        cr_expect(eq(int, r.error, MOULT_ERROR_TIMEOUT));
        cr_expect(ne(ptr, strstr(r.text, "does not let go"), NULL), "%s", r.text);
        cr_expect(eq(u32, count(&r, "vm device_del moult-window-0"), 3));
        cr_expect(hypervisor_is_plugged(r.h));
        fake_qmp_script(r.qmp)->stuck = 0;
        unplug(&r);
        cr_expect(eq(int, r.error, 0));
        cr_expect(eq(u32, fake_qmp_objects(r.qmp), 0));
        rig_down(&r);
}

Test(qmp_backend, a_second_try_helps_when_the_first_was_lost)
{
        struct rig r;

        rig_up(&r);
        plug(&r, "/packs/a.moult");
        fake_qmp_script(r.qmp)->stuck = 1;
        fake_qmp_script(r.qmp)->in_use = 2;
        unplug(&r);
        cr_expect(eq(int, r.error, 0), "%s", r.text);
        cr_expect(eq(u32, fake_qmp_objects(r.qmp), 0));
        rig_down(&r);
}

Test(qmp_backend, a_stuck_window_does_not_keep_the_next_pack_out)
{
        struct rig r;

        rig_up(&r);
        plug(&r, "/packs/a.moult");
        fake_qmp_script(r.qmp)->stuck = 1;
        plug(&r, "/packs/b.moult");
        cr_expect(eq(int, r.error, 0), "%s", r.text);
        cr_expect(eq(str, (char *)fake_qmp_window(r.qmp, 1), "/packs/b.moult"));
        unplug(&r);
        cr_expect(eq(int, r.error, 0));
        cr_expect(eq(u32, fake_qmp_objects(r.qmp), 0), "both are gone");
        rig_down(&r);
}

Test(qmp_backend, without_a_free_root_port_says_what_to_add)
{
        struct rig r;

        rig_up(&r);
        fake_qmp_script(r.qmp)->ports = 1;
        fake_qmp_leave(r.qmp, 5, "/packs/old.moult"); /* takes rp0 */
        fake_qmp_script(r.qmp)->stuck = 1;
        plug(&r, "/packs/a.moult");
        cr_expect(eq(int, r.error, MOULT_ERROR_UNSUPPORTED));
        cr_expect(ne(ptr, strstr(r.text, "pcie-root-port"), NULL), "%s", r.text);
        rig_down(&r);
}

struct odd {
        char line[160];
};

ParameterizedTestParameters(qmp_backend, survives_whatever_the_monitor_says)
{
        static struct odd cases[] = {
                {"nonsense"},
                {"{\"return\":null,\"id\":1}"},
                {"{\"return\":[{\"name\":null}],\"id\":1}"},
                {"{\"return\":{},\"id\":99}"},
                {"{\"return\":[],\"id\":\"1\"}"},
                {"{\"error\":{},\"id\":1}"},
                {"{\"event\":\"DEVICE_DELETED\",\"data\":{\"device\":\"moult-window-0\"}}"},
                {"{\"event\":\"SHUTDOWN\"}"},
                {"{\"QMP\":{}}"},
                {"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["},
        };
        return cr_make_param_array(struct odd, cases, G_N_ELEMENTS(cases));
}

ParameterizedTest(struct odd *c, qmp_backend, survives_whatever_the_monitor_says)
{
        struct rig r;

        rig_up(&r);
        fake_qmp_script(r.qmp)->say_instead = c->line;
        plug(&r, "/packs/a.moult"); /* answered either way */
        plug(&r, "/packs/a.moult");
        cr_expect(eq(int, r.error, 0), "the next one works: %s", r.text);
        rig_down(&r);
}

Test(qmp_backend, a_lost_connection_fails_the_operation_and_the_next_one_looks_again)
{
        struct rig r;

        rig_up(&r);
        plug(&r, "/packs/a.moult");
        fake_qmp_script(r.qmp)->close_instead = TRUE;
        unplug(&r);
        cr_expect(eq(u32, r.lost_events, 1));
#ifdef BEHIND_LIBVIRT
        cr_expect(eq(int, r.error, 0), "libvirt comes back, and QEMU was not away: %s", r.text);
#else
        cr_expect(eq(int, r.error, MOULT_ERROR_IO));
        cr_expect(hypervisor_is_plugged(r.h), "nobody knows");
#endif
        unplug(&r);
        cr_expect(eq(int, r.error, 0));
        cr_expect(eq(u32, fake_qmp_objects(r.qmp), 0));
        rig_down(&r);
}

Test(qmp_backend, may_be_freed_in_the_middle_of_an_operation)
{
        struct rig r;

        rig_up(&r);
        hypervisor_plug_pack(r.h, "/packs/a.moult", MIB, HYPERVISOR_WINDOW_IVSHMEM, on_done, &r);
        for (int i = 0; i < 3; i++)
                g_main_context_iteration(NULL, TRUE);
        g_clear_pointer(&r.h, hypervisor_free);
        while (g_main_context_iteration(NULL, FALSE))
                ;
        cr_expect(eq(u32, r.done, 0));
        rig_down(&r);
}

Test(qmp_backend, persistent_memory_stays_and_what_can_go_goes)
{
        struct rig r;

        rig_up(&r);
        fake_qmp_script(r.qmp)->pmem_ports = 1;
        plug(&r, "/packs/a.moult");
        plug_pmem(&r, "/packs/a.moult", HYPERVISOR_WINDOW_PMEM);
        cr_assert(eq(int, r.error, 0), "%s", r.text);
        cr_expect(eq(str, (char *)fake_qmp_window(r.qmp, 0), "/packs/a.moult"),
                  "the other window is left alone");
        cr_expect(fake_qmp_is_pmem(r.qmp, 1));
        plug_pmem(&r, "/packs/a.moult", HYPERVISOR_WINDOW_PMEM);
        cr_expect(eq(int, r.error, 0), "plugged already");
        unplug(&r);
        cr_expect(eq(int, r.error, MOULT_ERROR_UNSUPPORTED), "%s", r.text);
        cr_expect(ne(ptr, strstr(r.text, "cannot be unplugged"), NULL), "%s", r.text);
        cr_expect(ne(ptr, strstr(r.text, "powered off"), NULL), "%s", r.text);
        cr_expect(hypervisor_keeps(r.h, "/packs/a.moult"));
        cr_expect(not(hypervisor_keeps(r.h, "/packs/b.moult")));
        cr_expect(eq(ptr, (void *)fake_qmp_window(r.qmp, 0), NULL));
        cr_expect(eq(u32, fake_qmp_objects(r.qmp), 1));
        cr_expect(not(hypervisor_is_plugged(r.h)), "the monitor is not held for what cannot be changed");
        cr_expect(eq(u32, count(&r, "vm device_del moult-window-1"), 1), "asked once, not waited for");
        rig_down(&r);
}

Test(qmp_backend, persistent_memory_of_an_earlier_push_is_in_nobodys_way)
{
        struct rig r;

        rig_up(&r);
        fake_qmp_script(r.qmp)->pmem_ports = 1;
        plug_pmem(&r, "/packs/a.moult", HYPERVISOR_WINDOW_PMEM);
        plug(&r, "/packs/b.moult");
        cr_expect(eq(int, r.error, 0), "%s", r.text);
        cr_expect(eq(str, (char *)fake_qmp_window(r.qmp, 1), "/packs/b.moult"));
        cr_expect(eq(u32, count(&r, "vm device_del moult-window-0"), 0));
        plug_pmem(&r, "/packs/b.moult", HYPERVISOR_WINDOW_PMEM);
        cr_expect(eq(int, r.error, MOULT_ERROR_UNSUPPORTED));
        cr_expect(ne(ptr, strstr(r.text, "moult-pmem"), NULL), "%s", r.text);
        unplug(&r);
        cr_expect(hypervisor_keeps(r.h, "/packs/a.moult"));
        cr_expect(not(hypervisor_keeps(r.h, "/packs/b.moult")));
        rig_down(&r);
}

Test(qmp_backend, persistent_memory_takes_an_ordinary_port_only_if_forced)
{
        struct rig r;

        rig_up(&r);
        plug_pmem(&r, "/packs/a.moult", HYPERVISOR_WINDOW_PMEM);
        cr_expect(eq(int, r.error, MOULT_ERROR_UNSUPPORTED), "%s", r.text);
        cr_expect(eq(u32, fake_qmp_objects(r.qmp), 0));
        plug_pmem(&r, "/packs/a.moult", HYPERVISOR_WINDOW_PMEM_FORCED);
        cr_expect(eq(int, r.error, 0), "%s", r.text);
        cr_expect(fake_qmp_is_pmem(r.qmp, 0));
        rig_down(&r);
}

Test(qmp_backend, a_vm_without_maxmem_is_told_so_and_nothing_is_left)
{
        struct rig r;

        rig_up(&r);
        fake_qmp_script(r.qmp)->no_maxmem = TRUE;
        plug_pmem(&r, "/packs/a.moult", HYPERVISOR_WINDOW_PMEM_FORCED);
        cr_expect(ne(int, r.error, 0));
        cr_expect(ne(ptr, strstr(r.text, "maxmem"), NULL), "%s", r.text);
        cr_expect(eq(u32, fake_qmp_objects(r.qmp), 0));
        cr_expect(not(hypervisor_is_plugged(r.h)));
        rig_down(&r);
}

Test(qmp_backend, a_pack_file_that_is_too_small_for_persistent_memory_is_not_plugged_as_that)
{
        struct rig r;

        rig_up(&r);
        hypervisor_plug_pack(r.h, "/packs/a.moult", MIB, HYPERVISOR_WINDOW_PMEM_FORCED, on_done, &r);
        run_until(&r, 1);
        cr_expect(eq(int, r.error, MOULT_ERROR_UNSUPPORTED));
        cr_expect(ne(ptr, strstr(r.text, "2 MiB"), NULL), "%s", r.text);
        cr_expect(eq(u32, fake_qmp_objects(r.qmp), 0));
        rig_down(&r);
}
