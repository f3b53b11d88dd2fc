/* host-service/doctor/guest_checks.c - what is wrong in a guest, and what to do. docs/operation.md has the
 * ids.
 */
#include "host-service/doctor/guest_checks.h"

#include <string.h>

#include "common/digest.h"
#include "proto/handshake.h"
#include "proto/message.h"

#define MIB            (1024.0 * 1024.0)
#define CLOCK_OFF_US   (5 * G_TIME_SPAN_SECOND)
#define CLOCK_WRONG_US G_TIME_SPAN_MINUTE
#define FREE_LITTLE    0.1
#define FREE_NOTHING   0.02

static void release_free(gpointer data)
{
        struct doctor_release *r = data;

        g_free(r->name);
        g_free(r);
}

GPtrArray *doctor_releases_new(void)
{
        return g_ptr_array_new_with_free_func(release_free);
}

void guest_facts_clear(struct guest_facts *f)
{
        g_free(f->problem);
        g_clear_pointer(&f->releases, g_ptr_array_unref);
}

gint64 doctor_clock_offset_us(const struct guest_facts *f)
{
        gint64 clock_us = (gint64)f->told->clock_us;

        return clock_us < f->asked_us      ? clock_us - f->asked_us
               : clock_us > f->answered_us ? clock_us - f->answered_us
                                           : 0;
}

static gboolean is(Moult__Sight s, Moult__Sight what)
{
        return s == what;
}

static gboolean lacks(Moult__Sight s)
{
        return is(s, MOULT__SIGHT__SIGHT_NO);
}

/* The guest's text. */
static void append_text(GString *found, const char *before, ProtobufCBinaryData text)
{
        g_autofree char *shown = message_string(text);

        g_string_append_printf(found, "%s%s", before, shown);
}

static DoctorSeverity told(const struct guest_facts *f, GString *found)
{
        if (f->told)
                return DOCTOR_OK;
        if (f->older) {
                g_string_append(found, "its agent is older than this question: its clock, keys, disks and "
                                       "kernel were not looked at");
                return DOCTOR_NOTICE;
        }
        g_string_append_printf(found, "its agent did not tell of the guest: %s",
                               f->problem ? f->problem : "no reason");
        return DOCTOR_WARNING;
}

static DoctorSeverity version(const struct guest_facts *f, GString *found)
{
        g_autofree char *software = message_string(f->told->software);

        if (g_str_equal(software, "moult-agent " MOULT_VERSION) && f->told->protocol >= PROTOCOL_VERSION_MAX)
                return DOCTOR_OK;
        g_string_append_printf(found,
                               "%s (protocol %u) runs there, this is moultd " MOULT_VERSION
                               " (protocol %u): what only the newer one knows is not used",
                               software, f->told->protocol, PROTOCOL_VERSION_MAX);
        return DOCTOR_NOTICE;
}

static void append_span(GString *found, gint64 us)
{
        double s = (double)us / G_TIME_SPAN_SECOND;

        if (us < 2 * G_TIME_SPAN_MINUTE)
                g_string_append_printf(found, "%.1f s", s);
        else if (us < 2 * G_TIME_SPAN_HOUR)
                g_string_append_printf(found, "%.0f min", s / 60);
        else if (us < 2 * G_TIME_SPAN_DAY)
                g_string_append_printf(found, "%.0f h", s / 3600);
        else
                g_string_append_printf(found, "%.0f days", s / 86400);
}

static DoctorSeverity clock_right(const struct guest_facts *f, GString *found)
{
        gint64 offset_us = doctor_clock_offset_us(f), off_us = ABS(offset_us);

        if (off_us < CLOCK_OFF_US)
                return DOCTOR_OK;
        g_string_append(found, "its clock is ");
        append_span(found, off_us);
        g_string_append_printf(found,
                               " %s the host's: its logs and history do not fit the host's, and hooks that "
                               "use certificates may fail (moult's own connections do not look at the time)",
                               offset_us < 0 ? "behind" : "ahead of");
        return off_us < CLOCK_WRONG_US ? DOCTOR_NOTICE : DOCTOR_WARNING;
}

static gboolean trusts(const Moult__Facts *told, const guint8 id[static DIGEST_SIZE])
{
        for (size_t i = 0; i < told->n_keys; i++)
                if (told->keys[i].len == DIGEST_SIZE && memcmp(told->keys[i].data, id, DIGEST_SIZE) == 0)
                        return TRUE;
        return FALSE;
}

static DoctorSeverity keys(const struct guest_facts *f, GString *found)
{
        g_autoptr(GPtrArray) strange = g_ptr_array_new();

        if (f->told->keys_problem.len) {
                append_text(found, "it takes no release: ", f->told->keys_problem);
                return DOCTOR_ERROR;
        }
        if (f->told->n_keys == 0) {
                g_string_append(found, "it trusts no key: it takes no release");
                return DOCTOR_ERROR;
        }
        for (guint i = 0; f->releases && i < f->releases->len; i++) {
                const struct doctor_release *r = f->releases->pdata[i];

                if (!trusts(f->told, r->key_id))
                        g_ptr_array_add(strange, r->name);
        }
        if (strange->len == 0)
                return DOCTOR_OK;
        g_string_append(found, "it does not trust the key that signed ");
        doctor_append_names(found, strange);
        g_string_append(found, ": a push of it is refused there");
        return DOCTOR_WARNING;
}

/* What is free, of 1; 1 for what is not counted. */
static double share(guint64 of, guint64 all)
{
        return all ? (double)of / (double)all : 1;
}

static DoctorSeverity space_of(const Moult__FactsPlace *p, GString *found)
{
        double bytes = share(p->free_bytes, p->size_bytes), inodes = share(p->free_inodes, p->inodes);

        if (p->read_only || MIN(bytes, inodes) >= FREE_LITTLE)
                return DOCTOR_OK;
        append_text(found, found->len ? "; " : "", p->point);
        if (bytes < FREE_LITTLE)
                g_string_append_printf(found, " has %.0f MiB (%.0f %%) free", (double)p->free_bytes / MIB,
                                       bytes * 100);
        if (inodes < FREE_LITTLE)
                g_string_append_printf(found, " has %.0f %% of its inodes free", inodes * 100);
        return MIN(bytes, inodes) < FREE_NOTHING ? DOCTOR_ERROR : DOCTOR_WARNING;
}

static DoctorSeverity space(const struct guest_facts *f, GString *found)
{
        DoctorSeverity worst = DOCTOR_OK;

        for (size_t i = 0; i < f->told->n_places; i++) {
                DoctorSeverity s = space_of(f->told->places[i], found);

                worst = MAX(worst, s);
        }
        if (worst)
                g_string_append(found, ": new files are staged where they will be, and the old ones are kept "
                                       "there as the way back");
        return worst;
}

static DoctorSeverity state_writable(const struct guest_facts *f, GString *found)
{
        for (size_t i = 0; i < f->told->n_places; i++) {
                const Moult__FactsPlace *p = f->told->places[i];

                if (!p->state || !p->read_only)
                        continue;
                append_text(found, "the agent's state is on ", p->point);
                g_string_append(found, ", which is read-only: no upgrade can begin");
                return DOCTOR_ERROR;
        }
        return DOCTOR_OK;
}

/* Why merges cannot be served through FUSE; NULL: they can, as far as is known. */
static const char *no_union(const Moult__Facts *t)
{
        return lacks(t->fuse)            ? "its kernel has no FUSE"
               : lacks(t->fuse_device)   ? "the agent cannot open /dev/fuse"
               : lacks(t->target_server) ? "moult-targetfs is not beside the agent"
                                         : NULL;
}

static gboolean append_read_only(const Moult__Facts *t, GString *found)
{
        gsize before = found->len;

        for (size_t i = 0; i < t->n_places; i++)
                if (t->places[i]->read_only)
                        append_text(found, found->len > before ? ", " : "", t->places[i]->point);
        return found->len > before;
}

static DoctorSeverity methods(const struct guest_facts *f, GString *found)
{
        const char *why = no_union(f->told);
        g_autoptr(GString) places = g_string_new(NULL);
        gboolean read_only = append_read_only(f->told, places);

        if (!lacks(f->told->overlayfs) && !why)
                return DOCTOR_OK;
        if (!lacks(f->told->overlayfs)) {
                g_string_append_printf(found, "%s: instant mode is not possible there", why);
                return DOCTOR_NOTICE;
        }
        if (!why) {
                g_string_append(found, "its kernel has no overlayfs: directories that cannot be written are "
                                       "merged through FUSE, which is slower");
                return DOCTOR_NOTICE;
        }
        g_string_append_printf(
                found,
                "its kernel has no overlayfs, and %s: single files can be merged, but new files "
                "cannot be put where nothing can be written%s%s",
                why, read_only ? ", and there is such a place: " : "", places->str);
        return read_only ? DOCTOR_ERROR : DOCTOR_WARNING;
}

static DoctorSeverity mounts(const struct guest_facts *f, GString *found)
{
        if (!lacks(f->told->merges_seen))
                return DOCTOR_OK;
        g_string_append(found, "the agent runs in a mount namespace of its own: nobody else there would see "
                               "what it merges, so such upgrades are refused");
        return DOCTOR_WARNING;
}

static DoctorSeverity window(const struct guest_facts *f, GString *found)
{
        g_autofree char *lockdown = message_string(f->told->lockdown);

        if (!*lockdown || g_str_equal(lockdown, "none") || !lacks(f->told->pmem))
                return DOCTOR_OK;
        g_string_append_printf(found,
                               "kernel lockdown (%s) forbids to map the window, and the kernel has no "
                               "virtio_pmem: packs go over the agent's session, not through shared memory",
                               lockdown);
        return DOCTOR_NOTICE;
}

static DoctorSeverity boots(const struct guest_facts *f, GString *found)
{
        if (!lacks(f->told->boots_counted))
                return DOCTOR_OK;
        g_string_append(found,
                        "nothing counts the starts of the machine: a release with which it does not come "
                        "up is not taken back by itself, and merges are missing until the agent runs");
        return DOCTOR_WARNING;
}

static gboolean push_is_under_way(const Moult__Facts *t)
{
        switch (t->phase) {
        case MOULT__TRANSACTION_PHASE__PHASE_NONE:
        case MOULT__TRANSACTION_PHASE__PHASE_COMMITTED:
        case MOULT__TRANSACTION_PHASE__PHASE_ROLLED_BACK:
        case MOULT__TRANSACTION_PHASE__PHASE_REFUSED:
        case MOULT__TRANSACTION_PHASE__PHASE_FAILED:
                return FALSE;
        default:
                return TRUE;
        }
}

static DoctorSeverity upgrades(const struct guest_facts *f, GString *found)
{
        const Moult__Facts *t = f->told;

        if (push_is_under_way(t))
                return DOCTOR_OK;
        if (t->state_problem.len) {
                append_text(found, "the records of its upgrades cannot be read: ", t->state_problem);
                return DOCTOR_ERROR;
        }
        if (t->unsettled.len) {
                append_text(found, "an upgrade is not at its end: ", t->unsettled);
                return DOCTOR_WARNING;
        }
        if (t->starts_begun == 0 || t->starts_good)
                return DOCTOR_OK;
        g_string_append_printf(found,
                               "the machine was started %u times with generation %" G_GUINT64_FORMAT
                               " and was not found healthy yet: soon a start will roll it back",
                               t->starts_begun, t->generation);
        return DOCTOR_WARNING;
}

/* The type of "user:role:type:level". */
static gboolean is_unconfined_context(const char *context)
{
        static const char *const free_types[] = {
                "unconfined_t", "unconfined_service_t", "initrc_t", "init_t", "kernel_t", NULL};
        g_auto(GStrv) parts = g_strsplit(context, ":", 4);

        return g_strv_length(parts) >= 3 && g_strv_contains(free_types, parts[2]);
}

static DoctorSeverity labels(const struct guest_facts *f, GString *found)
{
        g_autofree char *selinux = message_string(f->told->selinux), *label = message_string(f->told->label);
        gboolean by_selinux = g_str_equal(selinux, "enforcing") && !is_unconfined_context(label);
        gboolean by_apparmor = f->told->apparmor.len && g_str_has_suffix(label, " (enforce)");

        if (!by_selinux && !by_apparmor)
                return DOCTOR_OK;
        g_string_append_printf(found,
                               "%s confines the agent (%s): what that forbids fails in the middle of an "
                               "upgrade, which is then taken back",
                               by_apparmor ? "AppArmor" : "SELinux", label);
        return DOCTOR_WARNING;
}

static const struct {
        const char *id;
        DoctorSeverity (*look)(const struct guest_facts *f, GString *found);
        const char *action;
} checks[] = {
        {"guest-told", told,
         "push a release with a newer moult-agent; one that does not answer: its log (journalctl -u "
         "moult-agent)"},
        {"guest-version", version,
         "push a release with the other side's version of moult-agent: the agent upgrades itself; or upgrade "
         "moultd"},
        {"guest-clock", clock_right,
         "let a time service run in the guest (systemd-timesyncd, chrony); after a long pause of the VM: "
         "chronyc makestep, or restart the service"},
        {"guest-keys", keys,
         "put the release's NAME.pub into the guest's /etc/moult/trusted.d ([agent] trust of "
         "moult-agent.conf); it is read at each push"},
        {"guest-space", space,
         "make room in the guest, or enlarge the disk; [upgrade] keep-generations of moult-agent.conf says "
         "how many ways back are kept"},
        {"guest-state", state_writable,
         "mount it writable (dmesg says whether errors of the disk made it read-only), or let [agent] state "
         "of moult-agent.conf name another directory"},
        {"guest-methods", methods,
         "load or install the module (modprobe overlay, modprobe fuse), or a kernel that has it; install the "
         "whole package moult-agent; DevicePolicy= and DeviceAllow= in the agent's unit cut /dev/fuse off"},
        {"guest-mounts", mounts,
         "in the guest: systemctl cat moult-agent; take Private*=, Protect*=, ReadOnlyPaths=, MountFlags= "
         "and their like out of it and restart the agent"},
        {"guest-window", window,
         "install a kernel with the modules virtio_pmem and nd_pmem, and give the VM a port for it "
         "(docs/architecture.md, The ladder); or do nothing, it works without"},
        {"guest-boots", boots,
         "in the guest: systemctl enable moult-recover (without systemd: the init script of that name)"},
        {"guest-upgrade", upgrades,
         "in the guest: moult-agent history, systemctl status moult-boot-ok; then moult-agent recover, or "
         "moult rollback VM"},
        {"guest-labels", labels,
         "in the guest: ausearch -m avc, or journalctl -k | grep apparmor; allow it, or let the agent run "
         "unconfined"},
};

GPtrArray *doctor_judge_guest(const struct guest_facts *f)
{
        GPtrArray *list = doctor_findings_new();
        guint n = f->told ? G_N_ELEMENTS(checks) : 1; /* the first is whether it has told at all */

        for (guint i = 0; i < n; i++) {
                GString *found = g_string_new(NULL);
                DoctorSeverity s = checks[i].look(f, found);

                doctor_add(list, checks[i].id, s, found, checks[i].action);
        }
        return list;
}
