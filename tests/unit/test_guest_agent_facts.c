/* tests/unit/test_guest_agent_facts.c - what the agent tells of its guest: texts of the kernel, read without
 * it; and a whole look at a tree of our own. */
#include "guest-agent/facts.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "common/digest.h"
#include "proto/message.h"
#include "proto/refusal.h"
#include "shm/keys.h"
#include "tests/support/tempdir.h"

TestSuite(facts, .timeout = 60);

#define YES      MOULT__SIGHT__SIGHT_YES
#define NO       MOULT__SIGHT__SIGHT_NO
#define LOADABLE MOULT__SIGHT__SIGHT_LOADABLE
#define UNKNOWN  MOULT__SIGHT__SIGHT_UNKNOWN

Test(facts, a_file_system_is_there_or_can_be_loaded_or_not)
{
        static const struct {
                const char *filesystems, *modules, *builtin;
                gboolean may_load;
                Moult__Sight overlay;
        } cases[] = {
                {"nodev\tproc\nnodev\toverlay", NULL, NULL, FALSE, YES},
                {"nodev\toverlay\nnodev\tproc", "", "", TRUE, YES},
                {"nodev\tproc\n\toverlayx", "kernel/fs/ext4/ext4.ko: x", "", TRUE, NO},
                {"nodev\tproc", "kernel/fs/overlayfs/overlay.ko:\n", "", TRUE, LOADABLE},
                {"nodev\tproc", "kernel/fs/overlayfs/overlay.ko.xz: a\n", "", TRUE, LOADABLE},
                {"nodev\tproc", "kernel/fs/overlayfs/overlay.ko:\n", "", FALSE, NO},
                {"nodev\tproc", "", "kernel/fs/overlayfs/overlay.ko", FALSE, YES},
                {"nodev\tproc", NULL, NULL, TRUE, NO},
                {NULL, NULL, NULL, TRUE, UNKNOWN},
        };

        for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
                const struct kernel_texts t = {cases[i].filesystems, cases[i].modules, cases[i].builtin,
                                               cases[i].may_load};

                cr_expect(eq(int, (int)facts_sight_of_filesystem(&t, "overlay", "overlay"),
                             (int)cases[i].overlay),
                          "case %u", i);
        }
}

Test(facts, dashes_and_underscores_in_the_names_of_modules_are_the_same)
{
        const struct kernel_texts t = {NULL, "kernel/drivers/nvdimm/virtio-pmem.ko: x", NULL, TRUE};
        const struct kernel_texts none = {NULL, NULL, NULL, TRUE};

        cr_expect(eq(int, (int)facts_sight_of_module(&t, "virtio_pmem"), (int)LOADABLE));
        cr_expect(eq(int, (int)facts_sight_of_module(&t, "pmem"), (int)NO));
        cr_expect(eq(int, (int)facts_sight_of_module(&none, "virtio_pmem"), (int)UNKNOWN));
}

Test(facts, lockdown_is_what_stands_in_brackets)
{
        g_autofree char *integrity = facts_lockdown("none [integrity] confidentiality");
        g_autofree char *off = facts_lockdown("[none] integrity confidentiality");

        cr_expect(eq(str, integrity, "integrity"));
        cr_expect(eq(str, off, "none"));
        cr_expect(eq(ptr, facts_lockdown("none [integrity"), NULL));
        cr_expect(eq(ptr, facts_lockdown(""), NULL));
        cr_expect(eq(ptr, facts_lockdown(NULL), NULL));
}

static char *below(const char *dir, const char *name)
{
        return g_build_filename(dir, name, NULL);
}

static struct agent_config config_of(const char *dir)
{
        return (struct agent_config){.root = below(dir, "root"),
                                     .state = below(dir, "state"),
                                     .trust = below(dir, "trust"),
                                     .pci = below(dir, "pci"),
                                     .pack_socket = below(dir, "sock"),
                                     .init_command = g_strdup("")};
}

static void config_clear(struct agent_config *c)
{
        g_free(c->root);
        g_free(c->state);
        g_free(c->trust);
        g_free(c->pci);
        g_free(c->pack_socket);
        g_free(c->init_command);
}

static void put(const char *dir, const char *name, const char *text)
{
        g_autofree char *path = below(dir, name), *parent = g_path_get_dirname(path);

        cr_assert(eq(int, g_mkdir_with_parents(parent, 0755), 0));
        cr_assert(g_file_set_contents(path, text, -1, NULL));
}

static void expect_passes_the_gate(Moult__Facts *f)
{
        Message m = MOULT__MESSAGE__INIT;

        m.id = 1;
        m.body_case = MOULT__MESSAGE__BODY_FACTS;
        m.facts = f;
        cr_expect(eq(ptr, (void *)message_refusal(&m), NULL), "%s", message_refusal(&m));
}

Test(facts, a_look_at_a_tree)
{
        g_autoptr(TempDir) t = tempdir_new();
        const char *dir = t->path;
        g_autofree char *key = below(dir, "a.key"), *pub = below(dir, "trust/a.pub");
        struct agent_config c = config_of(dir);
        gint64 before_us = g_get_real_time();
        Moult__Facts *f;

        g_mkdir_with_parents(c.root, 0755);
        g_mkdir_with_parents(c.state, 0700);
        g_mkdir_with_parents(c.trust, 0755);
        put(c.pci, "0000:00:04.0/vendor", "0x1af4\n");
        put(c.pci, "0000:00:04.0/device", "0x1110\n");
        put(c.pci, "0000:00:05.0/vendor", "0x1af4\n");
        put(c.pci, "0000:00:05.0/device", "0x1041\n");
        put(c.root, "run/systemd/system/x", "");
        cr_assert(signing_key_create(key, pub, NULL));
        f = facts_look(&c, MOULT__TRANSACTION_PHASE__PHASE_STAGED);
        expect_passes_the_gate(f);
        cr_expect(eq(int, (int)f->phase, (int)MOULT__TRANSACTION_PHASE__PHASE_STAGED));
        cr_expect(f->clock_us >= (guint64)before_us && f->clock_us <= (guint64)g_get_real_time());
        cr_assert(eq(u64, f->n_keys, 1));
        cr_expect(eq(u64, f->keys[0].len, DIGEST_SIZE));
        cr_expect(eq(u64, f->keys_problem.len, 0));
        cr_expect(eq(u32, f->windows, 1));
        cr_assert(f->n_places >= 1);
        cr_expect(f->places[f->n_places - 1]->state || f->places[0]->state);
        cr_expect(eq(int, (int)f->boots_counted, (int)NO));
        cr_expect(eq(u64, f->state_problem.len + f->unsettled.len + f->generation, 0));
        facts_free(f);

        put(c.root, "etc/systemd/system/sysinit.target.wants/moult-recover.service", "");
        put(c.trust, "b.pub", "no key");
        f = facts_look(&c, MOULT__TRANSACTION_PHASE__PHASE_NONE);
        expect_passes_the_gate(f);
        cr_expect(eq(int, (int)f->boots_counted, (int)YES));
        cr_expect(f->keys_problem.len > 0 && f->n_keys == 0);
        facts_free(f);
        config_clear(&c);
}

Test(facts, what_is_missing_is_told_and_is_no_failure)
{
        g_autoptr(TempDir) t = tempdir_new();
        const char *dir = t->path;
        struct agent_config c = config_of(dir);
        Moult__Facts *f = facts_look(&c, MOULT__TRANSACTION_PHASE__PHASE_NONE);

        expect_passes_the_gate(f);
        cr_expect(f->keys_problem.len > 0);
        cr_expect(f->state_problem.len > 0);
        cr_expect(eq(u64, f->n_places, 0));
        cr_expect(eq(int, (int)f->boots_counted, (int)UNKNOWN));
        facts_free(f);
        config_clear(&c);
}
