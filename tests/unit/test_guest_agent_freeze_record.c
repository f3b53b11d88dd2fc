/* tests/unit/test_guest_agent_freeze_record.c - what is made of the record of a holder that was killed. No
 * file system is frozen here: tests/integration/test_freeze.py does that. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "guest-agent/freeze_record.h"
#include "tests/support/tempdir.h"

TestSuite(freeze_record, .timeout = 30);

#define DEVICE makedev(254, 16)

/* A record of one file system, in memory. */
static FreezeRecord *record_in(TempDir **ret_dir, enum freeze_mount_state state)
{
        g_autoptr(GError) error = NULL;
        FreezeRecord *r;

        g_setenv("TMPDIR", "/dev/shm", TRUE);
        *ret_dir = tempdir_new();
        r = freeze_record_new((*ret_dir)->path, 1, &error);
        cr_assert(ne(ptr, r, NULL), "%s", error ? error->message : "");
        r->states[0] = (guint8)state;
        r->report.phase = FREEZE_FROZEN;
        r->report.held = TRUE;
        r->mounts[0].id = 26;
        r->mounts[0].device = DEVICE;
        g_strlcpy(r->mounts[0].point, "/nowhere", sizeof r->mounts[0].point);
        return r;
}

static guint rescue(FreezeRecord *r, const char *mountinfo, gboolean patient, GString *problem)
{
        g_autoptr(MountTable) mounts = mount_table_parse(mountinfo);

        return freeze_record_rescue(r, mounts, patient, problem);
}

Test(freeze_record, what_cannot_be_opened_may_still_be_frozen)
{
        g_autoptr(TempDir) d = NULL;
        g_autoptr(FreezeRecord) r = record_in(&d, FREEZE_MOUNT_FROZEN);
        g_autoptr(GString) problem = g_string_new(NULL);

        cr_expect(eq(uint, rescue(r, "26 21 254:16 / /nowhere rw - xfs /dev/vdb rw\n", FALSE, problem), 0));
        cr_expect(eq(int, r->states[0], FREEZE_MOUNT_FROZEN));
        cr_expect(eq(int, freeze_record_is_left(r), TRUE));
        cr_expect(eq(uint, r->report.phase, FREEZE_THAWING));
        cr_expect(eq(uint, r->report.held, FALSE));
        cr_expect(ne(ptr, strstr(problem->str, "/nowhere"), NULL));
}

Test(freeze_record, where_mounts_are_not_known_nothing_counts_as_gone)
{
        g_autoptr(TempDir) d = NULL;
        g_autoptr(FreezeRecord) r = record_in(&d, FREEZE_MOUNT_RETHAW);
        g_autoptr(GString) problem = g_string_new(NULL);

        freeze_record_rescue(r, NULL, FALSE, problem);
        cr_expect(eq(int, freeze_record_is_left(r), TRUE));
        cr_expect(ne(ptr, strstr(problem->str, "/nowhere"), NULL));
}

Test(freeze_record, what_is_not_mounted_any_more_is_not_waited_for)
{
        g_autoptr(TempDir) d = NULL;
        g_autoptr(FreezeRecord) r = record_in(&d, FREEZE_MOUNT_FROZEN);
        g_autoptr(GString) problem = g_string_new(NULL);

        cr_expect(eq(uint, rescue(r, "26 21 254:32 / /nowhere rw - xfs /dev/vdc rw\n", TRUE, problem), 0));
        cr_expect(eq(int, freeze_record_is_left(r), FALSE));
        cr_expect(eq(uint, r->report.phase, FREEZE_THAWED));
        cr_expect(eq(str, problem->str, ""));
}

/* One that is not frozen, and there. */
static void point_at(FreezeRecord *r, const char *directory)
{
        struct statx sx;

        cr_assert(eq(int, statx(AT_FDCWD, directory, 0, STATX_BASIC_STATS | STATX_MNT_ID, &sx), 0));
        r->mounts[0].id = sx.stx_mnt_id;
        r->mounts[0].device = makedev(sx.stx_dev_major, sx.stx_dev_minor);
        g_strlcpy(r->mounts[0].point, directory, sizeof r->mounts[0].point);
}

Test(freeze_record, what_was_about_to_be_frozen_may_still_come_to_be)
{
        g_autoptr(TempDir) d = NULL;
        g_autoptr(FreezeRecord) r = record_in(&d, FREEZE_MOUNT_FREEZING);
        g_autoptr(GString) problem = g_string_new(NULL);

        if (geteuid() != 0)
                cr_skip_test("only root may thaw");
        point_at(r, d->path);
        freeze_record_rescue(r, NULL, TRUE, problem);
        cr_expect(eq(str, problem->str, ""));
        cr_expect(eq(int, r->states[0], FREEZE_MOUNT_FREEZING));
        cr_expect(eq(uint, r->report.phase, FREEZE_THAWING));
        freeze_record_rescue(r, NULL, FALSE, problem);
        cr_expect(eq(str, problem->str, ""));
        cr_expect(eq(int, freeze_record_is_left(r), FALSE));
        cr_expect(eq(uint, r->report.phase, FREEZE_THAWED));
}

Test(freeze_record, what_was_frozen_and_is_not_any_more_is_thawed)
{
        g_autoptr(TempDir) d = NULL;
        g_autoptr(FreezeRecord) r = record_in(&d, FREEZE_MOUNT_FROZEN);
        g_autoptr(GString) problem = g_string_new(NULL);

        if (geteuid() != 0)
                cr_skip_test("only root may thaw");
        point_at(r, d->path);
        cr_expect(eq(uint, freeze_record_rescue(r, NULL, TRUE, problem), 0));
        cr_expect(eq(int, freeze_record_is_left(r), FALSE));
        cr_expect(eq(str, problem->str, ""));
}
