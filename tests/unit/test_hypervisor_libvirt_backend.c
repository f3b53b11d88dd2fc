/* tests/unit/test_hypervisor_libvirt_backend.c - the tests of the QMP backend once more, with a libvirt
 * between; and what only libvirt can do to it. */
#define BEHIND_LIBVIRT 1
#include "tests/unit/test_hypervisor_qmp_backend.c"

Test(libvirt_backend, an_answer_that_was_lost_is_looked_for_and_nothing_is_done_twice)
{
        struct rig r;

        for (guint at = 1; at <= 3; at++) {
                rig_up(&r);
                plug(&r, "/packs/a.moult");
                cr_assert(eq(int, r.error, 0), "%s", r.text);
                fake_virt_lose(r.virt, at);
                unplug(&r);
                cr_expect(eq(int, r.error, 0), "%s", r.text);
                fake_virt_lose(r.virt, at);
                plug(&r, "/packs/b.moult");
                cr_expect(eq(int, r.error, 0), "%s", r.text);
                cr_expect(eq(u32, fake_qmp_objects(r.qmp), 1));
                rig_down(&r);
        }
}

Test(libvirt_backend, a_libvirt_that_stays_away_ends_the_operation)
{
        struct rig r;

        rig_up(&r);
        fake_virt_lose(r.virt, 1000);
        plug(&r, "/packs/a.moult");
        cr_expect(eq(int, r.error, MOULT_ERROR_IO), "%s", r.text);
        cr_expect(ne(ptr, strstr(r.text, "qemu:///system"), NULL), "%s", r.text);
        fake_virt_lose(r.virt, 0);
        unplug(&r);
        cr_expect(eq(int, r.error, 0), "%s", r.text);
        cr_expect(eq(u32, fake_qmp_objects(r.qmp), 0));
        rig_down(&r);
}

Test(libvirt_backend, a_domain_that_stops_takes_its_windows_with_it)
{
        struct rig r;

        rig_up(&r);
        plug(&r, "/packs/a.moult");
        fake_qmp_script(r.qmp)->stuck = 100;
        hypervisor_unplug_pack(r.h, on_done, &r);
        while (count(&r, "vm device_del moult-window-0") == 0)
                g_main_context_iteration(NULL, TRUE);
        g_clear_pointer(&r.qmp, fake_qmp_free);
        fake_virt_tell(r.virt, VIRT_STOPPED, "destroyed", NULL);
        run_until(&r, 2);
        cr_expect(eq(int, r.error, 0), "%s", r.text);
        cr_expect(not(hypervisor_is_plugged(r.h)));
        cr_expect(gt(u32, r.lost_events, 0));
        rig_down(&r);
}

Test(libvirt_backend, a_window_that_somebody_else_takes_off_is_told)
{
        struct rig r;

        rig_up(&r);
        plug(&r, "/packs/a.moult");
        fake_virt_tell(r.virt, VIRT_MONITOR, "DEVICE_DELETED", "[1,");
        fake_virt_tell(r.virt, VIRT_MONITOR, "DEVICE_DELETED", NULL);
        fake_virt_tell(r.virt, VIRT_MONITOR, "DEVICE_DELETED", "{\"device\":\"net0\"}");
        cr_expect(eq(u32, r.gone_events, 0));
        fake_virt_tell(r.virt, VIRT_MONITOR, "DEVICE_DELETED", "{\"device\":\"moult-window-0\"}");
        cr_expect(eq(u32, r.gone_events, 1));
        rig_down(&r);
}

/* What is told last is true; a definition that is edited brings no migrated domain back. */
Test(libvirt_backend, a_domain_that_left_is_told_until_it_is_back)
{
        struct rig r;

        rig_up(&r);
        fake_virt_tell(r.virt, VIRT_STOPPED, "shut down", NULL);
        cr_expect(eq(ptr, r.away, NULL));
        fake_virt_tell(r.virt, VIRT_STOPPED, "migrated", NULL);
        cr_expect(r.away && strstr(r.away, "migrated to another host"), "%s", r.away);
        fake_virt_tell(r.virt, VIRT_UNDEFINED, NULL, NULL);
        fake_virt_tell(r.virt, VIRT_DEFINED, NULL, NULL);
        cr_expect(r.away && strstr(r.away, "migrated to another host"), "%s", r.away);
        fake_virt_tell(r.virt, VIRT_STARTED, NULL, NULL);
        cr_expect(eq(ptr, r.away, NULL));
        fake_virt_tell(r.virt, VIRT_UNDEFINED, NULL, NULL);
        cr_expect(r.away && strstr(r.away, "removed from libvirt"), "%s", r.away);
        fake_virt_tell(r.virt, VIRT_DEFINED, NULL, NULL);
        cr_expect(eq(ptr, r.away, NULL));
        rig_down(&r);
}
