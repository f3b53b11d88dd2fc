/* tests/unit/test_guest_agent_upgrade_plan.c - the decision for one entry, and whether a place can be
 * written: tables. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <criterion/parameterized.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "guest-agent/upgrade/classify.h"
#include "guest-agent/upgrade/plan.h"

#define FILE_ENTRY MOULT__ENTRY_TYPE__ENTRY_FILE
#define EQUAL      MOULT__PLAN_ACTION__PLAN_EQUAL
#define CREATE     MOULT__PLAN_ACTION__PLAN_CREATE
#define REPLACE    MOULT__PLAN_ACTION__PLAN_REPLACE
#define METADATA   MOULT__PLAN_ACTION__PLAN_METADATA
#define DELETE     MOULT__PLAN_ACTION__PLAN_DELETE
#define BLOCKED    MOULT__PLAN_ACTION__PLAN_BLOCKED
#define DRIFT      MOULT__PLAN_ACTION__PLAN_DRIFT
#define KEPT       MOULT__PLAN_ACTION__PLAN_KEPT

TestSuite(plan, .timeout = 20);

/* No pointers: each case runs in a process of its own. */
struct decide_case {
        int type;    /* of the entry */
        mode_t live; /* S_IFMT bits; 0: not there */
        int old_digests, old_must_exist;
        int is_new, is_old; /* the live content */
        int metadata_differs;
        int action;
        char reason[32]; /* part of it */
};

ParameterizedTestParameters(plan, decides)
{
        static struct decide_case cases[] = {
                {FILE_ENTRY, 0, 0, 0, 0, 0, 0, CREATE, ""},
                {FILE_ENTRY, 0, 1, 0, 0, 0, 0, DRIFT, "missing"},
                {FILE_ENTRY, 0, 0, 1, 0, 0, 0, DRIFT, "missing"},
                {FILE_ENTRY, S_IFREG, 0, 0, 1, 0, 0, EQUAL, ""},
                {FILE_ENTRY, S_IFREG, 1, 0, 1, 0, 0, EQUAL, ""},
                {FILE_ENTRY, S_IFREG, 0, 0, 1, 0, 1, METADATA, "mode"},
                {FILE_ENTRY, S_IFREG, 0, 0, 0, 0, 0, REPLACE, ""},
                {FILE_ENTRY, S_IFREG, 1, 0, 0, 1, 0, REPLACE, ""},
                {FILE_ENTRY, S_IFREG, 1, 0, 0, 0, 0, DRIFT, "neither"},
                {FILE_ENTRY, S_IFREG, 1, 0, 0, 0, 1, DRIFT, "neither"},
                {FILE_ENTRY, S_IFLNK, 0, 0, 0, 0, 0, REPLACE, "a symbolic link becomes a file"},
                {FILE_ENTRY, S_IFLNK, 1, 0, 0, 0, 0, DRIFT, "a symbolic link here"},
                {FILE_ENTRY, S_IFSOCK, 0, 0, 0, 0, 0, REPLACE, "a socket becomes a file"},
                {MOULT__ENTRY_TYPE__ENTRY_DIRECTORY, S_IFDIR, 0, 1, 0, 0, 0, EQUAL, ""},
                {MOULT__ENTRY_TYPE__ENTRY_DIRECTORY, S_IFDIR, 0, 0, 0, 0, 1, METADATA, "mode"},
                {MOULT__ENTRY_TYPE__ENTRY_DIRECTORY, S_IFREG, 1, 0, 0, 1, 0, REPLACE, "a file becomes a dir"},
                {MOULT__ENTRY_TYPE__ENTRY_DIRECTORY, S_IFREG, 1, 0, 0, 0, 0, DRIFT, "a file here"},
                {MOULT__ENTRY_TYPE__ENTRY_SYMLINK, S_IFLNK, 0, 0, 0, 0, 0, EQUAL, ""},
                {MOULT__ENTRY_TYPE__ENTRY_CHAR_DEVICE, S_IFCHR, 0, 0, 0, 0, 0, EQUAL, ""},
                {MOULT__ENTRY_TYPE__ENTRY_CHAR_DEVICE, S_IFBLK, 0, 0, 0, 0, 0, REPLACE, "becomes a device"},
                {MOULT__ENTRY_TYPE__ENTRY_FIFO, S_IFIFO, 0, 0, 0, 0, 1, METADATA, "mode"},
                {MOULT__ENTRY_TYPE__ENTRY_DELETE, 0, 1, 1, 0, 0, 0, EQUAL, "not there"},
                {MOULT__ENTRY_TYPE__ENTRY_DELETE, S_IFREG, 0, 1, 0, 0, 0, DELETE, ""},
                {MOULT__ENTRY_TYPE__ENTRY_DELETE, S_IFREG, 1, 0, 0, 1, 0, DELETE, ""},
                {MOULT__ENTRY_TYPE__ENTRY_DELETE, S_IFREG, 1, 0, 0, 0, 0, DRIFT, "to be deleted"},
                {MOULT__ENTRY_TYPE__ENTRY_DELETE, S_IFLNK, 1, 0, 0, 0, 0, DRIFT, "to be deleted"},
        };
        return cr_make_param_array(struct decide_case, cases, sizeof cases / sizeof *cases);
}

ParameterizedTest(struct decide_case *c, plan, decides)
{
        Moult__Entry e = MOULT__ENTRY__INIT;
        e.type = (Moult__EntryType)c->type;
        e.n_old_digests = (size_t)c->old_digests;
        e.old_must_exist = c->old_must_exist;
        e.link_target.data = (uint8_t *)"target";
        e.link_target.len = 6;
        e.dev_major = 1;
        e.dev_minor = 3;
        struct object_facts o = {
                .exists = c->live != 0, .mode = c->live | 0644, .rdev = makedev(1, 3), .links = 1};
        struct content_facts content = {c->is_new, c->is_old};
        struct decision d = plan_decide(&e, &o, &content, S_ISLNK(c->live) ? "target" : NULL,
                                        c->metadata_differs ? "mode 0644 -> 0600" : NULL);
        cr_expect(eq(int, (int)d.action, c->action));
        if (c->reason[0] != '\0')
                cr_expect(d.reason != NULL && strstr(d.reason, c->reason) != NULL, "%s", d.reason);
        g_free(d.reason);
}

/* What dpkg does without being asked: what the administrator did stays. */
ParameterizedTestParameters(plan, decides_conffiles)
{
        static struct decide_case cases[] = {
                {FILE_ENTRY, 0, 0, 0, 0, 0, 0, CREATE, ""},
                {FILE_ENTRY, 0, 1, 0, 0, 0, 0, KEPT, "deleted here"},
                {FILE_ENTRY, S_IFREG, 1, 0, 1, 0, 1, EQUAL, ""},
                {FILE_ENTRY, S_IFREG, 1, 0, 0, 1, 1, REPLACE, ""},
                {FILE_ENTRY, S_IFREG, 1, 0, 0, 0, 0, KEPT, "changed here"},
                {FILE_ENTRY, S_IFREG, 0, 0, 0, 0, 0, KEPT, "changed here"},
                {FILE_ENTRY, S_IFLNK, 1, 0, 0, 0, 0, KEPT, "a symbolic link here"},
        };
        return cr_make_param_array(struct decide_case, cases, sizeof cases / sizeof *cases);
}

ParameterizedTest(struct decide_case *c, plan, decides_conffiles)
{
        Moult__Entry e = MOULT__ENTRY__INIT;
        e.conffile = TRUE;
        e.n_old_digests = (size_t)c->old_digests;
        struct object_facts o = {.exists = c->live != 0, .mode = c->live | 0644, .links = 1};
        struct content_facts content = {c->is_new, c->is_old};
        struct decision d =
                plan_decide(&e, &o, &content, NULL, c->metadata_differs ? "mode 0644 -> 0600" : NULL);
        cr_expect(eq(int, (int)d.action, c->action));
        if (c->reason[0] != '\0')
                cr_expect(d.reason != NULL && strstr(d.reason, c->reason) != NULL, "%s", d.reason);
        g_free(d.reason);
}

Test(plan, another_link_target_is_a_replacement)
{
        Moult__Entry e = MOULT__ENTRY__INIT;
        e.type = MOULT__ENTRY_TYPE__ENTRY_SYMLINK;
        e.link_target.data = (uint8_t *)"target";
        e.link_target.len = 6;
        struct object_facts o = {.exists = TRUE, .mode = S_IFLNK | 0777};
        struct content_facts none = {0};
        cr_expect(eq(int, (int)plan_decide(&e, &o, &none, "targe", NULL).action, REPLACE));
        cr_expect(eq(int, (int)plan_decide(&e, &o, &none, "target2", NULL).action, REPLACE));
}

struct link_case {
        mode_t live;
        int target, same;
        int action;
};

ParameterizedTestParameters(plan, decides_links)
{
        static struct link_case cases[] = {
                {0, EQUAL, 0, CREATE},        {0, REPLACE, 0, CREATE},        {S_IFREG, EQUAL, 1, EQUAL},
                {S_IFREG, EQUAL, 0, REPLACE}, {S_IFREG, REPLACE, 1, REPLACE}, {S_IFREG, METADATA, 1, REPLACE},
                {S_IFLNK, EQUAL, 0, REPLACE}, {S_IFREG, BLOCKED, 1, BLOCKED}, {0, DRIFT, 0, DRIFT},
                {S_IFREG, KEPT, 1, KEPT},
        };
        return cr_make_param_array(struct link_case, cases, sizeof cases / sizeof *cases);
}

ParameterizedTest(struct link_case *c, plan, decides_links)
{
        Moult__Entry e = MOULT__ENTRY__INIT;
        e.type = MOULT__ENTRY_TYPE__ENTRY_HARDLINK;
        struct object_facts o = {.exists = c->live != 0, .mode = c->live | 0644};
        struct content_facts none = {0};
        struct decision d = plan_decide_link(&e, &o, &none, (Moult__PlanAction)c->target, c->same);
        cr_expect(eq(int, (int)d.action, c->action));
        g_free(d.reason);
}

Test(plan, content_is_asked_for_only_where_it_decides)
{
        Moult__Entry e = MOULT__ENTRY__INIT;
        struct object_facts o = {.exists = TRUE, .mode = S_IFREG | 0644, .size = 10};
        e.size = 11;
        cr_expect(not(plan_needs_content(&e, &o)));
        e.size = 10;
        cr_expect(plan_needs_content(&e, &o));
        e.size = 11;
        e.n_old_digests = 1;
        cr_expect(plan_needs_content(&e, &o));
        o.mode = S_IFLNK | 0777;
        cr_expect(not(plan_needs_content(&e, &o)));
        o.exists = FALSE;
        cr_expect(not(plan_needs_content(&e, &o)));
}

struct refusal_case {
        int change;
        struct object_facts object;
        int mounted;
        int kind, read_only_mount, read_only_super, directory_immutable, directory_append, closed, overlay;
        int other_key, other_project;
        char reason[64]; /* empty: it can be written */
};

ParameterizedTestParameters(plan, refuses_what_cannot_be_written)
{
        static struct refusal_case cases[] = {
                {.change = CHANGE_CREATE, .kind = FS_DISK},
                {.change = CHANGE_EXCHANGE, .object = {.exists = TRUE, .mode = S_IFREG}, .kind = FS_DISK},
                {.change = CHANGE_CREATE, .kind = FS_MEMORY},
                {.change = CHANGE_CREATE,
                 .kind = FS_READ_ONLY_FORMAT,
                 .reason = "read-only file system TYPE mounted at /x"},
                {.change = CHANGE_IN_PLACE, .kind = FS_READ_ONLY_FORMAT, .reason = "read-only file system"},
                {.change = CHANGE_CREATE, .kind = FS_NETWORK, .reason = "network file system"},
                {.change = CHANGE_CREATE, .kind = FS_PSEUDO, .reason = "pseudo file system"},
                {.change = CHANGE_CREATE, .kind = FS_FOREIGN, .reason = "does not promise atomic exchange"},
                {.change = CHANGE_CREATE, .kind = FS_NO_OWNERS, .reason = "cannot hold owner and mode"},
                {.change = CHANGE_CREATE,
                 .kind = FS_DISK,
                 .read_only_super = 1,
                 .reason = "read-only file system"},
                {.change = CHANGE_CREATE,
                 .kind = FS_DISK,
                 .read_only_mount = 1,
                 .reason = "mounted read-only at /x"},
                {.change = CHANGE_EXCHANGE,
                 .object = {.exists = TRUE, .immutable = TRUE},
                 .kind = FS_DISK,
                 .reason = "immutable"},
                {.change = CHANGE_REMOVE,
                 .object = {.exists = TRUE, .append_only = TRUE},
                 .kind = FS_DISK,
                 .reason = "append-only"},
                {.change = CHANGE_EXCHANGE,
                 .object = {.exists = TRUE, .verity = TRUE},
                 .kind = FS_DISK,
                 .reason = "fs-verity"},
                {.change = CHANGE_EXCHANGE,
                 .object = {.exists = TRUE, .swap = TRUE},
                 .kind = FS_DISK,
                 .reason = "swap file"},
                {.change = CHANGE_EXCHANGE,
                 .object = {.exists = TRUE},
                 .mounted = 1,
                 .kind = FS_DISK,
                 .reason = "mount point"},
                {.change = CHANGE_IN_PLACE,
                 .object = {.exists = TRUE, .mode = S_IFDIR},
                 .mounted = 1,
                 .kind = FS_DISK},
                {.change = CHANGE_CREATE,
                 .kind = FS_DISK,
                 .directory_immutable = 1,
                 .reason = "on its directory"},
                {.change = CHANGE_CREATE, .kind = FS_DISK, .directory_append = 1},
                {.change = CHANGE_REMOVE,
                 .object = {.exists = TRUE},
                 .kind = FS_DISK,
                 .directory_append = 1,
                 .reason = "on its directory"},
                {.change = CHANGE_IN_PLACE,
                 .object = {.exists = TRUE, .mode = S_IFDIR},
                 .kind = FS_DISK,
                 .directory_append = 1},
                {.change = CHANGE_CREATE, .kind = FS_DISK, .closed = 1, .reason = "staging directory"},
                {.change = CHANGE_CREATE, .kind = FS_DISK, .other_key = 1, .reason = "encrypted directory"},
                {.change = CHANGE_CREATE, .kind = FS_DISK, .other_project = 1, .reason = "project quota"},
                {.change = CHANGE_IN_PLACE,
                 .object = {.exists = TRUE, .mode = S_IFDIR},
                 .kind = FS_DISK,
                 .other_key = 1,
                 .other_project = 1},
                {.change = CHANGE_REMOVE,
                 .object = {.exists = TRUE, .mode = S_IFDIR},
                 .kind = FS_DISK,
                 .overlay = 1,
                 .reason = "overlayfs"},
                {.change = CHANGE_EXCHANGE,
                 .object = {.exists = TRUE, .mode = S_IFREG},
                 .kind = FS_DISK,
                 .overlay = 1},
        };
        return cr_make_param_array(struct refusal_case, cases, sizeof cases / sizeof *cases);
}

ParameterizedTest(struct refusal_case *c, plan, refuses_what_cannot_be_written)
{
        struct place_facts place = {
                .mount_point = "/x",
                .fs_type = "TYPE",
                .kind = (FsKind)c->kind,
                .read_only_mount = c->read_only_mount,
                .read_only_super = c->read_only_super,
                .directory_immutable = c->directory_immutable,
                .directory_append_only = c->directory_append,
                .area_closed = c->closed,
                .other_key = c->other_key,
                .other_project = c->other_project,
                .is_overlay = c->overlay,
        };
        g_autofree char *reason = classify_refusal((Change)c->change, &c->object, c->mounted, &place);
        if (c->reason[0] == '\0')
                cr_expect(eq(ptr, reason, NULL), "%s", reason);
        else
                cr_expect(reason != NULL && strstr(reason, c->reason) != NULL, "%s is not in %s", c->reason,
                          reason);
}
