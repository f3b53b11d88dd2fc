/* tests/unit/test_guest_agent_own_program.c - which files may be programs here; what a trial is taken for. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "guest-agent/own_program.h"

TestSuite(own_program, .timeout = 60);

static const char *const words[] = {"run", "--root=/nowhere", NULL};

static OwnProgram *program(void)
{
        return own_program_new(2, (char **)words);
}

/* The head of this very test. */
static void read_head(guint8 head[static 64])
{
        scoped_fd int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

        cr_assert(eq(long, read(fd, head, 64), 64));
}

Test(own_program, knows_itself_and_that_it_was_not_replaced)
{
        g_autoptr(OwnProgram) p = program();
        struct stat self;
        dev_t dev;
        ino_t inode;

        cr_assert(own_program_object(p, &dev, &inode));
        cr_assert(eq(int, stat("/proc/self/exe", &self), 0));
        cr_expect(self.st_ino == inode && self.st_dev == dev);
        cr_expect(not(own_program_is_replaced(p)));
}

Test(own_program, a_program_for_this_machine_and_a_script_may_be_tried)
{
        guint8 head[64];

        read_head(head);
        cr_expect(eq(ptr, own_program_misfit(head, sizeof head), NULL));
        cr_expect(eq(ptr, own_program_misfit((const guint8 *)"#!/bin/sh\n", 10), NULL));
}

static void expect_misfit(const guint8 *head, gsize len, const char *says)
{
        g_autofree char *misfit = own_program_misfit(head, len);

        cr_expect(misfit && strstr(misfit, says), "%s", misfit ? misfit : "(none)");
}

Test(own_program, what_this_machine_cannot_run_is_named)
{
        guint8 head[64];

        read_head(head);
        head[18] ^= 0xff;
        expect_misfit(head, sizeof head, "another kind of machine");
        read_head(head);
        head[5] ^= 3;
        expect_misfit(head, sizeof head, "the other byte order");
        read_head(head);
        expect_misfit(head, 63, "no program");
        expect_misfit((const guint8 *)"", 0, "no program");
        expect_misfit((const guint8 *)"text\n", 5, "no program");
}

/* NULL: it is fit. */
static char *try_script(const char *script, gboolean with_host)
{
        g_autoptr(OwnProgram) p = program();
        g_autoptr(GError) error = NULL;
        scoped_fd int fd = memfd_create("program", 0);
        g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
        scoped_fd int readable = -1;

        cr_assert(fd_write_all(fd, script, strlen(script), "a script", NULL));
        cr_assert(eq(int, fchmod(fd, 0700), 0));
        readable = open(path, O_RDONLY | O_CLOEXEC);
        close(g_steal_fd(&fd));
        return own_program_try(p, readable, with_host, &error) ? NULL : g_strdup(error->message);
}

Test(own_program, a_trial_has_the_options_of_this_one_and_says_that_it_is_good)
{
        char *why = try_script(
                "#!/bin/sh\n[ \"$*\" = 'try --hello-within=0 --root=/nowhere' ] && echo '" OWN_PROGRAM_GOOD
                "'\n",
                FALSE);

        cr_expect(eq(ptr, why, NULL), "%s", why);
        why = try_script("#!/bin/sh\n[ \"$2\" = --hello-within=30 ] && echo '" OWN_PROGRAM_GOOD "'\n", TRUE);
        cr_expect(eq(ptr, why, NULL), "%s", why);
}

Test(own_program, the_last_line_of_one_that_fails_is_told)
{
        g_autofree char *why = try_script("#!/bin/sh\necho first; echo ' the reason '; exit 4\n", FALSE);

        cr_assert(why != NULL);
        cr_expect(strstr(why, "exit status 4") && strstr(why, "its last words: the reason") &&
                          !strstr(why, "first"),
                  "%s", why);
        g_autofree char *good_and_fails =
                try_script("#!/bin/sh\necho '" OWN_PROGRAM_GOOD "'; exit 1\n", FALSE);
        cr_expect(ne(ptr, good_and_fails, NULL));
        g_autofree char *says_nothing = try_script("#!/bin/sh\nexit 0\n", FALSE);
        cr_expect(says_nothing && strstr(says_nothing, "does not say that it is good"), "%s", says_nothing);
}
