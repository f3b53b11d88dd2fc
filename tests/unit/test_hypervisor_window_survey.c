/* tests/unit/test_hypervisor_window_survey.c - what is plugged, and which root port suits. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <json-glib/json-glib.h>

#include "host-service/hypervisor/window_survey.h"

TestSuite(window_survey, .timeout = 60);

#define MIB (UINT64_C(1) << 20)

static JsonNode *json(const char *text)
{
        g_autoptr(GError) error = NULL;
        JsonNode *n = json_from_string(text, &error);

        cr_assert(eq(ptr, error, NULL));
        return n;
}

static void add(struct survey *s, void (*func)(struct survey *, JsonNode *), const char *text)
{
        g_autoptr(JsonNode) n = json(text);

        func(s, n);
}

#define PORT(id, base, limit, devices)                                                                       \
        "{\"qdev_id\":\"" id "\",\"pci_bridge\":{\"bus\":{\"prefetchable_range\":{\"base\":" base            \
        ",\"limit\":" limit "}},\"devices\":[" devices "]}}"

static struct survey with_ports(void)
{
        struct survey s = {0};

        add(&s, survey_add_peripherals,
            "[{\"name\":\"type\",\"type\":\"string\"},{\"name\":\"rp1\",\"type\":\"child<pcie-root-port>\"},"
            "{\"name\":\"rp2\",\"type\":\"child<pcie-root-port>\"},{\"name\":\"rp3\",\"type\":\"child<pcie-"
            "root-port>\"},"
            "{\"name\":\"net0\",\"type\":\"child<virtio-net-pci>\"}]");
        return s;
}

Test(window_survey, takes_the_smallest_free_port_that_fits)
{
        struct survey s = with_ports();

        add(&s, survey_add_pci,
            "[{\"bus\":0,\"devices\":[" PORT("rp1", "4294967296", "8589934591", "") "," /* 4 GiB */
            PORT("rp2", "4294967296", "5368709119", "") ","                             /* 1 GiB */
            PORT("rp3", "4294967296", "4563402751",
                 "{\"qdev_id\":\"x\"}") "]}]"); /* fits better, but taken */
        cr_expect(eq(str, (char *)survey_choose_port(&s, 256 * MIB), "rp2"));
        cr_expect(eq(str, (char *)survey_choose_port(&s, 2048 * MIB), "rp1"));
        survey_clear(&s);
}

Test(window_survey, without_one_that_fits_takes_the_roomiest)
{
        struct survey s = with_ports();

        add(&s, survey_add_pci,
            "[{\"bus\":0,\"devices\":[" PORT("rp1", "4294967296", "4296015871", "") "," PORT(
                    "rp2", "4294967296", "4299161599", "") "," PORT("rp3", "0", "0", "") "]}]");
        cr_expect(eq(str, (char *)survey_choose_port(&s, 256 * MIB), "rp2"));
        s.ports[2].reserve_bytes = 512 * MIB; /* as asked of qom-get */
        cr_expect(eq(str, (char *)survey_choose_port(&s, 256 * MIB), "rp3"));
        survey_clear(&s);
}

Test(window_survey, a_port_that_is_not_on_the_bus_is_not_taken)
{
        struct survey s = with_ports();

        add(&s, survey_add_pci, "[{\"bus\":0,\"devices\":[]}]");
        cr_expect(eq(ptr, (void *)survey_choose_port(&s, MIB), NULL));
        survey_clear(&s);
}

Test(window_survey, recognises_what_an_earlier_daemon_left)
{
        struct survey s = {0};

        add(&s, survey_add_objects,
            "[{\"name\":\"moult-pack-0\"},{\"name\":\"moult-pack-2\"},{\"name\":\"moult-pack-12\"},{\"name\":"
            "\"pc.ram\"}]");
        add(&s, survey_add_peripherals, "[{\"name\":\"moult-window-2\",\"type\":\"child<ivshmem-plain>\"}]");
        s.slots[0].path = g_strdup("/packs/a");
        s.slots[2].path = g_strdup("/packs/b");
        cr_expect(survey_has_windows(&s));
        cr_expect(eq(int, survey_find_path(&s, "/packs/b", FALSE), 2));
        cr_expect(eq(int, survey_find_path(&s, "/packs/a", FALSE), -1),
                  "an object without a device shows nothing to the guest");
        cr_expect(eq(int, survey_free_slot(&s), 1));
        survey_clear(&s);
}

Test(window_survey, persistent_memory_goes_where_it_is_meant_to_and_is_known_again)
{
        struct survey s = {0};

        add(&s, survey_add_objects, "[{\"name\":\"moult-pack-1\"}]");
        add(&s, survey_add_peripherals,
            "[{\"name\":\"moult-window-1\",\"type\":\"child<virtio-pmem-pci>\"},"
            "{\"name\":\"rp0\",\"type\":\"child<pcie-root-port>\"},"
            "{\"name\":\"moult-pmem0\",\"type\":\"child<pcie-root-port>\"},"
            "{\"name\":\"ua-moult-pmem1\",\"type\":\"child<pcie-root-port>\"}]");
        add(&s, survey_add_pci,
            "[{\"bus\":0,\"devices\":[" PORT("rp0", "4294967296", "4296015871", "") "," PORT(
                    "moult-pmem0", "0", "0", "{\"slot\":0}") "," PORT("ua-moult-pmem1", "0", "0", "") "]}]");
        s.slots[1].path = g_strdup("/packs/a");
        cr_expect(eq(int, survey_find_path(&s, "/packs/a", TRUE), 1));
        cr_expect(eq(int, survey_find_path(&s, "/packs/a", FALSE), -1), "the guest cannot map it as that");
        cr_expect(eq(str, (char *)survey_choose_port(&s, MIB), "rp0"));
        cr_expect(eq(str, (char *)survey_choose_pmem_port(&s, FALSE), "ua-moult-pmem1"));
        cr_expect(eq(str, (char *)survey_choose_pmem_port(&s, TRUE), "ua-moult-pmem1"));
        s.ports[2].occupied = TRUE;
        cr_expect(eq(ptr, (void *)survey_choose_pmem_port(&s, FALSE), NULL));
        cr_expect(eq(str, (char *)survey_choose_pmem_port(&s, TRUE), "rp0"));
        cr_expect(survey_has_anything(&s));
        s.slots[1].stays = TRUE;
        cr_expect(not(survey_has_windows(&s)));
        cr_expect(not(survey_has_anything(&s)));
        survey_clear(&s);
}

Test(window_survey, answers_of_another_shape_are_passed_over)
{
        static const char *const odd[] = {"null", "{}", "[1,null,[],{}]", "[{\"name\":5,\"devices\":{}}]",
                                          "[{\"devices\":[{\"qdev_id\":[],\"pci_bridge\":7}]}]"};
        struct survey s = with_ports();

        for (size_t i = 0; i < G_N_ELEMENTS(odd); i++) {
                add(&s, survey_add_objects, odd[i]);
                add(&s, survey_add_peripherals, odd[i]);
                add(&s, survey_add_pci, odd[i]);
        }
        cr_expect(not(survey_has_anything(&s)));
        cr_expect(eq(u32, s.n_ports, 3));
        survey_clear(&s);
}
