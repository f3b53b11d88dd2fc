/* guest-agent/upgrade/plan.c - what an upgrade will do: the decision for one entry, and the plan's durable
 * form. */
#include "guest-agent/upgrade/plan.h"

#include <string.h>
#include <sys/sysmacros.h>

#include "common/error.h"
#include "guest-agent/upgrade/record_metadata.h"
#include "proto/message.h"

#define REASONS_SHOWN 12u

mode_t plan_type_of_entry(Moult__EntryType type)
{
        switch (type) {
        case MOULT__ENTRY_TYPE__ENTRY_FILE:
        case MOULT__ENTRY_TYPE__ENTRY_HARDLINK:
                return S_IFREG;
        case MOULT__ENTRY_TYPE__ENTRY_DIRECTORY:
                return S_IFDIR;
        case MOULT__ENTRY_TYPE__ENTRY_SYMLINK:
                return S_IFLNK;
        case MOULT__ENTRY_TYPE__ENTRY_CHAR_DEVICE:
                return S_IFCHR;
        case MOULT__ENTRY_TYPE__ENTRY_BLOCK_DEVICE:
                return S_IFBLK;
        case MOULT__ENTRY_TYPE__ENTRY_FIFO:
                return S_IFIFO;
        default:
                return 0;
        }
}

static const char *type_name(mode_t mode)
{
        switch (mode & S_IFMT) {
        case S_IFREG:
                return "a file";
        case S_IFDIR:
                return "a directory";
        case S_IFLNK:
                return "a symbolic link";
        case S_IFCHR:
        case S_IFBLK:
                return "a device";
        case S_IFIFO:
                return "a fifo";
        default:
                return "a socket";
        }
}

static struct decision decided(Moult__PlanAction action, char *reason)
{
        return (struct decision){action, reason};
}

gboolean plan_needs_content(const Moult__Entry *e, const struct object_facts *o)
{
        if (!o->exists || !S_ISREG(o->mode))
                return FALSE;
        return e->n_old_digests > 0 || (e->type == MOULT__ENTRY_TYPE__ENTRY_FILE && o->size == e->size);
}

static struct decision decide_absent(const Moult__Entry *e)
{
        if (e->type == MOULT__ENTRY_TYPE__ENTRY_DELETE)
                return decided(MOULT__PLAN_ACTION__PLAN_EQUAL, g_strdup("not there"));
        if (e->n_old_digests > 0 || e->old_must_exist)
                return decided(MOULT__PLAN_ACTION__PLAN_DRIFT,
                               g_strdup("missing here, although the release replaces an older version"));
        return decided(MOULT__PLAN_ACTION__PLAN_CREATE, NULL);
}

static struct decision decide_delete(const Moult__Entry *e, const struct object_facts *o,
                                     const struct content_facts *content)
{
        if (e->n_old_digests > 0 && (!S_ISREG(o->mode) || !content->is_old))
                return decided(MOULT__PLAN_ACTION__PLAN_DRIFT,
                               g_strdup("to be deleted, but its content is not what the release expects"));
        return decided(MOULT__PLAN_ACTION__PLAN_DELETE, NULL);
}

static gboolean same_content(const Moult__Entry *e, const struct object_facts *o,
                             const struct content_facts *content, const char *live_target)
{
        switch (e->type) {
        case MOULT__ENTRY_TYPE__ENTRY_FILE:
                return content->is_new;
        case MOULT__ENTRY_TYPE__ENTRY_SYMLINK:
                return live_target != NULL && strlen(live_target) == e->link_target.len &&
                       memcmp(live_target, e->link_target.data, e->link_target.len) == 0;
        case MOULT__ENTRY_TYPE__ENTRY_CHAR_DEVICE:
        case MOULT__ENTRY_TYPE__ENTRY_BLOCK_DEVICE:
                return o->rdev == makedev(e->dev_major, e->dev_minor);
        default:
                return TRUE;
        }
}

/* dpkg's rule: what the administrator made of the file stays, and nothing of that is drift. */
static struct decision decide_conffile(const Moult__Entry *e, const struct object_facts *o,
                                       const struct content_facts *content)
{
        if (!o->exists && e->n_old_digests == 0 && !e->old_must_exist)
                return decided(MOULT__PLAN_ACTION__PLAN_CREATE, NULL);
        if (!o->exists)
                return decided(MOULT__PLAN_ACTION__PLAN_KEPT,
                               g_strdup("a conffile that was deleted here: it stays so"));
        if (!S_ISREG(o->mode))
                return decided(
                        MOULT__PLAN_ACTION__PLAN_KEPT,
                        g_strdup_printf("a conffile that is %s here: it stays so", type_name(o->mode)));
        if (content->is_new)
                return decided(MOULT__PLAN_ACTION__PLAN_EQUAL, NULL);
        if (content->is_old)
                return decided(MOULT__PLAN_ACTION__PLAN_REPLACE, NULL);
        return decided(MOULT__PLAN_ACTION__PLAN_KEPT,
                       g_strdup("a conffile that was changed here: it stays as it is"));
}

struct decision plan_decide(const Moult__Entry *e, const struct object_facts *o,
                            const struct content_facts *content, const char *live_target,
                            const char *metadata)
{
        if (e->conffile)
                return decide_conffile(e, o, content);
        if (!o->exists)
                return decide_absent(e);
        if (e->type == MOULT__ENTRY_TYPE__ENTRY_DELETE)
                return decide_delete(e, o, content);
        mode_t type = plan_type_of_entry(e->type);
        if ((o->mode & S_IFMT) != type) {
                if (e->n_old_digests > 0 && !content->is_old)
                        return decided(MOULT__PLAN_ACTION__PLAN_DRIFT,
                                       g_strdup_printf("%s here, not the old file that the release replaces",
                                                       type_name(o->mode)));
                return decided(MOULT__PLAN_ACTION__PLAN_REPLACE,
                               g_strdup_printf("%s becomes %s", type_name(o->mode), type_name(type)));
        }
        if (!same_content(e, o, content, live_target)) {
                if (e->n_old_digests > 0 && !content->is_old)
                        return decided(
                                MOULT__PLAN_ACTION__PLAN_DRIFT,
                                g_strdup("its content is neither the release's nor an old version that "
                                         "the release replaces"));
                return decided(MOULT__PLAN_ACTION__PLAN_REPLACE, NULL);
        }
        if (metadata != NULL)
                return decided(MOULT__PLAN_ACTION__PLAN_METADATA, g_strdup(metadata));
        return decided(MOULT__PLAN_ACTION__PLAN_EQUAL, NULL);
}

struct decision plan_decide_link(const Moult__Entry *e, const struct object_facts *o,
                                 const struct content_facts *content, Moult__PlanAction target,
                                 gboolean same_object)
{
        switch (target) {
        case MOULT__PLAN_ACTION__PLAN_BLOCKED:
                return decided(MOULT__PLAN_ACTION__PLAN_BLOCKED,
                               g_strdup("the file that it links to is blocked"));
        case MOULT__PLAN_ACTION__PLAN_DRIFT:
                return decided(MOULT__PLAN_ACTION__PLAN_DRIFT,
                               g_strdup("the file that it links to has drifted"));
        case MOULT__PLAN_ACTION__PLAN_KEPT:
                return decided(MOULT__PLAN_ACTION__PLAN_KEPT,
                               g_strdup("links to a conffile that stays as it is"));
        default:
                break;
        }
        if (!o->exists)
                return decide_absent(e);
        if (e->n_old_digests > 0 && !same_object && !content->is_old && !content->is_new)
                return decided(MOULT__PLAN_ACTION__PLAN_DRIFT,
                               g_strdup("its content is neither the release's nor an old version that the "
                                        "release replaces"));
        if (!S_ISREG(o->mode))
                return decided(MOULT__PLAN_ACTION__PLAN_REPLACE,
                               g_strdup_printf("%s becomes a hard link", type_name(o->mode)));
        if (target == MOULT__PLAN_ACTION__PLAN_EQUAL && same_object)
                return decided(MOULT__PLAN_ACTION__PLAN_EQUAL, NULL);
        return decided(MOULT__PLAN_ACTION__PLAN_REPLACE,
                       same_object ? g_strdup("goes with the file that it links to")
                                   : g_strdup("becomes a hard link"));
}

void plan_free(Plan *p)
{
        if (p == NULL)
                return;
        for (guint i = 0; i < p->n_entries; i++) {
                g_free(p->entries[i].path);
                g_free(p->entries[i].reason);
                g_free(p->entries[i].physical);
        }
        g_free(p->entries);
        g_clear_pointer(&p->directories, g_ptr_array_unref);
        g_clear_pointer(&p->areas, g_ptr_array_unref);
        g_clear_pointer(&p->steps, g_array_unref);
        g_free(p);
}

gboolean plan_is_applicable(const Plan *p, GError **error)
{
        if (p->n_blocked == 0 && p->n_drift == 0)
                return TRUE;
        g_autoptr(GString) s = g_string_new(NULL);
        guint shown = 0, left = 0;
        for (guint i = 0; i < p->n_entries; i++) {
                const struct plan_entry *pe = &p->entries[i];
                if (pe->action != MOULT__PLAN_ACTION__PLAN_BLOCKED &&
                    pe->action != MOULT__PLAN_ACTION__PLAN_DRIFT)
                        continue;
                if (shown == REASONS_SHOWN) {
                        left++;
                        continue;
                }
                g_autofree char *path = message_string(message_bytes(pe->path));
                g_string_append_printf(s, "%s/%s: %s", shown > 0 ? "; " : "", path,
                                       pe->reason != NULL ? pe->reason : "cannot be applied");
                shown++;
        }
        if (left > 0)
                g_string_append_printf(s, "; and %u more (the plan lists them)", left);
        MoultError code = p->n_blocked > 0 ? MOULT_ERROR_REFUSED : MOULT_ERROR_DRIFT;
        g_set_error(error, MOULT_ERROR, code, "nothing was touched: %u of %u entries cannot be applied: %s%s",
                    p->n_blocked + p->n_drift, p->n_entries, s->str,
                    p->n_blocked == 0 ? ". If the local changes may be overwritten, allow drift" : "");
        return FALSE;
}

gboolean plan_is_staged(const struct plan_entry *pe)
{
        if (pe->action == MOULT__PLAN_ACTION__PLAN_DELETE)
                return FALSE;
        if (pe->how == HOW_MERGE)
                return pe->object;
        return pe->how == HOW_CREATE || pe->how == HOW_EXCHANGE || pe->how == HOW_WITHIN;
}

char *plan_staged_path(const Plan *p, guint entry)
{
        const struct plan_entry *pe = &p->entries[entry];
        if (pe->how != HOW_WITHIN)
                return g_strdup_printf("%u", entry);
        const struct plan_entry *carrier = &p->entries[pe->carrier];
        return g_strdup_printf("%d%s", pe->carrier, pe->path + strlen(carrier->path));
}

static ProtobufCBinaryData binary_string(const char *s)
{
        gsize len = strlen(s);
        return (ProtobufCBinaryData){.len = len, .data = len > 0 ? g_memdup2(s, len) : NULL};
}

static void directories_to_record(const Plan *p, Moult__Record__Plan *r)
{
        r->directories = g_new0(Moult__Record__Directory *, p->directories->len + 1);
        for (guint i = 0; i < p->directories->len; i++) {
                const struct plan_directory *d = plan_directory(p, (gint32)i);
                Moult__Record__Directory *out = g_new(Moult__Record__Directory, 1);
                moult__record__directory__init(out);
                out->path = binary_string(d->path);
                out->area = (guint32)d->area;
                out->inode = d->inode;
                out->old = d->changes ? metadata_to_record(d->old) : NULL;
                out->entry = d->changes ? (guint32)(d->entry + 1) : 0;
                r->directories[r->n_directories++] = out;
        }
}

static Moult__Record__Switch switch_of(PlanHow how)
{
        switch (how) {
        case HOW_CREATE:
                return MOULT__RECORD__SWITCH__SWITCH_CREATE;
        case HOW_REMOVE:
                return MOULT__RECORD__SWITCH__SWITCH_REMOVE;
        default:
                return MOULT__RECORD__SWITCH__SWITCH_EXCHANGE;
        }
}

Moult__Record__Plan *plan_to_record(const Plan *p)
{
        Moult__Record__Plan *r = g_new(Moult__Record__Plan, 1);
        moult__record__plan__init(r);
        r->areas = g_new0(Moult__Record__Area *, p->areas->len + 1);
        for (guint i = 0; i < p->areas->len; i++) {
                const struct plan_area *a = plan_area(p, (gint32)i);
                Moult__Record__Area *out = g_new(Moult__Record__Area, 1);
                moult__record__area__init(out);
                out->path = binary_string(a->path);
                out->file_system = binary_string(a->fs_type);
                out->mount = binary_string(a->mount_point);
                out->volatile_memory = a->kind == FS_MEMORY;
                out->inode = a->inode;
                out->birth_ns = a->birth_ns;
                out->fs_magic = a->fs_magic;
                out->mtime_ns = a->mtime_ns;
                r->areas[r->n_areas++] = out;
        }
        directories_to_record(p, r);
        r->steps = g_new0(Moult__Record__Step *, p->steps->len + 1);
        for (guint i = 0; i < p->steps->len; i++) {
                guint32 index = g_array_index(p->steps, guint32, i);
                const struct plan_entry *pe = &p->entries[index];
                const char *slash = strrchr(pe->path, '/');
                Moult__Record__Step *out = g_new(Moult__Record__Step, 1);
                moult__record__step__init(out);
                out->entry = index;
                out->kind = switch_of(pe->how);
                out->directory = (guint32)pe->directory;
                out->name = binary_string(slash != NULL ? slash + 1 : pe->path);
                out->new_inode = pe->how == HOW_REMOVE ? 0 : pe->new_inode;
                out->old_inode = pe->how == HOW_CREATE ? 0 : pe->old_inode;
                out->new_birth_ns = pe->how == HOW_REMOVE ? 0 : pe->new_birth_ns;
                out->old_birth_ns = pe->how == HOW_CREATE ? 0 : pe->old_birth_ns;
                r->steps[r->n_steps++] = out;
        }
        r->merged = p->n_merged;
        return r;
}
