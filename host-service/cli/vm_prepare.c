/* host-service/cli/vm_prepare.c - moult vm prepare: a libvirt domain gets what moult needs: the agent's
 * channel, and spare root ports for packs.
 *
 * Read, judge, show, ask, look whether it is still the same, define, look whether it took. Only the
 * persistent definition is touched. */
#include <stdio.h>
#include <unistd.h>

#include "common/error.h"
#include "host-service/cli/commands.h"
#include "host-service/cli/libvirt_client.h"
#include "host-service/cli/output.h"
#include "host-service/hypervisor/domain_xml.h"

#define RESERVE_DEFAULT_MIB 4096
#define RESERVE_MAX_MIB     (1 << 20)

struct options {
        char *libvirt;
        int ports, reserve_mib;
        gboolean yes, dry_run;
};

/* What `diff -u` says; it is in every Debian. */
static char *difference(const char *before, const char *after, GError **error)
{
        g_autoptr(GSubprocess) diff = NULL;
        g_autofree char *dir = g_dir_make_tmp("moult-prepare-XXXXXX", error);
        g_autofree char *a = dir ? g_build_filename(dir, "before", NULL) : NULL;
        g_autofree char *b = dir ? g_build_filename(dir, "after", NULL) : NULL;
        char *out = NULL;

        if (!dir)
                return NULL;
        if (g_file_set_contents(a, before, -1, error) && g_file_set_contents(b, after, -1, error) &&
            (diff = g_subprocess_new(G_SUBPROCESS_FLAGS_STDOUT_PIPE, error, "diff", "-u", "--label", "now",
                                     "--label", "prepared", a, b, NULL)))
                g_subprocess_communicate_utf8(diff, NULL, NULL, &out, NULL, error);
        unlink(a);
        unlink(b);
        rmdir(dir);
        return out;
}

/* For people: without what libvirt keeps secret. */
static char *shown_difference(VirDomain *d, const struct domain_needs *needs, GError **error)
{
        g_autofree char *xml = libvirt_client_xml(d, VIR_DOMAIN_XML_INACTIVE, error);
        g_autofree char *before = xml ? domain_xml_normalise(xml, error) : NULL;
        gboolean changed;
        g_autofree char *after = before ? domain_xml_prepare(xml, needs, &changed, error) : NULL;

        return after ? difference(before, after, error) : NULL;
}

static gboolean check_domain(VirDomain *d, GError **error)
{
        const char *name = virDomainGetName(d);

        if (virDomainIsPersistent(d) != 1) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_UNSUPPORTED,
                            "domain %s is transient: libvirt keeps no definition of it that could be "
                            "changed; change "
                            "it where it is made",
                            name);
                return FALSE;
        }
        if (virDomainHasManagedSaveImage(d, 0) == 1) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_BUSY,
                            "domain %s is saved: its next start brings its old hardware back; start it, or "
                            "remove "
                            "the saved state (virsh managedsave-remove), then prepare it",
                            name);
                return FALSE;
        }
        return TRUE;
}

static gboolean may_change(Cli *cli, const char *name, GError **error)
{
        char answer[16] = "";

        if (!isatty(STDIN_FILENO)) {
                command_usage_error(error, "nothing was changed: there is no terminal to ask on; say --yes");
                return FALSE;
        }
        fprintf(cli->err, "Change the definition of %s? [y/N] ", name);
        fflush(cli->err);
        if (fgets(answer, sizeof answer, stdin) && (answer[0] == 'y' || answer[0] == 'Y'))
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_CANCELLED, "domain %s was not changed", name);
        return FALSE;
}

/* @xml is what the change was made from: nobody's change in between is lost. */
static gboolean define(VirConnect *c, VirDomain *d, const char *xml, const char *prepared,
                       const struct domain_needs *needs, GError **error)
{
        const unsigned flags = VIR_DOMAIN_XML_INACTIVE | VIR_DOMAIN_XML_SECURE;
        g_autofree char *now = libvirt_client_xml(d, flags, error);
        g_autofree char *took = NULL, *again = NULL;
        g_autoptr(VirDomain) defined = NULL;
        gboolean missing = TRUE;

        if (!now)
                return FALSE;
        if (!g_str_equal(now, xml)) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_BUSY,
                            "domain %s was changed by somebody else meanwhile; nothing was done, look again",
                            virDomainGetName(d));
                return FALSE;
        }
        defined = virDomainDefineXMLFlags(c, prepared, VIR_DOMAIN_DEFINE_VALIDATE);
        if (!defined)
                return libvirt_client_failed(error,
                                             "libvirt does not take the new definition, and keeps the old "
                                             "one, of domain",
                                             virDomainGetName(d));
        took = libvirt_client_xml(defined, flags, error);
        again = took ? domain_xml_prepare(took, needs, &missing, error) : NULL;
        if (again && missing)
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_UNSUPPORTED,
                            "this libvirt took the definition of %s and left out a part of it; 8.2 is the "
                            "first that "
                            "knows <qemu:override>",
                            virDomainGetName(d));
        return again && !missing;
}

static void report(Cli *cli, VirDomain *d, gboolean changed, gboolean done, const char *diff)
{
        gboolean running = virDomainIsActive(d) == 1;
        JsonObject *o = json_object_new();
        g_autoptr(JsonNode) node = json_node_init_object(json_node_alloc(), o);

        json_object_unref(o);
        json_object_set_string_member(o, "domain", virDomainGetName(d));
        json_object_set_boolean_member(o, "prepared", !changed || done);
        json_object_set_boolean_member(o, "changed", done);
        json_object_set_boolean_member(o, "restart_needed", done && running);
        if (diff)
                json_object_set_string_member(o, "difference", diff);
        if (output_machine(cli, node))
                return;
        if (!changed)
                output_words(cli, "%s is prepared; nothing to change\n", virDomainGetName(d));
        else if (!done)
                output_words(cli, "Nothing was changed (--dry-run)\n");
        else
                output_words(cli, "%s is prepared%s\n", virDomainGetName(d),
                             running ? "; it runs with its old hardware until it is shut down and started "
                                       "again (a "
                                       "reboot inside is not enough)"
                                     : "");
}

static gboolean prepare(Cli *cli, const char *name, const struct options *o, GError **error)
{
        const struct domain_needs needs = {(guint)o->ports, (guint64)o->reserve_mib << 20};
        g_autoptr(VirConnect) c = libvirt_client_open(libvirt_client_uri(o->libvirt), error);
        g_autoptr(VirDomain) d = c ? libvirt_client_domain(c, name, error) : NULL;
        g_autofree char *xml = NULL, *prepared = NULL, *diff = NULL;
        gboolean changed = FALSE;

        if (!d || !check_domain(d, error))
                return FALSE;
        xml = libvirt_client_xml(d, VIR_DOMAIN_XML_INACTIVE | VIR_DOMAIN_XML_SECURE, error);
        prepared = xml ? domain_xml_prepare(xml, &needs, &changed, error) : NULL;
        if (!prepared) {
                g_prefix_error(error, "domain %s was not changed: ", name);
                return FALSE;
        }
        if (changed) {
                diff = shown_difference(d, &needs, error);
                if (!diff)
                        return FALSE;
                output_words(cli, "%s", diff);
        }
        if (changed && !o->dry_run &&
            ((!o->yes && !may_change(cli, name, error)) || !define(c, d, xml, prepared, &needs, error)))
                return FALSE;
        report(cli, d, changed, changed && !o->dry_run, diff);
        return TRUE;
}

static ExitCode run(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        struct options o = {.ports = (int)DOMAIN_PORTS_DEFAULT, .reserve_mib = RESERVE_DEFAULT_MIB};
        const GOptionEntry entries[] = {
                {"libvirt", 0, 0, G_OPTION_ARG_STRING, &o.libvirt,
                 "The libvirt that has the domain (default " LIBVIRT_DEFAULT_URI ")", "URI"},
                {"ports", 0, 0, G_OPTION_ARG_INT, &o.ports, "Spare root ports for packs (default 2; 0: none)",
                 "N"},
                {"reserve", 0, 0, G_OPTION_ARG_INT, &o.reserve_mib,
                 "What each keeps free of the guest's address space: the largest pack's file size, a power "
                 "of two "
                 "(default 4096)",
                 "MiB"},
                {"dry-run", 'n', 0, G_OPTION_ARG_NONE, &o.dry_run, "Only show the difference", NULL},
                {"yes", 'y', 0, G_OPTION_ARG_NONE, &o.yes, "Do not ask", NULL},
                {0},
        };

        if (command_parse(self, cli, entries, 1, 1, &argc, &argv, error)) {
                if (o.ports < 0 || o.ports > (int)DOMAIN_PORTS_MAX)
                        command_usage_error(error, "--ports takes 0 to %u", DOMAIN_PORTS_MAX);
                else if (o.reserve_mib < 2 || o.reserve_mib > RESERVE_MAX_MIB ||
                         (o.reserve_mib & (o.reserve_mib - 1)) != 0)
                        command_usage_error(error, "--reserve takes a power of two from 2 to %d MiB",
                                            RESERVE_MAX_MIB);
                else
                        prepare(cli, argv[1], &o, error);
        }
        g_free(o.libvirt);
        return EXIT_CODE_OK;
}

const struct command command_vm_prepare = {
        .name = "prepare",
        .arguments = "DOMAIN",
        .summary = "Give a libvirt domain the agent's channel and spare root ports",
        .details = "Shows the difference first, and asks. Only the persistent definition is changed; it "
                   "takes effect "
                   "when the domain is started the next time. Needs no moultd.",
        .run = run,
};
