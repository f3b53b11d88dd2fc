/* tests/unit/test_catalogue_vms.c - names, sockets, keys and tokens belong to one VM. */
#include "host-service/catalogue/vms.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "tests/support/host_world.h"

TestSuite(catalogue_vms, .timeout = 60);

static void add_network(Catalogue *c, const char *name, const char *token)
{
        g_autofree char *hash = token ? g_compute_checksum_for_string(G_CHECKSUM_SHA256, token, -1) : NULL;
        VmRecord r = {.name = (char *)name, .network = TRUE, .token_hash = hash};

        cr_assert(catalogue_vm_add(c, &r, NULL));
}

Test(catalogue_vms, network_vms_without_sockets_do_not_meet)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);

        add_network(c, "a", NULL);
        add_network(c, "b", NULL);
        g_autoptr(GPtrArray) all = catalogue_vm_list(c, NULL);
        cr_expect(eq(u32, all->len, 2));
        cr_expect(not(catalogue_vm_join_pending(c)));
}

Test(catalogue_vms, a_token_is_spent_by_its_first_use)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);
        g_autoptr(GError) error = NULL;
        const guint8 key_1[DIGEST_SIZE] = {1}, key_2[DIGEST_SIZE] = {2};

        add_network(c, "a", "secret-secret-secret");
        cr_expect(catalogue_vm_join_pending(c));
        cr_expect(eq(ptr, catalogue_vm_join(c, "another-secret", key_1, &error), NULL));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_UNTRUSTED));
        g_autoptr(VmRecord) joined = catalogue_vm_join(c, "secret-secret-secret", key_1, NULL);
        cr_assert(ne(ptr, joined, NULL));
        cr_expect(joined->has_pin);
        cr_expect(eq(ptr, joined->token_hash, NULL));
        cr_expect(not(catalogue_vm_join_pending(c)));
        g_clear_error(&error);
        cr_expect(eq(ptr, catalogue_vm_join(c, "secret-secret-secret", key_2, &error), NULL));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_UNTRUSTED));
        g_autoptr(VmRecord) found = catalogue_vm_by_pin(c, key_1, NULL);
        cr_expect(eq(str, found->name, "a"));
        cr_expect(eq(ptr, catalogue_vm_by_pin(c, key_2, NULL), NULL));
}

Test(catalogue_vms, a_key_that_was_cloned_with_the_disk_is_refused)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);
        g_autoptr(GError) error = NULL;
        const guint8 key[DIGEST_SIZE] = {1}, newer[DIGEST_SIZE] = {2};

        host_world_add_vm(c, "a");
        host_world_add_vm(c, "b");
        cr_assert(catalogue_vm_pin(c, "a", key, NULL));
        cr_assert(catalogue_vm_pin(c, "a", key, NULL));
        cr_expect(not(catalogue_vm_pin(c, "b", key, &error)));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_UNTRUSTED));
        cr_expect(ne(ptr, strstr(error->message, "cloned"), NULL));
        cr_assert(catalogue_vm_pin(c, "a", newer, NULL));
        cr_assert(catalogue_vm_pin(c, "b", key, NULL));
        g_autofree char *events = host_world_events(c, 2);
        cr_expect(eq(str, events, "vm.pinned vm.pinned vm.pinned"));
}

Test(catalogue_vms, seeing_the_same_boot_again_is_no_event)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);

        host_world_add_vm(c, "a");
        cr_assert(catalogue_vm_seen(c, "a", "boot-1", "host", NULL));
        w->wall_us += 5;
        cr_assert(catalogue_vm_seen(c, "a", "boot-1", "host", NULL));
        cr_assert(catalogue_vm_seen(c, "a", "boot-2", "host", NULL));
        cr_expect(not(catalogue_vm_seen(c, "none", "boot", "host", NULL)));
        g_autofree char *events = host_world_events(c, 1);
        cr_expect(eq(str, events, "vm.seen vm.seen"));
        g_autoptr(VmRecord) r = catalogue_vm_get(c, "a", NULL);
        cr_expect(eq(i64, r->last_seen_us, w->wall_us));
        cr_expect(eq(str, r->boot_id, "boot-2"));
}

static char *selected(Catalogue *c, const char *labels)
{
        g_autoptr(GPtrArray) vms = catalogue_vm_select(c, labels, NULL);
        GString *s = g_string_new(NULL);

        cr_assert(ne(ptr, vms, NULL));
        for (guint i = 0; i < vms->len; i++)
                g_string_append_printf(s, "%s%s", s->len ? " " : "", ((VmRecord *)vms->pdata[i])->name);
        return g_string_free(s, FALSE);
}

Test(catalogue_vms, labels_select_the_vms_that_have_all_of_them)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);
        VmRecord labelled = {.name = (char *)"a", .network = TRUE, .labels = (char *)"{\"role\":\"web\"}"};

        cr_assert(catalogue_vm_add(c, &labelled, NULL));
        add_network(c, "b", NULL);
        add_network(c, "c", NULL);
        cr_assert(catalogue_vm_set_labels(c, "b", "{\"site\":\"x\",\"role\":\"web\"}", NULL, NULL));
        cr_assert(catalogue_vm_set_labels(c, "c", "{\"role\":\"db\"}", NULL, NULL));
        g_autofree char *all = selected(c, NULL), *empty = selected(c, "{}");
        g_autofree char *web = selected(c, "{\"role\":\"web\"}");
        g_autofree char *both = selected(c, "{\"role\":\"web\",\"site\":\"x\"}");
        g_autofree char *none = selected(c, "{\"role\":\"web\",\"site\":\"y\"}");
        cr_expect(eq(str, all, "a b c"));
        cr_expect(eq(str, empty, "a b c"));
        cr_expect(eq(str, web, "a b"));
        cr_expect(eq(str, both, "b"));
        cr_expect(eq(str, none, ""));
        g_autoptr(VmRecord) b = catalogue_vm_get(c, "b", NULL);
        cr_expect(eq(str, b->labels, "{\"role\":\"web\",\"site\":\"x\"}"));
}

Test(catalogue_vms, labels_are_replaced_taken_off_and_bounded)
{
        g_autoptr(HostWorld) w = host_world_new();
        g_autoptr(Catalogue) c = host_world_catalogue(w);
        g_autoptr(GError) error = NULL;
        g_autoptr(GString) many = g_string_new("{");
        const char *without[] = {"site", "never-there", NULL};

        add_network(c, "a", NULL);
        cr_assert(catalogue_vm_set_labels(c, "a", "{\"role\":\"web\",\"site\":\"x\"}", NULL, NULL));
        cr_assert(catalogue_vm_set_labels(c, "a", "{\"role\":\"db\"}", without, NULL));
        for (int i = 0; i < VM_LABELS_MAX; i++)
                g_string_append_printf(many, "%s\"k%d\":\"v\"", i ? "," : "", i);
        g_string_append_c(many, '}');
        cr_expect(not(catalogue_vm_set_labels(c, "a", many->str, NULL, &error)));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_REFUSED));
        g_autoptr(VmRecord) a = catalogue_vm_get(c, "a", NULL);
        cr_expect(eq(str, a->labels, "{\"role\":\"db\"}"));
        g_clear_error(&error);
        cr_expect(not(catalogue_vm_set_labels(c, "nobody", "{}", NULL, &error)));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND));
        /* They go with the VM. */
        cr_assert(catalogue_vm_remove(c, "a", NULL));
        add_network(c, "a", NULL);
        g_autofree char *db = selected(c, "{\"role\":\"db\"}");
        cr_expect(eq(str, db, ""));
}
