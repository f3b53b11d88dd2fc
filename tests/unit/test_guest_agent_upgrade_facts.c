/* tests/unit/test_guest_agent_upgrade_facts.c - what is read from the system: mounts, pressure, os-release,
 * space, and the metadata of objects. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "common/metadata.h"
#include "common/mounts.h"
#include "guest-agent/upgrade/pace.h"
#include "guest-agent/upgrade/record_metadata.h"
#include "guest-agent/upgrade/requirements.h"
#include "guest-agent/upgrade/space.h"
#include "shm/entry_metadata.h"
#include "tests/support/tempdir.h"

TestSuite(facts, .timeout = 20);

Test(facts, mountinfo_is_read_with_and_without_optional_fields)
{
        static const char text[] =
                "21 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro\n"
                "36 21 7:0 / /usr/a\\040b ro,nosuid - squashfs /dev/loop0 ro\n"
                "37 21 0:5 / /x rw shared:2 master:1 propagate_from:3 - tmpfs none ro,size=1k\n"
                "torn line\n"
                "38 21 0:6 / /y rw shared:1 -\n";
        g_autoptr(MountTable) t = mount_table_parse(text);
        const struct mount *m = mount_table_find(t, 36);
        cr_assert(ne(ptr, (void *)m, NULL));
        cr_assert(eq(u64, m->parent_id, 21));
        cr_assert(eq(str, m->root, "/"));
        cr_assert(eq(str, m->source, "/dev/loop0"));
        cr_assert(m->nosuid && !m->nodev && !m->noexec && !m->shared);
        cr_assert(mount_table_find(t, 21)->shared && mount_table_find(t, 37)->shared);
        cr_assert(eq(u32, mount_table_size(t), 3));
        cr_assert(eq(u64, mount_table_get(t, 2)->id, 37));
        cr_expect(eq(str, m->point, "/usr/a b"));
        cr_expect(eq(str, m->type, "squashfs"));
        cr_expect(m->read_only && m->super_read_only);
        m = mount_table_find(t, 37);
        cr_expect(m->read_only == FALSE && m->super_read_only);
        cr_expect(not(mount_table_find(t, 21)->read_only));
        cr_expect(eq(ptr, (void *)mount_table_find(t, 38), NULL));
        cr_expect(eq(ptr, (void *)mount_table_find(t, 99), NULL));
}

Test(facts, kinds_of_file_systems)
{
        cr_expect(eq(int, (int)fs_kind_of("ext4"), FS_DISK));
        cr_expect(eq(int, (int)fs_kind_of("nfs4"), FS_NETWORK));
        cr_expect(eq(int, (int)fs_kind_of("fuse.sshfs"), FS_NETWORK));
        cr_expect(eq(int, (int)fs_kind_of("fuse.whatever"), FS_FOREIGN));
        cr_expect(eq(int, (int)fs_kind_of("erofs"), FS_READ_ONLY_FORMAT));
        cr_expect(eq(int, (int)fs_kind_of("something new"), FS_FOREIGN));
}

Test(facts, pressure)
{
        cr_expect(epsilon_eq(dbl, pace_parse_pressure("some avg10=23.45 avg60=1.00 avg300=0.00 total=5\n"),
                             23.45, 1e-9));
        cr_expect(lt(dbl, pace_parse_pressure("full avg10=1.00 avg60=0"), 0));
        cr_expect(lt(dbl, pace_parse_pressure("some avg10="), 0));
        cr_expect(lt(dbl, pace_parse_pressure(""), 0));
}

Test(facts, os_release_values_are_unquoted_and_whole_keys)
{
        static const char text[] =
                "NAME=\"Debian GNU/Linux\"\nVERSION_ID='12'\nID=debian\nID_LIKE=x\nID=last\n  SPACED=1\n";
        g_autofree char *name = os_release_value(text, "NAME"), *id = os_release_value(text, "ID"),
                        *version = os_release_value(text, "VERSION_ID"),
                        *none = os_release_value(text, "VERSION"), *spaced = os_release_value(text, "SPACED");
        cr_expect(eq(str, name, "Debian GNU/Linux"));
        cr_expect(eq(str, version, "12"));
        cr_expect(eq(str, id, "last"));
        cr_expect(eq(ptr, none, NULL));
        cr_expect(eq(str, spaced, "1"));
}

Test(facts, space_is_refused_at_the_edge_and_without_overflow)
{
        struct space s = {.free_bytes = 3 * 1024 * 1024, .free_inodes = 10, .counts_inodes = TRUE};
        g_autofree char *fits = space_refusal(&s, 2 * 1024 * 1024, 8, "/x");
        cr_expect(eq(ptr, fits, NULL), "%s", fits);
        g_autofree char *bytes = space_refusal(&s, 2 * 1024 * 1024 + 1, 8, "/x");
        cr_expect(ne(ptr, bytes, NULL));
        g_autofree char *inodes = space_refusal(&s, 0, 9, "/x");
        cr_expect(inodes != NULL && strstr(inodes, "inodes") != NULL);
        g_autofree char *huge = space_refusal(&s, G_MAXUINT64, 0, "/x");
        cr_expect(ne(ptr, huge, NULL));
        s.counts_inodes = FALSE;
        g_autofree char *uncounted = space_refusal(&s, 0, 1000, "/x");
        cr_expect(eq(ptr, uncounted, NULL));
}

static Metadata *read_of(const TempDir *t, const char *name)
{
        g_autoptr(GError) error = NULL;
        struct metadata_object o = {t->fd, name, -1};
        Metadata *m = metadata_read(&o, NULL, &error);
        cr_assert(ne(ptr, m, NULL), "%s", error->message);
        return m;
}

Test(facts, metadata_are_applied_compared_and_made_complete)
{
        g_autoptr(TempDir) t = tempdir_new();
        g_autoptr(GError) error = NULL;
        tempdir_put(t, "from", "x", 1);
        tempdir_put(t, "to", "y", 1);
        g_autofree char *from = tempdir_path(t, "from"), *to = tempdir_path(t, "to");
        cr_assert(eq(int, chmod(from, 0640), 0));
        struct timespec times[2] = {{.tv_sec = 5}, {.tv_sec = -3, .tv_nsec = 123456789}};
        cr_assert(eq(int, utimensat(AT_FDCWD, from, times, 0), 0));
        if (setxattr(from, "user.keep", "\0v", 2, 0) < 0)
                cr_skip("no extended attributes below TMPDIR");
        cr_assert(eq(int, setxattr(to, "user.unlisted", "v", 1, 0), 0));
        g_autoptr(Metadata) want = read_of(t, "from"), before = read_of(t, "to");
        g_autofree char *differs = metadata_difference(before, want, S_IFREG);
        cr_expect(strstr(differs, "mode") != NULL && strstr(differs, "time") != NULL &&
                          strstr(differs, "user.keep") != NULL &&
                          strstr(differs, "user.unlisted is not in") != NULL,
                  "%s", differs);
        struct metadata_object o = {t->fd, "to", -1};
        cr_assert(metadata_apply(&o, S_IFREG, want, FALSE, &error), "%s", error->message);
        cr_assert(metadata_verify(&o, S_IFREG, want, &error), "%s", error->message);
        g_autoptr(Metadata) after = read_of(t, "to");
        g_autofree char *left = metadata_difference(after, want, S_IFREG);
        cr_expect(eq(ptr, left, NULL), "%s", left);
}

Test(facts, metadata_survive_their_record)
{
        g_autoptr(TempDir) t = tempdir_new();
        tempdir_put(t, "f", "x", 1);
        g_autofree char *path = tempdir_path(t, "f");
        if (setxattr(path, "user.empty", "", 0, 0) < 0)
                cr_skip("no extended attributes below TMPDIR");
        g_autoptr(Metadata) m = read_of(t, "f");
        Moult__Record__Metadata *r = metadata_to_record(m);
        g_autoptr(Metadata) back = metadata_from_record(r);
        g_autofree char *differs = metadata_difference(back, m, S_IFREG);
        cr_expect(eq(ptr, differs, NULL), "%s", differs);
        moult__record__metadata__free_unpacked(r, NULL);
}
